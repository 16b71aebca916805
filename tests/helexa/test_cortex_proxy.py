"""The proxy between a client and scripted nodes: what is passed on, byte for byte."""

from collections import deque
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from attrs import define
from gateways import (
    ANSWER,
    DONE,
    EVENTS,
    GOLDEN,
    PATH,
    REQUEST,
    STREAM,
    STREAMED,
    Gateway,
    gateway_to,
    refused_url,
    start,
)
from http_parts import (
    SSE_HEAD,
    Call,
    Peer,
    RawClient,
    chunk,
    plays,
    request_bytes,
    sse_data,
    start_app,
    start_script,
    until,
    whole,
)
from trio.testing import MockClock

from helexa.cortex.exchange import attempt
from helexa.cortex.exchange.upstream import Patience, _Connection


async def test_a_stream_is_passed_on_byte_for_byte(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, script = await start(nursery, gateways, plays(STREAMED))
    call = await gateway.ask()
    assert (call.status, call.answer, call.ended) == (200, STREAM, True)
    assert call.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    ((head, body),) = script.requests
    assert body == REQUEST
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"x-request-id: " + call.headers[b"x-request-id"] in head
    assert b"authorization" not in head
    assert gateway.poked == []


async def test_an_answer_in_one_piece_is_passed_on(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, _ = await start(nursery, gateways, plays(whole(ANSWER)))
    call = await gateway.ask()
    assert (call.status, call.answer) == (200, ANSWER)
    assert (call.headers[b"content-type"], call.headers[b"x-helexa-node"]) == (b"application/json", b"a")


FRAMED = {
    "chunks": SSE_HEAD + chunk(STREAM) + chunk(b""),
    "length": whole(STREAM, kind="text/event-stream"),
    "close": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + STREAM,
    "crlf": whole(STREAM.replace(b"\n", b"\r\n"), kind="text/event-stream"),
}


@pytest.mark.parametrize("framing", FRAMED)
async def test_a_stream_is_the_same_wherever_the_network_cuts_it(
    nursery: trio.Nursery, gateways: list[Gateway], framing: str
) -> None:
    data = FRAMED[framing]
    cuts = range(1, len(data), 7)
    scripted = [plays(data[:cut], data[cut:], close=framing == "close") for cut in cuts]
    scripted.append(plays(*(bytes([byte]) for byte in data), close=framing == "close"))
    gateway, script = await start(nursery, gateways, *scripted)
    expected = STREAM.replace(b"\n", b"\r\n") if framing == "crlf" else STREAM
    for _ in scripted:
        call = await gateway.ask()
        assert (call.status, call.answer, call.ended) == (200, expected, True)
        sent = [message["body"] for message in call.messages[1:]]
        assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) or piece == b"" for piece in sent)
    assert script.connections == (len(scripted) if framing == "close" else 1)


async def test_an_alias_is_written_as_its_model_and_the_rest_is_kept(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}, small="m"))
    request = {"model": "small", "messages": [{"role": "user", "content": "grüß 🦀 \n"}], "temperature": 0.1, "n": None}
    await gateways[-1].ask(orjson.dumps(request))
    assert orjson.loads(script.requests[0][1]) == {**request, "model": "m"}


async def test_what_cannot_be_written_anew_for_an_alias_is_the_callers_error(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}, small="m"))
    call = await gateways[-1].ask(b'{"model": "small", "x": ' + b"[" * 500 + b"]" * 500 + b"}")
    assert (call.status, call.error["code"]) == (400, "invalid_json")
    assert script.requests == []


async def test_the_fleet_secret_goes_to_the_node_and_a_clients_headers_do_not(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}, secret="s3cret"))
    headers = [(b"authorization", b"Bearer client"), (b"x-api-key", b"client"), (b"cookie", b"c")]
    await Call.post(PATH, REQUEST, headers).run(gateways[-1].app)
    head = script.requests[0][0]
    assert b"authorization: Bearer s3cret" in head
    assert not any(word in head for word in (b"client", b"cookie"))


@pytest.mark.parametrize("sent", [b"req_1.a:b/c+d=", b"x" * 128])
async def test_a_request_keeps_the_name_its_client_gave_it(
    nursery: trio.Nursery, gateways: list[Gateway], sent: bytes
) -> None:
    gateway, script = await start(nursery, gateways, plays(whole(ANSWER)))
    call = await gateway.ask(headers=[(b"x-request-id", sent)])
    assert call.headers[b"x-request-id"] == sent
    assert b"x-request-id: " + sent in script.requests[0][0].split(b"\r\n")


