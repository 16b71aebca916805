"""Where a model could be loaded, what it would cost there, and why not."""

from typing import Any

import pytest
from attrs import evolve
from fleets import eviction, fleet_of, loaded, model, needs, neuron, sighting, state_of
from hypothesis import given
from hypothesis import strategies as st

from config import Model, Size, Topology
from helexa.cortex.routing.fleet import Failure, Fleet, Load, Use
from helexa.cortex.routing.placement import Site, hosts, survey
from helexa.wire.fleet import Activation, ModelReport, ModelStatus
from helexa.wire.progress import Progress

MIB = 2**20
NOW = 1000.0
M = model()


def taking(weights_mb: int, *reports: ModelReport, used_mb: int | None = None, **settings: Any) -> Any:
    """A node where the model `m` needs so much, and others have theirs, as much in use as they say unless told."""
    used = sum(report.memory_mb for report in reports) if used_mb is None else used_mb
    return sighting(*reports, used_mb=used, estimates=(needs(weights_mb=weights_mb),), **settings)


def sites(fleet: Fleet, wanted: Model = M, **settings: Any) -> list[Site]:
    return list(survey(fleet, wanted, NOW, **settings))


def only(fleet: Fleet, wanted: Model = M, now: float = NOW) -> Site:
    (site,) = survey(fleet, wanted, now)
    return site


def limited(memory_mb: int, said: Any) -> Fleet:
    """A node whose models may have so much of each device together."""
    settings = neuron("a", memory=Size(memory_mb * MIB))
    return state_of(Topology(cortex=eviction(), neurons=(settings,), models=(M,)), {"a": said}).fleet


def test_a_device_with_room_fits() -> None:
    assert only(fleet_of({"a": taking(600, used_mb=400)})) == Site("a", "cpu", 600, 600, 1000)


def test_a_model_of_unknown_size_fits_anywhere() -> None:
    assert only(fleet_of({"a": sighting(used_mb=1000)})) == Site("a", "cpu", 0, 0, 1000)


def test_what_a_model_needs_is_its_weights_and_its_cache() -> None:
    said = sighting(estimates=(needs(weights_mb=600, kv_mb=401),))
    assert only(fleet_of({"a": said})).reason == "the model needs 1001 MiB, and its models may have 1000"


def test_nodes_that_evict_nothing_come_first_then_those_that_evict_fewest_then_by_name() -> None:
    seen = {
        "z": taking(600),
        "c": taking(600, loaded("x", 300), loaded("y", 300)),
        "b": taking(600, loaded("x", 900)),
        "y": taking(600),
        "d": taking(1001),
        "a": taking(600, loaded("x", 900)),
    }
    found = sites(fleet_of(seen, cortex=eviction()))
    counted = [(site.node, len(site.evicts)) for site in found]
    assert counted == [("y", 0), ("z", 0), ("a", 1), ("b", 1), ("c", 1), ("d", 0)]
    assert found[-1].verdict == "never"


def test_more_evictions_come_after_fewer_whatever_the_name() -> None:
    seen = {"a": taking(900, loaded("x", 300), loaded("y", 600)), "b": taking(900, loaded("x", 900))}
    assert [site.node for site in sites(fleet_of(seen, cortex=eviction()))] == ["b", "a"]


def test_a_pinned_model_goes_nowhere_else() -> None:
    fleet = fleet_of({"a": taking(1), "b": taking(1, loaded("x", 1000))}, cortex=eviction())
    found = sites(fleet, model(pinned_on=("b",)))
    assert [(site.node, site.verdict, site.reason) for site in found] == [
        ("b", "fits", None),
        ("a", "never", "the model is pinned on b"),
    ]


@pytest.mark.parametrize(
    ("fleet", "wanted", "reason"),
    [
        (fleet_of({"a": None}), M, "it is down: it was not seen yet"),
        (fleet_of({"a": taking(1)}), model(tensor_parallel=2), "the model is to be spread over 2 devices"),
        (fleet_of({"a": taking(1, devices=())}), M, "it has none of its devices"),
        (fleet_of({"a": sighting(estimates=(needs(error="no such file"),))}), M, "no such file"),
        (fleet_of({"a": taking(1)}), model(min_device_memory=Size(1001 * MIB)), "and the model asks for 1001"),
        (limited(500, taking(501)), M, "the model needs 501 MiB, and its models may have 500"),
    ],
)
def test_why_a_node_is_never_a_place_is_told(fleet: Fleet, wanted: Model, reason: str) -> None:
    site = only(fleet, wanted)
    assert (site.verdict, site.evicts) == ("never", ())
    assert reason in (site.reason or "")


