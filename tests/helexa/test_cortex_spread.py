"""A model that no single node can have: which devices of which nodes share it, and whether such a group is over."""

from collections import Counter
from typing import Any

import pytest
from attrs import evolve
from fleets import Clock, loaded, model, needs, neuron, sighting, state_of
from hypothesis import given, settings
from hypothesis import strategies as st

from config import Address, Size, Topology
from helexa.cortex.routing import spread
from helexa.cortex.routing.fleet import Fleet, Sighting
from helexa.cortex.routing.policy import ColdLoad
from helexa.cortex.routing.rooms import Site
from helexa.cortex.routing.state import NodeDown, State
from helexa.wire.fleet import Estimate, ModelReport
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import Share

SHARED = needs(weights_mb=1500, kv_mb=50, shares=(Share(2, 750, 25), Share(4, 375, 25)))
NOW = 100.0


def seen(
    *devices: str, used_mb: int = 0, estimate: Estimate = SHARED, reports: tuple[ModelReport, ...] = ()
) -> Sighting:
    return sighting(*reports, used_mb=used_mb, estimates=(estimate,), devices=devices or ("cpu",))


def state(said: dict[str, Sighting], apart: tuple[str, ...] = (), **settings: Any) -> State:
    """Nodes that each have an interconnect, but for those ``apart``."""
    neurons = tuple(
        neuron(
            name,
            interconnect=None if name in apart else Address(f"10.0.0.{index}", 5),
            **settings,
        )
        for index, name in enumerate(said, 1)
    )
    return state_of(Topology(neurons=neurons, models=(model(),)), said, Clock())


def across(fleet: Fleet, ranks: int = 2, **settings: Any) -> Site | None:
    return spread.across(fleet, model(**settings), ranks, NOW)


def places(site: Site | None) -> list[tuple[str, str]]:
    assert site is not None
    assert site.verdict == "fits", site.reason
    return [(site.node, site.device), *site.others]


def test_two_nodes_of_which_neither_could_share_a_model() -> None:
    site = across(state({"a": seen(), "b": seen()}).fleet)
    assert site == Site("a", "cpu", need_mb=775, free_mb=1000, total_mb=1000, others=(("b", "cpu"),))


def test_the_node_with_the_most_devices_leads_and_few_nodes_take_part() -> None:
    gpus = [f"cuda:{index}" for index in range(3)]
    fleet = state({"a": seen("cuda:0"), "b": seen(*gpus), "c": seen("cuda:0"), "d": seen("cuda:0")}).fleet
    assert places(across(fleet, 4)) == [("b", "cuda:0+cuda:1+cuda:2"), ("a", "cuda:0")]


def test_a_node_that_could_alone_still_leaves_a_rank_to_another() -> None:
    """It is not asked unless that node cannot for another reason, as that it has just failed."""
    fleet = state({"a": seen("cuda:0", "cuda:1"), "b": seen("cuda:0")}).fleet
    assert places(across(fleet)) == [("a", "cuda:0"), ("b", "cuda:0")]


def test_gpus_share_with_gpus_only() -> None:
    assert across(state({"a": seen("cuda:0"), "b": seen("cpu")}).fleet) is None


def test_devices_that_are_alike_are_preferred_to_ones_with_more_memory() -> None:
    said = {name: seen("cuda:0") for name in "abc"}
    odd, *_ = said["a"].discovery.devices
    said["a"] = evolve(
        said["a"], discovery=evolve(said["a"].discovery, devices=(evolve(odd, kind="fast", memory_total_mb=4000),))
    )
    assert places(across(state(said).fleet)) == [("b", "cuda:0"), ("c", "cuda:0")]
    del said["c"]
    assert places(across(state(said).fleet)) == [("a", "cuda:0"), ("b", "cuda:0")]


