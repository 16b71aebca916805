"""Which models make room, which have been idle for too long, and which devices are worn."""

from itertools import combinations
from math import inf
from time import process_time
from typing import Any

import pytest
from attrs import evolve
from fleets import eviction, fleet_of, loaded, model, sighting
from hypothesis import given
from hypothesis import strategies as st

from config import Duration
from config.topology import EvictionStrategy
from helexa.cortex.routing.eviction import Candidate, idle, is_busy, smallest, worn
from helexa.cortex.routing.fleet import Fleet, Load, Use
from helexa.wire.fleet import ModelReport, ModelStatus


def candidate(name: str, frees_mb: int, used_at: float = 0.0, *, priority: int = 0, busy: bool = False) -> Candidate:
    return Candidate(name, frees_mb, busy, priority, used_at)


OLD, NEWER, NEWEST = candidate("old", 300, 1.0), candidate("newer", 300, 2.0), candidate("newest", 600, 3.0)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [(1, ("old",)), (300, ("old",)), (301, ("newest",)), (600, ("newest",)), (601, ("old", "newest")), (1201, None)],
)
def test_the_fewest_go_and_of_equally_many_the_longest_unused(missing: int, expected: tuple[str, ...] | None) -> None:
    assert smallest([NEWEST, NEWER, OLD], missing, "lru") == expected


def test_nothing_has_to_go_where_nothing_is_missing() -> None:
    assert smallest([OLD], 0, "lru") == ()
    assert smallest([], 0, "lru") == ()
    assert smallest([], 1, "lru") is None


def test_by_priority_the_lowest_goes_first_and_the_longest_unused_among_equals() -> None:
    dear, cheap = candidate("dear", 300, 1.0, priority=5), candidate("cheap", 300, 9.0, priority=-1)
    assert smallest([dear, cheap], 300, "priority") == ("cheap",)
    assert smallest([dear, cheap], 300, "lru") == ("dear",)
    assert smallest([NEWER, OLD, dear], 300, "priority") == ("old",)


def test_two_models_in_the_middle_go_rather_than_the_most_and_the_least_dispensable() -> None:
    small, large = candidate("small", 100, 0.0), candidate("large", 500, 9.0)
    assert smallest([small, OLD, NEWER, large], 600, "lru") == ("old", "newer")


def test_a_busy_model_goes_only_where_idle_ones_would_not_do() -> None:
    busy = candidate("busy", 900, 0.0, busy=True)
    assert smallest([busy, NEWEST, OLD, NEWER], 900, "lru") == ("old", "newest")
    assert smallest([busy, OLD, NEWER], 600, "lru") == ("old", "newer")
    assert smallest([busy, OLD, NEWER], 601, "lru") == ("busy",)
    assert smallest([busy, OLD], 1200, "lru") == ("old", "busy")


def test_names_decide_between_equals() -> None:
    assert smallest([candidate("b", 1), candidate("a", 1)], 1, "lru") == ("a",)


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.uuids().map(str),
        st.integers(0, 9),
        st.booleans(),
        st.integers(-1, 1),
        st.integers(0, 3).map(float),
    ),
    max_size=7,
    unique_by=lambda each: each.model,
)
STRATEGIES: st.SearchStrategy[EvictionStrategy] = st.sampled_from(["lru", "priority"])


@given(CANDIDATES, st.integers(1, 40), STRATEGIES)
def test_the_set_is_the_best_of_all_sets(candidates: list[Candidate], missing: int, strategy: EvictionStrategy) -> None:
    def rank(each: Candidate) -> tuple[Any, ...]:
        return each.busy, each.priority * (strategy == "priority"), each.used_at, each.model

    def cost(chosen: tuple[Candidate, ...]) -> tuple[Any, ...]:
        busy = any(each.busy for each in chosen)
        return busy, len(chosen), sorted(map(rank, chosen), reverse=True)

    sets = (chosen for count in range(len(candidates) + 1) for chosen in combinations(candidates, count))
    do = [chosen for chosen in sets if sum(each.frees_mb for each in chosen) >= missing]
    best = min(do, key=cost, default=None)
    expected = None if best is None else tuple(each.model for each in sorted(best, key=rank))
    assert smallest(candidates, missing, strategy) == expected


def test_a_hundred_models_on_a_device_are_no_trouble() -> None:
    many = [candidate(str(index), 1 + index % 7, float(index)) for index in range(100)]
    start = process_time()
    assert smallest(many, sum(each.frees_mb for each in many) - 1, "lru") is not None
    assert process_time() - start < 1


NOW = 1000.0


