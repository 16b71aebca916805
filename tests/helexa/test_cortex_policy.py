"""Where a request goes, and what a refused caller is told."""

from typing import get_args

import pytest
from attrs import evolve
from fleets import fleet_of, loaded, model, needs, sighting
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.routing.fleet import Failure, Fleet, Load, Sighting
from helexa.cortex.routing.policy import (
    ColdLoad,
    LoadFailed,
    LoadingTooLong,
    NoFeasibleNeuron,
    NoHealthyNodes,
    Recovering,
    Refusal,
    Route,
    Unknown,
    Wait,
    Wanted,
    refusal_error,
    resolve,
)
from helexa.wire.fleet import Activation, ActivationFailure, ModelReport, ModelStatus

LOADED = sighting(loaded())
EMPTY = sighting()
HERE = Route("a", "http://a:1", "m")
LOADING = sighting(ModelReport("m", "loading", "cpu"))
RECOVERING = sighting(ModelReport("m", "recovering", "cpu"))
COLD = ColdLoad("m", "helexa", "a", "cpu")
WANTED = Wanted("m")
ALIEN = {"models": ()}
"""The model is not in the catalogue."""


def down(fleet: Fleet, *names: str) -> Fleet:
    """Indexed as the state does it: nobody who is down holds anything."""
    nodes = {name: evolve(node, up=node.up and name not in names) for name, node in fleet.nodes.items()}
    holders = {
        each: tuple(holder for holder in found if holder.node not in names) for each, found in fleet.holders.items()
    }
    return evolve(fleet, nodes=nodes, holders=holders)


def failed(fleet: Fleet, until: float, *names: str) -> Fleet:
    return evolve(fleet, failures={(name, "m"): Failure("no file", until) for name in names})


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        (fleet_of({"a": LOADED}), HERE),
        (fleet_of({"b": EMPTY, "a": LOADED}), HERE),
        (fleet_of({"a": LOADED, "b": LOADING}), HERE),
        (fleet_of({"a": LOADED}, **ALIEN), HERE),
        (fleet_of({"a": EMPTY}), COLD),
        (fleet_of({"a": sighting(ModelReport("m", "unloaded"))}), COLD),
        (fleet_of({"a": EMPTY, "b": None}), COLD),
        (down(fleet_of({"b": LOADED, "a": EMPTY}), "b"), COLD),
        (fleet_of({"a": LOADING}), Wait("m", "it is being loaded on a")),
        (fleet_of({"a": LOADING}, **ALIEN), Wait("m", "it is being loaded on a")),
        (fleet_of({"a": sighting(activation=Activation(pending=("m",)))}), Wait("m", "it is being loaded on a")),
        (fleet_of({"a": sighting(activation=Activation(in_progress="m"))}), Wait("m", "it is being loaded on a")),
        (fleet_of({"a": RECOVERING}), Recovering("m", "a", "recovering")),
        (fleet_of({"a": RECOVERING, "b": EMPTY}), Recovering("m", "a", "recovering")),
        (fleet_of({"a": RECOVERING, "b": LOADING}), Wait("m", "it is being loaded on b")),
        (fleet_of({"a": None}), NoHealthyNodes("m")),
        (fleet_of({}), NoHealthyNodes("m")),
        (down(fleet_of({"a": LOADED}), "a"), NoHealthyNodes("m")),
        (down(fleet_of({"a": LOADED, "b": EMPTY}, **ALIEN), "a"), NoHealthyNodes("m")),
        (down(fleet_of({"a": sighting(activation=Activation(pending=("m",)))}), "a"), NoHealthyNodes("m")),
        (fleet_of({"a": sighting(loaded("n"))}, **ALIEN), Unknown("m")),
        (fleet_of({"a": EMPTY}, **ALIEN), Unknown("m")),
        (
            fleet_of({"a": sighting(ModelReport("m", "failed", error="no memory"))}, **ALIEN),
            NoFeasibleNeuron("m", (("a", "no memory"),)),
        ),
        (
            fleet_of({"a": sighting(ModelReport("m", "unloaded"))}, **ALIEN),
            NoFeasibleNeuron("m", (("a", "it is unloaded"),)),
        ),
        (
            fleet_of({"a": EMPTY, "b": None}, models=(model(pinned_on=("b",)),)),
            NoFeasibleNeuron("m", (("a", "the model is pinned on b"), ("b", "it is down: it was not seen yet"))),
        ),
        (
            fleet_of({"a": sighting(estimates=(needs(weights_mb=1001),))}),
            NoFeasibleNeuron("m", (("a", "the model needs 1001 MiB, and its models may have 1000"),)),
        ),
        (failed(fleet_of({"a": EMPTY}), 4.2, "a"), LoadFailed("m", (("a", "no file"),), 5)),
        (failed(fleet_of({"a": EMPTY}), 0.1, "a"), LoadFailed("m", (("a", "no file"),), 1)),
        (failed(fleet_of({"a": EMPTY}), 0.0, "a"), COLD),
        (failed(fleet_of({"a": EMPTY, "b": EMPTY}), 9.0, "b"), COLD),
        (failed(fleet_of({"a": LOADED}), 9.0, "a"), HERE),
        (
            failed(fleet_of({"a": EMPTY, "b": None}), 3.0, "a"),
            LoadFailed("m", (("a", "no file"), ("b", "it is down: it was not seen yet")), 3),
        ),
    ],
)
def test_a_request_goes_where_the_model_is_or_can_be_or_is_refused_for_the_best_reason(
    fleet: Fleet, expected: Route | Refusal
) -> None:
    assert resolve(fleet, WANTED) == expected


