"""What each dialect asks of the exchange beyond its translation: passed-on bytes, ids, warnings, ends of streams."""

from typing import Any

import orjson
import pytest
import trio
from attrs import evolve
from gateways import ANSWER, GOLDEN, Gateway, chat, gateway_to, outside_gateway, provider
from http_parts import SSE_HEAD, Call, Script, chunk, plays, sse_data, start_script, whole
from scrapes import Watched

from config import Provider
from helexa.cortex.exchange.answer import Answer, Plain
from helexa.cortex.exchange.chats import ChatReader, ChatReply
from helexa.cortex.exchange.dialects import DIALECTS, chat_dialect, messages_dialect, responses_dialect
from helexa.cortex.exchange.kinds import OPENAI_RESPONSES, way
from helexa.cortex.exchange.legacy import to_chat
from helexa.cortex.exchange.prefixes import MOST, prefixes
from helexa.cortex.exchange.relays import Verbatim
from helexa.wire.errors import ApiError

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
MESSAGE_STREAM = (GOLDEN / "anthropic_upstream_stream.sse").read_bytes()
RESPONSE_STREAM = (GOLDEN / "responses_stream.sse").read_bytes()
RESPONSE = (GOLDEN / "responses_whole.json").read_bytes()
BILLED = "x-anthropic-billing-header: cc_version=1; cch=1a2b3;\nBe brief."


async def serving(nursery: trio.Nursery, gateways: list[Gateway], *pieces: bytes, **settings: Any) -> Script:
    script = await start_script(nursery, plays(*pieces))
    gateways.append(outside_gateway(Provider("p", base_url=script.url, retries=0, **settings)))
    return script


def framed(data: bytes) -> bytes:
    return SSE_HEAD + chunk(data) + chunk(b"")


def message(**more: Any) -> dict[str, Any]:
    return {"model": "out", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **more}


