"""Requests for models that have to be loaded first: who waits for what, how long, and what ends the wait."""

import pytest
import trio
from attrs import evolve
from fleets import in_flight, model, topology_of
from simulated import Simulation, cortex, simulate
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Supervisor
from actors.router import Router
from config import RestartPolicy
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import LoadFailed, LoadingTooLong, NoFeasibleNeuron, Unknown, Wanted
from helexa.wire.fleet import Activation, ActivationFailure, LoadRequest, ModelReport

LOADED = ModelReport("m", "loaded", "cpu")


async def granted(router: Router) -> Grant:
    grant = await router.acquire(Wanted("m"))
    assert isinstance(grant, Grant)
    return grant


async def test_many_who_wait_cause_one_load_and_all_get_a_place(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    await fleet.start(nursery)
    callers = [fleet.ask(nursery) for _ in range(50)]
    assert [await caller.granted() for caller in callers] == ["a"] * 50
    assert fleet.calls == ["load m on a"]
    assert {caller.at for caller in callers} == {10.0}
    for caller in callers:
        caller.leave()
    fleet.settled()


async def test_one_that_comes_while_a_load_is_under_way_joins_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    await fleet.start(nursery)
    fleet.ask(nursery)
    await trio.sleep(9)
    late = fleet.ask(nursery)
    await late.granted()
    assert (late.at, fleet.calls) == (10.0, ["load m on a"])


async def test_a_caller_that_goes_away_leaves_the_load_to_the_others(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    await fleet.start(nursery)
    first, second = fleet.ask(nursery), fleet.ask(nursery)
    await trio.sleep(1)
    first.scope.cancel()
    await first.done.wait()
    assert first.got is None
    await second.granted()
    assert (fleet.calls, in_flight(fleet.router)) == (["load m on a"], 1)


async def test_the_last_caller_that_goes_away_leaves_a_load_that_is_not_in_vain(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(1)
    caller.scope.cancel()
    await trio.sleep(10)
    fleet.settled()
    assert (await granted(fleet.router)).route.node == "a"


async def test_who_waits_for_longer_than_load_timeout_is_told_so_and_the_load_goes_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100}, cortex=cortex(load_timeout=4.0))
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    assert await caller.refused() == LoadingTooLong("m", "it is being loaded on a")
    assert caller.at == 4.0
    await trio.sleep(6.5)
    assert (await granted(fleet.router)).route.node == "a"


async def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_after_a_while(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    fleet.faults["m"] = "no such file"
    await fleet.start(nursery)
    callers = [fleet.ask(nursery) for _ in range(3)]
    assert [await caller.refused() for caller in callers] == [LoadFailed("m", (("a", "no such file"),), 5)] * 3
    assert await fleet.ask(nursery).refused() == LoadFailed("m", (("a", "no such file"),), 5)
    assert fleet.calls == ["load m on a"]
    await trio.sleep(5)
    fleet.faults.clear()
    assert await fleet.ask(nursery).granted() == "a"
    assert fleet.calls == ["load m on a"] * 2


async def test_each_failure_makes_the_next_try_wait_longer(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 100})
    fleet.faults["m"] = "no such file"
    await fleet.start(nursery)
    waits = []
    for _ in range(8):
        refusal = await fleet.ask(nursery).refused()
        assert isinstance(refusal, LoadFailed)
        waits.append(refusal.retry_after)
        await trio.sleep(refusal.retry_after)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


async def test_where_one_node_fails_the_next_one_loads(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 100}, {"a": set(), "b": set()})
    await fleet.start(nursery)
    fleet.hangs.add("a")
    caller = fleet.ask(nursery)
    await trio.sleep(1)
    fleet.lose("a")
    assert await caller.granted() == "b"
    assert fleet.calls == ["load m on a", "load m on b"]