def test_a_load_that_is_under_way_is_waited_for_even_while_the_node_says_nothing_of_it() -> None:
    fleet = evolve(fleet_of({"a": EMPTY, "b": EMPTY}), loads={"m": Load("m", "b", "cpu", (), 0.0)})
    assert resolve(fleet, WANTED) == Wait("m", "it is being loaded on b")


def test_an_alias_is_its_model() -> None:
    fleet = fleet_of({"a": LOADED}, aliases={"small": "m"})
    assert resolve(fleet, Wanted("small")) == HERE
    assert resolve(fleet_of({"a": EMPTY}, aliases={"small": "m"}), Wanted("small")) == COLD
    assert resolve(fleet_of({"a": EMPTY}, models=(), aliases={"gone": "x"}), Wanted("gone")) == Unknown("x")


@pytest.mark.parametrize(
    ("avoid", "expected"),
    [
        ("", HERE),
        ("a", Route("b", "http://b:1", "m")),
        ("x", HERE),
        ("ab", ColdLoad("m", "helexa", "c", "cpu")),
        ("abc", NoHealthyNodes("m")),
    ],
)
def test_a_node_that_failed_the_request_gets_neither_the_request_nor_the_model(
    avoid: str, expected: Route | Refusal
) -> None:
    fleet = fleet_of({"a": LOADED, "b": LOADED, "c": EMPTY})
    assert resolve(fleet, Wanted("m", avoid=frozenset(avoid))) == expected


def test_a_model_that_is_not_in_the_catalogue_and_only_where_the_request_failed_has_no_healthy_node() -> None:
    fleet = fleet_of({"a": LOADED, "b": EMPTY}, **ALIEN)
    assert resolve(fleet, Wanted("m", avoid=frozenset("a"))) == NoHealthyNodes("m")


def test_why_an_avoided_node_is_no_place_is_told() -> None:
    fleet = fleet_of({"a": LOADED, "b": sighting(estimates=(needs(weights_mb=2000),))})
    refusal = resolve(fleet, Wanted("m", avoid=frozenset("a")))
    assert isinstance(refusal, NoFeasibleNeuron)
    assert refusal.reasons[0] == ("a", "a request has just failed there")


def test_a_model_about_to_be_unloaded_gets_no_further_requests() -> None:
    fleet = evolve(fleet_of({"a": LOADED, "b": LOADED}), draining={("a", "m")})
    assert resolve(fleet, WANTED) == Route("b", "http://b:1", "m")
    assert resolve(evolve(fleet, draining={("a", "other")}), WANTED) == HERE


def test_a_model_about_to_be_unloaded_from_its_only_node_is_loaded_elsewhere_or_once_it_is_gone() -> None:
    alone = evolve(fleet_of({"a": LOADED}), draining={("a", "m")})
    assert resolve(alone, WANTED) == Wait("m", "a: m is about to be unloaded there")
    two = evolve(fleet_of({"a": LOADED, "b": EMPTY}), draining={("a", "m")})
    assert resolve(two, WANTED) == ColdLoad("m", "helexa", "b", "cpu")
    alien = evolve(fleet_of({"a": LOADED}, **ALIEN), draining={("a", "m")})
    assert resolve(alien, WANTED) == NoFeasibleNeuron("m", (("a", "it is about to be unloaded"),))


