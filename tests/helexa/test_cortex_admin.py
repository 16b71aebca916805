"""The operators' routes: what is asked of whom, what is answered, and a stream of events that ends as it should."""

from functools import partial
from typing import Any

import orjson
import pytest
import trio
import trio.testing
from attrs import define, field
from http_parts import Call, RawClient, request_bytes, scope_of, start_app, until

from config import Topology, parse
from helexa.cortex import admin
from helexa.cortex.events import HEARTBEAT, HEARTBEAT_SECONDS, EventLog
from helexa.cortex.routing import listing
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.web.front import Front
from helexa.web.quart_errors import json_app
from helexa.web.server import Drain
from helexa.wire import errors

TOPOLOGY = parse('[[neurons]]\nname = "a"\n[[models]]\nid = "m/x"\n')


@define(eq=False)
class Fake:
    """The fleet's owner and its lifecycle: remembers what it was asked; an error is raised instead of an answer."""

    asked: list[tuple[Any, ...]] = field(factory=list)
    error: Exception | None = None
    busy: trio.Event | None = None

    def fleet(self) -> Fleet:
        nodes = {neuron.name: Node(neuron) for neuron in TOPOLOGY.neurons}
        return Fleet(TOPOLOGY, nodes, {model.id: model for model in TOPOLOGY.models})

    async def load(self, model: str, node: str | None) -> str:
        self.note("load", model, node)
        if self.busy is not None:
            await self.busy.wait()
        return "a"

    async def unload(self, model: str, node: str | None) -> tuple[str, ...]:
        self.note("unload", model, node)
        return ("a", "b")

    def pin(self, model: str, node: str | None, *, pinned: bool) -> tuple[str, ...]:
        self.note("pin", model, node, pinned)
        return ("a",)

    def alias(self, alias: str, model: str | None) -> None:
        self.note("alias", alias, model)

    async def logs(self, node: str, query: str) -> bytes:
        self.note("logs", node, query)
        return b'{"lines":[],"last":0}'

    def plan(self, fleet: Fleet, wanted: Topology) -> dict[str, Any]:
        assert fleet.topology == TOPOLOGY
        self.note("plan", wanted)
        return {"changes": []}

    def note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


@define(eq=False)
class Side:
    """The application and its parts."""

    app: Any
    fake: Fake
    events: EventLog

    async def post(self, path: str, body: bytes = b"") -> tuple[int, Any]:
        call = await Call.post(path, body).run(self.app)
        assert call.ended
        return call.status, orjson.loads(call.answer)


@pytest.fixture
def side() -> Side:
    fake, events, app = Fake(), EventLog(), json_app("test")
    admin.add_routes(app, fake, fake, events, fake.plan)  # type: ignore[arg-type]
    return Side(app, fake, events)


@pytest.mark.parametrize(
    ("action", "body", "asked", "answer"),
    [
        ("load", b"", ("load", "m/x", None), {"model": "m/x", "node": "a"}),
        ("load", b" {} ", ("load", "m/x", None), {"model": "m/x", "node": "a"}),
        ("load", b'{"node":"b"}', ("load", "m/x", "b"), {"model": "m/x", "node": "a"}),
        ("unload", b'{"node":null}', ("unload", "m/x", None), {"model": "m/x", "nodes": ["a", "b"]}),
        ("unload", b'{"node":"b"}', ("unload", "m/x", "b"), {"model": "m/x", "nodes": ["a", "b"]}),
        (
            "pin",
            b'{"pinned":true}',
            ("pin", "m/x", None, True),
            {"model": "m/x", "pinned": True, "nodes": ["a"]},
        ),
        (
            "pin",
            b'{"pinned":false,"node":"a"}',
            ("pin", "m/x", "a", False),
            {"model": "m/x", "pinned": False, "nodes": ["a"]},
        ),
    ],
)
async def test_a_model_is_moved_as_asked(
    side: Side, action: str, body: bytes, asked: tuple[Any, ...], answer: dict[str, Any]
) -> None:
    assert await side.post(f"/fleet/models/m/x/{action}", body) == (200, answer)
    assert side.fake.asked == [asked]


