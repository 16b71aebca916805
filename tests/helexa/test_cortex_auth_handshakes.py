"""WebSocket handshakes that are meant to break the server: each ends its own connection at most."""

import pytest
import trio
from gateways import app_of, gateway_to
from http_parts import RawClient, request_bytes, start_app

from helexa.cortex.access.auth import ALL_SCOPES, Gate, Key, sha256

KEYS = {sha256(scope.encode()): Key(scope, scope, frozenset({scope})) for scope in ALL_SCOPES}
HEAD = (
    b"GET /v1/realtime?key=inference HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
)
UPGRADE = b"connection: upgrade\r\n"


@pytest.mark.parametrize(
    ("lines", "frames"),
    [
        (b"connection: upgrade, \xff\r\n", b""),
        (UPGRADE + b"sec-websocket-protocol: openai-insecure-api-key.\xff\r\n", b""),
        (UPGRADE + b"sec-websocket-extensions: \xff\r\n", b""),
        (UPGRADE, b"\x81\x05hello"),
        (UPGRADE, b"\0" * 50),
        (UPGRADE, b"\x88\x80\0\0\0\0"),
        (UPGRADE + b"content-length: 5\r\n", b"hello"),
        (UPGRADE + b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
async def test_a_handshake_ends_no_connection_but_its_own(nursery: trio.Nursery, lines: bytes, frames: bytes) -> None:
    port = await start_app(nursery, app_of(gateway_to({"a": "http://127.0.0.1:9"}), Gate(required=True, keys=KEYS)))
    async with await RawClient.connect(port) as other:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(HEAD + lines + b"\r\n" + frames)
            answer = await stream.receive_some()
        assert answer == b"" or answer.split()[1] in (b"400", b"401", b"403", b"404")
        assert (await other.request(request_bytes("GET", "/health")))[0] == 200
    async with await RawClient.connect(port) as later:
        assert (await later.request(request_bytes("GET", "/health")))[0] == 200