def test_a_wait_ends_when_a_failed_load_may_be_tried_again_too() -> None:
    busy = fleet_of({"a": EMPTY, "b": sighting(ModelReport("n", "loading", "cpu"))})
    assert resolve(failed(busy, 7.0, "a"), WANTED) == Wait("m", "b: n is loading there", 7.0)


def busy_fleet(**counts: int) -> Fleet:
    fleet = fleet_of(dict.fromkeys(counts, sighting(loaded(capacity=16))))
    return evolve(fleet, in_flight={(name, "m"): count for name, count in counts.items()})


@pytest.mark.parametrize(
    ("counts", "served", "expected"),
    [
        ({"a": 0, "b": 0}, None, "a"),
        ({"b": 0, "a": 0}, None, "a"),
        ({"a": 1, "b": 0}, None, "b"),
        ({"a": 1, "b": 0}, "a", "a"),
        ({"a": 2, "b": 0}, "a", "b"),
        ({"a": 3, "b": 2}, "a", "a"),
        ({"a": 0, "b": 0}, "b", "b"),
        ({"a": 0, "b": 0}, "gone", "a"),
        ({"a": 17, "b": 16}, None, "b"),
    ],
)
def test_the_emptiest_node_is_chosen_and_among_equally_empty_ones_that_with_the_conversations_cache(
    counts: dict[str, int], served: str | None, expected: str
) -> None:
    assert resolve(busy_fleet(**counts), WANTED, served=served) == Route(expected, f"http://{expected}:1", "m")


def test_how_full_a_node_is_depends_on_what_it_can_run_at_once() -> None:
    fleet = fleet_of({"a": sighting(loaded(capacity=4)), "b": sighting(loaded(capacity=64))})
    fleet = evolve(fleet, in_flight={("a", "m"): 2, ("b", "m"): 20})
    assert resolve(fleet, WANTED) == Route("b", "http://b:1", "m")


def test_requests_for_other_models_do_not_count() -> None:
    assert resolve(evolve(fleet_of({"a": LOADED, "b": LOADED}), in_flight={("a", "n"): 9}), WANTED) == HERE


@pytest.mark.parametrize(
    ("refusal", "status", "code", "retry_after", "message"),
    [
        (Recovering("m", "a", "recovering"), 503, "service_unavailable", 2, "The model 'm' is recovering on a."),
        (NoHealthyNodes("m"), 503, "service_unavailable", 5, "No healthy node can serve the model 'm' right now."),
        (
            NoFeasibleNeuron("m"),
            503,
            "service_unavailable",
            5,
            "No node can hold the model 'm' (there is none).",
        ),
        (
            NoFeasibleNeuron("m", (("a", "it is down"), ("b", "too small"))),
            503,
            "service_unavailable",
            5,
            "No node can hold the model 'm' (a: it is down; b: too small).",
        ),
        (
            LoadFailed("m", (("a", "no file"),), 17),
            503,
            "service_unavailable",
            17,
            "The model 'm' does not load (a: no file).",
        ),
        (
            LoadingTooLong("m", "it is being loaded on a"),
            503,
            "service_unavailable",
            5,
            "The model 'm' is not ready yet: it is being loaded on a.",
        ),
        (
            Unknown("m"),
            404,
            "model_not_found",
            None,
            "The model 'm' does not exist here. GET /v1/models lists those that do.",
        ),
    ],
)
def test_a_refusal_is_an_error_of_the_table(
    refusal: Refusal, status: int, code: str, retry_after: int | None, message: str
) -> None:
    error = refusal_error(refusal)
    assert (error.status, error.code, error.retry_after, error.message) == (status, code, retry_after, message)
    assert error.type == ("api_error" if status == 503 else "invalid_request_error")


def test_every_refusal_has_a_case_above() -> None:
    assert {each.__name__ for each in get_args(Refusal)} == {
        "Recovering",
        "NoHealthyNodes",
        "NoFeasibleNeuron",
        "LoadFailed",
        "LoadingTooLong",
        "Unknown",
    }


