"""What operators ask for: loads, unloads and pins, and what each of them can be refused for."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from attrs import evolve
from fleets import model
from simulated import Simulation, cortex, simulate
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.lifecycle import Lifecycle
from helexa.cortex.routing.state import NodeUp
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Activation, ModelReport
from helexa.wire.progress import Progress


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time that passes when nothing else is to be done; it begins at 0."""
    return autojump_clock


async def started(nursery: trio.Nursery, fleet: Simulation) -> Lifecycle:
    await fleet.start(nursery)
    return Lifecycle(fleet.router)


def two_nodes() -> Simulation:
    return simulate({"m": 600, "n": 600}, {"a": {"n"}, "b": set()}, aliases={"alias": "m"})


async def test_a_load_goes_where_it_fits_best_and_ends_when_the_model_serves(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = two_nodes()
    assert await (await started(nursery, fleet)).load("alias", None) == "b"
    assert (fleet.loaded["b"], trio.current_time()) == ({"m"}, 10.0)


async def test_a_load_goes_where_it_is_told_to(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = two_nodes()
    assert await (await started(nursery, fleet)).load("m", "a") == "a"
    assert fleet.calls == ["unload n on a", "load m on a"]


async def test_what_is_loaded_is_there(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = two_nodes()
    assert await (await started(nursery, fleet)).load("n", None) == "a"
    assert fleet.calls == []


async def test_a_second_copy_may_be_loaded_on_another_node(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = two_nodes()
    assert await (await started(nursery, fleet)).load("n", "b") == "b"
    assert fleet.loaded == {"a": {"n"}, "b": {"n"}}


async def test_an_operator_need_not_wait_until_what_was_just_loaded_has_settled(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}}, cortex=cortex(residency=3600.0))
    assert await (await started(nursery, fleet)).load("m", None) == "a"
    assert trio.current_time() == 20.0


async def test_a_load_under_way_is_joined(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    lifecycle = await started(nursery, fleet)
    fleet.ask(nursery)
    await trio.sleep(4)
    assert await lifecycle.load("m", None) == "a"
    assert fleet.calls == ["load m on a"]


async def test_a_load_for_one_node_waits_until_another_one_has_loaded_the_model(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = simulate({"m": 600}, {"a": set(), "b": set()})
    lifecycle = await started(nursery, fleet)
    fleet.ask(nursery)
    await trio.sleep(4)
    assert await lifecycle.load("m", "b") == "b"
    assert fleet.calls == ["load m on a", "load m on b"]


async def test_a_load_at_a_nodes_start_is_joined(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 100}, {"a": set(), "b": set()})
    fleet.activation["b"] = Activation(in_progress="m")
    lifecycle = await started(nursery, fleet)

    async def finish() -> None:
        await trio.sleep(3)
        fleet.activation["b"] = Activation("ready", completed=("m",))
        fleet.loaded["b"].add("m")
        fleet.look("b")

    nursery.start_soon(finish)
    assert await lifecycle.load("m", None) == "b"
    assert fleet.calls == []


async def test_a_load_waits_for_what_drains_there(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600}, {"a": {"m"}})
    lifecycle = await started(nursery, fleet)
    nursery.start_soon(fleet.router.loads.unload, ("a", "m"), "a test")
    await wait_all_tasks_blocked(0.01)
    assert await lifecycle.load("m", None) == "a"
    assert fleet.calls == ["unload m on a", "load m on a"]


async def test_a_failed_load_is_tried_again_at_once(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    lifecycle = await started(nursery, fleet)
    fleet.faults["m"] = "no such file"
    with pytest.raises(ApiError) as caught:
        await lifecycle.load("m", None)
    assert (caught.value.status, caught.value.code) == (502, "upstream_error")
    assert caught.value.message == "The model 'm' does not load on a: no such file."
    fleet.faults.clear()
    assert await lifecycle.load("m", None) == "a"
    assert trio.current_time() == 20.0


async def test_a_load_that_takes_too_long_goes_on_without_its_operator(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600}, cortex=cortex(load_timeout=4.0))
    lifecycle = await started(nursery, fleet)
    with pytest.raises(ApiError) as caught:
        await lifecycle.load("m", None)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert caught.value.message == "The model 'm' is still loading."
    await trio.sleep(7)
    assert await lifecycle.load("m", None) == "a"
    assert fleet.calls == ["load m on a"]


async def test_a_load_that_fits_nowhere_says_why_for_each_node(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}, "b": set()})
    lifecycle = await started(nursery, fleet)
    lifecycle.pin("n", None, pinned=True)
    fleet.lose("b")
    with pytest.raises(ApiError) as caught:
        await lifecycle.load("m", None)
    assert caught.value.status == 503
    assert "a: the model needs 600 MiB, and 400 are free, and n is to stay" in caught.value.message
    assert "b: it is down: no answer" in caught.value.message


