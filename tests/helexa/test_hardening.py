"""Classes of holes that servers of this kind have had, on the gateway's side: one test or more for each.

Named after what went wrong elsewhere, so that whoever reads an advisory finds here what becomes of it with us. Media
that requests name by address have a module of their own, test_web_fetching.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
import trio
from attrs import evolve
from gateways import ANSWER, Gateway, app_of, chat, gateway_of, gateway_to, outside_gateway, provider, topology_of
from http_parts import (
    SSE_HEAD,
    Call,
    RawClient,
    Script,
    chunk,
    plays,
    request_bytes,
    scope_of,
    start_app,
    start_script,
    whole,
)

import actors
import config
import helexa
import tui
from config import BUNDLED_MODEL, InvalidValueError, Model
from helexa.cortex.access.auth import ALL_SCOPES, Gate, Key, sha256
from helexa.cortex.exchange.prefixes import prefixes
from helexa.engine.scheduling.blocks import chain, salt_root
from helexa.web.front import MOST_HEADERS
from helexa.web.server import LARGEST_HEAD

CHAT = "/v1/chat/completions"
PACKAGES = (config, helexa, actors, tui)
TRAP_KEYS = ("api_base", "base_url", "endpoint", "host", "url", "proxy", "target_url", "node_url")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """Every module that is installed, parsed."""
    for package in PACKAGES:
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            yield path, ast.parse(path.read_bytes())


def gate_of(*keys: str, scopes: tuple[str, ...] = ALL_SCOPES) -> Gate:
    return Gate(required=True, keys={sha256(key.encode()): Key(key, key, frozenset(scopes)) for key in keys})


async def ask(app: Any, body: bytes, *headers: tuple[bytes, bytes], path: str = CHAT) -> Call:
    return await Call.post(path, body, list(headers)).run(app)


async def to_node(nursery: trio.Nursery, gateways: list[Gateway]) -> tuple[Gateway, Script, Script]:
    """A gateway with one node that has the model `m`, and a trap that nobody is to ask."""
    node, trap = [await start_script(nursery, plays(whole(ANSWER))) for _ in range(2)]
    gateways.append(gateway_to({"a": node.url}))
    return gateways[-1], node, trap


async def to_provider(nursery: trio.Nursery, gateways: list[Gateway]) -> tuple[Gateway, Script, Script]:
    outside, trap = [await start_script(nursery, plays(whole(ANSWER))) for _ in range(2)]
    gateways.append(outside_gateway(provider("p", outside.url, api_key_env="KEY"), KEY="sk-ours"))
    return gateways[-1], outside, trap


def overrides(url: str) -> dict[str, Any]:
    """What has steered other gateways elsewhere, when it stood in a body."""
    entry = {"model_name": "m", "litellm_params": {"model": "openai/m", **dict.fromkeys(TRAP_KEYS, url)}}
    nested = {"model_list": [entry], "user_config": {"model_list": [entry]}, "extra_body": {"api_base": url}}
    more = {"api_key": "sk-theirs", "custom_llm_provider": "openai", "fallbacks": [url], "extra_headers": {"host": url}}
    return {**dict.fromkeys(TRAP_KEYS, url), **nested, **more, "metadata": {"api_base": url}}


@pytest.mark.parametrize("way", [to_node, to_provider])
async def test_routing_overrides_in_a_body_lead_nowhere(
    nursery: trio.Nursery, gateways: list[Gateway], way: Any
) -> None:
    gateway, meant, trap = await way(nursery, gateways)
    body = chat("m" if way is to_node else "out", **overrides(trap.url))
    call = await ask(app_of(gateway), body)
    assert (call.status, len(meant.requests), trap.connections) == (200, 1, 0)
    assert b"sk-theirs" not in meant.requests[0][0]


@pytest.mark.parametrize("way", [to_node, to_provider])
async def test_routing_overrides_in_headers_lead_nowhere(
    nursery: trio.Nursery, gateways: list[Gateway], way: Any
) -> None:
    gateway, meant, trap = await way(nursery, gateways)
    url = trap.url.encode()
    names = (
        b"x-request-id x-forwarded-host x-forwarded-for x-original-url x-rewrite-url forwarded x-api-base "
        b"x-litellm-api-base x-portkey-custom-host x-target-url x-helexa-node x-helexa-endpoint x-http-method-override"
    ).split()
    headers = [(name, url) for name in names]
    call = await ask(app_of(gateway), chat("m" if way is to_node else "out"), *headers, (b"authorization", b"Bearer x"))
    assert (call.status, len(meant.requests), trap.connections) == (200, 1, 0)
    head = meant.requests[0][0].lower()
    assert not [name for name in names[1:] if b"\r\n" + name + b":" in head]
    assert b"bearer x" not in head


async def test_a_whole_url_as_target_is_a_path_and_no_proxying(nursery: trio.Nursery, gateways: list[Gateway]) -> None:
    gateway, node, trap = await to_node(nursery, gateways)
    port = await start_app(nursery, app_of(gateway))
    async with await RawClient.connect(port) as client:
        status, _, _ = await client.request(request_bytes("POST", trap.url + CHAT, chat("m")))
    assert (status, len(node.requests), trap.connections) == (200, 1, 0)


@pytest.mark.parametrize(
    "model", ["http://127.0.0.1:1/x", "//127.0.0.1/x", "m@127.0.0.1:1", "openai/m?api_base=x", "m#"]
)
async def test_a_model_that_looks_like_a_server_is_an_unknown_model(
    nursery: trio.Nursery, gateways: list[Gateway], model: str
) -> None:
    gateway, node, _ = await to_node(nursery, gateways)
    call = await ask(app_of(gateway), chat(model))
    assert (call.status, call.error["code"], node.connections) == (404, "model_not_found", 0)


TRAVERSALS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "a/../../b",
    "..\\..\\x",
    "%2e%2e/%2e%2e/x",
    "a\0b",
    "a/./b",
    "~",
)


@pytest.mark.parametrize("model", TRAVERSALS)
async def test_a_path_as_model_is_an_unknown_model_on_every_route(model: str) -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}))
    assert (await ask(app, chat(model))).error["code"] == "model_not_found"
    for path in (f"/v1/models/{model}", f"/fleet/models/{model}/load"):
        method = "POST" if path.startswith("/fleet") else "GET"
        call = await Call(scope_of(method, path), b"{}").run(app)
        assert call.status in (404, 405), path
        assert b"root:" not in call.answer


@pytest.mark.parametrize("model", TRAVERSALS)
def test_a_path_is_no_id_of_the_catalogue(model: str) -> None:
    with pytest.raises(InvalidValueError):
        Model(model)


@pytest.mark.parametrize(
    "given", [b"a\r\nx-injected: 1", b"a\nb", b"\0", b"", b"a b", b"\xff", b"x" * 129, b"${jndi:ldap://x}", b"<script>"]
)
async def test_a_request_id_is_data_and_only_if_it_can_be_one(
    nursery: trio.Nursery, gateways: list[Gateway], given: bytes
) -> None:
    gateway, node, _ = await to_node(nursery, gateways)
    call = await ask(app_of(gateway), chat("m"), (b"x-request-id", given))
    assert call.status == 200
    assert len(call.headers[b"x-request-id"]) == 32
    assert b"injected" not in node.requests[0][0]


@pytest.mark.parametrize("name", ["out\r\nx-injected: 1", "out\n", "out\0", "out\x85\u2028"])
async def test_nothing_of_a_body_gets_into_a_header(nursery: trio.Nursery, gateways: list[Gateway], name: str) -> None:
    gateway, outside, _ = await to_provider(nursery, gateways)
    call = await ask(app_of(gateway), chat(name))
    lines = [
        *call.headers.values(),
        *call.headers,
        *(outside.requests[0][0].split(b"\r\n") if outside.requests else []),
    ]
    assert not [line for line in lines if b"injected" in line or b"\n" in line or b"\0" in line]


async def test_two_keys_that_begin_alike_are_two_keys() -> None:
    """As were not, where verdicts were remembered by a key's first twenty characters."""
    known = "hx-" + "a" * 60
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), gate_of(known))
    for key, status in ((known, 200), (known[:-1] + "b", 401), (known, 200), (known + "a", 401), (known[:20], 401)):
        call = Call(scope_of("GET", "/v1/models", [(b"authorization", b"Bearer " + key.encode())]))
        assert (await call.run(app)).status == status, key


