"""Keys and the gateway's other routes: models that a key is not for are neither served to it nor shown."""

from typing import Any

import orjson
import pytest
from gateways import Gateway, app_of, gateway_to
from http_parts import Call, scope_of

from helexa.cortex.access.auth import Gate, Key, sha256
from helexa.cortex.exchange.dialects import DIALECTS
from helexa.web.front import Front

INFERENCE = frozenset({"inference"})
KEYS = {"all": (), "real": ("m",), "alias": ("other*",), "none": ("elsewhere",)}
GATE = Gate(required=True, keys={sha256(k.encode()): Key(k, k, INFERENCE, models) for k, models in KEYS.items()})


@pytest.fixture
def app(gateways: list[Gateway]) -> Front:
    """A gateway whose only node has the model `m`, and cannot be reached; `other-name` is an alias for it."""
    gateways.append(gateway_to({"a": "http://127.0.0.1:9"}, **{"other-name": "m"}))
    return app_of(gateways[-1], GATE)


async def ask(app: Front, key: str, method: str, path: str, body: dict[str, Any] | None = None) -> Call:
    scope = scope_of(method, path, [(b"x-api-key", key.encode())])
    return await Call(scope, orjson.dumps(body or {})).run(app)


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize(
    ("key", "model", "allowed"),
    [
        ("all", "m", True),
        ("all", "other-name", True),
        ("real", "m", True),
        ("real", "other-name", True),
        ("alias", "other-name", True),
        ("alias", "m", False),
        ("none", "m", False),
        ("none", "other-name", False),
        ("real", "unknown", False),
        ("real", " m", False),
    ],
)
async def test_a_key_uses_the_models_it_is_for(app: Front, path: str, key: str, model: str, *, allowed: bool) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "x"}],
        "input": "x",
        "prompt": "x",
        "max_tokens": 1,
    }
    call = await ask(app, key, "POST", path, body)
    assert (call.status != 403) == allowed, call.answer
    if not allowed:
        assert b"is not permitted for this API key" in call.answer


@pytest.mark.parametrize(
    ("key", "shown"),
    [("all", {"m", "other-name"}), ("real", {"m", "other-name"}), ("alias", {"other-name"}), ("none", set())],
)
async def test_a_key_is_shown_the_models_it_is_for(app: Front, key: str, shown: set[str]) -> None:
    listed = orjson.loads((await ask(app, key, "GET", "/v1/models")).answer)["data"]
    assert {entry["id"] for entry in listed} == shown
    for model in ("m", "other-name"):
        assert (await ask(app, key, "GET", f"/v1/models/{model}")).status == (200 if model in shown else 404)