async def test_messages_are_passed_on_byte_for_byte_to_whoever_speaks_them(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await serving(nursery, gateways, framed(MESSAGE_STREAM), kind="anthropic")
    body = b'{ "model":"out",  "stream":true, "max_tokens": 1, "messages": [], "odd": [1.0]}'
    call = await gateways[-1].ask(body, MESSAGES)
    assert (call.answer, script.requests[0][1]) == (MESSAGE_STREAM, body)


@pytest.mark.parametrize("strip", [True, False])
async def test_billing_headers_are_stripped_on_every_way_or_on_none(
    nursery: trio.Nursery, gateways: list[Gateway], *, strip: bool
) -> None:
    for kind in ("anthropic", "openai", "ollama"):
        script = await serving(nursery, gateways, whole(b"{}", "500 Oops"), kind=kind)
        router = gateways[-1].router
        topology = router.fleet().topology
        router.state.apply(evolve(topology, cortex=evolve(topology.cortex, strip_billing=strip)), 0.0)
        await gateways[-1].ask(orjson.dumps(message(system=BILLED)), MESSAGES)
        assert (b"billing" in script.requests[0][1]) is not strip
        assert b"Be brief." in script.requests[0][1]


async def test_a_responses_stream_of_a_provider_gets_an_id_of_ours(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    theirs = orjson.loads(RESPONSE)["id"].encode()
    await serving(nursery, gateways, framed(RESPONSE_STREAM), responses=True)
    call = await gateways[-1].ask(b'{"model": "out", "input": "hi", "stream": true}', RESPONSES)
    events = sse_data(call.answer)
    assert [each["type"] for each in events] == [each["type"] for each in sse_data(RESPONSE_STREAM)]
    ids = {each["response"]["id"] for each in events if "response" in each}
    assert len(ids) == 1
    assert ids.pop().startswith("resp_")
    assert theirs not in call.answer


async def test_a_whole_response_of_a_provider_gets_an_id_of_ours_and_is_not_stored(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await serving(nursery, gateways, whole(RESPONSE), responses=True)
    call = await gateways[-1].ask(b'{"model": "out", "input": "hi", "tools": [{"type": "web_search"}]}', RESPONSES)
    theirs, ours = orjson.loads(RESPONSE), orjson.loads(call.answer)
    assert ours["id"] != theirs["id"]
    assert {**ours, "id": theirs["id"]} == theirs
    assert script.requests[0][0].startswith(b"POST /responses HTTP/1.1")
    sent = orjson.loads(script.requests[0][1])
    assert (sent["store"], sent["tools"]) == (False, [{"type": "web_search"}])
    assert call.headers[b"warning"].startswith(b'299 helexa "')


@pytest.mark.parametrize("responses", [True, False])
async def test_what_needs_state_is_refused_on_every_way(
    nursery: trio.Nursery, gateways: list[Gateway], *, responses: bool
) -> None:
    script = await serving(nursery, gateways, whole(RESPONSE), responses=responses)
    body = {"model": "out", "input": "hi", "previous_response_id": "resp_1"}
    call = await gateways[-1].ask(orjson.dumps(body), RESPONSES)
    assert (call.status, call.error["code"]) == (400, "previous_response_id_not_supported")
    assert script.requests == []


async def test_what_was_passed_over_is_told_in_warnings(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}))
    body = {"model": "m", "input": "hi", "tools": [{"type": 'web"\r\nx-evil: 1\\ü'}]}
    call = await gateways[-1].ask(orjson.dumps(body), RESPONSES)
    assert call.status == 200, call.answer
    warnings = [value for key, value in call.messages[0]["headers"] if key == b"warning"]
    assert len(warnings) == 2
    for each in warnings:
        assert each.startswith(b'299 helexa "')
        assert each.endswith(b'"')
        assert all(0x20 <= byte < 0x7F for byte in each)


async def test_a_translated_chat_has_nothing_that_only_we_know(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    script = await serving(nursery, gateways, whole(ANSWER))
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, _text("yes")]}
    thinking = {"type": "enabled", "budget_tokens": 2000}
    asked = message(top_k=3, thinking=thinking)
    asked["messages"] += [turn, {"role": "user", "content": "and?"}]
    await gateways[-1].ask(orjson.dumps(asked), MESSAGES)
    sent = orjson.loads(script.requests[0][1])
    assert not {"top_k", "chat_template_kwargs"} & set(sent)
    assert all("reasoning_content" not in each for each in sent["messages"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stream_for_an_answer_and_an_answer_for_a_stream_are_errors(
    nursery: trio.Nursery, gateways: list[Gateway], *, stream: bool
) -> None:
    await serving(nursery, gateways, whole(ANSWER) if stream else framed(CHUNK + LAST))
    call = await gateways[-1].ask(orjson.dumps(message(stream=stream)), MESSAGES)
    assert (call.status, call.error["type"]) == (502, "api_error")
    assert "stream" in call.error["message"]


@pytest.mark.parametrize("path", [MESSAGES, RESPONSES, CHAT])
async def test_an_error_in_a_success_is_an_error(nursery: trio.Nursery, gateways: list[Gateway], path: str) -> None:
    await serving(nursery, gateways, whole(b'{"error":{"message":"no credit","code":429}}'))
    call = await gateways[-1].ask(orjson.dumps(message(input="hi")), path)
    assert (call.status, call.error["message"]) == (429, "no credit")


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize("space", [b"", b" "])
@pytest.mark.parametrize(
    ("path", "last"),
    [
        (CHAT, b'data: {"choices":[{"finish_reason":%b"stop"}]}\n\n'),
        (MESSAGES, b'data: {"type":%b"message_stop"}\n\n'),
        (RESPONSES, b'data: {"type":%b"response.completed"}\n\n'),
    ],
)
def test_a_stream_may_end_without_the_mark_of_its_end_if_nothing_is_missing(
    path: str, last: bytes, space: bytes
) -> None:
    relay = verbatim(path)
    assert relay.push(b"data: 1\n\n" + last % space) == b"data: 1\n\n" + last % space
    assert relay.finish() == b""


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, MESSAGES, RESPONSES])
def test_what_a_model_says_is_not_taken_for_the_end(path: str) -> None:
    said = orjson.dumps(
        {"text": 'data: [DONE]\n\nevent: message_stop\n"finish_reason":"stop"\nevent: response.completed'}
    )
    relay = verbatim(path)
    relay.push(b"data: " + said + b"\n\n")
    assert not relay.complete
    with pytest.raises(ValueError, match=r"^it ended its stream before the answer's end$"):
        relay.finish()


