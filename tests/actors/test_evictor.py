"""What is unloaded for having been idle, and devices that begin anew, in virtual time."""

from typing import Any

import pytest
import trio
from attrs import evolve
from fleets import model
from simulated import Simulation, cortex, simulate
from trio.testing import MockClock

from actors.evictor import Evictor
from config.units import Duration
from helexa.cortex.ports import Grant
from helexa.cortex.routing.policy import Route

NEVER = Duration(float("inf"))


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time that passes when nothing else is to be done; it begins at 0."""
    return autojump_clock


async def watched(nursery: trio.Nursery, loaded: dict[str, set[str]], *models: Any, **settings: Any) -> Simulation:
    """A fleet with an evictor; every model needs 100 MiB, loads in a second, and may be idle for a minute."""
    catalogue = models or tuple(map(model, "mn"))
    needs = {each.id: 100 for each in catalogue}
    options = cortex(**{"idle_ttl": 60.0, **settings})
    fleet = simulate(needs, loaded, models=catalogue, cortex=options)
    fleet.seconds = 1.0
    await fleet.start(nursery)
    await nursery.start(_run, Evictor(fleet.router))
    return fleet


async def _run(evictor: Evictor, *, task_status: trio.TaskStatus[None]) -> None:
    await evictor.run(task_status=task_status)


async def test_what_nobody_used_for_its_idle_ttl_is_unloaded(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m", "n"}})
    await trio.sleep(50)
    caller = fleet.ask(nursery, "n")
    await caller.granted()
    caller.leave()
    await trio.sleep(15)
    assert fleet.loaded == {"a": {"n"}}
    assert [dict(each.data) for each in fleet.happened if each.kind == "model.evicted"] == [
        {"node": "a", "model": "m", "why": "it was idle"}
    ]
    await trio.sleep(50)
    assert fleet.loaded == {"a": set()}


async def test_a_request_that_runs_for_long_keeps_its_model(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m"}})
    caller = fleet.ask(nursery)
    await caller.granted()
    await trio.sleep(300)
    assert fleet.loaded == {"a": {"m"}}
    caller.leave()
    await trio.sleep(59)
    assert fleet.loaded == {"a": {"m"}}
    await trio.sleep(5)
    assert fleet.loaded == {"a": set()}


async def test_a_model_that_others_use_behind_our_back_is_not_idle(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m"}})
    fleet.running["m"] = 1
    fleet.look("a")
    await trio.sleep(300)
    assert fleet.loaded == {"a": {"m"}}


async def test_a_model_may_have_an_idle_ttl_of_its_own_or_none(nursery: trio.Nursery, clock: MockClock) -> None:
    models = model("quick", idle_ttl=Duration(5.0)), model("m"), model("for_ever", idle_ttl=NEVER)
    fleet = await watched(nursery, {"a": {"quick", "m", "for_ever"}}, *models)
    await trio.sleep(8)
    assert fleet.loaded == {"a": {"m", "for_ever"}}
    await trio.sleep(60_000)
    assert fleet.loaded == {"a": {"for_ever"}}


async def test_what_is_pinned_stays(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m", "n"}, "b": {"m"}}, model("m", pinned_on=("a",)), model("n"))
    fleet.router.state.pin(("a", "n"), pinned=True)
    await trio.sleep(300)
    assert fleet.loaded == {"a": {"m", "n"}, "b": set()}
    fleet.router.state.pin(("a", "n"), pinned=False)
    await trio.sleep(3)
    assert fleet.loaded == {"a": {"m"}, "b": set()}


async def test_what_is_not_in_the_catalogue_stays(nursery: trio.Nursery, clock: MockClock) -> None:
    """Nobody here could load it again."""
    fleet = await watched(nursery, {"a": {"m"}})
    fleet.router.apply(evolve(fleet.router.fleet().topology, models=()))
    await trio.sleep(300)
    assert fleet.loaded == {"a": {"m"}}


async def test_a_node_that_does_not_answer_delays_no_other(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m"}, "b": {"m"}})
    fleet.hangs.add("a")
    await trio.sleep(65)
    assert fleet.loaded["b"] == set()
    assert await fleet.ask(nursery).granted() == "b"
    await trio.sleep(125)  # it is asked again now and then
    assert fleet.calls.count("unload m on a") == 2


async def test_an_unload_that_failed_is_not_tried_each_second(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m"}})
    fleet.faults["unload m"] = "it will not"
    await trio.sleep(185)
    assert fleet.calls == ["unload m on a"] * 3
    assert await fleet.ask(nursery).granted() == "a"


async def test_an_edit_of_the_idle_ttl_holds_at_once(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = await watched(nursery, {"a": {"m"}})
    await trio.sleep(10)
    fleet.router.apply(evolve(fleet.router.fleet().topology, cortex=cortex(idle_ttl=5.0)))
    await trio.sleep(3)
    assert fleet.loaded == {"a": set()}


async def test_a_device_begins_anew_after_so_many_unloads_once_it_is_quiet(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = await watched(nursery, {"a": {"m", "n"}}, idle_ttl=NEVER, defrag_after_cycles=2)
    caller = fleet.ask(nursery, "n")
    await caller.granted()
    for _ in range(2):
        await fleet.router.loads.unload(("a", "m"), "a test")
        await fleet.ask(nursery, "m").granted()
        fleet.router.release(Grant(Route("a", "http://a:1", "m")))
    await trio.sleep(100)
    assert "restart cpu on a" not in fleet.calls
    caller.leave()
    await trio.sleep(100)
    assert fleet.calls.count("restart cpu on a") == 1
    assert fleet.kinds()[-1] == "device.restarted"


async def test_a_device_that_refuses_to_begin_anew_is_asked_again_later(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = await watched(nursery, {"a": {"m"}}, idle_ttl=NEVER, defrag_after_cycles=1)
    fleet.faults["cpu"] = "it is busy"
    await fleet.router.loads.unload(("a", "m"), "a test")
    await trio.sleep(30)
    assert fleet.calls.count("restart cpu on a") == 1
    fleet.faults.clear()
    await trio.sleep(60)
    assert fleet.calls.count("restart cpu on a") == 2
    await trio.sleep(600)
    assert fleet.calls.count("restart cpu on a") == 2