def test_cpus_of_a_host_share_its_memory() -> None:
    """Each has 375 + 25 of the host's 1,000: two of three do, and the third would be one too many."""
    fleet = state({"a": seen("cpu", "cpu:1", "cpu:2"), "b": seen("cpu", "cpu:1", "cpu:2")}).fleet
    site = across(fleet, 4)
    assert site is not None
    assert (site.node, len(site.device.split("+")), len(site.others)) == ("a", 2, 2)
    assert {node for node, _ in site.others} == {"b"}


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        ({"a": seen()}, {}),
        ({"a": seen(), "b": seen(used_mb=300)}, {}),
        ({"a": seen(), "b": seen(estimate=Estimate("m", error="it has no weights"))}, {}),
        ({"a": seen(), "b": seen(estimate=needs(weights_mb=1500))}, {}),
        ({"a": seen(), "b": seen()}, {"pinned_on": ("a",)}),
        ({"a": seen(), "b": seen()}, {"min_device_memory": Size(2 * 2**30)}),
    ],
    ids=["one node", "no memory", "cannot load", "cannot be shared", "pinned on one", "devices too small"],
)
def test_where_it_cannot_be(said: dict[str, Sighting], settings: dict[str, Any]) -> None:
    assert across(state(said).fleet, **settings) is None


def test_nodes_without_an_interconnect_take_no_part() -> None:
    assert across(state({"a": seen(), "b": seen()}, apart=("b",)).fleet) is None
    assert places(across(state({"a": seen(), "b": seen(), "c": seen()}, apart=("a",)).fleet)) == [
        ("b", "cpu"),
        ("c", "cpu"),
    ]


def test_a_node_that_is_down_takes_no_part() -> None:
    whole = state({"a": seen(), "b": seen()})
    whole.see(NodeDown("b", "no answer"))
    assert across(whole.fleet) is None


def test_what_models_may_have_of_a_device_counts_not_what_it_has() -> None:
    assert across(state({"a": seen(), "b": seen()}, memory=Size(700 * 2**20)).fleet) is None


def test_nothing_is_evicted_for_it() -> None:
    idle = loaded("other", 500, "cpu")
    fleet = state({"a": seen(), "b": seen(used_mb=500, reports=(idle,))}).fleet
    assert across(fleet) is None


def test_a_device_that_runs_a_rank_for_another_node_runs_no_second_one() -> None:
    rank, other = RankReport("a/other", "cuda:0", 1, 2, "running"), loaded("other", 100, "cuda:0")
    lead = seen("cuda:0", reports=(other,))
    said = {"a": lead, "b": evolve(seen("cuda:0", "cuda:1"), ranks=(rank,))}
    assert places(across(state(said).fleet)) == [("a", "cuda:0"), ("b", "cuda:1")]
    said["b"] = evolve(seen("cuda:0"), ranks=(rank,))
    assert across(state(said).fleet) is None
    given_up = {**said, "b": evolve(seen("cuda:0"), ranks=(evolve(rank, status="failed"),))}
    assert places(across(state(given_up).fleet)) == [("a", "cuda:0"), ("b", "cuda:0")]
    over = {**said, "a": seen("cuda:0")}
    assert places(across(state(over).fleet)) == [("a", "cuda:0"), ("b", "cuda:0")]


def test_a_node_where_something_changes_is_waited_for() -> None:
    coming = ModelReport("other", "loading", "cpu")
    site = across(state({"a": seen(), "b": seen(reports=(coming,))}).fleet)
    assert site is not None
    assert (site.verdict, site.reason) == ("later", "on b, other is loading there")


def test_a_group_that_is_being_loaded_occupies_all_its_nodes() -> None:
    whole = state({"a": seen(), "b": seen(), "c": seen()})
    whole.begin(ColdLoad("other", "helexa", "a", "cpu", others=(("b", "cpu"),)))
    site = across(whole.fleet)
    assert site is not None
    assert (site.verdict, site.reason) == ("later", "on a, it is loading other")