async def test_a_key_for_one_thing_is_remembered_for_no_other() -> None:
    """The verdict on a path must not be reused on another."""
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), gate_of("reader", scopes=("models:read",)))
    for path, status in (("/v1/models", 200), ("/fleet", 403), ("/v1/models", 200), ("/fleet/keys", 403)):
        call = Call(scope_of("GET", path, [(b"authorization", b"Bearer reader")]))
        assert (await call.run(app)).status == status, path


SQL = (
    b"' OR '1'='1",
    b"x'; DROP TABLE keys; --",
    b'" UNION SELECT * FROM keys --',
    b"\\'; --",
    b"%27%20OR%201=1",
    b"*",
)


@pytest.mark.parametrize("header", [b"authorization", b"x-api-key"])
@pytest.mark.parametrize("text", [*SQL, b"\0", b"\xff\xfe", b"a" * LARGEST_HEAD, b"{{7*7}}", b"%s%n"])
async def test_no_text_in_place_of_a_key_opens_a_door(header: bytes, text: bytes) -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), gate_of("k"))
    value = b"Bearer " + text if header == b"authorization" else text
    call = await Call(scope_of("GET", "/fleet", [(header, value)])).run(app)
    assert call.status in (401, 431)
    assert text not in call.answer or text == b"*"


