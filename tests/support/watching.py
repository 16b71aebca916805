"""A poller under test, and neurons that play what neurons and networks do."""

from typing import Any

import orjson
import trio
from attrs import define, field
from fleets import DISCOVERY, VERSION
from fleets import neuron as neuron_at

from actors.mailbox import Mailbox
from actors.poller import Poller
from actors.router import Router
from config import Model, Topology
from config.supervision import ActorSettings, PollerSection
from config.units import Duration
from helexa.cortex.routing.state import NodeDown, NodeUp
from helexa.wire import fleet
from helexa.wire.fleet import ActorReport, Estimate, Health

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


async def start(nursery: trio.Nursery, watch: Watching) -> Watching:
    await nursery.start(_run, watch.poller)
    return watch


async def _run(poller: Poller, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await poller.run(task_status=task_status)
