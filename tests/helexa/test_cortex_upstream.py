"""The thin HTTP client: every framing cut anywhere, connections used again, and everything that can break."""

from collections import deque
from typing import Any

import pytest
import trio
from http_parts import Peer, chunk, plays, start_script, until, whole
from trio.testing import MockClock

from helexa.cortex.exchange.upstream import (
    MAX_IDLE,
    PATIENCE,
    BrokenError,
    ConnectError,
    Patience,
    Pool,
    TimeoutExceededError,
    Upstream,
    UpstreamError,
    _Connection,
    split_url,
)

BODY = b'{"x": "some body"}'
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
BY_LENGTH = whole(BODY)
BY_CHUNKS = CHUNKED_HEAD + chunk(BODY[:5]) + chunk(BODY[5:]) + chunk(b"")
BY_CLOSE = CLOSED_HEAD + BODY
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
FRAMINGS = {"length": BY_LENGTH, "chunks": BY_CHUNKS, "close": BY_CLOSE, "interim": INTERIM + INTERIM + BY_LENGTH}


async def ask(upstream: Upstream, body: bytes = b"{}") -> tuple[int, bytes]:
    """One exchange to its end."""
    response = await upstream.post("/x", [(b"a", b"b")], body)
    try:
        return response.status, await response.read_all(1_000_000)
    finally:
        await response.aclose()


