"""Who may do what: every route against every kind of key, and headers meant to confuse."""

import hashlib
from functools import partial

import orjson
import pytest
import trio
from attrs import define
from fleets import router_of
from http_parts import Call, RawClient, request_bytes, scope_of, start_app
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config import Entitlements
from config import Key as DeclaredKey
from helexa.cortex.app import make_app
from helexa.cortex.auth import PUBLIC, Gate, Key, MissingKeyError, accepted_scopes, declared_keys, presented_key, sha256
from helexa.cortex.proxy import Proxy
from helexa.cortex.upstream import Pool
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport

KEYS = {
    "inference": ["inference"],
    "models": ["models:read"],
    "embeddings": ["embeddings"],
    "reader": ["fleet:read"],
    "admin": ["fleet:admin"],
}
GATE = Gate(required=True, keys={sha256(name.encode()): Key(name, name, frozenset(KEYS[name])) for name in KEYS})


@define
class NoActors:
    def actors(self) -> tuple[ActorReport, ...]:
        return (ActorReport("router", "running", 0, 0, None, 1.0),)


def cortex(gate: Gate = GATE, *, local_only: bool = False) -> Front:
    """A gateway whose only node cannot be reached, so that what gets through to it is a 503."""
    proxy = Proxy(router_of({"a": "http://127.0.0.1:9"}), Pool(), Drain())
    return make_app(proxy, NoActors(), gate, local_only=local_only)


async def status_of(app: Front, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    return (await Call(scope_of(method, path, list(headers)), b'{"model": "m"}').run(app)).status


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + key.encode()


EXPECTED = {
    ("GET", "/health"): (None, 200),
    ("GET", "/ready"): (None, 200),
    ("GET", "/v1/models"): ({"inference", "models"}, 200),
    ("GET", "/v1/models/<path:model>"): ({"inference", "models"}, 404),
    ("POST", "/v1/chat/completions"): ({"inference"}, 503),
    ("GET", "/fleet"): ({"reader", "admin"}, 200),
    ("GET", "/fleet/actors"): ({"reader", "admin"}, 200),
}


def test_the_matrix_has_every_route_of_the_application() -> None:
    methods = [
        (method, rule.rule)
        for rule in cortex().control.url_map.iter_rules()
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"})
    ]
    assert sorted(methods) == sorted(EXPECTED)
    assert {path for method, path in methods if method == "POST"} == set(cortex().bare)


PREFIXED = [
    (prefix, route) for prefix in ("", "/api/v1/openai") for route in EXPECTED if not prefix or "/v1" in route[1]
]


@pytest.mark.parametrize(("prefix", "route"), PREFIXED)
@pytest.mark.parametrize("key", [None, "wrong", *KEYS])
async def test_each_key_opens_its_routes_and_no_other(route: tuple[str, str], key: str | None, prefix: str) -> None:
    method, path = route
    allowed, granted = EXPECTED[route]
    headers = [] if key is None else [bearer(key)]
    status = await status_of(cortex(), method, prefix + path.replace("<path:model>", "nothing"), *headers)
    expected = granted if allowed is None or key in allowed else 403 if key in KEYS else 401
    assert status == expected


@pytest.mark.parametrize("route", EXPECTED, ids=" ".join)
async def test_without_a_need_for_keys_everything_is_open(route: tuple[str, str]) -> None:
    method, path = route
    assert await status_of(cortex(Gate(required=False)), method, path) == EXPECTED[route][1]


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/fleet/nothing", "/", "/v1", "/health/", "/api/v1/fleet"])
@pytest.mark.parametrize("key", [None, "wrong"])
async def test_an_unknown_path_tells_a_stranger_nothing(path: str, key: str | None) -> None:
    assert await status_of(cortex(), "GET", path, *([bearer(key)] if key else [])) == 401


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/fleet", {"fleet:read", "fleet:admin"}),
        ("HEAD", "/fleet/actors", {"fleet:read", "fleet:admin"}),
        ("POST", "/fleet/models/m/load", {"fleet:admin"}),
        ("DELETE", "/fleet/keys/x", {"fleet:admin"}),
        ("GET", "/v1/models", {"models:read", "inference"}),
        ("GET", "/v1/models/a/b", {"models:read", "inference"}),
        ("POST", "/v1/chat/completions", {"inference"}),
        ("POST", "/v1/embeddings", {"embeddings"}),
        ("POST", "/v1/audio/speech", {"audio"}),
        ("POST", "/v1/images/generations", {"images"}),
        ("POST", "/v1/modelsx", {"inference"}),
        ("GET", "/elsewhere", set()),
    ],
)
def test_each_path_has_its_scopes(method: str, path: str, expected: set[str]) -> None:
    assert accepted_scopes(method, path) == expected


PIECES = st.sampled_from(
    ["/", "//", "fleet", "actors", ".", "..", "%2f", "\\", ";x", "?", "#", "http://x", "é", "\0", " "]
)


