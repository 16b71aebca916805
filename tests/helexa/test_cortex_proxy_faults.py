"""The proxy when nodes break, clients leave and the server stops: one error told, places and connections given back."""

from typing import Any

import orjson
import pytest
import trio
import trio.testing
from fleets import in_flight
from gateways import ANSWER, EVENTS, GOLDEN, PATH, REQUEST, STREAM, STREAMED, Gateway, gateway_to, refused_url, start
from http_parts import (
    SSE_HEAD,
    Call,
    Peer,
    RawClient,
    chunk,
    plays,
    request_bytes,
    scope_of,
    sse_data,
    start_app,
    start_script,
    until,
    whole,
)

from actors.router import Router
from helexa.cortex.exchange import attempt as module
from helexa.cortex.exchange import local
from helexa.cortex.exchange.upstream import Patience
from helexa.web import server

ERROR = (GOLDEN / "error.json").read_bytes()


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Unavailable", "504 Timeout"])
async def test_a_node_in_trouble_is_looked_at_and_its_own_error_passed_on(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(ERROR, status, extra="retry-after: 9\r\n")))
    call = await gateway.ask()
    assert (call.status, call.answer, call.headers[b"retry-after"]) == (int(status[:3]), ERROR, b"9")
    assert gateway.poked == ["a"]


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        ("500 Oops", 502, "upstream_error"),
        ("502 Bad Gateway", 502, "upstream_error"),
        ("503 Unavailable", 503, "service_unavailable"),
        ("504 Timeout", 504, "timeout"),
        ("429 Too Many", 429, "rate_limit_exceeded"),
        ("404 Not Found", 502, "upstream_error"),
        ("301 Moved", 502, "upstream_error"),
    ],
)
async def test_an_error_told_by_its_status_alone_is_told_in_our_words(
    nursery: trio.Nursery, gateways: list[Gateway], status: str, told: int, code: str
) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(b"<html>nginx</html>", status, "text/html")))
    call = await gateway.ask()
    assert (call.status, call.error["code"]) == (told, code)
    assert call.error["message"] == f"The node 'a' failed this request: it answered with status {status[:3]}."


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_node_that_refuses_the_gateway_is_not_the_clients_fault(
    nursery: trio.Nursery, gateways: list[Gateway], status: str
) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(b"{}", status)))
    call = await gateway.ask()
    assert (call.status, call.error["code"]) == (502, "upstream_error")
    assert call.error["message"] == ("The node 'a' failed this request: it does not accept this gateway's secret.")


