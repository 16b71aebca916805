"""Models that devices share: which of them, what it costs there, and what a model holds that is shared."""

from typing import Any

import pytest
from attrs import evolve
from fleets import Clock, eviction, fleet_of, loaded, model, needs, neuron, sighting, state_of, topology_of
from hypothesis import given
from hypothesis import strategies as st

from config import Address, Model, Size, Topology
from helexa.cortex.routing.fleet import Failure, Fleet, Load, Sighting, Use
from helexa.cortex.routing.placement import Site, hosts, survey
from helexa.cortex.routing.policy import ColdLoad, Wait, Wanted, resolve
from helexa.cortex.routing.state import NodeUp, State
from helexa.wire.fleet import DeviceHealth, DeviceLink, ModelReport
from helexa.wire.ranks import Share

MIB = 2**20
NOW = 1000.0
CARDS = ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
PAIR = CARDS[:2]
TWO = model(tensor_parallel=2)
EITHER = model()


def taking(weights_mb: int, *reports: ModelReport, shares: dict[int, int] | None = None, **settings: Any) -> Sighting:
    """A node where `m` needs so much by itself, and so much on each of several; half on each of two unless told."""
    found = {2: weights_mb // 2} if shares is None else shares
    shared = tuple(Share(ranks, each, 0) for ranks, each in found.items())
    estimates = (needs(weights_mb=weights_mb, shares=shared), *settings.pop("estimates", ()))
    return sighting(*reports, estimates=estimates, **{"devices": PAIR, **settings})


def using(said: Sighting, **used: int) -> Sighting:
    """With so many MiB in use of each card: `c0=100`."""
    devices = (evolve(each, memory_used_mb=used.get(f"c{each.name[-1]}", each.memory_used_mb)) for each in said.devices)
    return evolve(said, devices=tuple(devices))


def sites(said: Sighting, wanted: Model = TWO, now: float = NOW, **settings: Any) -> list[Site]:
    return list(survey(fleet_of({"a": said}, models=(wanted,), cortex=eviction(**settings)), wanted, now))


def only(said: Sighting, wanted: Model = TWO, **settings: Any) -> Site:
    (site,) = sites(said, wanted, **settings)
    return site


def on_cpus(said: Sighting, wanted: Model = TWO, names: tuple[str, ...] = ("cpu", "cpu:0"), **settings: Any) -> Fleet:
    """A node whose CPU the topology names several times."""
    there = neuron("a", devices=names, **settings)
    return state_of(Topology(cortex=eviction(), neurons=(there,), models=(wanted,)), {"a": said}).fleet


def test_as_many_devices_as_the_model_says_share_it() -> None:
    assert only(taking(1600)) == Site("a", "cuda:0+cuda:1", 800, 1000, 1000)
    assert only(taking(1600, devices=CARDS)).device == "cuda:0+cuda:1"
    four = model(tensor_parallel=4)
    assert only(taking(1600, devices=CARDS, shares={4: 400}), four).device == "cuda:0+cuda:1+cuda:2+cuda:3"


def test_a_model_of_unknown_size_can_be_shared_anywhere() -> None:
    assert only(sighting(devices=PAIR)) == Site("a", "cuda:0+cuda:1", 0, 1000, 1000)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            taking(100, devices=("cuda:0",)),
            "the model is to be spread over 2 devices, and it has 1 that could share it",
        ),
        (
            taking(100, devices=("cuda:0", "cpu")),
            "the model is to be spread over 2 devices, and it has 1 that could share it",
        ),
        (taking(100, shares={}), "the model cannot be spread over 2 devices"),
        (taking(100, shares={4: 25}), "the model cannot be spread over 2 devices"),
        (taking(2002), "the model needs 1001 MiB, and its models may have 1000"),
        (using(taking(1600), c1=300), "the model needs 800 MiB, and 700 are free"),
    ],
)
def test_why_devices_cannot_share_a_model_is_told(said: Sighting, reason: str) -> None:
    site = only(said)
    assert (site.verdict, site.evicts, site.reason) == ("never", (), reason)


