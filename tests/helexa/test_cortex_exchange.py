"""Every dialect to every kind of server and back: what is asked, what is answered, whole, streamed and refused."""

from typing import Any

import anthropic.types
import openai.types
import openai.types.chat
import openai.types.responses
import orjson
import pytest
import trio
from gateways import Gateway, gateway_to, outside_gateway, refused_url
from http_parts import Call, Peer, Script, chunk, plays, sse_data, start_script, until, whole
from upstream_answers import STREAMS, TEXT, WHOLE

from config import Provider, ProviderKind

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"

ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"prompt": "hi", "max_tokens": 9},
    RESPONSES: {"input": "hi", "store": False},
    MESSAGES: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}
PATHS = {"openai": "/base/chat/completions", "anthropic": "/base/messages", "ollama": "/base/api/chat", "neuron": CHAT}


def spoken(path: str, answer: bytes) -> str:
    """What a whole answer says, read as the dialect's own SDK reads it."""
    if path == CHAT:
        return openai.types.chat.ChatCompletion.model_validate_json(answer).choices[0].message.content or ""
    if path == COMPLETIONS:
        return openai.types.Completion.model_validate_json(answer).choices[0].text
    if path == RESPONSES:
        return openai.types.responses.Response.model_validate_json(answer).output_text
    block = anthropic.types.Message.model_validate_json(answer).content[0]
    assert isinstance(block, anthropic.types.TextBlock)
    return block.text


def streamed(path: str, answer: bytes) -> str:
    """What a stream says; it must end as its dialect's streams end."""
    events = sse_data(answer)
    if path in (CHAT, COMPLETIONS):
        assert events[-1] == "[DONE]"
        choices = [each["choices"][0] for each in events[:-1] if each["choices"]]
        assert choices[-1]["finish_reason"] == "stop"
        return "".join(each.get("text") or each.get("delta", {}).get("content") or "" for each in choices)
    if path == RESPONSES:
        assert events[-1]["type"] == "response.completed"
        return "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")
    assert events[-1] == {"type": "message_stop"}
    deltas = (each["delta"] for each in events if each["type"] == "content_block_delta")
    return "".join(delta["text"] for delta in deltas)


def gateway_at(script: Script, kind: str, **settings: Any) -> tuple[Gateway, str]:
    """A gateway to a server of that kind, and the model's name."""
    if kind == "neuron":
        return gateway_to({"a": script.url}), "m"
    kinds: dict[str, ProviderKind] = {"openai": "openai", "anthropic": "anthropic", "ollama": "ollama"}
    return outside_gateway(Provider("p", kinds[kind], script.url + "/base", retries=0, **settings)), "out"


async def gateway_for(
    nursery: trio.Nursery, gateways: list[Gateway], kind: str, *pieces: bytes, **settings: Any
) -> tuple[Gateway, Script, str]:
    """A gateway, a server of that kind behind it which sends these, and the model's name."""
    script = await start_script(nursery, plays(*pieces))
    gateway, model = gateway_at(script, kind, **settings)
    gateways.append(gateway)
    return gateway, script, model


async def ask(gateway: Gateway, path: str, model: str, **more: Any) -> Call:
    return await gateway.ask(orjson.dumps({"model": model, **ASKED[path], **more}), path)


TRANSLATED = [
    (path, kind)
    for path in ASKED
    for kind in WHOLE
    if (path, kind) not in ((COMPLETIONS, "neuron"), (COMPLETIONS, "openai"), (CHAT, "openai"), (CHAT, "neuron"))
]


@pytest.mark.parametrize(("path", "kind"), [*TRANSLATED, (CHAT, "openai"), (CHAT, "neuron")])
async def test_a_whole_answer_comes_back_in_the_clients_dialect(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str
) -> None:
    gateway, script, model = await gateway_for(nursery, gateways, kind, whole(orjson.dumps(WHOLE[kind])))
    call = await ask(gateway, path, model)
    assert call.status == 200, call.answer
    assert spoken(path, call.answer) == TEXT
    assert script.requests[0][0].startswith(b"POST " + PATHS[kind].encode() + b" HTTP/1.1\r\n")
    assert orjson.loads(script.requests[0][1])["model"] == model
    assert call.headers[b"x-helexa-node"] == (b"a" if kind == "neuron" else b"provider:p")
    assert call.headers[b"x-helexa-route"] == (b"local" if kind == "neuron" else b"out*")
    assert call.headers[b"x-helexa-attempts"] == b"1"
    assert (b"request-id" in call.headers) == (path == MESSAGES)


