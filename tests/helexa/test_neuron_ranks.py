"""The routes for ranks of groups that other neurons lead: what they take, what they tell, who is let in."""

from typing import Any

import orjson
import pytest
from engine_port import FakeEngines
from http_parts import Call, scope_of
from rank_port import FakeRanks

from helexa.neuron.app import make_app
from helexa.neuron.discovery import Host
from helexa.neuron.service import Service
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire.fleet import DeviceInfo, Discovery
from helexa.wire.ranks import Elsewhere, RankRequest

SECRET = "correct horse"
TOKEN = "battery staple"
ASKED = RankRequest("a/org/m", "cpu", 1, 2, "10.0.0.1", 5, TOKEN)
BODY = {
    "group": "a/org/m",
    "device": "cpu",
    "rank": 1,
    "ranks": 2,
    "host": "10.0.0.1",
    "port": 5,
    "token": TOKEN,
}
ROUTES = [("GET", "/ranks"), ("POST", "/ranks"), ("DELETE", "/ranks/a/org/m")]


@pytest.fixture
def ranks() -> FakeRanks:
    return FakeRanks()


def with_ranks(service: Service, drain: Drain, ranks: FakeRanks | None, secret: str | None = None) -> Front:
    host = Host(Discovery("box", "Linux", None, (DeviceInfo(0, "cpu", "x86", 1000),), "no GPU"), None)
    return make_app(service, host, drain, secret, ranks)


@pytest.fixture
def app(service: Service, drain: Drain, ranks: FakeRanks) -> Front:
    return with_ranks(service, drain, ranks)


async def post(app: Front, path: str = "/ranks", **fields: Any) -> Call:
    return await Call.post(path, orjson.dumps(fields)).run(app)


async def test_a_rank_is_started_listed_and_ended(app: Front, ranks: FakeRanks) -> None:
    started = await post(app, **BODY)
    assert started.status == 200
    assert ranks.started == [ASKED]
    listed = await Call(scope_of("GET", "/ranks")).run(app)
    assert orjson.loads(listed.answer)["ranks"] == [orjson.loads(started.answer)]
    assert TOKEN not in (listed.answer + started.answer).decode()
    assert (await Call(scope_of("DELETE", "/ranks/a/org/m")).run(app)).status == 200
    assert ranks.stopped == ["a/org/m"]


async def test_ranks_are_actors_and_no_models(app: Front) -> None:
    """What serves no requests must not be taken for something that does."""
    await post(app, **BODY)
    actors = orjson.loads((await Call(scope_of("GET", "/actors")).run(app)).answer)
    assert [each["name"] for each in actors] == ["device-worker:cpu", "tp-follower:cpu"]
    for path in ("/models", "/health"):
        told = orjson.loads((await Call(scope_of("GET", path)).run(app)).answer)
        assert [each["id"] for each in told["models"]] == ["m"]
    assert [each["group"] for each in told["ranks"]] == ["a/org/m"]


async def test_to_end_what_is_not_there_is_said(app: Front) -> None:
    call = await Call(scope_of("DELETE", "/ranks/nobody/m")).run(app)
    assert (call.status, call.error["code"]) == (404, "rank_not_found")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_asks_for_the_secret(
    service: Service, drain: Drain, ranks: FakeRanks, method: str, path: str
) -> None:
    app = with_ranks(service, drain, ranks, SECRET)
    call = await Call(scope_of(method, path), orjson.dumps(BODY)).run(app)
    assert (call.status, call.error["code"]) == (401, "invalid_api_key")
    assert not ranks.started


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_neuron_that_takes_part_in_none_has_no_such_routes(
    service: Service, drain: Drain, method: str, path: str
) -> None:
    call = await Call(scope_of(method, path), orjson.dumps(BODY)).run(with_ranks(service, drain, None))
    assert (call.status, call.error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"group": None}, "missing_required_parameter", "group"),
        ({"group": ""}, "invalid_value", "group"),
        ({"group": "a\n"}, "invalid_value", "group"),
        ({"group": "a" * 513}, "invalid_value", "group"),
        ({"device": None}, "missing_required_parameter", "device"),
        ({"rank": 0}, "invalid_value", "rank"),
        ({"rank": 2}, "invalid_value", "rank"),
        ({"rank": True}, "invalid_value", "rank"),
        ({"ranks": 1}, "invalid_value", "ranks"),
        ({"ranks": 1025}, "invalid_value", "ranks"),
        ({"host": "beast.lan"}, "invalid_value", "host"),
        ({"host": "0.0.0.0"}, "invalid_value", "host"),
        ({"host": "::"}, "invalid_value", "host"),
        ({"host": 7}, "invalid_value", "host"),
        ({"port": 0}, "invalid_value", "port"),
        ({"port": 65536}, "invalid_value", "port"),
        ({"token": None}, "missing_required_parameter", "token"),
        ({"token": ""}, "invalid_value", "token"),
        ({"token": TOKEN + "\n"}, "invalid_value", "token"),
    ],
)
async def test_what_is_no_rank_is_refused(
    app: Front, ranks: FakeRanks, change: dict[str, Any], code: str, param: str
) -> None:
    call = await post(app, **{**BODY, **change})
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert TOKEN not in call.answer.decode()
    assert not ranks.started


# what a leader is told


ELSEWHERE = {"count": 1, "host": "10.0.0.1", "port": 5, "token": TOKEN}


async def test_a_load_says_how_many_ranks_are_elsewhere(app: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Elsewhere | None] = []

    async def load(self: Service, request: Any) -> Any:
        asked.append(request.elsewhere)
        return self.report("m")

    monkeypatch.setattr(Service, "load", load)
    assert (await post(app, "/models/load", model="m", elsewhere=ELSEWHERE)).status == 200
    assert (await post(app, "/models/load", model="m", elsewhere=None)).status == 200
    assert asked == [Elsewhere(1, "10.0.0.1", 5, TOKEN), None]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"count": 0}, "elsewhere.count"),
        ({"count": 1024}, "elsewhere.count"),
        ({"host": "[::1]"}, "elsewhere.host"),
        ({"host": "0.0.0.0"}, "elsewhere.host"),
        ({"port": "5"}, "elsewhere.port"),
        ({"token": ""}, "elsewhere.token"),
    ],
)
async def test_ranks_that_cannot_be_elsewhere_are_refused(
    app: Front, engines: FakeEngines, change: dict[str, Any], param: str
) -> None:
    engines.loads.clear()
    call = await post(app, "/models/load", model="m", elsewhere={**ELSEWHERE, **change})
    assert (call.status, call.error["code"], call.error["param"]) == (400, "invalid_value", param)
    assert not engines.loads


async def test_elsewhere_is_an_object(app: Front) -> None:
    call = await post(app, "/models/load", model="m", elsewhere=1)
    assert (call.status, call.error["param"]) == (400, "elsewhere")