def test_a_model_that_does_not_say_takes_the_fewest_that_could_have_it() -> None:
    degrees = {2: 900, 4: 450}
    assert [site.device for site in sites(taking(900, shares=degrees, devices=CARDS), EITHER)] == list(CARDS)
    assert only(taking(1800, shares=degrees, devices=CARDS), EITHER).device == "cuda:0+cuda:1"
    four = only(taking(4000, shares={2: 2000, 4: 1000}, devices=CARDS), EITHER)
    assert (four.device, four.verdict) == ("cuda:0+cuda:1+cuda:2+cuda:3", "fits")
    assert {site.reason for site in sites(taking(4000, shares={}), EITHER)} == {
        "the model needs 4000 MiB, and its models may have 1000"
    }


def test_a_device_that_others_can_leave_comes_before_several_that_nobody_has_to() -> None:
    said = taking(900, loaded("x", 900, "cuda:0"), used_mb=900, shares={2: 450}, devices=("cuda:0",))
    assert only(said, EITHER).evicts == ("x",)


def test_a_device_that_is_busy_is_waited_for_rather_than_that_others_share_the_model() -> None:
    said = taking(900, ModelReport("x", "loading", "cuda:0"), used_mb=500, shares={2: 450})
    found = {site.device: site.verdict for site in sites(said, EITHER)}
    assert found == {"cuda:0": "later", "cuda:1": "never"}


def test_devices_that_nobody_has_to_leave_come_before_better_linked_ones() -> None:
    said = taking(1800, loaded("x", 900, "cuda:0"), devices=CARDS[:3])
    said = evolve(said, discovery=evolve(said.discovery, links=(DeviceLink("cuda:0", "cuda:1", "board", nvlinks=4),)))
    assert only(using(said, c0=900)).device == "cuda:1+cuda:2"
    assert only(said).device == "cuda:0+cuda:1"


def test_models_have_to_leave_each_device_that_is_too_full() -> None:
    there = [loaded("x", 900, "cuda:0"), loaded("y", 900, "cuda:1"), loaded("z", 50, "cuda:1")]
    assert only(taking(1800, *there, used_mb=950)).evicts == ("x", "y")


def test_as_few_as_possible_have_to_leave() -> None:
    there = [
        loaded("w", 450, "cuda:0"),
        loaded("x", 450, "cuda:0"),
        loaded("y", 900, "cuda:1"),
        loaded("z", 900, "cuda:2"),
    ]
    site = only(taking(1800, *there, used_mb=900, devices=CARDS[:3]))
    assert (site.device, site.evicts) == ("cuda:1+cuda:2", ("y", "z"))


def test_a_model_that_several_devices_share_leaves_all_of_them() -> None:
    shared = loaded("x", 900, "cuda:0+cuda:1")
    site = only(taking(1800, shared, used_mb=900))
    assert (site.device, site.evicts) == ("cuda:0+cuda:1", ("x",))
    found = sites(taking(900, shared, used_mb=900), EITHER)
    assert [(site.device, site.evicts) for site in found] == [("cuda:0", ("x",)), ("cuda:1", ("x",))]
    kept = fleet_of({"a": taking(900, shared, used_mb=900)}, models=(EITHER,), cortex=eviction())
    kept = evolve(kept, uses={("a", "x"): Use(0.0, 0.0, pinned=True)})
    assert {site.reason for site in survey(kept, EITHER)} == {
        "the model needs 900 MiB, and 100 are free, and x is to stay"
    }


def test_what_was_just_loaded_on_one_of_them_is_waited_for() -> None:
    fleet = fleet_of({"a": taking(1800, loaded("x", 900, "cuda:1"), used_mb=0)}, cortex=eviction(residency=5.0))
    fleet = evolve(fleet, uses={("a", "x"): Use(NOW - 4.0, NOW)})
    fleet = evolve(fleet, nodes={"a": evolve(fleet.nodes["a"], sighting=using(_said(fleet), c1=900))})
    (site,) = survey(fleet, TWO, NOW)
    assert (site.verdict, site.until, site.evicts) == ("later", NOW + 1.0, ())
    assert survey(fleet, TWO, NOW + 1.0)[0].evicts == ("x",)