async def test_a_load_while_the_router_begins_anew_waits_for_it(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    fleet.attach(nursery)

    async def run_later() -> None:
        await trio.sleep(3)
        await fleet.router.run()

    nursery.start_soon(run_later)
    assert await Lifecycle(fleet.router).load("m", None) == "a"
    assert trio.current_time() == 13.0


async def test_an_operator_who_leaves_leaves_the_load_behind(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600})
    lifecycle = await started(nursery, fleet)
    with trio.move_on_after(3):
        await lifecycle.load("m", None)
    await trio.sleep(8)
    assert fleet.loaded == {"a": {"m"}}
    fleet.settled()


async def pin(lifecycle: Lifecycle, name: str, node: str | None) -> None:
    lifecycle.pin(name, node, pinned=True)


@pytest.mark.parametrize("call", [Lifecycle.load, Lifecycle.unload, pin])
async def test_a_model_or_node_that_nobody_knows(
    nursery: trio.Nursery, clock: MockClock, call: Callable[[Lifecycle, str, str | None], Awaitable[None]]
) -> None:
    lifecycle = await started(nursery, two_nodes())
    for name, node, status, code in (("ghost", None, 404, "model_not_found"), ("m", "ghost", 400, "invalid_value")):
        with pytest.raises(ApiError) as caught:
            await call(lifecycle, name, node)
        assert (caught.value.status, caught.value.code) == (status, code)


async def test_an_unload_is_of_every_copy_or_of_one(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 100, "n": 100}, {"a": {"m", "n"}, "b": {"m", "n"}}, aliases={"alias": "m"})
    lifecycle = await started(nursery, fleet)
    assert await lifecycle.unload("alias", None) == ("a", "b")
    assert await lifecycle.unload("n", "b") == ("b",)
    assert fleet.loaded == {"a": {"n"}, "b": set()}
    unloaded = [dict(each.data) for each in fleet.happened if each.kind == "model.unloaded"]
    assert unloaded[0] == {"node": "a", "model": "m", "why": "an operator asked for it"}
    fleet.settled()


async def test_an_unload_of_what_is_not_loaded(nursery: trio.Nursery, clock: MockClock) -> None:
    lifecycle = await started(nursery, two_nodes())
    for node, message in ((None, "'m' is not loaded"), ("b", "'m' is not loaded on b")):
        with pytest.raises(ApiError) as caught:
            await lifecycle.unload("m", node)
        assert (caught.value.status, caught.value.code) == (400, "invalid_value")
        assert message in caught.value.message


async def test_an_unload_of_what_is_still_fetched_ends_that(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600}, {"a": set(), "b": {"m"}, "c": set()})
    lifecycle = await started(nursery, fleet)
    for node, phase in (("a", "downloading"), ("c", "loading")):
        said = fleet.router.fleet().nodes[node].sighting
        assert said is not None
        coming = ModelReport("m", "loading", progress=Progress(phase))  # type: ignore[arg-type]
        fleet.router.state.see(NodeUp(node, evolve(said, models=(coming,)), trio.current_time()))
    assert await lifecycle.unload("m", "a") == ("a",)
    assert fleet.calls == ["unload m on a"]


async def test_an_unload_of_what_is_busy_for_too_long(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"n": 600}, {"a": {"n"}}, cortex=cortex(drain=5.0))
    lifecycle = await started(nursery, fleet)
    await fleet.ask(nursery, "n").granted()
    with pytest.raises(ApiError) as caught:
        await lifecycle.unload("n", None)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert caught.value.message == "'n' there still has 1 request(s) after 5 s."


