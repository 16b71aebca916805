"""Watching neurons: a real client against servers that play what neurons and networks do."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
import trio
from attrs import define, evolve, field
from fleets import DISCOVERY, VERSION, model
from fleets import neuron as neuron_at
from http_parts import start_app, until

from actors import poller as poller_module
from actors.mailbox import Mailbox
from actors.poller import Poller
from actors.router import Router
from config import Model, Topology
from config.supervision import ActorSettings, PollerSection
from config.units import Duration
from helexa.cortex.routing.state import NodeDown, NodeUp
from helexa.wire import fleet
from helexa.wire.fleet import Activation, ActorReport, DeviceHealth, Estimate, Health, ModelReport

FOR_EVER = 3600.0
GARBAGE = (200, b"\xff\xfe{")


@define(eq=False)
class Neuron:
    """What a neuron says, and who has asked what. `answers` has (status, body) for paths that misbehave."""

    health: Health = field(factory=lambda: Health("ok", 10.0))
    version: fleet.Version = VERSION
    answers: dict[str, tuple[int, bytes]] = field(factory=dict)
    drip: bool = False
    arrived: trio.Event = field(factory=trio.Event)
    gate: trio.Event | None = None
    asked: list[str] = field(factory=list)
    estimating: trio.Event | None = None
    estimates: list[list[str]] = field(factory=list)
    headers: dict[bytes, bytes] = field(factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _live(receive, send)
            return
        self.asked.append(scope["path"])
        self.headers = dict(scope["headers"])
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if scope["path"] == "/models/estimate":
            await self._estimate(receive, send)
            return
        status, body = self.answers.get(scope["path"]) or (200, self._say(scope["path"]))
        await send({"type": "http.response.start", "status": status, "headers": []})
        while self.drip:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await trio.sleep(0.05)
        await send({"type": "http.response.body", "body": body})

    async def _estimate(self, receive: Any, send: Any) -> None:
        """Each model needs as many MiB as models were asked for in all."""
        names = [each["model"] for each in orjson.loads((await receive())["body"])["models"]]
        self.estimates.append(names)
        need = sum(map(len, self.estimates))
        if self.estimating is not None:
            await self.estimating.wait()
        found = fleet.to_json(fleet.EstimateList(tuple(Estimate(name, need) for name in names)))
        status, body = self.answers.get("/models/estimate") or (200, found)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def _say(self, path: str) -> bytes:
        actor = ActorReport("device-worker:cpu", "running", 0, 0, None, 1.0)
        said = {"/health": self.health, "/discovery": DISCOVERY, "/version": self.version, "/actors": (actor,)}
        said["/models"] = fleet.ModelList(self.health.models)
        return fleet.to_json(said[path])


async def _live(receive: Any, send: Any) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


@define(eq=False)
class Watching:
    """A poller under test and the mailbox it fills; no router reads it."""

    router: Router
    poller: Poller

    @property
    def _mailbox(self) -> Mailbox[Any]:
        return self.router.mailbox

    async def sight(self) -> Any:
        with trio.fail_after(10):
            return await self._mailbox.receive()

    async def up(self) -> NodeUp:
        sight = await self.sight()
        assert isinstance(sight, NodeUp), sight
        return sight

    async def down(self) -> NodeDown:
        sight = await self.sight()
        assert isinstance(sight, NodeDown), sight
        return sight

    async def next_look(self) -> Any:
        self.router.suspect("n")
        return await self.sight()


def topology(*urls: str, interval: float = FOR_EVER, models: tuple[Model, ...] = ()) -> Topology:
    neurons = tuple(neuron_at(name, endpoint=url) for name, url in zip("nop", urls, strict=False))
    actors = ActorSettings(poller=PollerSection(Duration(interval)))
    return Topology(neurons=neurons, models=models, actors=actors)


def watching(*urls: str, secret: str | None = None, **settings: Any) -> Watching:
    router = Router(topology(*urls, **settings))
    return Watching(router, Poller(router, secret))


@pytest.fixture
async def neuron(nursery: trio.Nursery) -> Neuron:
    return Neuron()


@pytest.fixture
async def url(nursery: trio.Nursery, neuron: Neuron) -> str:
    """A neuron that answers."""
    return f"http://127.0.0.1:{await start_app(nursery, neuron)}"


async def start(nursery: trio.Nursery, watch: Watching) -> Watching:
    await nursery.start(_run, watch.poller)
    return watch


async def _run(poller: Poller, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await poller.run(task_status=task_status)


async def test_a_neuron_that_answers_is_up_as_it_says(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    model = ModelReport("m", "loaded", "cpu", 12, running=1)
    neuron.health = Health("ok", 12.5, (DeviceHealth("cpu", 100, 50),), (model,), Activation("ready", completed=("m",)))
    watch = await start(nursery, watching(url))
    sight = await watch.up()
    assert (sight.node, sight.sighting.discovery, sight.sighting.version) == ("n", DISCOVERY, VERSION)
    assert (sight.sighting.models, sight.sighting.devices) == ((model,), neuron.health.devices)
    assert (sight.sighting.activation, sight.sighting.uptime_seconds) == (neuron.health.activation, 12.5)
    assert sight.sighting.actors[0].name == "device-worker:cpu"


async def test_what_does_not_change_is_asked_for_once(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.asked.clear()
    neuron.health = evolve(neuron.health, uptime_seconds=11.0)
    assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.asked == ["/health", "/actors"]


async def test_a_restart_shows_in_the_uptime_and_has_everything_asked_again(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.health = evolve(neuron.health, uptime_seconds=1.0)
    neuron.version = evolve(VERSION, version="0.2.0")
    sight = await watch.next_look()
    assert sight.sighting.version.version == "0.2.0"


async def test_one_that_was_away_is_asked_everything_again(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    """It may have been away for longer than it had been up before, so that its uptime proves nothing."""
    watch = await start(nursery, watching(url))
    await watch.up()
    neuron.answers = {"/health": (503, b""), "/models": (503, b"")}
    assert isinstance(await watch.next_look(), NodeDown)
    neuron.answers.clear()
    neuron.health = evolve(neuron.health, uptime_seconds=99.0)
    neuron.version = evolve(VERSION, version="0.2.0")
    sight = await watch.next_look()
    assert sight.sighting.version.version == "0.2.0"


async def test_the_fleet_secret_is_sent(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    await (await start(nursery, watching(url, secret="s3cret"))).up()
    assert neuron.headers[b"authorization"] == b"Bearer s3cret"


async def test_without_a_secret_none_is_sent(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    await (await start(nursery, watching(url))).up()
    assert b"authorization" not in neuron.headers


async def test_nobody_listens(nursery: trio.Nursery) -> None:
    watch = await start(nursery, watching("http://127.0.0.1:1"))
    assert (await watch.down()).error.startswith("ConnectError: ")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (("/health", GARBAGE), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"<html>It works!</html>")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, b"[]")), "it does not answer as a neuron does: not a Health"),
        (("/health", (200, orjson.dumps({"status": "ok"}))), "it does not answer as a neuron does: not a Health"),
        (("/health", (404, b"no")), "it does not answer as a neuron does: GET /health gave status 404"),
        (("/health", (302, b"")), "it does not answer as a neuron does: GET /health gave status 302"),
        (("/health", (401, b"")), "GET /health gave status 401, as the two have different fleet secrets"),
        (("/discovery", GARBAGE), "it does not answer as a neuron does: not a Discovery"),
        (("/version", (500, b"")), "GET /version gave status 500"),
        (("/actors", (200, b"7")), "it does not answer as a neuron does"),
    ],
)
async def test_a_stranger_is_down_with_the_reason(
    nursery: trio.Nursery, neuron: Neuron, url: str, fault: tuple[str, tuple[int, bytes]], reason: str
) -> None:
    path, answer = fault
    neuron.answers[path] = answer
    watch = await start(nursery, watching(url))
    error = (await watch.down()).error
    assert reason in error
    assert "\n" not in error
    neuron.answers.clear()
    assert isinstance(await watch.next_look(), NodeUp)


async def test_something_that_does_not_speak_http(nursery: trio.Nursery) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, [listener])
    watch = await start(nursery, watching(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"))
    assert (await watch.down()).error


async def test_one_that_never_answers(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "TIMEOUT_SECONDS", 0.1)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        watch = await start(nursery, watching(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"))
        assert (await watch.down()).error == "ReadTimeout: no answer"


async def test_one_that_never_ends_its_answer(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "LOOK_SECONDS", 0.3)
    neuron.drip = True
    watch = await start(nursery, watching(url))
    assert (await watch.down()).error == "it takes more than 0.3 s to answer"
    neuron.drip = False
    assert isinstance(await watch.next_look(), NodeUp)


async def test_a_slow_one_delays_no_other(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        silent = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        watch = await start(nursery, watching(silent, url, interval=0.05))
        assert [(await watch.up()).node for _ in range(3)] == ["o"] * 3


async def test_a_proxy_variable_does_not_stand_between(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    await (await start(nursery, watching(url))).up()


async def test_a_poke_during_a_look_brings_another(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.gate = trio.Event()
    watch = await start(nursery, watching(url))
    await neuron.arrived.wait()
    watch.router.suspect("n")
    neuron.gate.set()
    await watch.up()
    await watch.up()


# a health probe that fails while the models serve


async def test_a_failed_health_probe_alone_does_not_condemn_a_node(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url))
    first = await watch.up()
    neuron.answers["/health"] = (500, b"")
    neuron.health = evolve(neuron.health, models=(ModelReport("m", "loaded", "cpu"),))
    second = await watch.next_look()
    assert isinstance(second, NodeUp)
    assert second.error == "its health is not known: it does not answer as a neuron does: GET /health gave status 500"
    assert second.sighting == evolve(first.sighting, models=neuron.health.models)
    neuron.answers.clear()
    third = await watch.next_look()
    assert isinstance(third, NodeUp)
    assert third.error is None


async def test_one_that_was_never_seen_needs_its_health(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.answers["/health"] = (500, b"")
    await (await start(nursery, watching(url))).down()


async def test_a_model_that_is_missing_from_a_report_is_gone(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.health = evolve(neuron.health, models=(ModelReport("m", "loaded", "cpu"),))
    watch = await start(nursery, watching(url))
    watch.router.see(await watch.up())
    assert "m" in watch.router.fleet().holders
    neuron.health = evolve(neuron.health, models=())
    watch.router.see(await watch.next_look())
    assert (watch.router.fleet().holders, watch.router.fleet().placed) == ({}, {})


# estimates


async def estimates(watch: Watching) -> dict[str, int]:
    """What the next look that knows estimates knows."""
    while True:
        sight = await watch.up()
        if sight.sighting.estimates:
            return {name: estimate.weights_mb for name, estimate in sight.sighting.estimates.items()}


async def test_estimates_are_asked_for_once_per_start(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, models=(model("m"), model("n"))))
    assert await estimates(watch) == {"m": 2, "n": 2}
    for _ in range(3):
        await watch.next_look()
    assert neuron.estimates == [["m", "n"]]
    neuron.health = evolve(neuron.health, uptime_seconds=1.0)
    first = await watch.next_look()
    assert first.sighting.estimates == {}
    assert await estimates(watch) == {"m": 4, "n": 4}


async def test_estimates_are_asked_for_again_when_the_catalogue_changes(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await estimates(watch)
    watch.poller.follow(topology(url, models=(model("m"),)))
    watch.poller.follow(topology(url, models=(model("n"),)))
    while (found := await estimates(watch)) != {"n": 2}:
        assert found == {"m": 1}
    assert neuron.estimates == [["m"], ["n"]]


async def test_without_a_catalogue_none_are_asked_for(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url))
    await watch.up()
    await watch.next_look()
    assert "/models/estimate" not in neuron.asked


async def test_slow_estimates_do_not_delay_looks(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    neuron.estimating = trio.Event()
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    for _ in range(3):
        assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.estimates == [["m"]]
    neuron.estimating.set()
    assert await estimates(watch) == {"m": 1}


async def test_an_answer_about_the_last_catalogue_does_not_replace_one_about_this(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    first = neuron.estimating = trio.Event()
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    neuron.estimating = None
    watch.poller.follow(topology(url, models=(model("n"),)))
    assert await estimates(watch) == {"n": 2}
    first.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    sight = await watch.next_look()
    assert list(sight.sighting.estimates) == ["n"]


async def test_estimates_that_failed_are_asked_for_again_later(
    nursery: trio.Nursery, neuron: Neuron, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them everything seems to fit, and nothing would ever make room."""
    monkeypatch.setattr(poller_module, "ESTIMATE_AGAIN_SECONDS", 0.05)
    neuron.answers["/models/estimate"] = (503, b"")
    watch = await start(nursery, watching(url, models=(model("m"),), interval=0.02))
    await until(lambda: len(neuron.estimates) == 2)
    neuron.answers.clear()
    assert list(await estimates(watch)) == ["m"]


