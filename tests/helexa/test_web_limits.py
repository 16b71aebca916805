"""What a connection may cost that brings no request, brings it slowly, or brings too much of it."""

import resource
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
from http_parts import RawClient, live, request_bytes, start_app

from helexa.web import server
from helexa.web.asgi import read_body, send_body
from helexa.web.server import LARGEST_HEAD, Receive, Scope, Send, allow_connections


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, whatever it is asked."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    await read_body(scope, receive)
    await send_body(send, 200, b"{}")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)


async def ended(client: RawClient) -> bytes:
    """What still comes until the connection is closed."""
    found = b""
    with trio.fail_after(5):
        while True:
            try:
                piece = await client.stream.receive_some()
            except trio.BrokenResourceError:
                return found
            if not piece:
                return found
            found += piece


@pytest.mark.usefixtures("_impatient")
async def test_a_connection_that_asks_nothing_is_closed(nursery: trio.Nursery) -> None:
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        assert await ended(client) == b""


@pytest.mark.usefixtures("_impatient")
async def test_a_head_that_trickles_in_does_not_keep_a_connection(nursery: trio.Nursery) -> None:
    """Each byte is news, and none of them buys time (slow loris)."""
    port = await start_app(nursery, app)
    sent = 0
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"a")
                sent += 1
                await trio.sleep(0.01)
    assert sent < 100


@pytest.mark.usefixtures("_impatient")
async def test_a_connection_that_was_answered_is_closed_when_nothing_follows(nursery: trio.Nursery) -> None:
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        assert (await client.request(request_bytes("GET", "/")))[0] == 200
        await client.stream.send_all(b"GET / HT")
        assert await ended(client) == b""


@pytest.mark.usefixtures("_impatient")
async def test_an_answer_that_takes_long_is_not_cut_for_it(nursery: trio.Nursery) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await read_body(scope, receive)
            await trio.sleep(0.6)
            await send_body(send, 200, b"{}")
        else:
            await live(receive, send)

    port = await start_app(nursery, slow)
    async with await RawClient.connect(port) as client:
        assert (await client.request(request_bytes("GET", "/")))[0] == 200


@pytest.mark.parametrize("line", [b"x: " + b"a" * 100, b"x" * 100])
async def test_a_head_without_an_end_is_refused_while_it_comes(nursery: trio.Nursery, line: bytes) -> None:
    port = await start_app(nursery, app)
    sent = 0
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        with suppress(trio.BrokenResourceError):
            while sent < 20 * LARGEST_HEAD:
                await client.stream.send_all(line + b"\r\n" if b":" in line else line)
                sent += len(line)
        answer = await ended(client)
    assert sent < 20 * LARGEST_HEAD or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


SMUGGLED = [
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1e3\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
    b"POST / HTTP/1.1\r\nhost : x\r\n\r\n",
    b"POST / HTTP/1.1\r\n host: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\r\n" * 100 + b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("request_", SMUGGLED, ids=lambda each: repr(each[-40:]))
async def test_a_request_that_two_readers_could_read_in_two_ways_is_refused(
    nursery: trio.Nursery, request_: bytes
) -> None:
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_)
        answer = await ended(client)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")) or answer == b""
    assert answer.count(b"HTTP/1.1") <= 1


async def test_a_length_goes_for_nothing_beside_chunks(nursery: trio.Nursery) -> None:
    """RFC 9112, section 6.3: chunks are what counts, and what follows them is the next request."""
    port = await start_app(nursery, app)
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request + b"GET /admin HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await ended(client)
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))


@pytest.fixture
def _few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_few_files")
def test_a_server_may_have_as_many_connections_as_the_system_lets_it() -> None:
    allow_connections()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    allow_connections(16)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