async def test_an_unload_that_the_node_does_not_do(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"n": 600}, {"a": {"n"}})
    fleet.faults["unload n"] = "its worker is gone"
    lifecycle = await started(nursery, fleet)
    with pytest.raises(ApiError) as caught:
        await lifecycle.unload("n", None)
    assert (caught.value.status, caught.value.message) == (503, "Its worker is gone.")


async def test_an_unload_survives_an_edit_of_the_aliases(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 100, "n": 100}, {"a": {"m", "n"}, "b": {"m", "n"}}, aliases={"alias": "m"})
    lifecycle = await started(nursery, fleet)

    async def edit() -> None:
        await trio.sleep(5)
        fleet.router.apply(evolve(fleet.router.fleet().topology, aliases={"alias": "n"}))

    nursery.start_soon(edit)
    await lifecycle.unload("alias", None)
    assert fleet.loaded == {"a": {"n"}, "b": {"n"}}


async def test_what_is_pinned_makes_no_room_until_it_is_not(nursery: trio.Nursery, clock: MockClock) -> None:
    fleet = simulate({"m": 600, "n": 600}, {"a": {"n"}})
    lifecycle = await started(nursery, fleet)
    assert lifecycle.pin("n", "a", pinned=True) == ("a",)
    await fleet.ask(nursery).refused()
    assert lifecycle.pin("n", None, pinned=False) == ("a",)
    assert await fleet.ask(nursery).granted() == "a"
    pins = [(each.kind, dict(each.data)) for each in fleet.happened if "pin" in each.kind]
    assert pins == [(f"model.{kind}", {"node": "a", "model": "n"}) for kind in ("pinned", "unpinned")]


async def test_a_pin_of_what_is_not_loaded(nursery: trio.Nursery, clock: MockClock) -> None:
    lifecycle = await started(nursery, two_nodes())
    with pytest.raises(ApiError) as caught:
        lifecycle.pin("m", None, pinned=True)
    assert caught.value.status == 400


async def test_a_model_beyond_the_catalogue_can_be_unloaded_but_not_loaded(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = simulate({"m": 100}, {"a": {"m"}})
    lifecycle = await started(nursery, fleet)
    fleet.router.apply(evolve(fleet.router.fleet().topology, models=(model("other"),)))
    assert await lifecycle.unload("m", None) == ("a",)
    with pytest.raises(ApiError) as caught:
        await lifecycle.load("m", None)
    assert caught.value.status == 404


async def test_a_name_made_by_hand_stands_for_its_model_until_it_is_removed(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = two_nodes()
    lifecycle = await started(nursery, fleet)
    lifecycle.alias("big", "alias")
    assert await lifecycle.load("big", None) == "b"
    assert fleet.router.fleet().aliases == {"alias": "m", "big": "m"}
    lifecycle.alias("big", None)
    assert fleet.router.fleet().aliases == {"alias": "m"}


async def test_a_name_made_by_hand_outlives_an_edit_of_the_topology_which_wins_where_it_has_the_name(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    fleet = two_nodes()
    lifecycle = await started(nursery, fleet)
    lifecycle.alias("big", "m")
    lifecycle.alias("small", "m")
    topology = fleet.router.fleet().topology
    fleet.router.apply(evolve(topology, aliases={"small": "n"}))
    assert fleet.router.fleet().aliases == {"big": "m", "small": "n"}


@pytest.mark.parametrize(
    ("alias", "model", "code"),
    [
        ("big", "nothing", "model_not_found"),
        ("big", None, "model_not_found"),
        ("alias", "n", "invalid_value"),
        ("alias", None, "invalid_value"),
        ("m", "n", "invalid_value"),
    ],
)
async def test_a_name_that_is_taken_or_stands_for_nothing_is_refused(
    nursery: trio.Nursery, clock: MockClock, alias: str, model: str | None, code: str
) -> None:
    lifecycle = await started(nursery, two_nodes())
    with pytest.raises(ApiError) as caught:
        lifecycle.alias(alias, model)
    assert caught.value.code == code


async def test_the_log_of_a_node_that_does_not_answer_is_an_error_in_words(
    nursery: trio.Nursery, clock: MockClock
) -> None:
    lifecycle = await started(nursery, two_nodes())
    with pytest.raises(ApiError) as caught:
        await lifecycle.logs("c", "")
    assert caught.value.code == "invalid_value"