def idle_fleet(report: ModelReport | None = None, used_at: float = 0.0, *, pinned: bool = False, **entry: Any) -> Fleet:
    """A model on a node, last used at a time, in a fleet that unloads after 100 s."""
    settings = eviction(idle_ttl=Duration(100.0))
    fleet = fleet_of({"a": sighting(report or loaded())}, models=(model(**entry),), cortex=settings)
    return evolve(fleet, uses={("a", "m"): Use(0.0, used_at, pinned)})


@pytest.mark.parametrize(
    ("fleet", "goes"),
    [
        (idle_fleet(used_at=900.0), True),
        (idle_fleet(used_at=900.1), False),
        (idle_fleet(idle_ttl=Duration(1001.0)), False),
        (idle_fleet(idle_ttl=Duration(10.0), used_at=989.0), True),
        (idle_fleet(idle_ttl=Duration(inf)), False),
        (idle_fleet(pinned=True), False),
        (idle_fleet(pinned_on=("a",)), False),
        (idle_fleet(pinned_on=("b",)), True),
        (idle_fleet(loaded(running=1)), False),
        (idle_fleet(loaded(waiting=1)), False),
        (idle_fleet(ModelReport("m", "recovering", "cpu")), False),
        (idle_fleet(ModelReport("m", "failed", "cpu")), False),
        (evolve(idle_fleet(), in_flight={("a", "m"): 1}), False),
        (evolve(idle_fleet(), in_flight={("b", "m"): 1, ("a", "n"): 1}), True),
        (evolve(idle_fleet(), draining={("a", "m")}), False),
        (evolve(idle_fleet(), uses={}), False),
        (evolve(idle_fleet(), catalogue={}), False),
    ],
)
def test_a_model_is_idle_when_nobody_has_used_it_for_its_time_and_nothing_keeps_it(fleet: Fleet, goes: bool) -> None:  # noqa: FBT001 - a table
    assert idle(fleet, NOW) == ([("a", "m")] if goes else [])


def test_never_is_never_for_a_whole_fleet_too() -> None:
    fleet = fleet_of({"a": sighting(loaded())}, cortex=eviction(idle_ttl=Duration(inf)))
    assert idle(fleet, 1e12) == []


def test_nothing_is_idle_on_a_node_that_is_down() -> None:
    fleet = idle_fleet()
    assert idle(evolve(fleet, nodes={"a": evolve(fleet.nodes["a"], up=False)}), NOW) == []


def test_who_is_busy_is_known_from_our_requests_and_from_the_nodes_word() -> None:
    fleet = fleet_of({"a": sighting()})
    node = fleet.nodes["a"]
    assert not is_busy(fleet, node, loaded())
    assert is_busy(fleet, node, loaded(running=1))
    assert is_busy(fleet, node, loaded(waiting=1))
    assert is_busy(evolve(fleet, in_flight={("a", "m"): 1}), node, loaded())


def worn_fleet(*reports: ModelReport, cycles: int = 50, **settings: Any) -> Fleet:
    fleet = fleet_of({"a": sighting(*reports)}, cortex=eviction(**settings))
    return evolve(fleet, cycles={("a", "cpu"): cycles})


def with_status(status: ModelStatus, **settings: Any) -> ModelReport:
    return ModelReport("n", status, "cpu", **settings)


@pytest.mark.parametrize(
    ("fleet", "due"),
    [
        (worn_fleet(loaded()), True),
        (worn_fleet(), True),
        (worn_fleet(cycles=49), False),
        (worn_fleet(cycles=3, defrag_after_cycles=3), True),
        (worn_fleet(cycles=10**6, defrag_after_cycles=0), False),
        (worn_fleet(loaded(), with_status("failed")), True),
        (worn_fleet(loaded(), with_status("unloaded")), True),
        (worn_fleet(loaded(), with_status("loading")), False),
        (worn_fleet(loaded(), with_status("recovering")), False),
        (worn_fleet(loaded(running=1)), False),
        (worn_fleet(loaded(), loaded("n", device="cuda:0", running=1)), True),
        (evolve(worn_fleet(loaded()), in_flight={("a", "m"): 1}), False),
        (evolve(worn_fleet(loaded()), draining={("a", "m")}), False),
        (evolve(worn_fleet(), loads={"n": Load("n", "a", "cpu", (), 0.0)}), False),
        (evolve(worn_fleet(), loads={"n": Load("n", "b", "cpu", (), 0.0)}), True),
        (evolve(worn_fleet(), nodes={}), False),
    ],
)
def test_a_worn_device_begins_anew_when_nothing_goes_on_there(fleet: Fleet, due: bool) -> None:  # noqa: FBT001 - a table
    assert worn(fleet) == ([("a", "cpu")] if due else [])


def test_a_worn_device_of_a_node_that_is_down_is_left_alone() -> None:
    fleet = worn_fleet()
    assert worn(evolve(fleet, nodes={"a": evolve(fleet.nodes["a"], up=False)})) == []