def test_what_failed_where_one_node_led_is_led_by_another_and_then_waited_for() -> None:
    whole = state({"a": seen(), "b": seen()})
    for leader, other in (("a", "b"), ("b", "a")):
        assert places(across(whole.fleet)) == [(leader, "cpu"), (other, "cpu")]
        load = whole.begin(ColdLoad("m", "helexa", leader, "cpu", others=((other, "cpu"),)))
        whole.load_failed(load, "no route")
    site = across(whole.fleet)
    assert site is not None
    assert (site.verdict, site.reason) == ("failed", "no route")
    assert site.until is not None
    assert site.until > NOW


GROUP = spread.name_of("a", "org/m")


def reported(status: str) -> Sighting:
    return seen(reports=(ModelReport("org/m", status, "cpu"),))


@pytest.mark.parametrize("status", ["loaded", "loading", "recovering"])
def test_a_group_goes_on_while_its_leader_has_the_model(status: str) -> None:
    assert not spread.is_over(state({"a": reported(status), "b": seen()}).fleet, GROUP)


@pytest.mark.parametrize("said", [reported("failed"), seen()], ids=["failed", "gone"])
def test_a_group_is_over_when_its_leader_is_without_the_model(said: Sighting) -> None:
    assert spread.is_over(state({"a": said, "b": seen()}).fleet, GROUP)


def test_a_group_is_not_over_while_its_leader_is_down_or_about_to_load() -> None:
    whole = state({"a": seen(), "b": seen()})
    whole.begin(ColdLoad("org/m", "helexa", "a", "cpu"))
    assert not spread.is_over(whole.fleet, GROUP)
    whole = state({"a": seen(), "b": seen()})
    whole.see(NodeDown("a", "no answer"))
    assert not spread.is_over(whole.fleet, GROUP)


def test_a_group_whose_leader_is_in_no_topology_is_over() -> None:
    assert spread.is_over(state({"b": seen()}).fleet, GROUP)


NODE = st.builds(
    lambda devices, used, names: seen(*names[:devices], used_mb=used),
    st.integers(1, 3),
    st.integers(0, 900),
    st.sampled_from([("cpu", "cpu:1", "cpu:2"), ("cuda:0", "cuda:1", "cuda:2")]),
)


def capacity(said: Sighting, need: int) -> int:
    """How many ranks a node can run: GPUs have memory of their own, CPUs one between them."""
    free, devices = 1000 - said.devices[0].memory_used_mb, said.discovery.devices
    return min(len(devices), free // need if devices[0].name == "cpu" else len(devices) * (free >= need))


def could_be_shared(nodes: list[Sighting], ranks: int, need: int) -> bool:
    """Whether several nodes with devices of one type have room for all ranks, at least one of them not on the first."""
    for kind in ("cpu", "cuda:0"):
        rooms = sorted(capacity(each, need) for each in nodes if each.discovery.devices[0].name == kind)
        if rooms and min(rooms.pop(), ranks - 1) + sum(rooms) >= ranks:
            return True
    return False


@settings(max_examples=150)
@given(nodes=st.lists(NODE, min_size=2, max_size=5), ranks=st.sampled_from([2, 4]))
def test_devices_are_found_where_there_are_any_and_have_the_memory(nodes: list[Sighting], ranks: int) -> None:
    said = {f"n{index}": each for index, each in enumerate(nodes)}
    share = SHARED.share(ranks)
    assert share is not None
    site = across(state(said).fleet, ranks)
    assert (site is not None) == could_be_shared(nodes, ranks, share.need_mb)
    if site is not None:
        chosen = [*((site.node, device) for device in site.device.split("+")), *site.others]
        assert len(set(chosen)) == ranks
        assert site.node not in {node for node, _ in site.others}
        assert len({device.partition(":")[0] for _, device in chosen}) == 1
        for node, count in Counter(node for node, _ in chosen).items():
            assert count <= capacity(said[node], share.need_mb)