async def test_estimates_that_failed_are_not_asked_for_with_each_look(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    neuron.answers["/models/estimate"] = GARBAGE
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await watch.up()
    await until(lambda: neuron.estimates == [["m"]])
    for _ in range(3):
        assert isinstance(await watch.next_look(), NodeUp)
    assert neuron.estimates == [["m"]]


# another topology


async def test_a_node_that_joins_is_watched(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching())
    watch.poller.follow(topology(url))
    assert (await watch.up()).node == "n"
    assert isinstance(await watch.next_look(), NodeUp)


async def test_a_node_that_is_taken_out_is_left_alone(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, interval=0.02))
    await watch.up()
    watch.poller.follow(topology())
    watch.router.suspect("n")
    await trio.testing.wait_all_tasks_blocked(0.05)
    neuron.asked.clear()
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert neuron.asked == []


async def test_a_look_under_way_at_a_node_that_is_taken_out_is_not_told(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    neuron.gate = trio.Event()
    watch = await start(nursery, watching(url))
    await neuron.arrived.wait()
    watch.poller.follow(topology())
    neuron.gate.set()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert watch.router.mailbox.depth == 0


async def test_a_node_that_moves_is_watched_where_it_is_now(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching("http://127.0.0.1:1"))
    await watch.down()
    watch.poller.follow(topology(url))
    await watch.up()
    assert isinstance(await watch.next_look(), NodeUp)


async def test_the_same_topology_once_more_changes_nothing(nursery: trio.Nursery, neuron: Neuron, url: str) -> None:
    watch = await start(nursery, watching(url, models=(model("m"),)))
    await estimates(watch)
    neuron.asked.clear()
    watch.poller.follow(topology(url, models=(model("m"),)))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert neuron.asked == []


async def test_before_it_runs_there_is_nothing_to_follow_with(neuron: Neuron) -> None:
    watch = watching()
    watch.poller.follow(topology("http://127.0.0.1:1"))
    assert watch.router.mailbox.depth == 0


# what must not end the watch


@pytest.mark.parametrize("endpoint", ["http://☃", "http://a..b:80", "http://xn--zzzzzz99:1", "http://[v1.x]:1"])
async def test_a_url_that_only_the_topology_takes_is_a_node_that_is_down(
    nursery: trio.Nursery, neuron: Neuron, url: str, endpoint: str
) -> None:
    watch = await start(nursery, watching(endpoint, url))
    sights = [await watch.sight() for _ in range(2)]
    assert {sight.node: isinstance(sight, NodeUp) for sight in sights} == {"n": False, "o": True}


async def test_a_router_that_does_not_read_loses_sightings_and_nothing_else(
    nursery: trio.Nursery, neuron: Neuron, url: str
) -> None:
    watch = watching(url, interval=0.01)
    for _ in range(watch.router.mailbox.capacity):
        watch.router.mailbox.tell(NodeDown("n", "an old one"))
    await start(nursery, watch)
    await until(lambda: neuron.asked.count("/health") >= 3)
    for _ in range(watch.router.mailbox.capacity):
        await watch.down()
    await watch.up()


# how often, with a clock of our own and looks that cost nothing


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When each look was taken; all of them find nobody."""
    taken: list[float] = []

    async def look(watch: Any, _client: httpx.AsyncClient) -> NodeDown:
        taken.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return NodeDown(watch.node, "nobody")

    monkeypatch.setattr("actors.poller._Watch.look", look)
    return taken


async def test_one_that_stays_down_is_asked_less_and_less(
    nursery: trio.Nursery, looks: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    await start(nursery, watching("http://n", interval=2.0))
    await trio.sleep(100)
    gaps = [round(after - before) for before, after in pairwise(looks)]
    assert gaps[:6] == [2, 4, 8, 16, 16, 16]


async def test_a_poke_starts_the_backing_off_anew(
    nursery: trio.Nursery, looks: list[float], autojump_clock: trio.testing.MockClock
) -> None:
    watch = await start(nursery, watching("http://n", interval=2.0))
    await trio.sleep(20)
    looks.clear()
    watch.router.suspect("n")
    await trio.sleep(7)
    gaps = [round(after - before) for before, after in pairwise(looks)]
    assert gaps == [2, 4]
