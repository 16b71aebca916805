"""A router whose neurons are simulated: they load and unload in virtual time, and fail when a test says so."""

import math
from collections import Counter
from typing import Any

import trio
from attrs import define, field
from fleets import model, sighting, topology_of

from actors.control import ControlError
from actors.router import Router
from config import Cortex, Topology
from config.topology import Eviction
from config.units import Duration
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import Refusal, Wanted
from helexa.cortex.routing.state import Happening, NodeDown, NodeUp
from helexa.wire.fleet import Activation, Estimate, LoadRequest, ModelReport

TOTAL_MB = 1000


def cortex(load_timeout: float = 600.0, **eviction: Any) -> Cortex:
    """Settings of the gateway; models need not settle before they make room unless a test says so."""
    numbers = {key: Duration(each) if isinstance(each, float) else each for key, each in eviction.items()}
    settings = {"residency": Duration(0.0), **numbers}
    return Cortex(load_timeout=Duration(load_timeout), eviction=Eviction(**settings))


@define(eq=False)
class Simulation:
    """Nodes with one device of 1,000 MiB each, called by their endpoints' host names, and the router in front of them.

    Attributes:
        needs: MiB by model.
        loaded: what each node holds.
        seconds: how long a load, an unload or a restart takes.
        faults: what a node says to a load of a model instead of loading it.
        hangs: nodes that never answer.
        told: what a node tells of models that are not loaded: those that load, and those that did not.
        calls: what the nodes were asked, as "load m on a".
    """

    router: Router
    needs: dict[str, int]
    loaded: dict[str, set[str]]
    seconds: float = 10.0
    faults: dict[str, str] = field(factory=dict)
    hangs: set[str] = field(factory=set)
    activation: dict[str, Activation] = field(factory=dict)
    running: Counter[str] = field(factory=Counter)
    calls: list[str] = field(factory=list)
    happened: list[Happening] = field(factory=list)
    told: dict[tuple[str, str], ModelReport] = field(factory=dict)
    blind: bool = False
    _working: dict[tuple[str, str], trio.Event] = field(factory=dict)
    _nursery: trio.Nursery | None = None

    async def load(self, endpoint: str, request: LoadRequest) -> ModelReport:
        """As a neuron does: a load under way is joined, and goes on also when whoever wants it has gone."""
        at = _host(endpoint), request.model
        self.calls.append(f"load {at[1]} on {at[0]}")
        if at not in self._working:
            self._working[at] = trio.Event()
            self.told[at] = ModelReport(at[1], "loading", "cpu")
            assert self._nursery is not None
            self._nursery.start_soon(self._work, *at)
        await self._working[at].wait()
        if (failed := self.told.get(at)) is not None:
            raise ControlError((failed.error or "").removeprefix("itself: "), 502)
        return self._report(at[1])

    async def _work(self, node: str, name: str) -> None:
        await trio.sleep(math.inf if node in self.hangs else self.seconds)
        fault = self.faults.get(name)
        if fault is None and self.used(node) + self.needs[name] > TOTAL_MB:
            fault = f"'{name}' does not fit"
        if fault is None:
            del self.told[node, name]
            self.loaded[node].add(name)
        else:
            self.told[node, name] = ModelReport(name, "failed", "cpu", error=f"itself: {fault}")
        self._working.pop((node, name)).set()

    async def unload(self, endpoint: str, name: str) -> None:
        node = await self._take(endpoint, f"unload {name} on")
        if (fault := self.faults.get(f"unload {name}")) is not None:
            raise ControlError(fault, 502)
        self.loaded[node].discard(name)

    async def restart(self, endpoint: str, device: str) -> None:
        await self._take(endpoint, f"restart {device} on")
        if (fault := self.faults.get(device)) is not None:
            raise ControlError(fault, 409)

    async def _take(self, endpoint: str, what: str) -> str:
        node = _host(endpoint)
        self.calls.append(f"{what} {node}")
        await trio.sleep(math.inf if node in self.hangs else self.seconds)
        return node

    def used(self, node: str) -> int:
        return sum(self.needs[name] for name in self.loaded[node])

    def _report(self, name: str) -> ModelReport:
        return ModelReport(name, "loaded", "cpu", self.needs[name], running=self.running[name], capacity=8)

    def look(self, node: str, *extra: ModelReport, asked_at: float | None = None) -> None:
        """Have the router see a node as it is now, besides what a test makes up."""
        told = (report for (where, _), report in self.told.items() if where == node)
        reports = (*map(self._report, sorted(self.loaded[node])), *told, *extra)
        estimates = tuple(Estimate(name, need) for name, need in self.needs.items())
        activation = self.activation.get(node)
        seen = sighting(*reports, activation=activation, used_mb=self.used(node), estimates=estimates)
        self.router.see(NodeUp(node, seen, trio.current_time() if asked_at is None else asked_at))

    def lose(self, node: str) -> None:
        self.router.see(NodeDown(node, "no answer"))

    def _poke(self, node: str) -> None:
        """As the poller: a look soon, not at once."""
        if self._nursery is not None and not self.blind:
            self._nursery.start_soon(self._look_soon, node)

    async def _look_soon(self, node: str) -> None:
        await trio.lowlevel.checkpoint()
        if node in self.router.fleet().nodes and node not in self.hangs:
            self.look(node)

    async def start(self, nursery: trio.Nursery) -> None:
        """Run the router, and see every node once."""
        self.attach(nursery)
        await nursery.start(self._run)

    def attach(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        for node in self.loaded:
            self.router.on_poke(node, lambda node=node: self._poke(node))  # type: ignore[misc]
            self.look(node)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.router.run(task_status=task_status)

    def ask(self, nursery: trio.Nursery, name: str = "m") -> "Caller":
        """A caller that begins to ask for a place."""
        caller = Caller(self.router, name)
        nursery.start_soon(caller.run)
        return caller

    def kinds(self) -> list[str]:
        """What happened to models and devices, in order."""
        return [each.kind for each in self.happened if not each.kind.startswith("node.")]

    def settled(self) -> None:
        """Nothing is left over: no load, nothing that drains, nothing in flight."""
        fleet = self.router.fleet()
        assert (dict(fleet.loads), set(fleet.draining), dict(fleet.in_flight)) == ({}, set(), {})
        assert not self.router.loads._drains


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("http://").partition(":")[0]


@define(eq=False)
class Caller:
    """One request: asks, keeps what it gets."""

    router: Router
    name: str
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    got: Grant | Refusal | None = None
    at: float | None = None
    done: trio.Event = field(factory=trio.Event)

    async def run(self) -> None:
        with self.scope:
            self.got = await self.router.acquire(Wanted(self.name))
        self.at = trio.current_time()
        self.done.set()

    async def granted(self) -> str:
        """The node of the grant that it gets."""
        await self.done.wait()
        assert isinstance(self.got, Grant), self.got
        return self.got.route.node

    async def refused(self) -> Refusal:
        await self.done.wait()
        assert self.got is not None
        assert not isinstance(self.got, Grant), self.got
        return self.got

    def leave(self) -> None:
        """The request ends."""
        assert isinstance(self.got, Grant), self.got
        self.router.release(self.got)


def simulate(needs: dict[str, int], loaded: dict[str, set[str]] | None = None, **settings: Any) -> Simulation:
    """Nodes that hold these models, and a catalogue of all that have a size."""
    holding = {"a": set()} if loaded is None else loaded
    defaults = {"models": tuple(map(model, needs)), "cortex": cortex()}
    topology = topology_of(*holding, **{**defaults, **settings})
    return simulation_of(topology, needs, holding)


def simulation_of(topology: Topology, needs: dict[str, int], loaded: dict[str, set[str]]) -> Simulation:
    happened: list[Happening] = []
    router = Router(topology, publish=happened.append)
    simulation = Simulation(router, needs, loaded, happened=happened)
    router.loads.control = simulation  # type: ignore[assignment] # the port to the neurons
    return simulation