def test_a_model_for_one_device_is_not_spread() -> None:
    assert only(fleet_of({"a": taking(1)}), model(tensor_parallel=1)).verdict == "fits"


def test_why_a_node_is_down_is_told() -> None:
    fleet = fleet_of({"a": taking(1)})
    fleet = evolve(fleet, nodes={"a": evolve(fleet.nodes["a"], up=False, error="no answer")})
    assert only(fleet).reason == "it is down: no answer"


def test_only_the_devices_of_the_topology_come_into_question() -> None:
    said = taking(1, devices=("cuda:0", "cuda:1"))
    state = state_of(Topology(neurons=(neuron("a", devices=("cuda:1",)),), models=(M,)), {"a": said})
    assert [site.device for site in sites(state.fleet)] == ["cuda:1"]


def test_a_limit_counts_what_the_neurons_models_hold_their_caches_too() -> None:
    said = taking(300, loaded("x", 100, kv_mb=101), used_mb=0)
    assert only(limited(500, said)) == Site("a", "cpu", 300, 299, 500, ("x",))


def test_a_limit_that_was_lowered_below_what_is_held_leaves_nothing() -> None:
    assert only(limited(500, taking(300, loaded("x", 600)))) == Site("a", "cpu", 300, 0, 500, ("x",))


def test_what_fits_exactly_fits() -> None:
    exact = fleet_of({"a": taking(600, used_mb=400)}, cortex=eviction())
    assert only(exact, model(min_device_memory=Size(1000 * MIB))).verdict == "fits"
    whole = fleet_of({"a": taking(1000)})
    assert only(whole).verdict == "fits"
    (host,) = hosts(whole)
    assert host.could_hold(model(min_device_memory=Size(1000 * MIB)))
    assert not host.could_hold(model(min_device_memory=Size(1001 * MIB)))
    (small,) = hosts(fleet_of({"a": taking(1001)}))
    assert not small.could_hold(M)


def test_a_limit_does_not_make_memory() -> None:
    assert only(limited(900, taking(300, used_mb=800))).free_mb == 200
    assert only(limited(5000, taking(300))).total_mb == 1000


def test_on_a_host_without_a_limit_a_cache_is_not_memory_that_an_eviction_frees() -> None:
    said = taking(900, loaded("x", 300, kv_mb=700), used_mb=1000)
    site = only(fleet_of({"a": said}, cortex=eviction()))
    assert (site.verdict, site.reason) == ("never", "the model needs 900 MiB, and 0 are free")


def test_on_a_gpu_it_is() -> None:
    said = taking(900, loaded("x", 300, "cuda:0", kv_mb=600), used_mb=1000, devices=("cuda:0",))
    assert only(fleet_of({"a": said}, cortex=eviction())).evicts == ("x",)


def test_models_on_other_devices_make_no_room() -> None:
    said = taking(900, loaded("x", 900, "cuda:1"), used_mb=900, devices=("cuda:0", "cuda:1"))
    found = {site.device: site.evicts for site in sites(fleet_of({"a": said}, cortex=eviction()))}
    assert found == {"cuda:0": (), "cuda:1": ("x",)}


@pytest.mark.parametrize("status", ["failed", "unloaded"])
def test_what_is_not_loaded_makes_no_room_and_is_not_said_to_stay(status: ModelStatus) -> None:
    said = taking(900, ModelReport("x", status, "cpu", 900), used_mb=900)
    assert only(fleet_of({"a": said}, cortex=eviction())).reason == "the model needs 900 MiB, and 100 are free"


