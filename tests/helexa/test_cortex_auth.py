"""Who may do what: every route against every kind of key, and headers meant to confuse."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import orjson
import pytest
import trio
from attrs import evolve
from fleets import Clock
from gateways import app_of, gateway_to
from http_parts import Call, RawClient, request_bytes, scope_of, start_app
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quart_trio import QuartTrio

from config import Budget, Duration, Entitlements
from config import Key as DeclaredKey
from helexa.cortex.access import key_routes
from helexa.cortex.access.auth import (
    ALL_SCOPES,
    PUBLIC,
    Gate,
    Key,
    MissingKeyError,
    accepted_scopes,
    declared_keys,
    sha256,
)
from helexa.cortex.exchange.dialects import DIALECTS
from helexa.web.front import Front
from helexa.web.quart_errors import json_app
from helexa.wire import errors
from helexa.wire.errors import ApiError

CLOCK = Clock()
KEYS = {scope: Key(scope, scope, frozenset({scope})) for scope in ALL_SCOPES}
MADE = {f"hx-{scope}": Key(scope, scope, frozenset({scope}), expires=CLOCK.now + 1) for scope in ALL_SCOPES}
EXPIRED = {f"hx-old-{scope}": evolve(key, expires=CLOCK.now) for scope, key in KEYS.items()}


def by_hash(keys: Mapping[str, Key]) -> dict[str, Key]:
    return {sha256(key.encode()): found for key, found in keys.items()}


GATE = Gate(required=True, keys=by_hash(KEYS), made=by_hash(MADE | EXPIRED).get, clock=CLOCK)


def cortex(gate: Gate = GATE, *, local_only: bool = False) -> Front:
    """A gateway whose only node cannot be reached, so that what gets through to it is a 503."""
    return app_of(gateway_to({"a": "http://127.0.0.1:9"}), gate, local_only=local_only)


async def status_of(app: Front, method: str, path: str, *headers: tuple[bytes, bytes]) -> int:
    return (await Call(scope_of(method, path, list(headers)), b'{"model": "m"}').run(app)).status


def bearer(key: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + key.encode()


PROXIED = {"inference"}
READERS = {"fleet:read", "fleet:admin"}
ADMIN = {"fleet:admin"}
DECISIONS: dict[str, set[str] | None] = {
    "GET /health": None,
    "GET /ready": None,
    "GET /openapi.json": set(ALL_SCOPES),
    "GET /v1/models": {"inference", "models:read"},
    "GET /v1/models/<path:model>": {"inference", "models:read"},
    "POST /v1/chat/completions": PROXIED,
    "POST /v1/completions": PROXIED,
    "POST /v1/responses": PROXIED,
    "POST /v1/messages": PROXIED,
    "POST /v1/messages/count_tokens": PROXIED,
    "GET /fleet": READERS,
    "GET /fleet/actors": READERS,
    "GET /fleet/events": READERS,
    "POST /fleet/plan": ADMIN,
    "GET /fleet/requests": READERS,
    "DELETE /fleet/requests/<int:number>": ADMIN,
    "GET /fleet/logs": READERS,
    "PUT /fleet/aliases/<path:alias>": ADMIN,
    "DELETE /fleet/aliases/<path:alias>": ADMIN,
    "GET /fleet/models/<path:model>/places": READERS,
    "POST /fleet/models/<path:model>/load": ADMIN,
    "POST /fleet/models/<path:model>/unload": ADMIN,
    "POST /fleet/models/<path:model>/pin": ADMIN,
    "GET /fleet/keys": ADMIN,
    "POST /fleet/keys": ADMIN,
    "GET /fleet/keys/<name>": ADMIN,
    "PATCH /fleet/keys/<name>": ADMIN,
    "DELETE /fleet/keys/<name>": ADMIN,
    "POST /fleet/keys/<name>/rotate": ADMIN,
    "GET /fleet/accounts": ADMIN,
    "GET /fleet/accounts/<path:name>": ADMIN,
    "PUT /fleet/accounts/<path:name>": ADMIN,
    "DELETE /fleet/accounts/<path:name>": ADMIN,
    "GET /fleet/usage": ADMIN,
}
"""Which scopes open which route, each by itself; ``None``: it asks for no key."""


def rules(app: QuartTrio) -> set[str]:
    methods = [(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods or ()]
    return {f"{method} {rule}" for rule, method in methods if method not in {"HEAD", "OPTIONS"}}


def test_somebody_has_decided_about_every_route() -> None:
    app, keys = cortex(), json_app("keys")
    key_routes.add_routes(keys, cast("Any", None))
    served = rules(cast("Any", app.control)) | {f"POST {path}" for path in app.bare} | rules(keys)
    assert {f"POST {path}" for path in DIALECTS} <= served
    assert served == set(DECISIONS)


def request_for(route: str, prefix: str = "") -> tuple[str, str]:
    """A request that fits a route; the stream of events, which has no end, is only asked for its head."""
    method, rule = route.split(" ")
    path = re.sub(r"<path:\w+>", "no/thing", rule).replace("<name>", "nothing")
    return "HEAD" if path == "/fleet/events" else method, prefix + path


PREFIXED = [("", route) for route in DECISIONS] + [("/api/v1/openai", route) for route in DECISIONS if "/v1" in route]


@pytest.mark.parametrize(("prefix", "route"), PREFIXED, ids="".join)
async def test_each_scope_opens_its_routes_and_no_other(prefix: str, route: str) -> None:
    app, allowed = cortex(), DECISIONS[route]
    for scope in ALL_SCOPES:
        for key in (scope, f"hx-{scope}"):
            status = await status_of(app, *request_for(route, prefix), bearer(key))
            assert (status not in (401, 403)) == (allowed is None or scope in allowed), (key, status)


@pytest.mark.parametrize(("prefix", "route"), PREFIXED, ids="".join)
async def test_nobody_gets_in_without_a_key_that_is_good(prefix: str, route: str) -> None:
    app = cortex()
    strangers = [[], *([bearer(key)] for key in ("wrong", "hx-wrong", "", *EXPIRED))]
    for headers in strangers:
        status = await status_of(app, *request_for(route, prefix), *headers)
        assert (status == 401) == (DECISIONS[route] is not None), (headers, status)


@pytest.mark.parametrize("route", DECISIONS)
async def test_without_a_need_for_keys_everything_is_open(route: str) -> None:
    assert await status_of(cortex(Gate(required=False)), *request_for(route)) not in (401, 403)


UNKNOWN = ["/nothing", "/v1/nothing", "/v1/modelsx", "/fleets", "/", "/v1", "/health/", "/api/v1/fleet", "/metrics"]


@pytest.mark.parametrize("path", [*UNKNOWN, "/fleet/nothing"])
@pytest.mark.parametrize("key", [None, "wrong"])
async def test_an_unknown_path_tells_a_stranger_nothing(path: str, key: str | None) -> None:
    assert await status_of(cortex(), "GET", path, *([bearer(key)] if key else [])) == 401


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_that_nobody_has_decided_about_is_not_there_for_any_key(method: str, path: str) -> None:
    gate = Gate(required=True, keys=by_hash({"k": Key("k", "k", frozenset(ALL_SCOPES))}))
    with pytest.raises(ApiError, match="There is no route") as raised:
        gate.admit(method, path, b"k")
    assert raised.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/fleet", {"fleet:read", "fleet:admin"}),
        ("HEAD", "/fleet/actors", {"fleet:read", "fleet:admin"}),
        ("POST", "/fleet/models/m/load", {"fleet:admin"}),
        ("OPTIONS", "/fleet", {"fleet:admin"}),
        ("get", "/fleet", {"fleet:admin"}),
        ("DELETE", "/fleet/keys/x", {"fleet:admin"}),
        ("GET", "/fleet/keys", {"fleet:admin"}),
        ("HEAD", "/fleet/keys/x/y", {"fleet:admin"}),
        ("GET", "/fleet/accounts", {"fleet:admin"}),
        ("PUT", "/fleet/accounts/a/b", {"fleet:admin"}),
        ("GET", "/fleet/usage", {"fleet:admin"}),
        ("GET", "/fleet/keysx", {"fleet:read", "fleet:admin"}),
        ("GET", "/v1/models", {"models:read", "inference"}),
        ("GET", "/v1/models/a/b", {"models:read", "inference"}),
        ("POST", "/v1/chat/completions", {"inference"}),
        ("POST", "/v1/embeddings", {"embeddings"}),
        ("POST", "/v1/audio/speech", {"audio"}),
        ("POST", "/v1/images/generations", {"images"}),
        ("POST", "/v1/modelsx", set()),
        ("POST", "/v1/chat", set()),
        ("GET", "/elsewhere", set()),
        ("GET", "", set()),
    ],
)
def test_each_path_has_its_scopes(method: str, path: str, expected: set[str]) -> None:
    assert accepted_scopes(method, path) == expected


def test_a_key_is_good_until_the_moment_it_expires() -> None:
    now = [99.9]
    gate = Gate(
        required=True,
        made=by_hash({"hx-k": Key("k", "k", frozenset(ALL_SCOPES), expires=100.0)}).get,
        clock=lambda: now[0],
    )
    assert gate.admit("GET", "/fleet", b"hx-k")
    now[0] = 100.0
    with pytest.raises(ApiError, match="expired") as raised:
        gate.admit("GET", "/fleet", b"hx-k")
    assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")


def unreadable(_digest: str) -> Key | None:
    raise errors.unavailable("away", 2)


def test_while_the_database_is_away_only_keys_that_may_be_in_it_are_told_so() -> None:
    gate = Gate(required=True, keys=by_hash({"k": KEYS["fleet:read"], "hx-k": KEYS["fleet:read"]}), made=unreadable)
    assert gate.admit("GET", "/fleet", b"k")
    assert gate.admit("GET", "/fleet", b"hx-k")
    for presented, status in [(b"other", 401), (b"", 401), (None, 401), (b"hx-other", 503)]:
        with pytest.raises(ApiError) as raised:
            gate.admit("GET", "/fleet", presented)
        assert raised.value.status == status


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


@pytest.mark.parametrize("digest", [sha256(b"fleet:admin"), sha256(b"fleet:admin").upper()])
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
        sha256(b"one"): Key("a", "a", frozenset({"fleet:read"}), id="declared/a"),
        sha256("zwölf".encode()): Key("b", "team", frozenset({"inference"}), id="declared/b"),
    }


def test_what_the_topology_lets_a_key_use_is_what_the_key_may_use() -> None:
    budgets = (Budget(usd=2.0), Budget(requests=5, per=Duration(60.0)))
    declared = DeclaredKey("a", key_env="A", hard_cap=7, budgets=budgets, weight=3, max_in_flight=4)
    (found,) = declared_keys(Entitlements(keys=(declared,)), {"A": "k"}).values()
    assert (found.budgets, found.weight, found.max_in_flight) == ((Budget(tokens=7), *budgets), 3, 4)


def test_a_key_of_the_environment_may_be_any_bytes() -> None:
    named = DeclaredKey("b", key_env="B_KEY")
    assert sha256(b"\xff\xfe") in declared_keys(Entitlements(keys=(named,)), {"B_KEY": "\udcff\udcfe"})


@pytest.mark.parametrize("env", [{}, {"B_KEY": ""}])
def test_a_key_whose_variable_is_not_set_stops_the_start(env: dict[str, str]) -> None:
    with pytest.raises(MissingKeyError, match=r"^the key 'b' is to be read from \$B_KEY, which is not set$"):
        declared_keys(Entitlements(keys=(DeclaredKey("b", key_env="B_KEY"),)), env)


def test_a_gate_shows_no_keys_in_logs() -> None:
    assert sha256(b"fleet:admin") not in repr(GATE)


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_paths_ask_no_key(path: str) -> None:
    assert GATE.admit("GET", path, None) is None


def test_of_several_scopes_that_would_do_the_lesser_is_named() -> None:
    with pytest.raises(ApiError, match="lacks the scope 'fleet:read'"):
        GATE.admit("GET", "/fleet", b"inference")


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(ApiError, match="lacks the scope 'inference'") as raised:
        GATE.admit("POST", "/v1/chat/completions", b"fleet:admin")
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
