"""Where a request goes, and what a refused caller is told."""

from random import Random
from typing import get_args

import pytest
from fleets import fleet_of, node
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.fleet import Fleet, Node
from helexa.cortex.policy import (
    NoHealthyNodes,
    NotLoaded,
    Recovering,
    Refusal,
    Route,
    Unknown,
    refusal_error,
    resolve,
)
from helexa.wire.fleet import Activation, ActivationFailure, ModelReport, ModelStatus

LOADED = ModelReport("m", "loaded")
LOADING = ModelReport("m", "loading")
FAILED = ModelReport("m", "failed", error="out of memory")
NEVER_SEEN = Node("a", "http://a:1")


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        (fleet_of(node("a", LOADED)), Route("a", "http://a:1", "m")),
        (fleet_of(node("a"), node("b", LOADED)), Route("b", "http://b:1", "m")),
        (fleet_of(node("a", LOADED, up=False), node("b", LOADED)), Route("b", "http://b:1", "m")),
        (fleet_of(node("a", LOADING), node("b", LOADED)), Route("b", "http://b:1", "m")),
        (fleet_of(node("b", LOADED), node("a", LOADED)), Route("a", "http://a:1", "m")),
        (fleet_of(node("a", LOADED, in_flight={"m": 1}), node("b", LOADED)), Route("b", "http://b:1", "m")),
        (fleet_of(node("a", LOADED, in_flight={"n": 9}), node("b", LOADED)), Route("a", "http://a:1", "m")),
        (fleet_of(node("a", LOADED), catalogue=()), Route("a", "http://a:1", "m")),
        (fleet_of(node("a", LOADING)), Recovering("m", "a", "loading")),
        (fleet_of(node("a", ModelReport("m", "recovering"))), Recovering("m", "a", "recovering")),
        (fleet_of(node("a", activation=Activation(pending=("m",)))), Recovering("m", "a", "loading")),
        (fleet_of(node("a", activation=Activation(in_progress="m"))), Recovering("m", "a", "loading")),
        (fleet_of(node("a", FAILED), node("b", LOADING)), Recovering("m", "b", "loading")),
        (fleet_of(NEVER_SEEN), NoHealthyNodes("m")),
        (fleet_of(), NoHealthyNodes("m")),
        (fleet_of(node("a", LOADED, up=False)), NoHealthyNodes("m")),
        (fleet_of(node("a", up=False, activation=Activation(pending=("m",)))), NoHealthyNodes("m")),
        (fleet_of(node("a", LOADED, up=False), catalogue=()), NoHealthyNodes("m")),
        (fleet_of(node("a")), NotLoaded("m")),
        (fleet_of(node("a", ModelReport("m", "unloaded"))), NotLoaded("m")),
        (fleet_of(node("a", LOADED, up=False), node("b")), NotLoaded("m")),
        (fleet_of(node("a", FAILED)), NotLoaded("m", (("a", "out of memory"),))),
        (
            fleet_of(node("a", activation=Activation("ready", failed=(ActivationFailure("m", "no file"),))), node("b")),
            NotLoaded("m", (("a", "no file"),)),
        ),
        (fleet_of(node("a", ModelReport("n", "loaded")), catalogue=()), Unknown("m")),
        (fleet_of(catalogue=()), Unknown("m")),
    ],
)
def test_a_request_goes_where_the_model_is_loaded_or_is_refused_for_the_best_reason(
    fleet: Fleet, expected: Route | Refusal
) -> None:
    assert resolve(fleet, "m") == expected


def test_an_alias_is_its_model() -> None:
    fleet = fleet_of(node("a", LOADED), aliases={"small": "m", "gone": "x"})
    assert resolve(fleet, "small") == Route("a", "http://a:1", "m")
    assert resolve(fleet, "gone") == Unknown("x")


