"""Restarting a device over HTTP."""

import orjson
import pytest
from attrs import evolve
from engine_port import FakeEngines
from http_parts import Call

from helexa.web.front import Front


@pytest.mark.parametrize(("body", "force"), [(b"", False), (b"{}", False), (b'{"force": true}', True)])
async def test_a_restart_tells_what_became_of_the_device_s_models(
    app: Front, engines: FakeEngines, body: bytes, *, force: bool
) -> None:
    engines.models["elsewhere"] = evolve(engines.models["m"], id="elsewhere", device="cuda:0")
    call = await Call.post("/devices/cpu/restart", body).run(app)
    assert call.status == 200
    assert [model["id"] for model in orjson.loads(call.answer)["models"]] == ["m"]
    assert engines.restarts == [("cpu", force)]


@pytest.mark.parametrize(
    ("device", "body", "refusal"),
    [
        ("cuda:7", b"", (404, "device_not_found")),
        ("cpu", b"{", (400, "invalid_json")),
        ("cpu", b'{"force": "yes"}', (400, "invalid_value")),
    ],
)
async def test_restarts_that_are_refused(
    app: Front, engines: FakeEngines, device: str, body: bytes, refusal: tuple[int, str]
) -> None:
    call = await Call.post(f"/devices/{device}/restart", body).run(app)
    assert (call.status, call.error["code"]) == refusal
    assert engines.restarts == []