@settings(deadline=None)
@example(path="//fleet")
@example(path="http://x/fleet")
@example(path="http://x//fleet/actors")
@given(st.lists(PIECES, max_size=6).map("".join).filter(lambda path: "\r" not in path))
def test_no_spelling_of_a_path_gets_round_its_scope(path: str) -> None:
    """An inference key reads nothing below /fleet, however the path is written."""
    with_inference = trio.run(status_of, cortex(), "GET", path, bearer("inference"))
    without = trio.run(status_of, cortex(), "GET", path)
    assert with_inference in (403, 404, 405)
    assert without == 401


@pytest.mark.parametrize("target", ["//fleet", "http://localhost/fleet", "/fleet?x=1", "/%66leet", "/./fleet"])
async def test_nor_does_one_on_a_real_connection(nursery: trio.Nursery, target: str) -> None:
    port = await start_app(nursery, cortex())
    async with await RawClient.connect(port) as client:
        status, _, _ = await client.request(request_bytes("GET", target, b"", "authorization: Bearer inference"))
        assert status in (403, 404)
        status, _, _ = await client.request(request_bytes("GET", target))
        assert status == 401


async def test_a_refused_client_sees_the_answer_after_a_large_body(nursery: trio.Nursery) -> None:
    port = await start_app(nursery, cortex())
    async with await RawClient.connect(port) as client:
        request = request_bytes("POST", "/v1/chat/completions", b"x" * 20_000_000)
        status, headers, body = await client.request(request)
        assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
        assert orjson.loads(body)["error"]["code"] == "invalid_api_key"
        assert (await client.request(request_bytes("GET", "/health")))[0] == 200


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
        b"Bearer admin2",
        b"Bearer admi",
        b"Bearer Admin",
        b"Bearer admin,inference",
        b"Bearer admin inference",
        b'Bearer "admin"',
        b"Bearer \xff\xfe",
        b"Bearer " + b"a" * 60_000,
        b"Bearer Bearer admin",
        b"Basic admin",
        b"Digest admin",
        b"admin",
    ],
)
async def test_hostile_authorization_is_no_key(value: bytes) -> None:
    assert await status_of(cortex(), "GET", "/fleet", (b"authorization", value)) == 401


@pytest.mark.parametrize("digest", [sha256(b"admin"), sha256(b"admin").upper()])
async def test_the_hash_of_a_key_is_not_a_key(digest: str) -> None:
    assert await status_of(cortex(), "GET", "/fleet", bearer(digest)) == 401


@pytest.mark.parametrize(("host", "status"), [(b"localhost:5", 200), (b"127.0.0.1", 200), (b"rebound.example", 403)])
@pytest.mark.parametrize("path", ["/health", "/fleet", "/v1/models"])
async def test_without_keys_only_loopback_names_are_answered(host: bytes, status: int, path: str) -> None:
    scope = {**scope_of("GET", path), "headers": [(b"host", host)]}
    call = await Call(scope).run(cortex(Gate(required=False), local_only=True))
    assert call.status == status
    assert status == 200 or call.error["code"] == "host_not_allowed"


async def test_a_websocket_without_a_key_is_closed() -> None:
    sent: list[dict] = []

    async def send(message: dict) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {**scope_of("GET", "/v1/realtime"), "type": "websocket"}
    await cortex()(scope, partial(trio.sleep, 0), send)
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


def test_keys_of_the_topology_are_found_by_their_hash() -> None:
    hashed = DeclaredKey("a", key_hash="sha256:" + hashlib.sha256(b"one").hexdigest(), scopes=("fleet:read",))
    named = DeclaredKey("b", key_env="B_KEY", account="team")
    found = declared_keys(Entitlements(keys=(hashed, named)), {"B_KEY": "zwölf"})
    assert found == {
        sha256(b"one"): Key("a", "a", frozenset({"fleet:read"})),
        sha256("zwölf".encode()): Key("b", "team", frozenset({"inference"})),
    }


def test_a_key_of_the_environment_may_be_any_bytes() -> None:
    named = DeclaredKey("b", key_env="B_KEY")
    assert sha256(b"\xff\xfe") in declared_keys(Entitlements(keys=(named,)), {"B_KEY": "\udcff\udcfe"})


@pytest.mark.parametrize("env", [{}, {"B_KEY": ""}])
def test_a_key_whose_variable_is_not_set_stops_the_start(env: dict[str, str]) -> None:
    with pytest.raises(MissingKeyError, match=r"^the key 'b' is to be read from \$B_KEY, which is not set$"):
        declared_keys(Entitlements(keys=(DeclaredKey("b", key_env="B_KEY"),)), env)


def test_a_gate_shows_no_keys_in_logs() -> None:
    assert sha256(b"admin") not in repr(GATE)


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths_ask_no_key(path: str) -> None:
    assert GATE.admit("GET", path, None) is None


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(ApiError, match="lacks the scope 'inference'") as raised:
        GATE.admit("POST", "/v1/chat/completions", b"admin")
    assert (raised.value.status, raised.value.type, raised.value.code) == (
        403,
        "permission_error",
        "insufficient_scope",
    )


async def test_the_application_takes_its_lifespan() -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict:
        return messages.pop(0)

    async def send(message: dict) -> None:
        sent.append(message["type"])

    await cortex()({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
