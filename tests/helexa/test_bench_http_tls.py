"""The measuring client over TLS."""

import ssl
from typing import Any

import pytest
import trio
from certificates import Authority
from scripted_servers import DONE, END, STREAM, UNFRAMED, Server, Step, chunk, hold, reset, say_goodbye, until, whole
from trio.testing import MockClock

from helexa.bench.client import connections
from helexa.bench.client.http import Client, Exchange, TargetError
from helexa.web.tls import client_context, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.in_(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(authority: Authority) -> ssl.SSLContext:
    return client_context(authority.ca)


@pytest.fixture
def shown(authority: Authority) -> ssl.SSLContext:
    return server_context(authority.files(), "listen")


async def fails(url: str, trusted: ssl.SSLContext | None) -> str:
    async with Client(url, trusted=trusted) as client:
        with pytest.raises(TargetError) as caught:
            await client.get("/")
    return f"{caught.value.code}: {caught.value}"


async def post(server: Server, trusted: ssl.SSLContext) -> Exchange:
    async with Client(server.url, trusted=trusted) as client:
        return await client.post("/", {})


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_streams_and_bodies_come_over_one_connection(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    shown.maximum_version = version
    long = bytes(range(256)) * 10_000
    stream = [STREAM, chunk(b"data: 1\n\n"), 0.0, chunk(b"data: 2\n\n"), chunk(DONE), END]
    server = await Server([[stream, [whole(long)], stream]], shown).start(nursery)
    async with Client(server.url, trusted=trusted) as client:
        for _ in range(2):
            found = await client.post("/", long)
            assert ([data for _, data in found.events], found.done) == ([b"1", b"2"], True)
            times = [found.sent_at, found.head_at, *(at for at, _ in found.events), found.ended_at]
            assert times == sorted(times)
            if len(server.requests) == 1:
                assert (await client.get("/")).body == long
    assert server.connections == 1
    await until(lambda: server.open == 0)


async def test_the_kernels_time_counts_under_tls_too(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[float | None]()
    monkeypatch.setattr("helexa.bench.client.connections.kernel_time", lambda _: told.append(None))
    await post(await Server([[[whole(b"x")]]], shown).start(nursery), trusted)
    assert told


async def test_a_certificate_that_nobody_vouches_for_is_told(nursery: trio.Nursery, shown: ssl.SSLContext) -> None:
    server = await Server([[[hold]]], shown).start(nursery)
    said = await fails(server.url, None)
    assert said.startswith(f"unreachable: No connection to {server.url}: its certificate is not to be trusted: ")
    await until(lambda: server.open == 0)


async def test_a_certificate_for_another_name_is_told(
    nursery: trio.Nursery, authority: Authority, trusted: ssl.SSLContext
) -> None:
    shown = server_context(authority.files("other", "other.invalid"), "listen")
    server = await Server([[[hold]]], shown).start(nursery)
    assert "its certificate is not to be trusted" in await fails(server.url, trusted)


async def test_a_server_without_tls_is_told(nursery: trio.Nursery, trusted: ssl.SSLContext) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await hold(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    said = await fails(f"https://127.0.0.1:{listener.socket.getsockname()[1]}", trusted)
    assert ": no TLS: " in said


@pytest.mark.parametrize("close", [True, False])
async def test_a_server_that_ends_the_handshake_or_never_does_is_unreachable(
    nursery: trio.Nursery, trusted: ssl.SSLContext, autojump_clock: MockClock, *, close: bool
) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await (stream.receive_some() if close else hold(stream))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}"
    why = ": it broke off." if close else " within 5 s."
    assert await fails(url, trusted) == f"unreachable: No connection to {url}{why}"


@pytest.mark.parametrize("end", [b"", reset, say_goodbye])
async def test_what_breaks_off_under_tls_is_an_error(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, end: Step
) -> None:
    server = await Server([[[STREAM, chunk(b"data: x\n\n"), 0.0, end]]], shown).start(nursery)
    with pytest.raises(TargetError, match="It broke off in the middle of its answer"):
        await post(server, trusted)
    await until(lambda: server.open == 0)


@pytest.mark.parametrize("end", [b"", say_goodbye])
async def test_an_answer_may_end_with_its_connection(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, end: Step
) -> None:
    server = await Server([[[UNFRAMED, b"data: x\n\n" + DONE, end]]], shown).start(nursery)
    assert (await post(server, trusted)).done


async def test_the_end_of_tls_is_the_end_although_the_connection_stays(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, autojump_clock: MockClock
) -> None:
    async def end(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        stream._https_compatible = False
        with trio.move_on_after(0.1):
            await stream.unwrap()
        await hold(stream.transport_stream)

    server = await Server([[[b"HTTP/1.1 200 OK\r\n\r\nx", end]]], shown).start(nursery)
    begin = trio.current_time()
    assert (await post(server, trusted)).body == b"x"
    assert trio.current_time() - begin < 10


async def test_what_tls_says_for_itself_is_no_answer(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, autojump_clock: MockClock
) -> None:
    """The tickets of TLS 1.3 come by themselves, as the answer takes its time."""
    server = await Server([[[1.0, whole(b"x")]]], shown).start(nursery)
    assert (await post(server, trusted)).body == b"x"


async def test_records_may_be_cut_anywhere(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    async def forward(source: trio.SocketStream, to: trio.SocketStream, most: int) -> None:
        while data := await source.receive_some(most):
            await to.send_all(data)
            await trio.testing.wait_all_tasks_blocked()  # the other side has read it
        await to.send_eof()

    async def relay(client: trio.SocketStream) -> None:
        other = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with client, other, trio.open_nursery() as both:
            both.start_soon(forward, client, other, 65_536)
            both.start_soon(forward, other, client, 7)

    server = await Server([[[STREAM, chunk(b"data: x\n\n"), chunk(DONE), END]]], shown).start(nursery)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, relay, [listener])
    async with Client(f"https://127.0.0.1:{listener.socket.getsockname()[1]}", trusted=trusted) as client:
        found = await client.post("/", {})
    assert ([data for _, data in found.events], found.done) == ([b"x"], True)


async def test_what_tls_cannot_say_any_more_costs_no_answer(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where new keys are to be agreed on with a server that has sent its answer and gone."""
    flush = connections.Connection._flush

    async def broken(self: connections.Connection, tls: Any) -> None:
        if tls.encrypted.cipher() is not None and not tls.outgoing.pending:
            raise BrokenPipeError
        await flush(self, tls)

    monkeypatch.setattr(connections.Connection, "_flush", broken)
    server = await Server([[[whole(b"x")]]], shown).start(nursery)
    assert (await post(server, trusted)).body == b"x"


async def test_bytes_that_are_no_tls_in_the_middle_are_an_error(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    async def garble(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        await stream.transport_stream.send_all(b"HTTP/1.1 200 OK\r\n")
        await hold(stream)

    server = await Server([[[STREAM, chunk(b"data: x\n\n"), garble]]], shown).start(nursery)
    with pytest.raises(TargetError, match=r"^Its TLS broke: .+\.$"):
        await post(server, trusted)


async def test_a_kept_connection_that_ended_is_made_anew(
    nursery: trio.Nursery, shown: ssl.SSLContext, trusted: ssl.SSLContext
) -> None:
    server = await Server([[[whole(b"1")], [0.0]], [[whole(b"2")]]], shown).start(nursery)
    async with Client(server.url, trusted=trusted) as client:
        assert [(await client.get("/")).body, (await client.get("/")).body] == [b"1", b"2"]
    assert len(server.requests) == 3