@pytest.mark.parametrize(
    ("avoid", "expected"),
    [
        ([], Route("a", "http://a:1", "m")),
        (["a"], Route("b", "http://b:1", "m")),
        (["a", "b"], NoHealthyNodes("m")),
        (["x"], Route("a", "http://a:1", "m")),
    ],
)
def test_nodes_found_unreachable_are_avoided(avoid: list[str], expected: Route | Refusal) -> None:
    assert resolve(fleet_of(node("a", LOADED), node("b", LOADED)), "m", avoid) == expected


@pytest.mark.parametrize(
    ("refusal", "status", "code", "retry_after", "message"),
    [
        (Recovering("m", "a", "loading"), 503, "service_unavailable", 2, "The model 'm' is loading on a."),
        (NoHealthyNodes("m"), 503, "service_unavailable", 5, "No healthy node can serve the model 'm' right now."),
        (NotLoaded("m"), 503, "service_unavailable", 5, "The model 'm' is not loaded on any node."),
        (
            NotLoaded("m", (("a", "no file"), ("b", "no memory"))),
            503,
            "service_unavailable",
            5,
            "The model 'm' is not loaded on any node (a: no file; b: no memory).",
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


MODELS = st.sampled_from(["m", "n", "o"])
REPORTS = st.builds(ModelReport, MODELS, st.sampled_from(get_args(ModelStatus)))
ACTIVATIONS = st.builds(Activation, pending=st.lists(MODELS, max_size=2).map(tuple))
NODES = st.builds(
    lambda name, reports, up, activation, flying: node(name, *reports, up=up, activation=activation, in_flight=flying),
    st.sampled_from("abcd"),
    st.lists(REPORTS, max_size=3, unique_by=lambda report: report.id),
    st.booleans(),
    ACTIVATIONS,
    st.dictionaries(MODELS, st.integers(0, 3)),
)
FLEETS = st.builds(
    lambda nodes, catalogue, aliases: fleet_of(*nodes, catalogue=tuple(catalogue), aliases=aliases),
    st.lists(NODES, max_size=4, unique_by=lambda each: each.name),
    st.lists(MODELS, max_size=2, unique=True),
    st.dictionaries(st.sampled_from(["x", "y"]), MODELS),
)
NAMES = st.sampled_from(["m", "n", "o", "x", "y", "z"])
AVOID = st.sets(st.sampled_from("abcd"))


@given(FLEETS, NAMES, AVOID)
def test_a_route_leads_to_the_least_busy_node_that_is_up_and_has_the_model(
    fleet: Fleet, name: str, avoid: set[str]
) -> None:
    model = fleet.aliases.get(name, name)
    able = [
        (each.in_flight.get(model, 0), each.name)
        for each in fleet.nodes.values()
        if each.up and each.name not in avoid and ModelReport(model, "loaded") in each.models
    ]
    match resolve(fleet, name, avoid):
        case Route(chosen, endpoint, routed):
            assert (min(able)[1], fleet.nodes[chosen].endpoint, model) == (chosen, endpoint, routed)
        case refusal:
            assert able == []
            assert refusal_error(refusal).status in (404, 503)


@given(FLEETS, NAMES, AVOID, st.randoms(use_true_random=False))
def test_a_route_does_not_depend_on_the_order_of_the_nodes(
    fleet: Fleet, name: str, avoid: set[str], random: Random
) -> None:
    nodes = list(fleet.nodes.values())
    random.shuffle(nodes)
    shuffled = fleet_of(*nodes, catalogue=fleet.catalogue, aliases=fleet.aliases)
    one, other = resolve(fleet, name, avoid), resolve(shuffled, name, avoid)
    assert type(one) is type(other)
    assert one == other or not isinstance(one, Route)


@given(FLEETS, NAMES)
def test_unknown_is_what_neither_the_catalogue_nor_a_node_knows(fleet: Fleet, name: str) -> None:
    model = fleet.aliases.get(name, name)
    coming = any(model in each.sighting.activation.pending for each in fleet.nodes.values() if each.up)
    assert isinstance(resolve(fleet, name), Unknown) == (model not in fleet.known() and not coming)
