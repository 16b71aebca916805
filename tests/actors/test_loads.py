"""Loads, and what has to go for them: drains, evictions, and everything that fails on the way."""

from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import evolve
from fleets import topology_of
from simulated import Caller, Simulation, cortex, simulate
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.control import ControlError
from actors.loads import BusyError
from helexa.cortex.routing.policy import LoadFailed
from helexa.wire.fleet import ModelReport


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time that passes when nothing else is to be done; it begins at 0."""
    return autojump_clock


async def busy_fleet(nursery: trio.Nursery, **settings: Any) -> tuple[Simulation, Caller]:
    """A node whose one model has a request; another model needs its memory."""
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}}, **settings)
    await fleet.start(nursery)
    caller = fleet.ask(nursery, "n")
    assert await caller.granted() == "a"
    return fleet, caller


async def test_a_model_makes_room_and_everything_about_it_is_told(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    await fleet.start(nursery)
    fleet.happened.clear()
    assert await fleet.ask(nursery).granted() == "a"
    assert fleet.calls == ["unload n on a", "load m on a"]
    assert fleet.kinds() == ["model.loading", "model.unloading", "model.evicted", "model.loaded"]
    loading, unloading, evicted, loaded = fleet.happened
    assert dict(loading.data) == {"node": "a", "device": "cpu", "model": "m", "evicts": ["n"]}
    assert dict(unloading.data) == dict(evicted.data) == {"node": "a", "model": "n", "why": "makes room for m"}
    assert dict(loaded.data) == {"node": "a", "device": "cpu", "model": "m", "seconds": 20.0}


async def test_the_requests_of_what_makes_room_end_first(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, old = await busy_fleet(nursery)
    new = fleet.ask(nursery)
    await trio.sleep(7)
    assert fleet.calls == []
    old.leave()
    await new.granted()
    assert (new.at, fleet.calls) == (27.0, ["unload n on a", "load m on a"])


async def test_what_drains_gets_no_further_requests_and_they_wait(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, old = await busy_fleet(nursery)
    new = fleet.ask(nursery)
    await wait_all_tasks_blocked()
    late = fleet.ask(nursery, "n")
    await trio.sleep(7)
    assert late.got is None
    old.leave()
    await new.granted()
    new.leave()
    assert await late.granted() == "a"  # once it has taken its turn again
    late.leave()
    assert fleet.calls == ["unload n on a", "load m on a", "unload m on a", "load n on a"]
    fleet.settled()


async def test_what_drains_on_one_node_is_served_by_another(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}, "b": {"n"}})
    fleet.router.apply(
        evolve(fleet.router.fleet().topology, models=(evolve(fleet_model(fleet, "m"), pinned_on=("a",)),))
    )
    await fleet.start(nursery)
    held = [fleet.ask(nursery, "n") for _ in range(2)]
    for caller in held:
        await caller.granted()
    new = fleet.ask(nursery)
    await wait_all_tasks_blocked()
    assert set(fleet.router.fleet().draining) == {("a", "n")}
    assert [await fleet.ask(nursery, "n").granted() for _ in range(3)] == ["b"] * 3
    new.scope.cancel()


def fleet_model(fleet: Simulation, name: str) -> Any:
    return fleet.router.fleet().catalogue[name]


async def test_what_drains_is_loaded_elsewhere_where_there_is_room(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}, "b": set()})
    models = (evolve(fleet_model(fleet, "m"), pinned_on=("a",)), fleet_model(fleet, "n"))
    fleet.router.apply(evolve(fleet.router.fleet().topology, models=models))
    await fleet.start(nursery)
    await fleet.ask(nursery, "n").granted()
    fleet.ask(nursery)
    await wait_all_tasks_blocked()
    assert await fleet.ask(nursery, "n").granted() == "b"


async def test_what_stays_busy_for_too_long_serves_on(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, _ = await busy_fleet(nursery, cortex=cortex(drain=20.0))
    new = fleet.ask(nursery)
    await wait_all_tasks_blocked()
    late = fleet.ask(nursery, "n")
    reason = "'n' there still has 1 request(s) after 20 s"
    assert await new.refused() == LoadFailed("m", (("a", reason),), 5)
    assert await late.granted() == "a"
    assert (new.at, late.at, fleet.calls) == (20.0, 20.0, [])
    assert set(fleet.router.fleet().draining) == set()


async def test_none_goes_where_one_cannot(nursery: trio.Nursery, clock: MockClock) -> None:
    """To unload the idle one before the busy one has ended its requests could turn out to be for nothing."""
    fleet = simulate({"m": 900, "n": 400, "o": 400}, {"a": {"n", "o"}}, cortex=cortex(drain=20.0))
    await fleet.start(nursery)
    await fleet.ask(nursery, "n").granted()
    await fleet.ask(nursery).refused()
    assert (fleet.calls, fleet.loaded) == ([], {"a": {"n", "o"}})


async def test_drains_run_side_by_side(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 900, "n": 400, "o": 400}, {"a": {"n", "o"}}, cortex=cortex(drain=20.0))
    await fleet.start(nursery)
    held = [fleet.ask(nursery, name) for name in "no"]
    for caller in held:
        await caller.granted()
    new = fleet.ask(nursery)
    await trio.sleep(15)
    held[1].leave()
    await trio.sleep(4)
    held[0].leave()
    assert await new.granted() == "a"
    assert new.at == 49.0


async def test_an_idle_model_goes_rather_than_a_busy_one(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 400, "n": 400, "o": 400}, {"a": {"n", "o"}})
    await fleet.start(nursery)
    await fleet.ask(nursery, "n").granted()
    await fleet.ask(nursery).granted()
    assert fleet.calls == ["unload o on a", "load m on a"]


async def test_two_models_that_take_turns_each_serve_for_a_while(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": set()}, cortex=cortex(residency=30.0))
    fleet.seconds = 1.0
    await fleet.start(nursery)
    turns: list[tuple[float, str]] = []

    async def ask_again_and_again(name: str) -> None:
        for _ in range(3):
            caller = fleet.ask(nursery, name)
            await caller.granted()
            turns.append((trio.current_time(), name))
            caller.leave()
            await trio.sleep(10)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask_again_and_again, "m")
        await wait_all_tasks_blocked()
        asking.start_soon(ask_again_and_again, "n")
    assert len(turns) == 6
    assert fleet.calls == ["load m on a", "unload m on a", "load n on a"]
    assert [(round(at), name) for at, name in turns] == [
        *((at, "m") for at in (1, 11, 21)),
        *((at, "n") for at in (33, 43, 53)),
    ]


async def test_both_of_two_that_are_always_wanted_get_their_turns(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": set()}, cortex=cortex(residency=30.0))
    fleet.seconds = 1.0
    await fleet.start(nursery)
    served = {"m": 0, "n": 0}

    async def insist(name: str) -> None:
        while True:
            caller = fleet.ask(nursery, name)
            await caller.granted()
            await trio.sleep(2)
            served[name] += 1
            caller.leave()

    with trio.move_on_after(600):
        async with trio.open_nursery() as asking:
            for name in [*"mmm", *"nnn"]:
                asking.start_soon(insist, name)
    loads = [call for call in fleet.calls if call.startswith("load")]
    assert 8 <= len(loads) <= 20, "each serves for half a minute at least, and makes room soon after"
    assert all(one != two for one, two in pairwise(loads))
    assert min(served.values()) > 200


# what fails


async def test_an_unload_that_fails_fails_the_load_and_the_victim_serves_on(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    fleet.faults["unload n"] = "its worker does not answer"
    await fleet.start(nursery)
    assert await fleet.ask(nursery).refused() == LoadFailed("m", (("a", "its worker does not answer"),), 5)
    assert await fleet.ask(nursery, "n").granted() == "a"
    assert fleet.kinds()[-3:] == ["model.loading", "model.unloading", "model.load_failed"]


async def test_an_unload_that_is_never_answered_is_given_up(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"n": 600}, {"a": {"n"}})
    await fleet.start(nursery)
    fleet.hangs.add("a")
    with pytest.raises(ControlError, match=r"^'n' was not unloaded within 60 s$"):
        await fleet.router.loads.unload(("a", "n"), "a test")
    assert fleet.router.fleet().draining == set()


async def test_a_load_that_never_ends_is_given_up_in_the_end(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600}, cortex=cortex(load_timeout=100_000.0))
    fleet.seconds = 50_000.0
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    assert await caller.refused() == LoadFailed("m", (("a", "it took more than 14400 s"),), 5)
    fleet.settled()


async def test_a_node_that_goes_down_while_it_loads_is_waited_for_a_little(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    """Its connection may never tell: a machine that lost its power says nothing."""
    fleet = simulate({"m": 600})
    await fleet.start(nursery)
    fleet.hangs.add("a")
    caller = fleet.ask(nursery)
    await trio.sleep(5)
    fleet.lose("a")
    await trio.sleep(10)
    fleet.lose("a")  # seen once more, it is not down any later
    await caller.done.wait()
    assert caller.at == 35.0
    assert fleet.happened[-1].data["error"] == "the node went down: no answer"
    fleet.settled()


async def test_a_node_that_is_back_in_time_is_waited_for(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    fleet.seconds = 100.0
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    for _ in range(3):
        await trio.sleep(5)
        fleet.lose("a")
        await trio.sleep(20)
        fleet.look("a", ModelReport("m", "loading", "cpu"))
    assert await caller.granted() == "a"
    assert caller.at == 100.0


async def test_a_node_that_moved_while_it_loads_is_not_waited_for(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    await fleet.start(nursery)
    fleet.hangs.add("a")
    fleet.ask(nursery)
    await trio.sleep(5)
    neurons = topology_of("a").neurons
    moved = tuple(evolve(each, endpoint="http://elsewhere:1") for each in neurons)
    fleet.router.apply(evolve(fleet.router.fleet().topology, neurons=moved))
    await wait_all_tasks_blocked()
    assert fleet.happened[-1].data["error"] == "the node is no longer in the topology"


# more than one wish about the same model


async def test_two_who_unload_the_same_model_are_both_content(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, old = await busy_fleet(nursery)
    loads = fleet.router.loads
    async with trio.open_nursery() as both:
        both.start_soon(loads.unload, ("a", "n"), "one")
        both.start_soon(loads.unload, ("a", "n"), "another")
        await trio.sleep(5)
        old.leave()
    assert fleet.loaded == {"a": set()}
    fleet.settled()


async def test_one_who_gives_up_does_not_open_what_another_one_drains(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, _ = await busy_fleet(nursery)
    loads = fleet.router.loads
    async with trio.open_nursery() as both:
        both.start_soon(loads.unload, ("a", "n"), "one")
        with trio.move_on_after(5):
            await loads.unload(("a", "n"), "another")
        assert fleet.router.fleet().draining == {("a", "n")}
        both.cancel_scope.cancel()
    assert fleet.router.fleet().draining == set()


async def test_an_operator_may_unload_what_is_to_make_room(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, old = await busy_fleet(nursery)
    new = fleet.ask(nursery)
    await wait_all_tasks_blocked()
    nursery.start_soon(fleet.router.loads.unload, ("a", "n"), "an operator asked for it")
    await trio.sleep(1)
    old.leave()
    assert await new.granted() == "a"
    assert fleet.loaded == {"a": {"m"}}


async def test_the_time_to_drain_is_bounded(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet, _ = await busy_fleet(nursery, cortex=cortex(drain=3.0))
    with pytest.raises(BusyError, match=r"^'n' there still has 1 request\(s\) after 3 s$"):
        await fleet.router.loads.unload(("a", "n"), "a test")
    assert trio.current_time() == 3.0


# restarts


async def test_requests_wait_while_a_device_begins_anew(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"n": 600}, {"a": {"n"}})
    await fleet.start(nursery)
    nursery.start_soon(fleet.router.loads.restart, "a", "cpu")
    await trio.sleep(1)
    caller = fleet.ask(nursery, "n")
    assert await caller.granted() == "a"
    assert (caller.at, fleet.kinds()[-1]) == (10.0, "device.restarted")


async def test_a_device_that_does_not_begin_anew_serves_on(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"n": 600}, {"a": {"n"}})
    fleet.faults["cpu"] = "it is busy"
    await fleet.start(nursery)
    await fleet.router.loads.restart("a", "cpu")
    assert await fleet.ask(nursery, "n").granted() == "a"
    assert "device.restarted" not in fleet.kinds()