@pytest.mark.parametrize(("path", "kind"), [*TRANSLATED, (CHAT, "openai"), (CHAT, "neuron")])
async def test_a_stream_comes_back_in_the_clients_dialect_wherever_the_network_cuts_it(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str
) -> None:
    content_type, data = STREAMS[kind]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    for size in (1, 7, 64, len(data)):
        pieces = [chunk(data[at : at + size]) for at in range(0, len(data), size)]
        gateway, _, model = await gateway_for(nursery, gateways, kind, head, *pieces, chunk(b""))
        call = await ask(gateway, path, model, stream=True)
        assert call.status == 200, call.answer
        assert streamed(path, call.answer) == TEXT
        assert call.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert call.headers[b"x-helexa-attempts"] == b"1"


async def ask_and_look(gateway: Gateway, path: str, model: str, seen: trio.Event) -> Call:
    """Ask for a stream; `seen` is set once its first words have come."""
    call = Call.post(path, orjson.dumps({"model": model, **ASKED[path], "stream": True}))

    async def look() -> None:
        await until(lambda: TEXT[:3].encode() in call.answer)
        seen.set()

    async with trio.open_nursery() as both:
        both.start_soon(look)
        await call.run(gateway.app)
    return call


@pytest.mark.parametrize(("path", "kind"), TRANSLATED)
async def test_a_stream_is_translated_while_it_comes(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str
) -> None:
    """The client has read the first words before the server says the last."""
    content_type, data = STREAMS[kind]
    cut = data.index(TEXT[3:].encode())
    cut = data.rindex(b"\n", 0, cut) + 1
    seen = trio.Event()

    async def play(peer: Peer) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        await peer.send(head, chunk(data[:cut]))
        await seen.wait()
        await peer.send(chunk(data[cut:]), chunk(b""))

    gateway, model = gateway_at(await start_script(nursery, play), kind)
    gateways.append(gateway)
    call = await ask_and_look(gateway, path, model, seen)
    assert streamed(path, call.answer) == TEXT


REFUSALS: dict[str, dict[str, Any]] = {
    "neuron": {"error": {"message": "too hot", "type": "invalid_request_error", "code": "odd", "param": "temperature"}},
    "openai": {"error": {"message": "too hot", "type": "invalid_request_error", "code": "odd", "param": "temperature"}},
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "too hot"}},
    "ollama": {"error": "too hot"},
}


def error_of(path: str, call: Call) -> tuple[str, str]:
    """Type and message of an error's answer in the dialect of the route."""
    found = orjson.loads(call.answer)
    if path in (MESSAGES, COUNT):
        assert found["type"] == "error"
        assert found["request_id"] == call.headers[b"request-id"].decode() == call.headers[b"x-request-id"].decode()
        assert set(found["error"]) == {"type", "message"}
    else:
        assert set(found["error"]) >= {"type", "message", "code", "param"}
    return found["error"]["type"], found["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "kind"), TRANSLATED)
async def test_an_error_of_the_request_comes_back_in_the_clients_dialect(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str, *, stream: bool
) -> None:
    body = orjson.dumps(
        REFUSALS[kind] if (path, kind) != (MESSAGES, "anthropic") else {**REFUSALS[kind], "request_id": ""}
    )
    gateway, script, model = await gateway_for(nursery, gateways, kind, whole(body, "400 Bad Request"))
    call = await ask(gateway, path, model, stream=stream)
    if (path, kind) == (MESSAGES, "anthropic"):
        assert (call.status, call.answer) == (400, body)
    else:
        assert (call.status, *error_of(path, call)) == (400, "invalid_request_error", "too hot")
    assert len(script.requests) == 1


TYPES = {
    502: "api_error",
    503: "overloaded_error",
    429: "rate_limit_error",
    404: "not_found_error",
    400: "invalid_request_error",
}


@pytest.mark.parametrize("path", [*ASKED, COUNT])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b'{"model": 1}', 400), (b'{"model": "unheard of"}', 404), (b'{"model": "m"}', 503)],
)
async def test_an_error_of_the_gateways_own_is_told_in_the_clients_dialect(
    gateways: list[Gateway], path: str, body: bytes, status: int
) -> None:
    gateways.append(gateway_to({"a": refused_url()}))
    more = {**ASKED.get(path, ASKED[MESSAGES]), **orjson.loads(body)} if status > 400 else None
    call = await gateways[-1].ask(orjson.dumps(more) if more else body, path)
    kind, _ = error_of(path, call)
    assert call.status == status
    if path in (MESSAGES, COUNT):
        assert kind == TYPES[status]


BROKEN: dict[str, bytes] = {
    "cut": b"",
    "garbage": b"garbage",
    "not JSON": chunk(b"data: {oops\n\n") + chunk(b""),
    "not JSON lines": chunk(b"oops\n") + chunk(b""),
    "no object": chunk(b"data: 3\n\n3\n") + chunk(b""),
    "odd shape": chunk(b'data: {"choices": 3, "type": 3, "message": 3}\n\n{"message": 3}\n') + chunk(b""),
}