async def test_different_models_load_side_by_side_on_different_nodes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 900, "n": 900}, {"a": set(), "b": set()})
    await fleet.start(nursery)
    callers = [fleet.ask(nursery, "m"), fleet.ask(nursery, "n")]
    assert {await caller.granted() for caller in callers} == {"a", "b"}
    assert [caller.at for caller in callers] == [10.0, 10.0]


async def test_one_device_loads_one_model_after_the_other(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 400, "n": 400})
    await fleet.start(nursery)
    callers = [fleet.ask(nursery, "m"), fleet.ask(nursery, "n")]
    assert [await caller.granted() for caller in callers] == ["a", "a"]
    assert sorted(caller.at or 0 for caller in callers) == [10.0, 20.0]
    assert fleet.loaded == {"a": {"m", "n"}}


async def test_a_model_that_a_node_loads_at_its_start_is_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100})
    fleet.activation["a"] = Activation(pending=("m",))
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(5)
    fleet.activation["a"] = Activation("ready", completed=("m",))
    fleet.loaded["a"].add("m")
    fleet.look("a")
    await caller.granted()
    assert (caller.at, fleet.calls) == (5.0, [])


async def test_a_start_up_load_that_fails_without_a_report_wakes_who_waits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """No model changes its status by that: only the activation tells."""
    fleet = simulate({"m": 100})
    fleet.activation["a"] = Activation(in_progress="m")
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(5)
    fleet.activation["a"] = Activation("ready", failed=(ActivationFailure("m", "no such file"),))
    fleet.look("a")
    assert await caller.refused() == LoadFailed("m", (("a", "no such file"),), 5)
    assert caller.at == 5.0


# what is known of memory, and when


async def test_the_next_load_waits_for_a_look_at_what_the_last_one_took(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Right after a load the last look tells of more free memory than there is."""
    fleet = simulate({"m": 600, "n": 600})
    await fleet.start(nursery)
    first = fleet.ask(nursery, "m")
    await wait_all_tasks_blocked()
    second = fleet.ask(nursery, "n")
    await first.granted()
    first.leave()
    assert await second.granted() == "a"
    assert fleet.calls == ["load m on a", "unload m on a", "load n on a"]


async def test_nobody_is_refused_for_memory_that_has_just_been_freed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A large model was replaced by a small one that is to stay: before a look the rest seems too little."""
    fleet = simulate({"big": 800, "small": 100}, {"a": {"big"}}, cortex=cortex(residency=1.0))
    await fleet.start(nursery)
    await fleet.router.loads.unload(("a", "big"), "a test")
    assert await fleet.ask(nursery, "small").granted() == "a"
    fleet.router.state.pin(("a", "small"), pinned=True)
    assert await fleet.ask(nursery, "big").granted() == "a"
    assert fleet.loaded == {"a": {"big", "small"}}


async def test_without_news_the_wait_for_them_ends(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 400, "n": 400})
    await fleet.start(nursery)
    fleet.blind = True
    callers = [fleet.ask(nursery, "m"), fleet.ask(nursery, "n")]
    assert [await caller.granted() for caller in callers] == ["a", "a"]
    assert sorted(caller.at or 0 for caller in callers) == [10.0, 25.0]


async def test_a_look_that_began_before_an_unload_does_not_bring_the_model_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100}, {"a": {"m"}})
    await fleet.start(nursery)
    fleet.blind = True
    began = trio.current_time()
    await fleet.router.loads.unload(("a", "m"), "a test")
    fleet.look("a", LOADED, asked_at=began)
    assert fleet.router.fleet().holders == {}
    assert fleet.router.loads.outdated("a") is not None
    fleet.look("a")
    assert fleet.router.loads.outdated("a") is None


async def test_what_can_never_be_held_is_refused_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 2000})
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    assert isinstance(await caller.refused(), NoFeasibleNeuron)
    assert (caller.at, fleet.calls) == (0.0, [])


# changes of the topology while somebody waits