def test_a_model_that_is_to_stay_is_not_evicted_and_named() -> None:
    said = taking(900, loaded("x", 900))
    by_file = fleet_of({"a": said}, models=(M, model("x", pinned_on=("a",))), cortex=eviction())
    operator = fleet_of({"a": said}, cortex=eviction())
    operator = evolve(operator, uses={("a", "x"): Use(0.0, 0.0, pinned=True)})
    for fleet in (by_file, operator):
        assert only(fleet).verdict == "never"
        assert only(fleet).reason == "the model needs 900 MiB, and 100 are free, and x is to stay"


def test_priorities_are_those_of_the_catalogue() -> None:
    said = taking(500, loaded("x", 500), loaded("y", 500))
    models = (M, model("x", priority=1), model("y"))
    assert only(fleet_of({"a": said}, models=models, cortex=eviction())).evicts == ("x",)
    assert only(fleet_of({"a": said}, models=models, cortex=eviction(strategy="priority"))).evicts == ("y",)


def test_idle_models_make_room_before_busy_ones() -> None:
    fleet = fleet_of({"a": taking(500, loaded("x", 500), loaded("y", 500))}, cortex=eviction())
    assert only(evolve(fleet, in_flight={("a", "x"): 1})).evicts == ("y",)
    assert only(evolve(fleet, in_flight={("a", "x"): 1, ("a", "y"): 1})).evicts == ("x",)


def test_what_was_just_loaded_stays_for_a_while_and_then_makes_room() -> None:
    fleet = fleet_of({"a": taking(900, loaded("x", 900))}, cortex=eviction(residency=5.0))
    fleet = evolve(fleet, uses={("a", "x"): Use(NOW - 4.0, NOW)})
    site = only(fleet)
    assert (site.verdict, site.until, site.evicts) == ("later", NOW + 1.0, ())
    assert site.until is not None
    assert only(fleet, now=site.until).evicts == ("x",)


def test_of_several_that_have_to_settle_the_first_decides_when_to_look_again() -> None:
    fleet = fleet_of({"a": taking(900, loaded("x", 400), loaded("y", 500))}, cortex=eviction(residency=5.0))
    fleet = evolve(fleet, uses={("a", "x"): Use(NOW - 1.0, NOW), ("a", "y"): Use(NOW - 3.0, NOW)})
    assert only(fleet).until == NOW + 2.0


def test_a_model_on_its_way_to_a_node_keeps_no_device_busy() -> None:
    fetched = ModelReport("x", "loading", progress=Progress("downloading", 1, 10))
    assert only(fleet_of({"a": taking(1, fetched)})).verdict == "fits"
    loads = evolve(fetched, progress=Progress("loading"))
    assert only(fleet_of({"a": taking(1, loads)})).reason == "x is loading there"


def test_a_device_on_which_something_goes_on_has_to_wait() -> None:
    fleet = fleet_of({"a": taking(1, loaded("x", 1))})
    busy = {
        "it is loading y": evolve(fleet, loads={"y": Load("y", "a", "cpu", (), 0.0)}),
        "x is about to be unloaded there": evolve(fleet, draining={("a", "x")}),
        "x is loading there": fleet_of({"a": taking(1, ModelReport("x", "loading", "cpu"))}),
        "x is recovering there": fleet_of({"a": taking(1, ModelReport("x", "recovering", "cpu"))}),
    }
    for reason, each in busy.items():
        assert (only(each).verdict, only(each).reason, only(each).until) == ("later", reason, None)


def test_another_device_or_node_need_not_wait() -> None:
    said = taking(1, loaded("x", 1, "cuda:0"), devices=("cuda:0", "cuda:1"))
    fleet = evolve(fleet_of({"a": said, "b": taking(1)}), draining={("a", "x")})
    found = [(site.node, site.device, site.verdict) for site in sites(fleet)]
    assert found == [("a", "cuda:1", "fits"), ("b", "cpu", "fits"), ("a", "cuda:0", "later")]