@pytest.mark.parametrize("sent", [b"", b"x" * 129, b"a b", b"a\r\nb", b"\xff", b'"'])
async def test_a_name_that_could_be_mistaken_for_more_is_replaced(gateways: list[Gateway], sent: bytes) -> None:
    gateways.append(gateway_to({"a": refused_url()}))
    call = await gateways[-1].ask(headers=[(b"x-request-id", sent)])
    assert len(call.headers[b"x-request-id"]) == 32


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        (b"{}", 400, "missing_required_parameter", "model"),
        (b'{"model": 3}', 400, "invalid_value", "model"),
        (b'{"model": "unknown"}', 404, "model_not_found", "model"),
        (b'{"model": "' + b"x" * 17_000_000 + b'"}', 413, "request_too_large", None),
    ],
)
async def test_what_no_node_could_answer_is_answered_here(
    gateways: list[Gateway], body: bytes, status: int, code: str, param: str | None
) -> None:
    gateways.append(gateway_to({"a": refused_url()}))
    call = await gateways[-1].ask(body)
    assert (call.status, call.error["code"], call.error["param"]) == (status, code, param)
    assert b"x-request-id" in call.headers
    assert gateways[-1].down == []


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "409 Conflict", "429 Too Many Requests"])
async def test_a_nodes_own_errors_are_passed_on(nursery: trio.Nursery, gateways: list[Gateway], status: str) -> None:
    body = (GOLDEN / "error.json").read_bytes().replace(b"model_not_found", b"other")
    gateway, _ = await start(nursery, gateways, plays(whole(body, status, extra="retry-after: 3\r\n")))
    call = await gateway.ask()
    assert (call.status, call.answer, call.headers[b"retry-after"]) == (int(status[:3]), body, b"3")
    assert gateway.poked == []


async def test_a_stream_is_whole_without_its_end_mark_if_its_choices_are(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    data = b"".join(EVENTS)
    gateway, _ = await start(nursery, gateways, plays(whole(data, kind="text/event-stream")))
    assert (await gateway.ask()).answer == data


async def test_a_connection_serves_again_although_its_stream_ends_after_the_end_mark(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, script = await start(nursery, gateways, plays(STREAMED[:-5], STREAMED[-5:]))
    assert [(await gateway.ask()).answer for _ in range(3)] == [STREAM] * 3
    assert script.connections == 1


async def test_a_stream_is_not_held_up_by_a_node_that_lingers_after_its_end(
    nursery: trio.Nursery, gateways: list[Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_DRAIN_SECONDS", 0.01)

    async def play(peer: Peer) -> None:
        await peer.send(STREAMED[:-5])
        await peer.wait_closed()

    gateway, script = await start(nursery, gateways, play)
    assert (await gateway.ask()).answer == STREAM
    await until(lambda: script.open == 0)


async def test_a_last_event_without_its_blank_line_is_passed_on(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, _ = await start(nursery, gateways, plays(SSE_HEAD + chunk(STREAM[:-1]) + chunk(b"")))
    assert (await gateway.ask()).answer == STREAM[:-1]


async def test_a_slow_reader_loses_nothing(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    """The client reads about 200 KB/s of 8 MB for a while; buffers fill up on the way, and the node waits."""
    count = 40_000
    events = [b'data: {"i":%d,"x":"%b"}\n\n' % (index, b"x" * 180) for index in range(count)]

    async def play(peer: Peer) -> None:
        pieces = (chunk(b"".join(events[at : at + 200])) for at in range(0, count, 200))
        await peer.send(SSE_HEAD, *pieces, chunk(DONE), chunk(b""))

    gateway, _ = await start(nursery, gateways, play)
    port = await start_app(nursery, gateway.app)
    async with await RawClient.connect(port) as client:
        client.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        await client.stream.send_all(request_bytes("POST", PATH, REQUEST))
        client.expect()
        for _ in range(20):
            client.feed(await client.stream.receive_some(4096))
            await trio.sleep(0.02)
        *found, end = sse_data((await client.rest())[2])
    assert end == "[DONE]"
    assert [event["i"] for event in found] == list(range(count))


async def test_many_clients_at_once_each_get_their_own_stream(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    numbers = iter(range(1000))

    async def play(peer: Peer) -> None:
        number = b"data: %d\n\n" % next(numbers)
        await peer.send(SSE_HEAD)
        for _ in range(3):
            await peer.send(chunk(number))
            await trio.lowlevel.checkpoint()
        await peer.send(chunk(DONE) + chunk(b""))

    gateway, script = await start(nursery, gateways, play)
    answers: list[bytes] = []

    async def client() -> None:
        answers.extend([(await gateway.ask()).answer for _ in range(5)])

    async with trio.open_nursery() as clients:
        for _ in range(10):
            clients.start_soon(client)
    assert sorted(answers) == sorted(b"data: %d\n\n" % number * 3 + DONE for number in range(50))
    assert script.connections <= 10


@define(eq=False)
class Memory:
    """In place of an upstream: every connection is a stream in memory, whose other end plays a script."""

    nursery: trio.Nursery
    script: Any

    async def post(self, _path: str, _headers: object, body: bytes, _patience: Patience) -> Any:
        mine, other = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.script, other)
        unused: Any = None
        return await _Connection(mine, unused, deque()).exchange(body)


async def test_a_stream_may_last_for_an_hour(autojump_clock: MockClock) -> None:
    async def slow(stream: Any) -> None:
        await stream.send_all(SSE_HEAD)
        for _ in range(30):
            await trio.sleep(120)
            await stream.send_all(chunk(EVENTS[1]))
        await stream.send_all(chunk(DONE) + chunk(b""))

    async with trio.open_nursery() as nursery:
        gateway = gateway_to({"a": "http://a:1"})
        gateway.proxy.pool._upstreams["http://a:1", True] = Memory(nursery, slow)
        started = trio.current_time()
        call = await gateway.ask()
    assert trio.current_time() - started == pytest.approx(3600)
    assert call.answer == EVENTS[1] * 30 + DONE