PUBLIC = ("/health", "/ready")
ODD_PATHS = ("/docs", "/metrics", "/v2/models", "/tokenize", "/invocations", "/pause", "/v1/../fleet", "/%2e%2e/fleet")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"])
async def test_no_path_but_two_answers_a_stranger(method: str) -> None:
    """Others have guarded what begins with `/v1`, and left the rest open."""
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), gate_of("k"))
    rules = [rule.rule for rule in app.control.url_map.iter_rules()]  # type: ignore[attr-defined]
    for rule in {*rules, *app.bare, *ODD_PATHS} - set(PUBLIC):
        path = rule.replace("<path:model>", "m").replace("<name>", "n")
        for spelt in (path, path + "/", "/" + path, path.upper(), "/x/.." + path):
            assert (await Call(scope_of(method, spelt), b"{}").run(app)).status == 401, spelt


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1.evil.example", b"evil.example:31313", b"", b"[::ffff:8.8.8.8]"]
)
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/fleet", "/nothing"])
async def test_a_name_rebound_to_this_machine_is_answered_nothing(host: bytes, path: str) -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), local_only=True)
    scope = {**scope_of("GET", path), "headers": [(b"host", host)]}
    assert (await Call(scope).run(app)).error["code"] == "host_not_allowed"


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost.evil.example"])
async def test_a_page_from_elsewhere_may_not_post_here(origin: bytes) -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), local_only=True)
    assert (await ask(app, chat("m"), (b"origin", origin))).error["code"] == "host_not_allowed"


async def test_two_host_headers_do_not_let_one_in(nursery: trio.Nursery) -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}), local_only=True)
    port = await start_app(nursery, app)
    async with await RawClient.connect(port) as client:
        request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n"
        assert (await client.request(request))[0] in (400, 403)