async def test_a_node_that_joins_serves_who_waits(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 800, "n": 800}, {"a": {"n"}}, cortex=cortex(residency=3600.0))
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(1)
    fleet.loaded["b"] = set()
    topology = fleet.router.fleet().topology
    fleet.router.apply(evolve(topology, neurons=topology_of("a", "b").neurons))
    fleet.look("b")
    assert await caller.granted() == "b"


async def test_a_model_that_is_taken_out_of_the_catalogue_is_unknown_to_who_waits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 800, "n": 800}, {"a": {"n"}}, cortex=cortex(residency=3600.0))
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(1)
    fleet.router.apply(evolve(fleet.router.fleet().topology, models=(model("n"),)))
    assert await caller.refused() == Unknown("m")


async def test_a_node_that_is_taken_out_while_it_loads_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    fleet = simulate({"m": 100}, {"a": set(), "b": set()})
    await fleet.start(nursery)
    caller = fleet.ask(nursery)
    await trio.sleep(1)
    fleet.router.apply(evolve(fleet.router.fleet().topology, neurons=topology_of("b").neurons))
    assert await caller.granted() == "b"
    assert caller.at == 11.0


# a router that crashes


async def crash(fleet: Router) -> None:
    """What it is told next breaks its loop."""
    fleet.mailbox.tell(None)  # type: ignore[arg-type]
    await wait_all_tasks_blocked()


async def test_a_crash_in_the_middle_of_a_load_loses_nobody(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    fleet.attach(nursery)
    supervisor = Supervisor("test")
    await nursery.start(supervisor.run)
    await supervisor.start(fleet.router, RestartPolicy())
    callers = [fleet.ask(nursery) for _ in range(3)]
    await trio.sleep(11)  # the other one was evicted, the load is under way
    await crash(fleet.router)
    assert [status.state for status in supervisor.status()] == ["backoff"]
    assert (dict(fleet.router.fleet().loads), set(fleet.router.fleet().draining)) == ({}, set())
    late = fleet.ask(nursery)  # while nobody could load it
    assert [await caller.granted() for caller in [*callers, late]] == ["a"] * 4
    for caller in [*callers, late]:
        caller.leave()
    fleet.settled()
    assert fleet.calls == ["unload n on a", "load m on a", "load m on a"]


async def test_a_crash_while_a_victim_drains_lets_it_serve_on(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    fleet.attach(nursery)
    supervisor = Supervisor("test")
    await nursery.start(supervisor.run)
    await supervisor.start(fleet.router, RestartPolicy())
    await fleet.ask(nursery, "n").granted()
    waiting = fleet.ask(nursery)
    await trio.sleep(1)
    assert set(fleet.router.fleet().draining) == {("a", "n")}
    await crash(fleet.router)
    assert await fleet.ask(nursery, "n").granted() == "a"
    waiting.scope.cancel()


async def test_a_fault_of_our_own_in_a_load_ends_that_load_alone(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = simulate({"m": 100, "n": 100}, {"a": set(), "b": set()})
    await fleet.start(nursery)
    load = Simulation.load

    async def break_on_m(simulation: Simulation, endpoint: str, request: LoadRequest) -> ModelReport:
        return {}[request.model] if request.model == "m" else await load(simulation, endpoint, request)

    monkeypatch.setattr(Simulation, "load", break_on_m)
    other = fleet.ask(nursery, "n")
    refusal = await fleet.ask(nursery).refused()
    assert isinstance(refusal, LoadFailed)
    assert "fault of its own: KeyError" in str(refusal.reasons)
    assert await other.granted()


async def test_a_stop_in_the_middle_of_a_load_leaves_a_sane_state(autojump_clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    async with trio.open_nursery() as nursery:
        await fleet.start(nursery)
        caller = fleet.ask(nursery)
        await trio.sleep(11)
        assert fleet.calls[-1] == "load m on a"
        nursery.cancel_scope.cancel()
    assert caller.got is None
    fleet.settled()
    assert fleet.router.fleet().failures == {}