@pytest.mark.parametrize(
    ("action", "body", "code", "param"),
    [
        ("load", b"[]", "invalid_json", None),
        ("load", b"{", "invalid_json", None),
        ("load", b"\xff", "invalid_json", None),
        ("unload", b'{"node":1}', "invalid_value", "node"),
        ("pin", b"", "missing_required_parameter", "pinned"),
        ("pin", b'{"pinned":null}', "missing_required_parameter", "pinned"),
        ("pin", b'{"pinned":1}', "invalid_value", "pinned"),
        ("pin", b'{"pinned":true,"node":[]}', "invalid_value", "node"),
    ],
)
async def test_a_wrong_body_is_refused_and_nothing_is_done(
    side: Side, action: str, body: bytes, code: str, param: str | None
) -> None:
    status, answer = await side.post(f"/fleet/models/m/{action}", body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert side.fake.asked == []


@pytest.mark.parametrize("action", ["load", "unload", "pin"])
async def test_what_the_lifecycle_refuses_is_the_answer(side: Side, action: str) -> None:
    side.fake.error = errors.unavailable("No node has room.", 7)
    status, answer = await side.post(f"/fleet/models/m/{action}", b'{"pinned":true}')
    assert (status, answer["error"]["message"]) == (503, "No node has room.")


@pytest.mark.parametrize("name", ["load", "m/load", "a/b/c:d", "pin/pin", "%C3%BC"])
async def test_any_id_has_its_routes(side: Side, name: str) -> None:
    from urllib.parse import unquote

    status, _ = await side.post(unquote(f"/fleet/models/{name}/load"))
    assert (status, side.fake.asked) == (200, [("load", unquote(name), None)])


@pytest.mark.parametrize("name", ["big", "team/big", "ü"])
async def test_a_further_name_is_made_and_removed_as_asked(side: Side, name: str) -> None:
    put = Call(scope_of("PUT", f"/fleet/aliases/{name}"), b'{"model":"m/x"}')
    await put.run(side.app)
    assert (put.status, orjson.loads(put.answer)) == (200, {"alias": name, "model": "m/x"})
    delete = Call(scope_of("DELETE", f"/fleet/aliases/{name}"))
    await delete.run(side.app)
    assert (delete.status, orjson.loads(delete.answer)) == (200, {"alias": name})
    assert side.fake.asked == [("alias", name, "m/x"), ("alias", name, None)]


@pytest.mark.parametrize(("name", "body"), [("a b", b'{"model":"m"}'), ("x" * 257, b'{"model":"m"}'), ("x", b"{}")])
async def test_a_name_that_tables_and_logs_could_not_show_is_refused(side: Side, name: str, body: bytes) -> None:
    call = await Call(scope_of("PUT", f"/fleet/aliases/{name}"), body).run(side.app)
    assert (call.status, side.fake.asked) == (400, [])


async def test_a_caller_who_leaves_gives_up_its_wait(side: Side) -> None:
    side.fake.busy = trio.Event()
    call = Call.post("/fleet/models/m/load", b"")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run, side.app)
            await until(lambda: bool(side.fake.asked))
            call.leave()
    assert call.messages == []


async def test_a_topology_is_planned(side: Side) -> None:
    text = 'aliases = { "x" = "m/x" }\n[[models]]\nid = "m/x"\n'
    assert await side.post("/fleet/plan", text.encode()) == (200, {"changes": []})
    assert side.fake.asked == [("plan", parse(text))]