def _said(fleet: Fleet) -> Sighting:
    found = fleet.nodes["a"].sighting
    assert found is not None
    return found


def test_a_device_of_a_group_on_which_something_goes_on_has_to_wait_and_so_has_the_group() -> None:
    shared = loaded("x", 1, "cuda:0+cuda:1")
    fleet = fleet_of({"a": taking(100, shared, devices=CARDS[:3])}, models=(EITHER,))
    loads = {"y": Load("y", "a", "cuda:0+cuda:1", (), 0.0)}
    for busy in (
        evolve(fleet, loads=loads),
        evolve(fleet, draining={("a", "x")}),
        fleet_of({"a": taking(100, evolve(shared, status="recovering"), devices=CARDS[:3])}),
    ):
        found = {site.device: site.verdict for site in survey(busy, EITHER, NOW)}
        assert found == {"cuda:0": "later", "cuda:1": "later", "cuda:2": "fits"}
        (site,) = survey(busy, TWO, NOW)
        assert (site.verdict, site.evicts) == ("later", ())


def test_a_rank_that_another_node_leads_keeps_its_device_busy_while_it_loads() -> None:
    fleet = fleet_of({"a": taking(100, devices=PAIR)}, models=(EITHER,))
    fleet = evolve(fleet, loads={"y": Load("y", "b", "cuda:0", (), 0.0, others=(("a", "cuda:1"),))})
    assert {site.device: site.verdict for site in survey(fleet, EITHER, NOW)} == {"cuda:0": "fits", "cuda:1": "later"}


def test_a_group_that_has_failed_is_not_tried_again_before_its_time() -> None:
    fleet = evolve(fleet_of({"a": taking(100)}), failures={("a", "m"): Failure("no file", NOW + 1.0)})
    (site,) = survey(fleet, TWO, NOW)
    assert (site.verdict, site.reason, site.until) == ("failed", "no file", NOW + 1.0)


def test_ranks_on_a_cpu_take_what_they_need_from_one_memory() -> None:
    (site,) = survey(on_cpus(taking(1000, devices=("cpu",))), TWO, NOW)
    assert site == Site("a", "cpu+cpu:0", 500, 500, 500)
    (site,) = survey(on_cpus(taking(1002, devices=("cpu",))), TWO, NOW)
    assert site.reason == "the model needs 501 MiB, and its models may have 500"
    (site,) = survey(on_cpus(taking(900, loaded("x", 150, "cpu+cpu:0"), used_mb=300, devices=("cpu",))), TWO, NOW)
    assert (site.free_mb, site.evicts) == (350, ("x",))
    there = on_cpus(taking(900, loaded("x", 150, "cpu:0"), used_mb=150, devices=("cpu",)), EITHER)
    assert [(site.device, site.evicts) for site in survey(there, EITHER, NOW)] == [("cpu", ("x",)), ("cpu:0", ("x",))]


def test_a_limit_is_of_each_device_by_itself() -> None:
    said = taking(600, loaded("x", 250, "cpu:0", kv_mb=10), devices=("cpu",))
    (site,) = survey(on_cpus(said, memory=Size(400 * MIB)), TWO, NOW)
    assert (site.need_mb, site.free_mb, site.total_mb, site.evicts) == (300, 140, 400, ("x",))


def test_a_node_has_a_model_once_also_on_several_devices() -> None:
    said = taking(900, loaded("m", 450, "cuda:0+cuda:1"), used_mb=450, devices=CARDS[:3])
    found = {site.device: site.verdict for site in sites(said, EITHER)}
    assert found["cuda:2"] == "later"


