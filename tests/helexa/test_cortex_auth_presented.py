"""How a request bears its key: headers, what sockets may do beside them, and what is meant to confuse."""

from contextlib import suppress
from typing import Any

import pytest
import trio
from gateways import app_of, gateway_to
from http_parts import Call, RawClient, request_bytes, scope_of, start_app
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from helexa.cortex.access.auth import ALL_SCOPES, Gate, Key, presented_by, presented_key, sha256
from helexa.web.front import Front
from helexa.wire import errors

KEYS = {sha256(scope.encode()): Key(scope, scope, frozenset({scope})) for scope in ALL_SCOPES}


@pytest.fixture
def app() -> Front:
    """A gateway that nobody gets into here."""
    return app_of(gateway_to({"a": "http://127.0.0.1:9"}), Gate(required=True, keys=KEYS))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"authorization", b"Bearer k")], b"k"),
        ([(b"authorization", b"bearer k")], b"k"),
        ([(b"authorization", b"BEARER   k  ")], b"k"),
        ([(b"x-api-key", b" k ")], b"k"),
        ([(b"authorization", b"Basic Zm9v"), (b"x-api-key", b"k")], b"k"),
        ([(b"authorization", b"Bearer one"), (b"x-api-key", b"two")], b"one"),
        ([(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")], b"one"),
        ([(b"authorization", b"Bearer")], None),
        ([(b"authorization", b"Bearerk")], None),
        ([(b"authorization", b"k")], None),
        ([(b"authorization", b"")], None),
        ([(b"x-helexa-key", b"k")], None),
    ],
)
def test_a_key_comes_in_one_of_two_headers(headers: list[tuple[bytes, bytes]], expected: bytes | None) -> None:
    assert presented_key(headers) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer ",
        b"Bearer fleet:admin2",
        b"Bearer fleet:admi",
        b"Bearer fleet:Admin",
        b"Bearer fleet:admin,inference",
        b"Bearer fleet:admin inference",
        b'Bearer "fleet:admin"',
        b"Bearer \xff\xfe",
        b"Bearer " + b"a" * 60_000,
        b"Bearer Bearer fleet:admin",
        b"Basic fleet:admin",
        b"Digest fleet:admin",
        b"fleet:admin",
        b"Bearer ' OR '1'='1' --",
        b"Bearer hx-' OR '1'='1' --",
        b"Bearer hx-x'; DROP TABLE helexa_keys; --",
        b"Bearer hx-%27%20OR%201=1",
        b"Bearer hx-fleet:admin\x00",
        b"Bearer \x00fleet:admin",
        b"Bearer fleet:admin\r\nx: y",
        b"Bearer hx-" + b"\xff" * 1_000_000,
        b"Bearer hx-" + "\u202e💥".encode() * 1000,
        b"Bearer ${jndi:ldap://x}{{7*7}}%s%n",
    ],
)
async def test_hostile_authorization_is_no_key_and_is_repeated_nowhere(app: Front, value: bytes) -> None:
    names = [b"authorization"] if value == b"fleet:admin" else [b"authorization", b"x-api-key"]
    with capture_logs() as logs:
        for name in names:
            call = await Call(scope_of("GET", "/fleet", [(name, value)])).run(app)
            assert call.status == 401 or (call.status == 431 and len(value) > 10_000)
            assert call.status == 431 or call.error["message"] == str(errors.invalid_api_key())
    assert logs == []


HOSTILE = [
    "' OR '1'='1' --",
    "hx-x'; DROP TABLE helexa_keys; --",
    "hx-\xff\xfe",
    "{{7*7}}",
    "hx-\0",
    "hx-" + "a" * 1_000_000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:12]))
async def test_nor_is_it_on_a_real_connection(nursery: trio.Nursery, app: Front, value: str) -> None:
    """What is no header at all, or too long for one, ends the connection. The server goes on in any case."""
    port, answer = await start_app(nursery, app), b""
    line = b"authorization: Bearer " + value.encode("latin-1")
    with capture_logs() as logs:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(
                    b"GET /fleet HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" + line + b"\r\n\r\n"
                )
                answer = await until_the_end(stream)
    assert answer == b"" or answer.split()[1] in (b"400", b"401", b"431")
    assert value.encode("latin-1") not in answer
    assert logs == []
    async with await RawClient.connect(port) as client:
        assert (await client.request(request_bytes("GET", "/health")))[0] == 200


async def until_the_end(stream: trio.SocketStream) -> bytes:
    found = bytearray()
    while part := await stream.receive_some():
        found += part
    return bytes(found)


def socket_scope(**settings: Any) -> dict[str, Any]:
    scope = scope_of("GET", "/v1/realtime", settings.pop("headers", []))
    return {**scope, "type": "websocket", "subprotocols": [], **settings}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"subprotocols": ["realtime", "openai-insecure-api-key.k", "openai-beta.realtime-v1"]}, b"k"),
        ({"subprotocols": ["openai-insecure-api-key.one", "openai-insecure-api-key.two"]}, b"one"),
        ({"subprotocols": ["openai-insecure-api-key."]}, None),
        ({"subprotocols": ["openai-insecure-api-keyk", "k"]}, None),
        ({"subprotocols": ["OpenAI-Insecure-API-Key.k"]}, None),
        ({"query_string": b"api_key=k"}, b"k"),
        ({"query_string": b"model=m&key=k"}, b"k"),
        ({"query_string": b"api_key=one&key=two"}, b"one"),
        ({"query_string": b"api_key=&key=two"}, b"two"),
        ({"query_string": b"API_KEY=k&apikey=k&api_key"}, None),
        ({"query_string": b"key=a%2Bb+c%20d%FF%"}, b"a+b c d\xff%"),
        ({"query_string": b"key=a=b"}, b"a=b"),
        ({"query_string": b"\xff=%ff&&=&"}, None),
        ({"subprotocols": ["openai-insecure-api-key.one"], "query_string": b"key=two"}, b"one"),
        ({"headers": [(b"x-api-key", b"one")], "subprotocols": ["openai-insecure-api-key.two"]}, b"one"),
        ({"headers": [(b"authorization", b"Bearer one")], "query_string": b"key=two"}, b"one"),
    ],
)
def test_a_socket_may_offer_its_key_as_a_sub_protocol_or_in_its_query(
    settings: dict[str, Any], expected: bytes | None
) -> None:
    assert presented_by(socket_scope(**settings)) == expected


@pytest.mark.parametrize("kind", ["http", "lifespan"])
def test_nothing_else_may(kind: str) -> None:
    """A URL is written down on its way, and a page can make anybody's browser ask for one."""
    scope = socket_scope(query_string=b"api_key=k&key=k", subprotocols=["openai-insecure-api-key.k"], type=kind)
    assert presented_by(scope) is None


@given(st.binary(max_size=50), st.lists(st.text(max_size=40), max_size=3))
def test_whatever_a_socket_offers_is_a_key_or_none(query: bytes, protocols: list[str]) -> None:
    named = [f"openai-insecure-api-key.{each}" for each in protocols]
    found = presented_by(socket_scope(query_string=query, subprotocols=[*protocols, *named]))
    assert found is None or found