async def test_a_plan_knows_the_overrides_of_this_process(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA__CORTEX__LISTEN", "127.0.0.1:7")
    await side.post("/fleet/plan")
    assert side.fake.asked[0][1].cortex.listen.port == 7


async def test_a_broken_topology_is_refused_with_every_problem(side: Side) -> None:
    call = Call(scope_of("POST", "/fleet/plan"), b'[cortex]\nlisten = 5\nlisten2 = ""\n')
    call.scope["query_string"] = b"name=my%20file.toml"
    await call.run(side.app)
    answer = orjson.loads(call.answer)
    assert (call.status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_topology", None)
    assert answer["error"]["message"].count("\n") == 1
    assert [(each["file"], each["line"], each["path"]) for each in answer["problems"]] == [
        ("my file.toml", 2, "cortex.listen"),
        ("my file.toml", 3, "cortex.listen2"),
    ]
    assert all(each["message"] for each in answer["problems"])
    assert side.fake.asked == []


@pytest.mark.parametrize("body", [b"\xff", b"[", b"\x00", b"a" * 1000, b"[a]\n[a]"])
async def test_what_is_no_topology_is_one_problem(side: Side, body: bytes) -> None:
    status, answer = await side.post("/fleet/plan", body)
    assert (status, answer["error"]["code"], len(answer["problems"])) == (400, "invalid_topology", 1)


async def test_a_topology_of_unreasonable_size_is_refused_unread(side: Side) -> None:
    status, answer = await side.post("/fleet/plan", b"#" * (admin.MAX_TOPOLOGY_BYTES + 1))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")


async def test_the_places_of_a_model_say_why_not(side: Side) -> None:
    call = await Call(scope_of("GET", "/fleet/models/m/x/places")).run(side.app)
    (site,) = orjson.loads(call.answer)["sites"]
    assert (call.status, site["node"], site["verdict"]) == (200, "a", "never")
    assert site["reason"] == "it is down: it was not seen yet"


async def test_a_model_that_is_not_there_has_no_places(side: Side) -> None:
    call = await Call(scope_of("GET", "/fleet/models/no/thing/places")).run(side.app)
    assert (call.status, call.error["code"]) == (404, "model_not_found")


def follow(last: str | None = None, method: str = "GET") -> Call:
    headers = [] if last is None else [(b"last-event-id", last.encode())]
    return Call(scope_of(method, "/fleet/events", headers))


def kinds(call: Call) -> list[str]:
    return [line[7:] for line in call.answer.decode().split("\n") if line.startswith("event: ")]


async def test_events_are_a_snapshot_and_what_changes(side: Side) -> None:
    call = follow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, side.app)
        await until(lambda: "snapshot" in kinds(call))
        side.events.publish("model.loaded", model="m")
        await until(lambda: "model.loaded" in kinds(call))
        side.events.close()
    assert call.ended
    assert call.headers[b"content-type"].startswith(b"text/event-stream")
    first = orjson.loads(call.answer.split(b"data: ")[1].partition(b"\n")[0])
    assert first["data"] == orjson.loads(orjson.dumps(listing.snapshot(side.fake.fleet())))


async def test_events_go_on_where_a_reader_left_off(side: Side) -> None:
    for n in range(3):
        side.events.publish("e", n=n)
    call = follow(str(side.events.last - 1))
    side.events.close()
    await call.run(side.app)
    assert call.answer.count(b"data: ") == 1
    assert b'"n":2' in call.answer


async def test_events_are_not_cut_however_long_nothing_happens(
    side: Side, autojump_clock: trio.testing.MockClock
) -> None:
    call = follow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, side.app)
        await trio.sleep(600)
        assert not call.ended
        side.events.publish("late")
        await trio.testing.wait_all_tasks_blocked()
        side.events.close()
    assert kinds(call) == ["snapshot", "late"]
    assert call.answer.count(HEARTBEAT) >= 600 / HEARTBEAT_SECONDS - 1


async def test_a_reader_who_leaves_leaves_nothing_behind(side: Side) -> None:
    call = follow()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run, side.app)
            await until(lambda: "snapshot" in kinds(call))
            call.leave()


async def test_a_head_request_for_events_ends(side: Side) -> None:
    with trio.fail_after(5):
        call = await follow(method="HEAD").run(side.app)
    assert (call.status, call.ended) == (200, True)


async def test_a_server_that_ends_ends_its_event_streams_at_once(side: Side) -> None:
    drain = Drain()
    front = Front(lambda scope: scope, {}, side.app)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(partial(start_and_tell, front, drain))
            async with await RawClient.connect(port) as client:
                await client.stream.send_all(request_bytes("GET", "/fleet/events"))
                received = await client.read_until(b"snapshot")
                start = trio.current_time()
                side.events.close()
                drain.stopping.set()
                client.expect(b"GET")
                client.feed(received)
                status, _, body = await client.rest()
    assert status == 200
    assert body.endswith(b"\n\n")
    assert trio.current_time() - start < 1.5, "it ended with the log and not with the drain"


async def start_and_tell(app: Any, drain: Drain, *, task_status: trio.TaskStatus[int]) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started(await start_app(nursery, app, drain))
