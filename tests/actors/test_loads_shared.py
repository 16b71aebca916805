"""Loads of models that several nodes share: ranks before the load, and none of them left after it."""

from typing import Any

import pytest
import trio
from attrs import define, field
from fleets import model, neuron, sighting
from simulated import Simulation, cortex, simulation_of
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.control import ControlError
from actors.spread import Spread
from config import Address, Topology
from helexa.cortex.routing.policy import ColdLoad, LoadFailed, Wait, Wanted
from helexa.cortex.routing.state import NodeUp
from helexa.wire.fleet import Estimate, ModelReport
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import RankRequest, Share

NEED_MB = 800
"""On each of two: more than twice that is on none."""
RANK, LOAD, END = "rank 1 of a/m on b", "load m on a", "end a/m on b"


@define(eq=False)
class Sharing(Simulation):
    """Neurons that run ranks, too, and models that fit two devices and not one."""

    led: dict[tuple[str, str], RankRequest] = field(factory=dict)

    async def start_rank(self, endpoint: str, request: RankRequest) -> None:
        node = _host(endpoint)
        self.calls.append(f"rank {request.rank} of {request.group} on {node}")
        await trio.sleep(self.seconds)
        if (fault := self.faults.get(request.group)) is not None:
            raise ControlError(fault, 409)
        self.led[node, request.group] = request

    async def stop_ranks(self, endpoint: str, group: str) -> None:
        node = _host(endpoint)
        self.calls.append(f"end {group} on {node}")
        self.led.pop((node, group), None)

    async def ranks(self, endpoint: str) -> tuple[RankReport, ...]:
        there = (each for (node, _), each in self.led.items() if node == _host(endpoint))
        return tuple(RankReport(each.group, each.device, each.rank, each.ranks, "running") for each in there)

    def look(self, node: str, *extra: ModelReport, asked_at: float | None = None) -> None:
        told = (report for (where, _), report in self.told.items() if where == node)
        reports = (*map(self._report, sorted(self.loaded[node])), *told, *extra)
        estimates = tuple(
            Estimate(name, 2 * need, shares=(Share(2, need, 0),) if name == "m" else ())
            for name, need in self.needs.items()
        )
        seen = sighting(*reports, used_mb=self.used(node), estimates=estimates)
        self.router.see(NodeUp(node, seen, trio.current_time() if asked_at is None else asked_at))


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("http://").partition(":")[0]


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time that passes when nothing else is to be done."""
    return autojump_clock


@pytest.fixture
def fleet() -> Sharing:
    neurons = (neuron(name, interconnect=Address(f"10.0.0.{at}", 9000)) for at, name in enumerate("ab", 1))
    topology = Topology(neurons=tuple(neurons), models=(model("m"), model("n")), cortex=cortex())
    plain = simulation_of(topology, {"m": NEED_MB, "n": 100}, {"a": set(), "b": set()})
    found = Sharing(plain.router, plain.needs, plain.loaded, happened=plain.happened)
    loads = plain.router.loads
    loads.control = found  # type: ignore[assignment] # the port to the neurons
    loads.spread = Spread(plain.router.state, found)  # type: ignore[arg-type] # likewise
    return found


async def test_the_other_ranks_run_before_the_leader_loads_and_end_after_it_unloads(
    nursery: trio.Nursery, fleet: Sharing, clock: MockClock
) -> None:
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    assert await caller.granted() == "a"
    assert fleet.calls == [RANK, LOAD]
    await trio.sleep(60)
    assert fleet.led.keys() == {("b", "a/m")}, "a group that serves is left alone"
    caller.leave()
    await fleet.router.loads.unload(("a", "m"), "an operator asked for it")
    assert fleet.calls[2:] == ["unload m on a", END]
    assert not fleet.led
    fleet.settled()


async def test_the_leader_is_told_how_many_ranks_come_and_where_and_with_what_secret(
    nursery: trio.Nursery, fleet: Sharing, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    whole = Sharing.load

    async def load(self: Sharing, endpoint: str, request: Any) -> ModelReport:
        asked.append(request.elsewhere)
        return await whole(self, endpoint, request)

    monkeypatch.setattr(Sharing, "load", load)
    await fleet.start(nursery)
    await fleet.ask(nursery).granted()
    (elsewhere,) = asked
    assert (elsewhere.count, elsewhere.host, elsewhere.port) == (1, "10.0.0.1", 9000)
    assert elsewhere.token == fleet.led["b", "a/m"].token


async def test_a_load_that_fails_leaves_no_rank(nursery: trio.Nursery, fleet: Sharing, clock: MockClock) -> None:
    fleet.faults["m"] = "it does not fit"
    await fleet.start(nursery)
    refused = await fleet.ask(nursery).refused()
    assert isinstance(refused, LoadFailed)
    assert fleet.calls[:3] == [RANK, LOAD, END], "then the other one may lead"
    assert not fleet.led
    fleet.settled()


async def test_without_the_other_ranks_nothing_is_loaded(
    nursery: trio.Nursery, fleet: Sharing, clock: MockClock
) -> None:
    fleet.faults |= dict.fromkeys(("a/m", "b/m"), "the device 'cpu' has a rank of 'x'")
    await fleet.start(nursery)
    refused = await fleet.ask(nursery).refused()
    assert isinstance(refused, LoadFailed)
    assert "b does not run rank 1 of it: the device 'cpu' has a rank of 'x'" in str(refused.reasons)
    assert not any(call.startswith("load") for call in fleet.calls)
    fleet.settled()


async def test_a_load_that_is_given_up_leaves_no_rank(fleet: Sharing, clock: MockClock) -> None:
    fleet.hangs.add("a")
    async with trio.open_nursery() as nursery:
        await fleet.start(nursery)
        fleet.ask(nursery)
        while LOAD not in fleet.calls:  # noqa: ASYNC110 - virtual time
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert fleet.calls == [RANK, LOAD, END]


async def test_while_nodes_load_a_model_together_both_devices_are_busy(
    nursery: trio.Nursery, fleet: Sharing, clock: MockClock
) -> None:
    await fleet.start(nursery)
    first = fleet.ask(nursery)
    await wait_all_tasks_blocked()
    second = fleet.ask(nursery, "n")
    fleet.look("b")
    assert isinstance(fleet.router.state.decide(Wanted("n")), Wait)
    await first.granted()
    assert await second.granted() in ("a", "b")
    assert fleet.calls.index(LOAD) < min(at for at, call in enumerate(fleet.calls) if call.startswith("load n"))


async def test_memory_of_every_node_is_looked_at_before_the_next_load(
    nursery: trio.Nursery, fleet: Sharing, clock: MockClock
) -> None:
    fleet.blind = True
    await fleet.start(nursery)
    await fleet.ask(nursery).granted()
    loads = fleet.router.loads
    assert (loads.outdated("a") is None, loads.outdated("b") is None) == (False, False)
    plan = ColdLoad("n", "helexa", "c", "cpu", others=(("b", "cpu"),))
    assert "on b is being looked at" in fleet.router.begin(plan).reason
    assert "n" not in fleet.router.fleet().loads