def test_start_up_is_promised_a_share_of_each_device() -> None:
    coming = evolve(taking(600, shares={}), estimates={
        "m": needs(weights_mb=600), "n": needs("n", 900, shares=(Share(2, 400, 0),))
    })  # fmt: skip
    coming = evolve(coming, activation=evolve(coming.activation, pending=("n",)))
    fleet = fleet_of({"a": coming}, models=(EITHER, model("n", tensor_parallel=2)))
    assert {site.verdict for site in survey(fleet, EITHER)} == {"fits"}
    fleet = fleet_of({"a": coming}, models=(EITHER, model("n")))
    assert {site.verdict for site in survey(fleet, EITHER)} == {"later"}


def test_what_nodes_could_hold_together_with_others_gone() -> None:
    (host,) = hosts(fleet_of({"a": taking(1800, devices=CARDS)}))
    assert host.could_hold(TWO)
    assert host.could_hold(EITHER)
    assert not host.could_hold(model(tensor_parallel=4))
    (host,) = hosts(fleet_of({"a": taking(2002)}))
    assert not host.could_hold(TWO)
    (host,) = hosts(on_cpus(taking(1002, devices=("cpu",))))
    assert not host.could_hold(TWO)
    (host,) = hosts(on_cpus(taking(1000, devices=("cpu",))))
    assert host.could_hold(TWO)


def test_a_decision_names_the_group() -> None:
    decision = resolve(fleet_of({"a": taking(1800)}, models=(TWO,)), Wanted("m"))
    assert decision == ColdLoad("m", "helexa", "a", "cuda:0+cuda:1")


def meeting(*names: str, wanted: Model = TWO) -> Topology:
    neurons = (neuron(name, interconnect=Address(f"10.0.0.{at}", 9000)) for at, name in enumerate(names, 1))
    return Topology(cortex=eviction(), neurons=tuple(neurons), models=(wanted,))


def test_nodes_share_a_model_only_where_no_single_one_could_have_it() -> None:
    alone = taking(1800, devices=("cuda:0",))
    fleet = state_of(meeting("a", "b"), {"a": alone, "b": alone}).fleet
    site = survey(fleet, TWO)[0]
    assert (site.node, site.device, site.verdict, site.others) == ("a", "cuda:0", "fits", (("b", "cuda:0"),))
    assert resolve(fleet, Wanted("m")) == ColdLoad("m", "helexa", "a", "cuda:0", others=(("b", "cuda:0"),))
    assert all(site.verdict == "never" for site in survey(fleet, TWO, avoid={"b"}))
    both = state_of(meeting("a", "b", "c"), {"a": alone, "b": alone, "c": taking(1800)}).fleet
    assert [(site.node, site.others) for site in survey(both, TWO) if site.verdict != "never"] == [("c", ())]
    busy = evolve(both, loads={"x": Load("x", "c", "cuda:1", (), 0.0)})
    assert isinstance(resolve(busy, Wanted("m")), Wait)


def test_a_model_that_does_not_say_is_shared_by_the_fewest_of_several_nodes() -> None:
    alone = taking(1800, devices=("cuda:0",))
    fleet = state_of(meeting("a", "b", wanted=EITHER), {"a": alone, "b": alone}).fleet
    assert survey(fleet, EITHER)[0].others == (("b", "cuda:0"),)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def used(state: State) -> dict[str, int]:
    return {device.name: device.memory_used_mb for device in _said(state.fleet).devices}


def test_memory_of_each_device_of_a_group_is_taken_and_given_back_before_it_is_measured(clock: Clock) -> None:
    said = using(sighting(loaded("x", 300, "cuda:0"), devices=CARDS[:3]), c0=350, c1=20, c2=5)
    state = state_of(topology_of("a", cortex=eviction()), {"a": said}, clock)
    load = state.begin(ColdLoad("m", "helexa", "a", "cuda:0+cuda:1", ("x",)))
    state.unloaded(("a", "x"))
    state.loaded(load, loaded("m", 600, "cuda:0+cuda:1", kv_mb=50))
    assert used(state) == {"cuda:0": 700, "cuda:1": 670, "cuda:2": 5}
    state.unloaded(("a", "m"))
    assert used(state) == {"cuda:0": 50, "cuda:1": 20, "cuda:2": 5}