# What whoever speaks the client's dialect says is passed on as it is, and not read.
READ = [each for each in TRANSLATED if each != (MESSAGES, "anthropic")]
CUT = [(MESSAGES, "anthropic", "cut")]


@pytest.mark.parametrize(("path", "kind", "fault"), [*((*each, fault) for each in READ for fault in BROKEN), *CUT])
async def test_a_stream_that_breaks_ends_with_an_error_in_the_clients_dialect(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str, fault: str
) -> None:
    content_type, data = STREAMS[kind]
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    cut = data.rindex(b"\n\n" if kind != "ollama" else b"\n", 0, data.index(TEXT[3:].encode())) + 2
    cut -= kind == "ollama"
    seen = trio.Event()

    async def play(peer: Peer) -> None:
        await peer.send(head, chunk(data[:cut]))
        await seen.wait()
        await peer.send(BROKEN[fault])
        peer.keep = False

    script = await start_script(nursery, play)
    gateway, model = gateway_at(script, kind)
    gateways.append(gateway)
    call = await ask_and_look(gateway, path, model, seen)
    assert (call.status, call.ended) == (200, True)
    *events, last = sse_data(call.answer)
    if path in (CHAT, COMPLETIONS):
        assert last == "[DONE]"
        assert events[-1]["error"]["code"] == "upstream_error"
    elif path == RESPONSES:
        assert last["type"] == "response.failed"
        assert [each["sequence_number"] for each in [*events, last]] == list(range(len(events) + 1))
    else:
        assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert TEXT[:3].encode() in call.answer
    await until(lambda: script.open == 0)


@pytest.mark.parametrize(
    ("path", "kind", "fault"),
    [*((*each, fault) for each in READ for fault in ("cut", "not JSON", "no object", "odd shape")), *CUT],
)
async def test_a_stream_that_breaks_before_its_first_event_is_a_502_in_the_clients_dialect(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str, fault: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {STREAMS[kind][0]}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    script = await start_script(nursery, plays(head, BROKEN[fault], close=True))
    gateway, model = gateway_at(script, kind)
    gateways.append(gateway)
    call = await ask(gateway, path, model, stream=True)
    assert (call.status, error_of(path, call)[0]) == (502, "api_error")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"choices": 3, "content": 3, "message": 3}', b"<html></html>"]
)
@pytest.mark.parametrize(("path", "kind"), READ)
async def test_an_answer_that_is_none_is_a_502_in_the_clients_dialect(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, kind: str, body: bytes
) -> None:
    gateway, _, model = await gateway_for(nursery, gateways, kind, whole(body))
    call = await ask(gateway, path, model)
    assert (call.status, error_of(path, call)[0]) == (502, "api_error")


async def test_a_count_of_tokens_is_asked_of_the_nodes_tokenizer(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    answer = b'{"count": 7, "max_model_len": 100, "tokens": [1, 2, 3, 4, 5, 6, 7]}'
    gateway, script, model = await gateway_for(nursery, gateways, "neuron", whole(answer))
    body = {"model": model, "system": "be brief", "messages": [{"role": "user", "content": "hi"}]}
    call = await gateway.ask(orjson.dumps(body), COUNT)
    assert (call.status, orjson.loads(call.answer)) == (200, {"input_tokens": 7})
    assert script.requests[0][0].startswith(b"POST /tokenize HTTP/1.1")
    assert [each["role"] for each in orjson.loads(script.requests[0][1])["messages"]] == ["system", "user"]


async def test_a_count_of_tokens_is_passed_on_to_whoever_speaks_the_dialect(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, script, _ = await gateway_for(nursery, gateways, "anthropic", whole(b'{"input_tokens": 7}'))
    body = b'{ "model": "out", "messages": []}'
    call = await gateway.ask(body, COUNT)
    assert (call.answer, script.requests[0][1]) == (b'{"input_tokens": 7}', body)
    assert script.requests[0][0].startswith(b"POST /base/messages/count_tokens HTTP/1.1")


@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_a_count_of_tokens_that_nobody_can_make_is_refused(
    nursery: trio.Nursery, gateways: list[Gateway], kind: str
) -> None:
    gateway, script, _ = await gateway_for(nursery, gateways, kind, whole(b"{}"))
    call = await gateway.ask(orjson.dumps({"model": "out", **ASKED[MESSAGES]}), COUNT)
    assert (call.status, error_of(COUNT, call)[0]) == (400, "invalid_request_error")
    assert script.requests == []