NODES, MODELS = "abcd", ("m", "n", "o")
REPORTS = st.builds(
    ModelReport,
    st.sampled_from(MODELS),
    st.sampled_from(get_args(ModelStatus)),
    st.just("cpu"),
    st.integers(0, 600),
    capacity=st.integers(0, 4),
)
ACTIVATIONS = st.builds(
    Activation,
    pending=st.lists(st.sampled_from(MODELS), max_size=2, unique=True).map(tuple),
    failed=st.lists(st.builds(ActivationFailure, st.sampled_from(MODELS), st.just("no")), max_size=1).map(tuple),
)
SIGHTINGS = st.builds(
    lambda reports, activation, used, weights: sighting(
        *reports,
        activation=activation,
        used_mb=used,
        estimates=tuple(needs(each, weights) for each in MODELS),
    ),
    st.lists(REPORTS, max_size=3, unique_by=lambda report: report.id),
    ACTIVATIONS,
    st.integers(0, 1000),
    st.integers(0, 1200),
)
AT = st.tuples(st.sampled_from(NODES), st.sampled_from(MODELS))


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    seen: dict[str, Sighting | None] = draw(
        st.dictionaries(st.sampled_from(NODES), st.one_of(st.none(), SIGHTINGS), max_size=4)
    )
    catalogue = tuple(model(each) for each in draw(st.lists(st.sampled_from(MODELS), max_size=3, unique=True)))
    fleet = fleet_of(seen, models=catalogue, aliases={"x": "m", "y": "n"})
    return evolve(
        down(fleet, *draw(st.sets(st.sampled_from(NODES)))),
        in_flight=draw(st.dictionaries(AT, st.integers(0, 9))),
        draining=draw(st.sets(AT, max_size=3)),
        failures=draw(st.dictionaries(AT, st.just(Failure("no", 200.0)), max_size=3)),
    )


NAMES = st.sampled_from([*MODELS, "x", "y", "z"])
AVOID = st.frozensets(st.sampled_from(NODES))
SERVED = st.one_of(st.none(), st.sampled_from(NODES))


@given(fleets(), NAMES, AVOID, SERVED)
def test_whatever_the_fleet_every_decision_is_one_that_can_be_carried_out(
    fleet: Fleet, name: str, avoid: frozenset[str], served: str | None
) -> None:
    decision = resolve(fleet, Wanted(name, avoid=avoid), 1e6, served)
    able = ranked(fleet, fleet.resolve(name), avoid, served)
    assert isinstance(decision, Route) == bool(able)
    assert isinstance(decision, Unknown) == (fleet.resolve(name) not in fleet.known())
    match decision:
        case Route(chosen, endpoint, routed):
            assert (min(able)[-1], fleet.resolve(name)) == (chosen, routed)
            assert fleet.nodes[chosen].endpoint == endpoint
        case ColdLoad():
            assert decision.model == fleet.resolve(name)
            check_cold_load(fleet, decision, avoid)
        case Wait():
            pass
        case refusal:
            assert refusal_error(refusal).status == (404 if isinstance(refusal, Unknown) else 503)


def ranked(fleet: Fleet, wanted: str, avoid: frozenset[str], served: str | None) -> list[tuple[int, bool, int, str]]:
    """The nodes that could take the request, each with what it is judged by."""
    able = []
    for each in fleet.nodes.values():
        report, at = each.model(wanted), (each.name, wanted)
        if each.up and report and report.status == "loaded" and each.name not in avoid and at not in fleet.draining:
            count = fleet.in_flight.get(at, 0)
            able.append((count * 8 // max(1, report.capacity), each.name != served, count, each.name))
    return able


def check_cold_load(fleet: Fleet, decision: ColdLoad, avoid: frozenset[str]) -> None:
    """Of the catalogue, where nothing else goes on, at the cost of what may go."""
    node = fleet.nodes[decision.node]
    assert decision.model in fleet.catalogue
    assert node.up
    assert node.name not in avoid
    assert not any(at[0] == node.name and node.model(at[1]) for at in fleet.draining)
    assert all(report.status not in ("loading", "recovering") for report in node.models)
    there = {report.id for report in node.models if report.status == "loaded"}
    assert decision.model not in there
    assert set(decision.evicts) <= there
    assert not any(fleet.is_kept(node.name, each) for each in decision.evicts)