def test_memory_that_start_up_is_still_to_take_is_not_given_away() -> None:
    coming = Activation(pending=("x",), in_progress="y")
    estimates = (needs(weights_mb=300), needs("x", 300), needs("y", 401))
    said = sighting(activation=coming, estimates=estimates)
    site = only(fleet_of({"a": said}))
    assert (site.verdict, site.reason) == ("later", "it is still to load x, y")
    said = sighting(loaded("y", 401), used_mb=401, activation=coming, estimates=estimates)
    assert only(fleet_of({"a": said})).verdict == "later"
    said = sighting(loaded("y", 400), used_mb=400, activation=coming, estimates=estimates)
    assert only(fleet_of({"a": said})).verdict == "fits"
    said = sighting(activation=Activation(pending=("m",)), estimates=(needs(weights_mb=600),))
    assert only(fleet_of({"a": said})).verdict == "fits"
    said = sighting(loaded("y", 400), used_mb=400, activation=Activation(pending=("x",)), estimates=estimates)
    assert only(fleet_of({"a": said})).verdict == "fits"


def test_a_node_has_a_model_once() -> None:
    said = taking(500, loaded("m", 500, "cuda:1"), used_mb=600, devices=("cuda:0", "cuda:1"))
    found = {site.device: site for site in sites(fleet_of({"a": said}))}
    assert (found["cuda:1"].verdict, found["cuda:1"].evicts, found["cuda:1"].free_mb) == ("fits", (), 900)
    assert (found["cuda:0"].verdict, found["cuda:0"].reason) == ("later", "the model is loaded on its cuda:1")


def test_a_load_that_has_just_failed_is_not_tried_again_before_its_time() -> None:
    fleet = fleet_of({"a": taking(900, loaded("x", 900)), "b": taking(900)}, cortex=eviction())
    fleet = evolve(fleet, failures={("a", "m"): Failure("no file", NOW + 1.0), ("b", "n"): Failure("no", NOW + 1.0)})
    first, second = sites(fleet)
    assert (first.node, first.verdict) == ("b", "fits")
    assert (second.node, second.verdict, second.reason, second.until) == ("a", "failed", "no file", NOW + 1.0)
    assert second.evicts == ()
    assert [site.verdict for site in survey(fleet, M, NOW + 1.0)] == ["fits", "fits"]


def test_where_a_model_cannot_go_a_failure_changes_nothing() -> None:
    fleet = evolve(fleet_of({"a": taking(1001)}), failures={("a", "m"): Failure("no file", NOW + 1.0)})
    assert only(fleet).verdict == "never"


def test_an_avoided_node_is_no_place() -> None:
    found = sites(fleet_of({"a": taking(1), "b": taking(1)}), avoid={"a"})
    assert [(site.node, site.verdict) for site in found] == [("b", "fits"), ("a", "never")]


SIZES = st.integers(0, 1200)
STATUSES = st.sampled_from(["loaded", "failed", "loading", "recovering", "unloaded"])
OTHERS = st.lists(
    st.builds(ModelReport, st.sampled_from("xyz"), STATUSES, st.sampled_from(["cpu", "cuda:0"]), st.integers(0, 500)),
    max_size=3,
    unique_by=lambda each: each.id,
)


@given(SIZES, OTHERS, st.integers(0, 1000), st.one_of(st.none(), st.integers(1, 1500)), st.sampled_from(["a", "b"]))
def test_what_fits_has_room_once_others_have_gone_and_a_node_that_could_never_hold_it_says_so(
    weights: int, others: list[ModelReport], used: int, memory: int | None, pinned_on: str
) -> None:
    said = taking(weights, *others, used_mb=used, devices=("cpu", "cuda:0"))
    settings = neuron("a", memory=None if memory is None else Size(memory * MIB))
    wanted = model(pinned_on=(pinned_on,))
    fleet = state_of(Topology(cortex=eviction(), neurons=(settings,), models=(wanted,)), {"a": said}).fleet
    (host,) = hosts(fleet)
    found = sites(fleet, wanted)
    freed = {report.id: report.memory_mb for report in others if report.status == "loaded"}
    for site in found:
        if site.verdict == "fits":
            assert site.need_mb <= site.free_mb + sum(freed[each] for each in site.evicts)
            assert host.could_hold(wanted)
            assert site.free_mb <= site.total_mb
            assert (site.reason, site.until) == (None, None)
        else:
            assert site.evicts == ()
            assert site.reason
    if not host.could_hold(wanted):
        assert {site.verdict for site in found} == {"never"}