class Wire(trio.abc.Stream):
    """A stream that brings exactly these pieces, then its end or, if it never ends, nothing."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.pieces = deque(pieces)
        self.ends = ends
        self.sent = b""
        self.closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes  # pieces are small
        await trio.lowlevel.checkpoint()
        if self.pieces:
            return self.pieces.popleft()
        if not self.ends:
            await trio.sleep_forever()
        return b""

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


def connection_to(wire: Wire) -> tuple[_Connection, deque[_Connection]]:
    idle: deque[_Connection] = deque()
    unused: Any = None
    return _Connection(wire, unused, idle), idle


async def exchange(wire: Wire) -> tuple[int, bytes, bool]:
    """Status and body of what the wire brings, and whether the connection was kept."""
    connection, idle = connection_to(wire)
    response = await connection.exchange(b"request")
    try:
        found = response.status, await response.read_all(1000)
    finally:
        await response.aclose()
    assert wire.closed != bool(idle)
    return *found, bool(idle)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_is_the_same_wherever_the_network_cuts_it(framing: str) -> None:
    data = FRAMINGS[framing]
    kept = framing != "close"
    for cut in range(1, len(data)):
        assert await exchange(Wire(data[:cut], data[cut:])) == (200, BODY, kept)
    assert await exchange(Wire(*(bytes([byte]) for byte in data))) == (200, BODY, kept)
    assert await exchange(Wire(data)) == (200, BODY, kept)


@pytest.mark.parametrize("framing", ["length", "chunks", "interim"])
async def test_a_body_that_breaks_off_is_never_taken_for_whole(framing: str) -> None:
    data = FRAMINGS[framing]
    for cut in range(1, len(data)):
        with pytest.raises(BrokenError, match="broke off in the middle"):
            await exchange(Wire(data[:cut]))


async def test_what_came_before_the_break_is_read() -> None:
    connection, _ = connection_to(Wire(CHUNKED_HEAD + chunk(b"first") + b"garbage"))
    response = await connection.exchange(b"request")
    assert await response.read() == b"first"
    with pytest.raises(BrokenError, match="is not HTTP"):
        await response.read()
    await response.aclose()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"<html>",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_an_answer_is_named_as_that(data: bytes) -> None:
    wire = Wire(data, ends=False)
    with pytest.raises(BrokenError, match=r"^its answer is not HTTP: "):
        await exchange(wire)
    assert wire.closed


@pytest.mark.parametrize("surplus", [b"garbage", BY_LENGTH, b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_bytes_after_an_answer_belong_to_nobody(framing: str, surplus: bytes) -> None:
    assert await exchange(Wire(FRAMINGS[framing] + surplus)) == (200, BODY, False)


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", True),
    ],
)
async def test_a_connection_is_kept_as_its_head_says(data: bytes, kept: bool) -> None:  # noqa: FBT001
    _, body, found = await exchange(Wire(data, ends=False))
    assert (body, found) == (b"", kept)


async def test_headers_are_found_by_their_lower_case_name() -> None:
    connection, _ = connection_to(Wire(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"))
    response = await connection.exchange(b"request")
    assert (response.header(b"x-a"), response.header(b"x-b")) == (b"1", None)


async def test_an_answer_that_is_too_long_is_given_up() -> None:
    connection, _ = connection_to(Wire(BY_LENGTH))
    response = await connection.exchange(b"request")
    with pytest.raises(BrokenError, match="longer than 5 bytes"):
        await response.read_all(5)


@pytest.mark.parametrize(
    ("pieces", "seconds"),
    [((), PATIENCE.first_byte), ((BY_LENGTH[:20],), 600.0), ((BY_LENGTH[:-1],), PATIENCE.idle)],
)
async def test_silence_ends_in_a_timeout(autojump_clock: MockClock, pieces: tuple[bytes, ...], seconds: float) -> None:
    wire = Wire(*pieces, ends=False)
    with pytest.raises(TimeoutExceededError, match=f"^nothing came for {seconds:g} s$"):
        await exchange(wire)
    assert trio.current_time() == pytest.approx(seconds, abs=1)
    assert wire.closed


async def test_patience_is_each_requests_own(autojump_clock: MockClock) -> None:
    connection, idle = connection_to(Wire(BY_LENGTH, CLOSED_HEAD, ends=False))
    response = await connection.exchange(b"request", Patience(1, 2))
    await response.read_all(100)
    await response.aclose()
    response = await idle.pop().exchange(b"request", Patience(3, 4))
    with pytest.raises(TimeoutExceededError, match=r"^nothing came for 4 s$"):
        await response.read()
    await response.aclose()
    assert trio.current_time() == pytest.approx(4)


async def test_an_upstream_that_takes_no_request_ends_in_a_timeout(autojump_clock: MockClock) -> None:
    class Deaf(Wire):
        async def send_all(self, data: bytes) -> None:
            del data
            await trio.sleep_forever()

    wire = Deaf()
    with pytest.raises(TimeoutExceededError):
        await exchange(wire)
    assert wire.closed


async def test_a_slow_body_may_take_longer_than_any_silence(autojump_clock: MockClock) -> None:
    class Slow(Wire):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.sleep(PATIENCE.idle - 1)
            return await super().receive_some(max_bytes)

    head = BY_LENGTH.removesuffix(BODY)
    assert (await exchange(Slow(head, *(bytes([byte]) for byte in BODY))))[1] == BODY


async def test_a_request_is_written_in_full(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH))
    upstream = Upstream(script.url)
    assert await ask(upstream, b"body") == (200, BODY)
    await upstream.aclose()
    head = f"POST /x HTTP/1.1\r\nhost: 127.0.0.1:{script.port}\r\na: b\r\ncontent-length: 4"
    assert script.requests == [(head.encode(), b"body")]


async def test_a_large_request_arrives(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH))
    upstream = Upstream(script.url)
    await ask(upstream, b"x" * 10_000_000)
    await upstream.aclose()
    assert len(script.requests[0][1]) == 10_000_000


@pytest.mark.parametrize("data", [BY_LENGTH, BY_CHUNKS, INTERIM + BY_LENGTH], ids=["length", "chunks", "interim"])
async def test_a_connection_serves_again_after_an_answer_read_to_its_end(nursery: trio.Nursery, data: bytes) -> None:
    script = await start_script(nursery, plays(*(bytes([byte]) for byte in data)))
    upstream = Upstream(script.url)
    assert [await ask(upstream) for _ in range(5)] == [(200, BODY)] * 5
    assert (script.connections, len(script.requests)) == (1, 5)
    await upstream.aclose()
    await until(lambda: script.open == 0)


async def test_an_answer_that_was_not_read_costs_its_connection(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH))
    upstream = Upstream(script.url)
    await (await upstream.post("/", [], b"")).aclose()
    await until(lambda: script.open == 0)
    await ask(upstream)
    assert script.connections == 2
    await upstream.aclose()


async def test_each_request_in_flight_has_a_connection_of_its_own(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH))
    upstream = Upstream(script.url)
    responses = [await upstream.post("/", [], b"") for _ in range(MAX_IDLE + 2)]
    assert script.connections == MAX_IDLE + 2
    for response in responses:
        await response.read_all(100)
        await response.aclose()
    await until(lambda: script.open == MAX_IDLE)
    await upstream.aclose()
    await until(lambda: script.open == 0)


async def test_a_connection_closed_while_idle_costs_nothing(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH, close=True), plays(BY_LENGTH))
    upstream = Upstream(script.url)
    assert await ask(upstream) == (200, BODY)
    await until(lambda: script.open == 0)
    assert await ask(upstream) == (200, BODY)
    assert (script.connections, len(script.requests)) == (2, 2)
    await upstream.aclose()


async def test_a_connection_closed_as_it_is_used_again_is_retried_once(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH), plays(close=True), plays(BY_LENGTH))
    upstream = Upstream(script.url)
    assert [await ask(upstream), await ask(upstream)] == [(200, BODY)] * 2
    assert (script.connections, len(script.requests)) == (2, 3)
    await upstream.aclose()


async def test_what_comes_while_idle_is_not_the_next_answer(nursery: trio.Nursery) -> None:
    """Some servers announce with a 408 that they close an idle connection."""
    spoil = trio.Event()

    async def answer_then_spoil(peer: Peer) -> None:
        await peer.send(BY_LENGTH)
        await spoil.wait()
        await peer.send(whole(b"late", "408 Request Timeout"))

    script = await start_script(nursery, answer_then_spoil, plays(BY_LENGTH))
    upstream = Upstream(script.url)
    assert await ask(upstream) == (200, BODY)
    spoil.set()
    await until(upstream._idle[0].is_spoilt)
    assert await ask(upstream) == (200, BODY)
    assert script.connections == 2
    await upstream.aclose()


async def test_an_upstream_that_always_closes_without_an_answer_is_asked_once(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(close=True))
    with pytest.raises(BrokenError, match="closed the connection without an answer"):
        await ask(Upstream(script.url))
    assert len(script.requests) == 1


@pytest.mark.parametrize("when", ["before the head", "in the body"])
async def test_a_cancelled_exchange_closes_its_connection(nursery: trio.Nursery, when: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.send(b"" if when == "before the head" else CHUNKED_HEAD)
        await peer.wait_closed()

    script = await start_script(nursery, play)
    upstream = Upstream(script.url)
    with trio.move_on_after(0.05):
        await ask(upstream)
    await until(lambda: script.connections == 1 and script.open == 0)
    assert not upstream._idle


async def test_a_pool_has_one_upstream_per_origin_and_closes_them_all(nursery: trio.Nursery) -> None:
    script = await start_script(nursery, plays(BY_LENGTH))
    pool = Pool()
    assert pool.to(script.url) is pool.to(script.url)
    await ask(pool.to(script.url))
    assert script.open == 1
    await pool.aclose()
    await until(lambda: script.open == 0)


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://box:1", "http://box:1", ""),
        ("https://API.example.com/v1/", "https://api.example.com", "/v1"),
        ("http://[::1]:8080/a/b", "http://[::1]:8080", "/a/b"),
    ],
)
def test_a_url_is_an_origin_and_a_path(url: str, origin: str, path: str) -> None:
    assert split_url(url) == (origin, path)


@pytest.mark.parametrize("error", [ConnectError, BrokenError, TimeoutExceededError])
def test_every_failure_is_an_upstream_error(error: type[Exception]) -> None:
    assert issubclass(error, UpstreamError)