@pytest.mark.parametrize(
    ("path", "events", "message"),
    [
        (CHAT, b'data: {"error":{"message":"no"}}\n\n', "no"),
        (CHAT, b'data: {"error":"no"}\n\n', "no"),
        (MESSAGES, b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"no"}}\n\n', "no"),
        (RESPONSES, b'event: error\ndata: {"type":"error","code":"x","message":"no","param":null}\n\n', "no"),
        (RESPONSES, b'event: error\ndata: {"type":"error","error":{"code":"x","message":"no"}}\n\n', "no"),
    ],
)
def test_an_error_in_place_of_the_first_event_is_found(path: str, events: bytes, message: str) -> None:
    for cut in range(len(events)):
        relay = verbatim(path)
        with pytest.raises(ApiError, match=message):
            relay.push(events[:cut]), relay.push(events[cut:])
    later = verbatim(path)
    assert later.push(b"data: {}\n\n") + later.push(events) == b"data: {}\n\n" + events
    assert later.finish() == b""


def verbatim(path: str) -> Verbatim:
    dialect = DIALECTS[path]
    return Verbatim(dialect.marks, dialect.read_error, dialect.end_with_error)


def test_an_error_in_a_passed_on_response_stream_has_the_next_number() -> None:
    found = way(responses_dialect, OPENAI_RESPONSES)
    assert found is not None
    unused: Any = None
    relay = found.relay(unused)
    for number in range(3):
        relay.push(b'event: x\ndata: {"type":"x","sequence_number":%d}\n\n' % number)
    (event,) = sse_data(relay.fail(ApiError(502, "no", "api_error", "upstream_error")))
    assert event == {"type": "error", "code": "upstream_error", "message": "no", "param": None, "sequence_number": 3}


CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def test_chunks_are_the_same_however_they_are_cut() -> None:
    data = b": hello\n\n" + CHUNK + CHUNK.replace(b"\n", b"\r\n") + LAST + b"data: [DONE]\n\n" + b"data: oops\n\n"
    expected = ChatReader().push(data)
    assert [each["choices"][0]["finish_reason"] for each in expected] == [None, None, "stop"]
    for cut in range(len(data)):
        reader = ChatReader()
        assert [*reader.push(data[:cut]), *reader.push(data[cut:]), *reader.finish()] == expected
        assert reader.complete


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE]\n\n"])
def test_a_stream_of_chunks_ends_with_its_mark_or_with_its_choices(end: bytes) -> None:
    reader = ChatReader()
    assert len([*reader.push(CHUNK + LAST + end), *reader.finish()]) == 2


@pytest.mark.parametrize("data", [b"", CHUNK, CHUNK + LAST[:-20]])
def test_a_stream_of_chunks_that_breaks_off_is_not_whole(data: bytes) -> None:
    reader = ChatReader()
    reader.push(data)
    with pytest.raises(ValueError, match=r"^it "):
        reader.finish()


@pytest.mark.parametrize(
    "data",
    [b"data: {\n\n", b"data: []\n\n", b"data: {}\n\n", b'data: {"choices":{}}\n\n', b'data: {"choices":[1]}\n\n'],
)
def test_what_is_no_chunk_is_an_error_after_what_was_good(data: bytes) -> None:
    reader = ChatReader()
    with pytest.raises(ValueError, match=r"^it sent an event"):
        reader.push(data)
    reader = ChatReader()
    assert len(reader.push(CHUNK + data)) == 1
    for again in (lambda: reader.push(CHUNK), reader.finish):
        with pytest.raises(ValueError, match=r"^it sent an event"):
            again()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, (502, "m", "t", "c", "p")),
        ({"error": {"message": "m", "code": 429}}, (429, "m", "invalid_request_error", "invalid_request_error", None)),
        (
            {"error": {"message": 3, "code": 9999}},
            (502, "The upstream gave no reason.", "api_error", "upstream_error", None),
        ),
        ({"error": "m", "choices": []}, (502, "m", "api_error", "upstream_error", None)),
    ],
)
def test_errors_in_a_stream_are_read_whatever_they_hold(event: dict[str, Any], expected: tuple[Any, ...]) -> None:
    with pytest.raises(ApiError) as found:
        ChatReader().push(b"data: " + orjson.dumps(event) + b"\n\n")
    error = found.value
    assert (error.status, error.message, error.type, error.code, error.param) == expected


