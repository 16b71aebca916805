"""The thin HTTP client's connections: refused, slow, without TLS, and to what is no URL at all."""

import gc
import socket
import ssl

import pytest
import trio
from http_parts import until
from trio.testing import MockClock

from helexa.cortex.exchange.upstream import ConnectError, Upstream


async def ask(upstream: Upstream, body: bytes = b"{}") -> tuple[int, bytes]:
    """One exchange to its end."""
    response = await upstream.post("/x", [(b"a", b"b")], body)
    try:
        return response.status, await response.read_all(1_000_000)
    finally:
        await response.aclose()


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_a_refused_connection_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match=r"^no connection: "):
        await ask(Upstream(f"http://127.0.0.1:{refused_port()}"))


async def test_a_name_nobody_knows_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match=r"^no connection"):
        await ask(Upstream("http://nothing.invalid"))


async def test_a_connection_that_takes_too_long_is_a_connect_error(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await trio.sleep(10)

    monkeypatch.setattr(trio, "open_tcp_stream", hang)
    with pytest.raises(ConnectError, match=r"^no connection within 5 s$"):
        await ask(Upstream("http://127.0.0.1:1"))


async def test_a_server_without_tls_is_a_connect_error_and_its_connection_is_closed(nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        nonlocal open_connections
        open_connections += 1
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert await stream.receive_some() == b""
        open_connections -= 1

    open_connections = 0
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    with pytest.raises(ConnectError):
        await ask(Upstream(f"https://127.0.0.1:{listener.socket.getsockname()[1]}"))
    await until(lambda: open_connections == 0)
    gc.collect()


def test_tls_checks_certificates_and_names() -> None:
    context = Upstream("https://localhost:1")._tls
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", "http://", ""])
def test_only_http_urls_are_upstreams(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http or https URL"):
        Upstream(url)