BROKEN_BEFORE_THE_FIRST_EVENT = {
    "closed at once": plays(close=True),
    "closed in the head": plays(b"HTTP/1.1 200 OK\r\ncontent-", close=True),
    "closed after the head": plays(SSE_HEAD, close=True),
    "closed in the first event": plays(SSE_HEAD + chunk(EVENTS[0][:-1]), close=True),
    "closed in a whole answer": plays(whole(ANSWER)[:-1], close=True),
    "compressed": plays(whole(ANSWER, extra="content-encoding: gzip\r\n")),
    "garbage": plays(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
    "garbage after the head": plays(SSE_HEAD + b"garbage", close=True),
}


@pytest.mark.parametrize("fault", BROKEN_BEFORE_THE_FIRST_EVENT)
async def test_a_node_that_breaks_before_the_first_event_is_a_502(
    nursery: trio.Nursery, gateways: list[Gateway], fault: str
) -> None:
    gateway, script = await start(nursery, gateways, BROKEN_BEFORE_THE_FIRST_EVENT[fault])
    call = await gateway.ask()
    assert (call.status, call.error["type"], call.error["code"]) == (502, "api_error", "upstream_error")
    assert call.error["message"].startswith("The node 'a' failed this request: ")
    assert (gateway.poked, gateway.down, len(script.requests)) == (["a"], [], 1)
    await until(lambda: script.open == 0)


NO_ANSWERS = {
    "a stream without events": plays(SSE_HEAD + chunk(b"")),
    "no JSON": plays(whole(b"<html>hello</html>", kind="text/html")),
    "broken JSON": plays(whole(ANSWER[:-2])),
    "JSON that is no object": plays(whole(b"[]")),
    "a stream of nothing but a comment": plays(whole(b": hello\n\n", kind="text/event-stream")),
}


@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_what_is_http_and_no_answer_is_a_502(nursery: trio.Nursery, gateways: list[Gateway], fault: str) -> None:
    gateway, _ = await start(nursery, gateways, NO_ANSWERS[fault])
    call = await gateway.ask()
    assert gateway.poked == ["a"]
    if fault == "a stream of nothing but a comment":  # which has gone to the client, as it keeps connections alive
        assert [event["error"]["code"] for event in sse_data(call.answer)[:-1]] == ["upstream_error"]
    else:
        assert (call.status, call.error["type"], call.error["code"]) == (502, "api_error", "upstream_error")
        assert call.error["message"].startswith("The node 'a' failed this request: it")


@pytest.mark.parametrize("garbage", [b"", b"garbage"], ids=["closed", "garbage"])
async def test_a_node_that_breaks_later_leaves_whole_events_an_error_and_the_end(
    nursery: trio.Nursery, gateways: list[Gateway], garbage: bytes
) -> None:
    stream = b"".join(EVENTS)
    first = len(EVENTS[0])
    cuts = [*range(first, len(stream), 11), len(stream)]
    gateway, _ = await start(
        nursery, gateways, *(plays(SSE_HEAD + chunk(stream[:cut]) + garbage, close=True) for cut in cuts)
    )
    for cut in cuts:
        call = await gateway.ask()
        assert call.ended
        *events, error, end = sse_data(call.answer)
        assert events == sse_data(stream[: stream.rindex(b"\n\n", 0, cut) + 2])
        assert (error["error"]["code"], end) == ("upstream_error", "[DONE]")
    assert gateway.poked == ["a"] * len(cuts)


async def test_a_node_that_refuses_the_connection_is_down_and_the_next_is_asked(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(STREAMED))
    gateway = gateway_to({"a": refused_url(), "b": refused_url(), "c": script.url})
    gateways.append(gateway)
    assert (await gateway.ask()).answer == STREAM
    assert (gateway.down, gateway.poked) == (["a", "b"], ["a", "b"])
    assert (await gateway.ask()).answer == STREAM
    assert gateway.poked == ["a", "b"]


async def test_when_every_node_refuses_the_client_is_told_to_come_back(gateways: list[Gateway]) -> None:
    gateway = gateway_to({"a": refused_url(), "b": refused_url()})
    gateways.append(gateway)
    call = await gateway.ask()
    assert (call.status, call.error["code"], call.headers[b"retry-after"]) == (503, "service_unavailable", b"5")
    assert gateway.down == ["a", "b"]


async def test_a_stale_connection_is_no_ones_concern(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, script = await start(nursery, gateways, plays(STREAMED), plays(close=True), plays(STREAMED))
    assert [(await gateway.ask()).answer for _ in range(2)] == [STREAM] * 2
    assert (script.connections, gateway.poked, gateway.down) == (2, [], [])


async def test_a_node_that_stopped_between_requests_is_passed_over(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    other = await start_script(nursery, plays(STREAMED))
    async with trio.open_nursery() as first:
        script = await start_script(first, plays(STREAMED))
        gateway = gateway_to({"a": script.url, "b": other.url})
        gateways.append(gateway)
        await gateway.ask()
        first.cancel_scope.cancel()
    assert (await gateway.ask()).answer == STREAM
    assert (gateway.down, len(other.requests)) == (["a"], 1)


@pytest.mark.parametrize("sent", [b"", SSE_HEAD], ids=["no head", "no event"])
async def test_a_silent_node_is_a_504(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(local, "PATIENCE", Patience(0.05, 0.05))

    async def play(peer: Peer) -> None:
        await peer.send(sent)
        await peer.wait_closed()

    gateway, script = await start(nursery, gateways, play)
    call = await gateway.ask()
    assert (call.status, call.error["type"], call.error["code"]) == (504, "api_error", "timeout")
    assert gateway.poked == ["a"]
    await until(lambda: script.open == 0)


async def test_a_node_that_falls_silent_mid_stream_ends_it_with_an_error(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PATIENCE", Patience(5, 0.05))

    async def play(peer: Peer) -> None:
        await peer.send(SSE_HEAD + chunk(EVENTS[0] + EVENTS[1][:9]))
        await peer.wait_closed()

    gateway, _ = await start(nursery, gateways, play)
    first, error, end = sse_data((await gateway.ask()).answer)
    assert (first, error["error"]["code"], end) == (sse_data(EVENTS[0])[0], "timeout", "[DONE]")


async def test_an_answer_that_is_too_long_is_a_502(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10)
    gateway, _ = await start(nursery, gateways, plays(whole(ANSWER)))
    call = await gateway.ask()
    assert call.error["message"] == "The node 'a' failed this request: its answer is longer than 10 bytes."


async def hold(peer: Peer, *sent: bytes) -> None:
    await peer.send(*sent)
    await peer.wait_closed()


HELD = [(), (SSE_HEAD,), (SSE_HEAD, chunk(EVENTS[0])), (whole(ANSWER)[:-5],)]


@pytest.mark.parametrize("sent", HELD, ids=["no head", "no event", "mid-stream", "mid-answer"])
async def test_a_client_that_leaves_closes_the_connection_to_the_node_at_once(
    nursery: trio.Nursery, gateways: list[Gateway], sent: tuple[bytes, ...]
) -> None:
    async def play(peer: Peer) -> None:
        await hold(peer, *sent)

    gateway, script = await start(nursery, gateways, play)
    port = await start_app(nursery, gateway.app)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", PATH, REQUEST))
        if len(sent) == 2:
            await client.read_until(EVENTS[0])
        else:
            await until(lambda: len(script.requests) == 1)
        assert in_flight(gateway.router) == 1
    await until(lambda: script.open == 0)
    assert in_flight(gateway.router) == 0
    assert (gateway.poked, gateway.down) == ([], [])


@pytest.mark.parametrize("sent", HELD[:3], ids=["no head", "no event", "mid-stream"])
async def test_a_shutdown_ends_what_is_in_flight_with_an_error(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, ...], nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.05)

    async def play(peer: Peer) -> None:
        await hold(peer, *sent)

    gateway, script = await start(nursery, gateways, play)
    port = await start_app(nursery, gateway.app, gateway.proxy.drain)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", PATH, REQUEST))
        await until(lambda: len(script.requests) == 1)
        gateway.proxy.drain.stopping.set()
        status, _, body = await client.response()
    *events, error, end = sse_data(body) if len(sent) == 2 else [orjson.loads(body), None]
    assert (status, end) == ((200, "[DONE]") if len(sent) == 2 else (503, None))
    assert events == (sse_data(EVENTS[0]) if len(sent) == 2 else [])
    assert error["error"]["message"] == "The server is shutting down."
    await until(lambda: script.open == 0)


MESSAGE = b'{"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
RESPONSE = b'{"model": "m", "input": "hi", "stream": true}'
TRANSLATED = [("/v1/messages", MESSAGE, b"text_delta"), ("/v1/responses", RESPONSE, b"output_text.delta")]


@pytest.mark.parametrize(("path", "body", "mark"), TRANSLATED)
async def test_a_client_that_leaves_a_translated_stream_closes_the_connection_to_the_node_at_once(
    nursery: trio.Nursery, gateways: list[Gateway], path: str, body: bytes, mark: bytes
) -> None:
    async def play(peer: Peer) -> None:
        await hold(peer, SSE_HEAD, chunk(EVENTS[0] + EVENTS[1]))

    gateway, script = await start(nursery, gateways, play)
    port = await start_app(nursery, gateway.app)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", path, body))
        await client.read_until(mark)
    await until(lambda: script.open == 0)
    assert (in_flight(gateway.router), gateway.poked) == (0, [])


@pytest.mark.parametrize("case", TRANSLATED)
async def test_a_shutdown_ends_a_translated_stream_as_its_dialect_ends_them(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, case: tuple[str, bytes, bytes]
) -> None:
    path, body, mark = case
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.05)

    async def play(peer: Peer) -> None:
        await hold(peer, SSE_HEAD, chunk(EVENTS[0] + EVENTS[1]))

    gateway, _ = await start(nursery, gateways, play)
    port = await start_app(nursery, gateway.app, gateway.proxy.drain)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_bytes("POST", path, body))
        client.expect()
        client.feed(await client.read_until(mark))
        gateway.proxy.drain.stopping.set()
        *_, last = sse_data((await client.rest())[2])
    error = last["error"] if path == "/v1/messages" else last["response"]["error"]
    assert error["message"] == "The server is shutting down."
    assert last["type"] == ("error" if path == "/v1/messages" else "response.failed")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_client_that_leaves_while_its_model_is_loaded_gives_the_wait_up(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    waiting, given_up = trio.Event(), trio.Event()

    async def acquire(*_: object) -> None:
        waiting.set()
        try:
            await trio.sleep_forever()
        finally:
            given_up.set()

    gateways.append(gateway_to({"a": refused_url()}))
    monkeypatch.setattr(Router, "acquire", acquire)
    call = Call.post(path, MESSAGE)
    async with trio.open_nursery() as both:
        both.start_soon(call.run, gateways[-1].app)
        await waiting.wait()
        call.leave()
    assert given_up.is_set()
    assert call.messages == []


async def test_a_fault_of_our_own_is_an_envelope_without_details(
    gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_to({"a": refused_url()})
    gateways.append(gateway)
    monkeypatch.setattr(Router, "acquire", lambda *_: 1 / 0)
    call = await gateway.ask()
    assert (call.status, call.error["code"]) == (500, "internal_error")
    assert "division" not in call.answer.decode()


async def test_a_client_that_leaves_before_its_body_is_whole_is_not_answered(gateways: list[Gateway]) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    gateways.append(gateway_to({"a": refused_url()}))
    call = Call(scope_of("POST", PATH))
    await gateways[-1].app(call.scope, receive, call.send)
    assert call.messages == []