@pytest.mark.parametrize("asked", [True, False])
def test_a_chats_usage_is_told_to_those_who_asked_for_it(*, asked: bool) -> None:
    body = {"stream": True, **({"stream_options": {"include_usage": True}} if asked else {})}
    assert chat_dialect.to_chat(body, True).chat["stream_options"] == {"include_usage": True}
    reply = ChatReply.to(body)
    assert bool(reply.push({"choices": [], "usage": {"prompt_tokens": 1}})) is asked
    (event,) = sse_data(reply.push({"choices": [{"delta": {}}], "usage": None}))
    assert ("usage" in event) is asked


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"suffix": "x"}, "unsupported_value", "suffix"),
        ({"echo": True}, "unsupported_value", "echo"),
        ({"logprobs": 3}, "unsupported_value", "logprobs"),
        ({"best_of": 2}, "unsupported_value", "best_of"),
        ({"prompt": ["a", "b"]}, "unsupported_value", "prompt"),
        ({"prompt": [1, 2]}, "unsupported_value", "prompt"),
        ({"prompt": None}, "missing_required_parameter", "prompt"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    ],
)
def test_a_completion_that_is_no_conversation_is_refused(more: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as found:
        to_chat({"model": "m", "prompt": "hi", **more})
    assert (found.value.status, found.value.code, found.value.param) == (400, code, param)


def test_a_completion_becomes_what_a_user_says() -> None:
    body = {"model": "m", "prompt": ["hi"], "echo": False, "suffix": None, "best_of": 1, "temperature": 0, "stop": "x"}
    assert to_chat(body).chat == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 16,
        "temperature": 0,
        "stop": "x",
    }


def turns(count: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": str(index)} for index in range(count)]


def test_a_conversation_is_recognized_by_its_beginnings() -> None:
    first = prefixes({"model": "m", "messages": turns(3)}, "t")
    later = prefixes({"model": "m", "messages": turns(5)}, "t")
    assert (len(first), len(later)) == (3, 5)
    assert later[2:] == first
    assert len(set(later)) == 5
    assert {len(each) for each in later} == {16}
    assert len(prefixes({"model": "m", "messages": turns(50)}, "t")) == MOST
    assert prefixes({"model": "m", "messages": turns(50)}, "t")[-1] != first[-1]


@pytest.mark.parametrize("more", [{"model": "n"}, {"tools": [1]}, {"messages": turns(2)[::-1]}])
def test_another_conversation_is_another(more: dict[str, Any]) -> None:
    one = {"model": "m", "messages": turns(2)}
    assert not set(prefixes(one, "t")) & set(prefixes({**one, **more}, "t"))
    assert not set(prefixes(one, "t")) & set(prefixes(one, "u"))


def test_what_is_no_conversation_has_no_beginnings() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert prefixes({"messages": "x"}, "t") == ()
    assert len(prefixes({"messages": [deep, 3]}, "t")) == 2


async def test_names_that_cannot_stand_in_a_header_are_written_as_in_a_url() -> None:
    call = Call.post(CHAT, b"")
    answer = Answer(call.send, chat_dialect, "id", Watched().observer.begin(CHAT, "id", None))
    answer.route, answer.node = "grüße-* \n", "a"
    await answer.whole(Plain(200, b"{}", []))
    assert call.headers[b"x-helexa-route"] == b"gr%C3%BC%C3%9Fe-*%20%0A"


async def test_a_stream_that_never_began_fails_as_a_whole_answer_with_its_id() -> None:
    call = Call.post(MESSAGES, b"")
    answer = Answer(call.send, messages_dialect, "id", Watched().observer.begin(MESSAGES, "id", None))
    await answer.fail(ApiError(503, "no", "api_error", "x", retry_after=3))
    assert (call.status, call.headers[b"retry-after"], call.headers[b"request-id"]) == (503, b"3", b"id")
    assert orjson.loads(call.answer)["request_id"] == "id"


async def test_control_characters_and_five_megabytes_survive_the_way(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    text = "".join(map(chr, range(0x20))) + "\x7f\u2028\ufeff\U0010ffff" + "ä" * 2_500_000
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}))
    gateways.append(outside_gateway(provider("p", script.url, "ollama")))
    for body, path in ((message(), MESSAGES), ({"input": None}, RESPONSES), (message(), CHAT)):
        asked = {**body, "model": "m", "messages": [{"role": "user", "content": text}], "input": text}
        assert (await gateways[0].ask(orjson.dumps(asked), path)).status == 200
        assert orjson.loads(script.requests[-1][1])["messages"][-1]["content"] == text
    await gateways[1].ask(chat("out").replace(b'"hi"', orjson.dumps(text)))
    assert orjson.loads(script.requests[-1][1])["messages"][-1]["content"] == text