async def test_more_headers_than_anyone_needs_are_refused() -> None:
    app = app_of(gateway_to({"a": "http://127.0.0.1:9"}))
    many = [(b"x-%d" % number, b"1") for number in range(MOST_HEADERS)]
    for headers in (many, [(b"x", b"1" * LARGEST_HEAD)]):
        call = await Call(scope_of("GET", "/health", headers)).run(app)
        assert (call.status, call.error["code"]) == (431, "request_header_fields_too_large")
    assert (await Call(scope_of("GET", "/health", many[: MOST_HEADERS // 2])).run(app)).status == 200


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"), [(PREFACE, b"505"), (b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + UPGRADE, b"200")]
)
async def test_http_2_is_not_spoken_even_where_it_is_assumed(
    nursery: trio.Nursery, request_: bytes, status: bytes
) -> None:
    """Its flow control would let a client stall an answer for ever, where no time limit of the kernel's applies."""
    port = await start_app(nursery, app_of(gateway_to({"a": "http://127.0.0.1:9"})))
    async with await RawClient.connect(port) as client:
        await client.stream.send_all(request_)
        with trio.fail_after(5):
            assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 " + status)


def test_what_one_key_has_asked_before_makes_nothing_faster_for_another() -> None:
    """Neither is sent where the other's prompt is cached, nor finds its blocks there."""
    asked = orjson.loads(chat("m"))
    assert set(prefixes(asked, "a")).isdisjoint(prefixes(asked, "b"))
    assert chain(salt_root("a"), range(16)) != chain(salt_root("b"), range(16))
    assert salt_root("") != salt_root("a")


async def test_models_of_others_are_neither_listed_nor_told_apart_from_none(
    nursery: trio.Nursery, gateways: list[Gateway]
) -> None:
    gateway, node, _ = await to_node(nursery, gateways)
    narrow = Key("narrow", "narrow", frozenset(ALL_SCOPES), models=("other-*",))
    app = app_of(gateway, Gate(required=True, keys={sha256(b"k"): narrow}))
    bearer = (b"authorization", b"Bearer k")
    call = await ask(app, chat("m"), bearer)
    assert (call.status, node.connections) == (call.status, 0)
    assert call.status in (403, 404)
    listed = await Call(scope_of("GET", "/v1/models", [bearer])).run(app)
    assert orjson.loads(listed.answer)["data"] == []


def test_nothing_is_read_that_could_be_code() -> None:
    """Neither pickles nor expressions: frames are msgpack, weights safetensors, tool calls are parsed."""
    wrong = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop"}
    calls = {"eval", "exec", "compile", "__import__"}
    for path, tree in sources():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not wrong.intersection(name.partition(".")[0] for name in names), path
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Name) and node.func.id in calls), (path, node.lineno)
                assert ast.unparse(node.func) not in {"torch.load", "yaml.load", "torch.jit.load"}, (path, node.lineno)


def test_no_command_goes_through_a_shell_and_no_code_of_a_repository_is_trusted() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg in {"shell", "trust_remote_code", "weights_only"}:
                    safe = keyword.arg == "weights_only"
                    assert isinstance(keyword.value, ast.Constant), (path, keyword.lineno)
                    assert keyword.value.value is safe, (path, keyword.lineno)


async def test_a_gateway_of_a_fleet_with_providers_shows_no_key_of_theirs(gateways: list[Gateway]) -> None:
    given = provider("p", "http://127.0.0.1:9", api_key_env="MY_KEY")
    topology = evolve(topology_of({}, {}), providers=(given,), models=(Model(BUNDLED_MODEL),))
    gateways.append(gateway_of(topology, "marked-secret", {"MY_KEY": "sk-marked"}))
    app = app_of(gateways[-1])
    for path in ("/fleet", "/fleet/actors", "/v1/models", "/openapi.json"):
        answer = (await Call(scope_of("GET", path)).run(app)).answer
        assert b"marked" not in answer
    assert "marked" not in repr(gateways[-1].proxy)


ECHO = b'{"error":{"message":"Bearer sk-ours asked: marked prompt","type":"x","code":"x","param":null}}'
ECHOES = [whole(ECHO, status) for status in ("400 Bad", "404 No", "429 Full", "500 Oops", "503 Down")]


@pytest.mark.parametrize("echo", [*ECHOES, SSE_HEAD + chunk(b"data: " + ECHO + b"\n\n") + chunk(b"")])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_a_provider_that_repeats_its_key_does_not_tell_our_clients(
    nursery: trio.Nursery, gateways: list[Gateway], echo: bytes, path: str
) -> None:
    """Nor does what a client has asked get into the log by way of it."""
    outside = await start_script(nursery, plays(echo))
    gateways.append(outside_gateway(provider("p", outside.url, api_key_env="KEY"), KEY="sk-ours"))
    with structlog.testing.capture_logs() as logs:
        body = chat("out", stream=echo.startswith(SSE_HEAD), max_tokens=5, input="marked prompt")
        call = await ask(app_of(gateways[-1]), body, path=path)
    assert b"sk-ours" not in call.answer
    assert call.status >= 400
    assert "sk-ours" not in str(logs)
    assert "marked prompt" not in str(logs)