def test_ranks_on_a_cpu_take_their_memory_together(clock: Clock) -> None:
    state = state_of(topology_of("a", cortex=eviction()), {"a": sighting(used_mb=100)}, clock)
    state.loaded(state.begin(ColdLoad("m", "helexa", "a", "cpu+cpu:0")), loaded("m", 200, "cpu+cpu:0", kv_mb=90))
    assert used(state) == {"cpu": 500}


def test_a_group_that_has_ended_has_no_cycles_to_count(clock: Clock) -> None:
    one, two = loaded("m", 1, "cuda:0+cuda:1"), loaded("n", 1, "cuda:0+cuda:1")
    state = state_of(topology_of("a"), {"a": sighting(one, two, devices=PAIR)}, clock)
    state.see(NodeUp("a", sighting(two, devices=PAIR), clock.now))
    assert state.fleet.cycles == {("a", "cuda:0+cuda:1"): 1}
    state.see(NodeUp("a", sighting(devices=PAIR), clock.now))
    assert state.fleet.cycles == {}


def test_a_cpu_that_the_topology_names_twice_is_two_devices_of_one_memory() -> None:
    node = on_cpus(sighting(devices=("cpu",)), names=("cpu:1", "cpu")).nodes["a"]
    assert [(device.name, device.memory_total_mb) for device in node.devices] == [("cpu", 1000), ("cpu:1", 1000)]
    card = neuron("a", devices=("cuda:0", "cuda:7", "cpu"))
    fleet = state_of(Topology(neurons=(card,)), {"a": sighting(devices=PAIR)}).fleet
    assert [device.name for device in fleet.nodes["a"].devices] == ["cuda:0"], "what is not there is none"


FREE = st.tuples(*[st.integers(0, 1000)] * 4)
HELD = st.lists(
    st.tuples(
        st.sampled_from(["cuda:0", "cuda:3", "cuda:0+cuda:1", "cuda:1+cuda:2+cuda:3"]),
        st.integers(0, 600),
        st.sampled_from(["loaded", "loading", "recovering", "failed"]),
    ),
    max_size=4,
)


@given(FREE, HELD, st.integers(1, 4000), st.sampled_from([None, 1, 2, 4]), st.one_of(st.none(), st.integers(1, 1500)))
def test_what_fits_has_room_on_each_device_once_others_have_gone(
    in_use: tuple[int, ...], held: list[tuple[str, int, Any]], weights: int, ranks: int | None, memory: int | None
) -> None:
    reports = [ModelReport(f"x{at}", status, on, mb) for at, (on, mb, status) in enumerate(held)]
    said = taking(weights, *reports, shares={2: weights // 2, 4: weights // 4}, devices=CARDS)
    said = evolve(said, devices=tuple(DeviceHealth(name, 1000, mb) for name, mb in zip(CARDS, in_use, strict=True)))
    wanted = model(tensor_parallel=ranks)
    settings = neuron("a", memory=None if memory is None else Size(memory * MIB))
    fleet = state_of(Topology(cortex=eviction(), neurons=(settings,), models=(wanted,)), {"a": said}).fleet
    (host,) = hosts(fleet)
    for site in survey(fleet, wanted):
        if site.verdict != "fits":
            assert site.reason
            assert site.evicts == ()
            continue
        names = site.device.split("+")
        assert ranks in (None, len(names))
        assert host.could_hold(wanted)
        for name in names:
            gone = sum(each.memory_mb for each in reports if each.id in site.evicts and name in (each.device or ""))
            assert site.need_mb <= 1000 - in_use[CARDS.index(name)] + gone
    if not host.could_hold(wanted):
        assert {site.verdict for site in survey(fleet, wanted)} == {"never"}
