"""The whole application: which routes there are, and errors in the dialect of each whoever tells them."""

import orjson
import pytest
import trio
from gateways import ANSWER, REQUEST, Gateway, app_of, gateway_to, refused_url
from http_parts import Call, plays, scope_of, start_script, whole

from helexa.cortex.access.auth import Gate, Key, sha256
from helexa.cortex.app import make_app
from helexa.cortex.exchange.dialects import DIALECTS

KEYS = {sha256(b"k"): Key("ci", "ci", frozenset({"inference"})), sha256(b"f"): Key("f", "f", frozenset({"fleet:read"}))}
STRICT = Gate(required=True, keys=KEYS)
MESSAGES = "/v1/messages"
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 405: "invalid_request_error"}


async def ask(app: object, method: str, path: str, *headers: tuple[bytes, bytes]) -> Call:
    return await Call(scope_of(method, path, list(headers)), b"{}").run(app)  # type: ignore[arg-type]


def check_message_error(call: Call, status: int) -> None:
    found = orjson.loads(call.answer)
    assert (call.status, found["type"], found["error"]["type"]) == (status, "error", TYPES[status])
    assert found["request_id"].encode() == call.headers[b"request-id"] == call.headers[b"x-request-id"]


@pytest.fixture
async def gateway(gateways: list[Gateway]) -> Gateway:
    gateways.append(gateway_to({"a": refused_url()}))
    return gateways[-1]


@pytest.mark.parametrize("prefix", ["", "/api/v1/openai"])
@pytest.mark.parametrize("path", DIALECTS)
async def test_who_has_no_key_or_the_wrong_one_is_told_in_the_routes_dialect(
    gateway: Gateway, path: str, prefix: str
) -> None:
    app = app_of(gateway, STRICT)
    for status, headers in ((401, ()), (401, ((b"x-api-key", b"?"),)), (403, ((b"x-api-key", b"f"),))):
        call = await ask(app, "POST", prefix + path, *headers)
        if path.startswith(MESSAGES):
            check_message_error(call, status)
        else:
            assert (call.status, "code" in call.error) == (status, True)
            assert len(call.headers[b"x-request-id"]) == 32
        assert (b"www-authenticate" in call.headers) == (status == 401)


async def test_a_page_from_elsewhere_is_told_in_the_routes_dialect(gateway: Gateway) -> None:
    app = app_of(gateway, local_only=True)
    check_message_error(await ask(app, "POST", MESSAGES, (b"origin", b"http://evil.example")), 403)
    call = await ask(app, "POST", "/v1/responses", (b"origin", b"http://evil.example"))
    assert (call.status, call.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", DIALECTS)
async def test_other_methods_are_told_what_the_route_takes(gateway: Gateway, path: str, method: str) -> None:
    call = await ask(app_of(gateway), method, path)
    if path.startswith(MESSAGES):
        check_message_error(call, 405)
    else:
        assert (call.status, call.error["code"]) == (405, "method_not_allowed")
    assert call.headers[b"allow"] == b"POST"


async def test_unknown_routes_below_messages_are_told_in_their_dialect(gateway: Gateway) -> None:
    app = app_of(gateway)
    check_message_error(await ask(app, "POST", "/v1/messages/batches"), 404)
    check_message_error(await ask(app, "POST", "//v1/messages/batches"), 404)
    assert (await ask(app, "POST", "/v1/messagesx")).error["code"] == "not_found"


async def test_a_clients_own_name_for_its_request_is_on_refusals_too(gateway: Gateway) -> None:
    call = await ask(app_of(gateway, STRICT), "POST", MESSAGES, (b"x-request-id", b"mine-1"))
    assert call.headers[b"request-id"] == b"mine-1"


async def test_the_gate_may_change_while_it_serves(gateway: Gateway) -> None:
    gates = [Gate(required=False)]
    app = make_app(gateway.proxy, gateway.router, None, None, None, lambda: gates[-1], None, loopback=False)  # type: ignore[arg-type]
    assert (await ask(app, "POST", "/v1/chat/completions")).status == 400
    gates.append(STRICT)
    assert (await ask(app, "POST", "/v1/chat/completions")).status == 401


@pytest.mark.parametrize("prefix", ["", "/api/v1/openai"])
async def test_the_hot_routes_are_served_with_and_without_the_prefix(
    nursery: trio.Nursery, gateways: list[Gateway], prefix: str
) -> None:
    script = await start_script(nursery, plays(whole(ANSWER)))
    gateways.append(gateway_to({"a": script.url}))
    call = await Call.post(prefix + "/v1/chat/completions", REQUEST).run(app_of(gateways[-1]))
    assert (call.status, call.answer) == (200, ANSWER)


@pytest.mark.parametrize("path", ["/openapi.json", "/fleet", "/v1/models", "/v1/models/m", "/fleet/actors", "/health"])
async def test_the_other_routes_are_there(gateway: Gateway, path: str) -> None:
    assert (await ask(app_of(gateway), "GET", path)).status == 200
