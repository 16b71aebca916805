"""What was measured, over HTTP: every route, what is asked for wrongly, who may read, and a database that is away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
import trio
from bench_stores import BUILDS, NOW, failed, made
from http_parts import Call, scope_of
from structlog.testing import capture_logs

from helexa.bench.api import app as module
from helexa.bench.api import shown
from helexa.bench.api.app import make_app
from helexa.bench.records import Cell
from helexa.bench.storage.store import Store
from helexa.cortex.access.auth import Gate, Key, sha256
from helexa.database import StoreError
from helexa.up.bench import admit
from helexa.web.server import App, Scope

OTHER = Cell("gpu2", "qwen", "chat", {"prompt_tokens": 4096})
READER, WRITER = b"hx-reader", b"hx-writer"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    kept = Store(f"sqlite:///{tmp_path}/bench.db")
    yield kept
    kept.close()


def nobody(_: Scope) -> None:
    """Let everybody in."""


def app_of(store: Store, *, keyed: bool = False, local_only: bool = True) -> App:
    gate = Gate(keyed, {sha256(READER): key("fleet:read"), sha256(WRITER): key("inference")})
    status = lambda: {"state": "waiting"}  # noqa: E731 - as the loop's
    return make_app(
        store, lambda scope: admit(gate, scope), status, keyed=keyed, local_only=local_only, now=lambda: NOW + 100
    )


def key(scope: str) -> Key:
    return Key(scope, scope, frozenset({scope}))


async def get(app: App, path: str, *headers: tuple[bytes, bytes], method: str = "GET", **query: Any) -> Call:
    scope = scope_of(method, path, list(headers))
    scope["query_string"] = urlencode(query, doseq=True, quote_via=quote).encode()
    with trio.fail_after(20):
        return await Call(scope).run(app)


async def read(app: App, path: str, **query: Any) -> dict[str, Any]:
    call = await get(app, path, **query)
    assert call.status == 200, call.answer
    found: dict[str, Any] = orjson.loads(call.answer)
    return found


async def test_an_empty_database_has_an_answer_for_everything(store: Store) -> None:
    app = app_of(store)
    assert await read(app, "/health") == {"status": "ok"}
    assert await read(app, "/api/status") == {"state": "waiting"}
    assert await read(app, "/api/runs") == {"runs": [], "next": None}
    assert await read(app, "/api/summary") == {"cells": []}
    assert await read(app, "/api/series", metric="ttft") == {"series": [], "next": None}
    assert await read(app, "/api/regressions") == {"changes": []}
    names = {"targets", "models", "scenarios", "builds", "batches", "labels"}
    assert await read(app, "/api/dimensions") == {name: [] for name in names}


async def test_dimensions_say_by_what_runs_can_be_asked_for(store: Store) -> None:
    store.add_all([made("b1-1"), made("b2-1", OTHER, BUILDS[1], label="night")])
    found = await read(app_of(store), "/api/dimensions")
    assert [each["name"] for each in found["targets"]] == ["gpu1", "gpu2"]
    assert found["scenarios"][0]["parameters"] == {"prompt_tokens": 128}
    assert [each["id"] for each in found["builds"]] == [BUILDS[1].id, BUILDS[0].id]
    assert [each["name"] for each in found["labels"]] == ["night"]


async def test_runs_come_page_by_page_the_newest_first(store: Store) -> None:
    store.add_all([made(f"b1-{number}") for number in range(5)])
    app, seen, before = app_of(store), [], {}
    while True:
        page = await read(app, "/api/runs", limit=2, **before)
        seen += [each["id"] for each in page["runs"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == [f"b1-{number}" for number in (4, 3, 2, 1, 0)]


async def test_samples_come_only_when_they_are_asked_for(store: Store) -> None:
    store.add(made("b1-1", values=(1.0, 2.0, 3.0)))
    (run,) = (await read(app_of(store), "/api/runs"))["runs"]
    assert run["samples"] == 3
    assert run["figures"][0]["median"] == 2.0
    (run,) = (await read(app_of(store), "/api/runs", samples=1))["runs"]
    assert [each["values"] for each in run["samples"]] == [{"ttft": 1.0}, {"ttft": 2.0}, {"ttft": 3.0}]
    assert run["build"] == {"id": BUILDS[0].id, "name": BUILDS[0].name, "details": dict(BUILDS[0].details)}


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"target": "gpu2"}, ["b2-1"]),
        ({"target": ["gpu1", "gpu2"]}, ["b3-1", "b2-1", "b1-1"]),
        ({"outcome": "failed"}, ["b3-1"]),
        ({"build": BUILDS[1].id}, ["b2-1"]),
        ({"batch": "b1", "model": "qwen", "scenario": "chat"}, ["b1-1"]),
        ({"since": "1m"}, []),
        ({"since": "2m"}, ["b3-1", "b2-1", "b1-1"]),
        ({"until": str(NOW)}, []),
        ({"label": "' OR 1=1 --"}, []),
    ],
)
async def test_runs_are_found_by_what_they_are(store: Store, query: dict[str, Any], ids: list[str]) -> None:
    store.add_all([made("b1-1"), made("b2-1", OTHER, BUILDS[1]), failed("b3-1")])
    assert [each["id"] for each in (await read(app_of(store), "/api/runs", **query))["runs"]] == ids


async def test_a_summary_is_the_newest_run_of_each_cell_that_worked(store: Store) -> None:
    store.add_all([made("b1-1"), made("b2-1"), failed("b3-1"), made("b2-2", OTHER)])
    found = (await read(app_of(store), "/api/summary"))["cells"]
    assert sorted(each["id"] for each in found) == ["b2-1", "b2-2"]


async def test_a_series_has_a_point_for_each_run_the_oldest_first(store: Store) -> None:
    runs = [made(f"b{number}-1", values=(float(number),)) for number in range(3)]
    store.add_all([*runs, made("b4-1", OTHER), failed("b5-1")])
    app, cell = app_of(store), {"target": "gpu1", "model": "qwen", "scenario": "chat"}
    (one,) = (await read(app, "/api/series", metric="ttft", **cell))["series"]
    assert [each["median"] for each in one["points"]] == [0.0, 1.0, 2.0]
    assert one["metric"]["unit"] == "s"
    assert len((await read(app, "/api/series", metric="ttft"))["series"]) == 2
    for parameters, count in (('{"prompt_tokens": 128}', 1), ('{"prompt_tokens": 4096}', 0)):
        found = await read(app, "/api/series", metric="ttft", parameters=parameters, **cell)
        assert len(found["series"]) == count
    assert (await read(app, "/api/series", metric="nothing"))["series"] == []


async def test_a_slower_build_is_a_regression_and_a_faster_one_an_improvement(store: Store) -> None:
    def runs(batch: int, level: float, which: int) -> list[Any]:
        values = tuple(level * (1 + wobble / 1000) for wobble in range(7))
        return [made(f"b{batch}-{n}", build=BUILDS[which], values=values) for n in range(3)]

    store.add_all([*runs(1, 1.0, 0), *runs(2, 2.0, 1)])
    app = app_of(store)
    (change,) = (await read(app, "/api/regressions"))["changes"]
    assert (change["verdict"], change["cell"]["target"], change["metric"]["name"]) == ("regression", "gpu1", "ttft")
    assert change["from"]["build"]["id"] == BUILDS[0].id
    assert change["to"]["build"]["id"] == BUILDS[1].id
    assert change["ratio"] == pytest.approx(2.0)
    store.add_all(runs(3, 1.0, 2))
    assert len((await read(app, "/api/regressions"))["changes"]) == 1, "a new run makes the answer anew"
    both = (await read(app, "/api/regressions", improvements=1))["changes"]
    assert [each["verdict"] for each in both] == ["improvement", "regression"]


async def test_changes_are_looked_for_once_as_long_as_there_is_nothing_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    monkeypatch.setattr(module, "changes", lambda runs: judged.append(len(runs)) or [])  # type: ignore[func-returns-value]
    app = app_of(store)
    for _ in range(3):
        await read(app, "/api/regressions", since="30d")
    assert len(judged) == 1
    store.add(made("b1-1"))
    await read(app, "/api/regressions", since="30d")
    assert judged == [0, 1]


CELL = {"target": "box", "model": "m", "scenario": "chat"}
DEEP = '{"a":' + "[" * 400 + "]" * 400 + "}"
"""Can be read, and not be written."""


@pytest.mark.parametrize(
    ("path", "query", "param", "said"),
    [
        ("/api/runs", {"targt": "x"}, "targt", "it is not known here"),
        ("/api/runs", {"limit": "0"}, "limit", "a whole number from 1 to 1000"),
        ("/api/runs", {"limit": "1001"}, "limit", "from 1 to 1000"),
        ("/api/runs", {"limit": "9" * 500}, "limit", "from 1 to 1000"),
        ("/api/runs", {"limit": "٣"}, "limit", "from 1 to 1000"),
        ("/api/runs", {"limit": "200", "samples": "1"}, "limit", "from 1 to 100"),
        ("/api/runs", {"limit": ["1", "2"]}, "limit", "only one"),
        ("/api/runs", {"samples": "yes"}, "samples", "0 or 1"),
        ("/api/runs", {"since": "yesterday"}, "since", "a Unix time in seconds, or how long ago"),
        ("/api/runs", {"since": "nan"}, "since", "a Unix time"),
        ("/api/runs", {"until": "never"}, "until", "a Unix time"),
        ("/api/runs", {"outcome": "fine"}, "outcome", "one of ok, failed, skipped, yielded"),
        ("/api/runs", {"model": "m" * 1001}, "model", "at most 100 values of 1000 characters"),
        ("/api/runs", {"model": ["m"] * 101}, "model", "at most 100 values"),
        ("/api/status", {"x": "1"}, "x", "it is not known here"),
        ("/api/series", {}, "metric", "Missing required parameter"),
        ("/api/series", {"metric": "m", "parameters": "{}"}, "target", "Missing required parameter"),
        ("/api/series", {"metric": "m", "parameters": "["}, "parameters", "a JSON object"),
        ("/api/series", {"metric": "m", "parameters": "[]"}, "parameters", "a JSON object"),
        ("/api/series", {"metric": "m", **CELL, "parameters": DEEP}, "parameters", "a JSON object"),
    ],
)
async def test_what_is_asked_wrongly_is_told(
    store: Store, path: str, query: dict[str, Any], param: str, said: str
) -> None:
    call = await get(app_of(store), path, **query)
    assert (call.status, call.error["param"]) == (400, param)
    assert said in call.error["message"]


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/runs/x", "/v1/models", "/fleet"])
async def test_what_is_not_there_is_told_in_the_usual_shape(store: Store, path: str) -> None:
    assert (await get(app_of(store), path)).error["code"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_changed(store: Store, method: str) -> None:
    assert (await get(app_of(store), "/api/runs", method=method)).status == 405


async def test_a_database_that_is_away_is_told_without_where_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreError("/secret/place: it is locked")

    for name in ("runs", "summaries", "newest", "dimensions"):
        monkeypatch.setattr(store, name, away)
    app = app_of(store)
    with capture_logs():
        for path in ("/api/runs", "/api/summary", "/api/dimensions", "/api/regressions", "/api/series?metric=x"):
            call = await get(app, path.partition("?")[0], **({"metric": "x"} if "?" in path else {}))
            assert (call.status, call.error["code"]) == (503, "service_unavailable")
            assert "secret" not in call.answer.decode()
            assert call.headers[b"retry-after"] == b"5"
    assert (await get(app, "/api/status")).status == 200


def allowed(call: Call) -> bytes | None:
    return call.headers.get(b"access-control-allow-origin")


@pytest.mark.parametrize(
    ("origin", "readable"),
    [
        (b"http://localhost:3000", True),
        (b"http://127.0.0.1:5173", True),
        (b"http://[::1]:8080", True),
        (b"https://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"http://evil.example/localhost", False),
        (b"null", False),
        (b"file://localhost", False),
        (b"", False),
    ],
)
async def test_without_keys_only_pages_of_this_machine_may_read(store: Store, origin: bytes, *, readable: bool) -> None:
    for local_only in (True, False):
        call = await get(app_of(store, local_only=local_only), "/api/runs", (b"origin", origin))
        assert allowed(call) == (origin if readable else None)
        assert call.headers[b"vary"] == b"origin"


async def test_a_name_that_was_rebound_to_this_machine_is_turned_away(store: Store) -> None:
    scope = scope_of("GET", "/api/runs")
    scope["headers"] = [(b"host", b"evil.example:31315")]
    call = await Call(scope).run(app_of(store))
    assert (call.status, call.error["code"]) == (403, "host_not_allowed")


async def test_with_keys_any_page_may_read_that_has_one(store: Store) -> None:
    app, page = app_of(store, keyed=True, local_only=False), (b"origin", b"https://console.example")
    refused = await get(app, "/api/runs", page)
    assert (refused.status, allowed(refused)) == (401, page[1]), "it may read why"
    call = await get(app, "/api/runs", page, (b"authorization", b"Bearer " + READER))
    assert (call.status, allowed(call)) == (200, page[1])


async def test_a_browser_is_told_before_what_it_may_send(store: Store) -> None:
    asks = (b"access-control-request-method", b"GET")
    app = app_of(store, keyed=True, local_only=False)
    call = await get(app, "/api/runs", (b"origin", b"https://console.example"), asks, method="OPTIONS")
    assert (call.status, allowed(call)) == (204, b"https://console.example")
    assert b"authorization" in call.headers[b"access-control-allow-headers"]
    assert b"access-control-allow-credentials" not in call.headers
    denied = await get(app_of(store), "/api/runs", (b"origin", b"https://evil.example"), asks, method="OPTIONS")
    assert (denied.status, set(denied.headers)) == (204, {b"vary"})


@pytest.mark.parametrize("path", ["/api/runs", "/api/status", "/api/dimensions", "/api/summary", "/nothing", "/"])
async def test_every_route_but_health_asks_for_a_key_that_may_read_the_fleet(store: Store, path: str) -> None:
    app = app_of(store, keyed=True, local_only=False)
    assert (await get(app, path)).status == 401
    assert (await get(app, path, (b"authorization", b"Bearer hx-wrong"))).status == 401
    denied = await get(app, path, (b"x-api-key", WRITER))
    assert (denied.status, denied.error["code"]) == (403, "insufficient_scope")
    assert "fleet:read" in denied.error["message"]
    assert (await get(app, path, (b"x-api-key", READER))).status in {200, 404}
    assert (await get(app, "/health")).status == 200


@pytest.mark.parametrize(
    ("path", "query", "maker"),
    [
        ("/api/runs", {"samples": "1"}, "run"),
        ("/api/runs", {}, "summary"),
        ("/api/summary", {}, "summary"),
        ("/api/series", {"metric": "ttft"}, "series"),
        ("/api/dimensions", {}, "dimensions"),
    ],
)
async def test_long_lists_are_made_in_a_thread_while_others_measure(
    store: Store, monkeypatch: pytest.MonkeyPatch, path: str, query: dict[str, str], maker: str
) -> None:
    """The task that they would hold up is the one that sends the next request of a measurement."""
    store.add(made("b-1"))
    original, in_loop = getattr(shown, maker), []

    def noted(*arguments: Any) -> Any:
        in_loop.append(trio.lowlevel.in_trio_run())
        return original(*arguments)

    monkeypatch.setattr(shown, maker, noted)
    assert (await get(app_of(store), path, **query)).status == 200
    assert set(in_loop) == {False}
