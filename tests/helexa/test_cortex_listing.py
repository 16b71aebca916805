"""What clients and the operator see of a fleet."""

from typing import Any

import orjson
import pytest
from attrs import evolve
from fleets import fleet_of, loaded, model, needs, sighting, state_of, topology_of

from config import Cost
from helexa.cortex.routing import listing
from helexa.cortex.routing.fleet import Fleet, Load, Use
from helexa.cortex.routing.policy import Route
from helexa.cortex.routing.state import NodeDown
from helexa.wire.fleet import Activation, Limit, ModelReport

WIDE = ModelReport("m", "loaded", "cuda:0", 900, Limit(4096, 4000, 1024), ("chat", "reasoning"), 1, 0)
NARROW = ModelReport("m", "loading", "cpu", 400, Limit(2048, 2047, 2048), ("chat", "tool_call"))
TOO_LARGE = sighting(estimates=(needs(weights_mb=1001),))


def entry(fleet: Fleet, name: str = "m") -> dict[str, Any]:
    """An entry of the list, which is what a client gets who asks for it alone."""
    (found,) = [each for each in listing.models(fleet, 7) if each["id"] == name]
    assert listing.model(fleet, name, 7) == found
    return found


def down(fleet: Fleet, name: str) -> Fleet:
    return evolve(fleet, nodes={**fleet.nodes, name: evolve(fleet.nodes[name], up=False)})


def test_a_model_on_two_nodes_is_one_entry() -> None:
    fleet = fleet_of(
        {"b": sighting(NARROW), "a": sighting(WIDE), "c": TOO_LARGE},
        models=(model(capabilities=("vision",), cost=Cost(0.5, 2.0)),),
    )
    assert entry(fleet) == {
        "id": "m",
        "object": "model",
        "created": 7,
        "owned_by": "helexa",
        "status": "loaded",
        "loaded": True,
        "feasible_on": ["b", "a"],
        "locations": [
            {"node": "b", "status": "loading", "memory_mb": 400},
            {"node": "a", "status": "loaded", "memory_mb": 900},
        ],
        "capabilities": ["chat", "reasoning", "tool_call", "vision"],
        "limit": {"context": 2048, "input": 2047, "output": 1024},
        "cost": {"input": 0.5, "output": 2.0},
        "tool_call": True,
        "reasoning": True,
    }


def test_a_model_that_no_node_reports_is_listed_as_unloaded_with_the_nodes_that_could_hold_it() -> None:
    fleet = fleet_of({"a": sighting(), "b": TOO_LARGE, "c": None}, models=(model(capabilities=("tool_call",)),))
    found = entry(fleet)
    assert (found["status"], found["loaded"], found["limit"], found["locations"]) == ("unloaded", False, None, [])
    assert (found["feasible_on"], found["tool_call"], found["reasoning"]) == (["a"], True, False)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["loaded", "failed"], "loaded"),
        (["failed", "loading", "recovering"], "recovering"),
        (["failed", "loading"], "loading"),
        (["unloaded", "failed"], "failed"),
        (["unloaded"], "unloaded"),
    ],
)
def test_the_most_hopeful_status_counts(statuses: list[Any], expected: str) -> None:
    seen = {f"n{index}": sighting(ModelReport("m", status)) for index, status in enumerate(statuses)}
    assert entry(fleet_of(seen))["status"] == expected


@pytest.mark.parametrize(
    ("before", "after", "feasible_on"),
    [
        ("loaded", "recovering", ["a"]),
        ("loading", "recovering", ["a"]),
        ("recovering", "recovering", ["a"]),
        ("failed", "failed", []),
        ("unloaded", "unloaded", []),
    ],
)
def test_a_node_that_is_down_will_bring_back_what_it_had(before: Any, after: str, feasible_on: list[str]) -> None:
    found = entry(down(fleet_of({"a": sighting(ModelReport("m", before))}), "a"))
    assert (found["status"], found["loaded"], found["feasible_on"]) == (after, False, feasible_on)


def test_a_model_that_start_up_is_to_load_is_loading_there() -> None:
    for activation in (Activation(pending=("m",)), Activation(in_progress="m")):
        fleet = fleet_of({"a": sighting(activation=activation)})
        assert entry(fleet)["locations"] == [{"node": "a", "status": "loading", "memory_mb": 0}]
        assert entry(down(fleet, "a"))["status"] == "recovering"


def test_a_model_whose_load_has_begun_is_loading_before_its_node_says_so() -> None:
    fleet = evolve(fleet_of({"a": sighting(), "b": TOO_LARGE}), loads={"m": Load("m", "b", "cpu", (), 0.0)})
    found = entry(fleet)
    assert (found["status"], found["feasible_on"]) == ("loading", ["a", "b"])
    assert found["locations"] == [{"node": "b", "status": "loading", "memory_mb": 0}]
    there = evolve(fleet_of({"a": sighting(NARROW)}), loads={"m": Load("m", "a", "cpu", (), 0.0)})
    assert len(entry(there)["locations"]) == 1
    gone = evolve(fleet, loads={"m": Load("m", "gone", "cpu", (), 0.0)})
    assert entry(gone)["status"] == "unloaded"


def test_an_alias_is_an_entry_of_its_own_like_its_model() -> None:
    fleet = fleet_of({"a": sighting(WIDE)}, aliases={"small": "m", "gone": "x"})
    assert entry(fleet, "small") == {**entry(fleet), "id": "small"}
    assert [each["id"] for each in listing.models(fleet, 7)] == ["m", "small"]
    assert listing.model(fleet, "gone", 7) is None
    assert listing.model(fleet, "ghost", 7) is None


def test_an_alias_goes_before_a_model_of_that_name_that_only_a_node_knows_of() -> None:
    fleet = fleet_of({"a": sighting(WIDE, loaded("small"))}, aliases={"small": "m"})
    assert entry(fleet, "small")["capabilities"] == ["chat", "reasoning"]


def test_models_come_in_the_catalogues_order_then_what_nodes_have_besides() -> None:
    fleet = fleet_of({"a": sighting(loaded("z"), loaded("k"), WIDE)}, models=(model("y"), model("m")))
    assert [each["id"] for each in listing.models(fleet, 7)] == ["y", "m", "k", "z"]
    alien = entry(fleet, "z")
    assert (alien["status"], alien["feasible_on"], alien["cost"]) == ("loaded", ["a"], None)


def test_what_only_a_node_knows_of_can_be_nowhere_else() -> None:
    fleet = fleet_of({"a": sighting(ModelReport("z", "failed")), "b": sighting()}, models=())
    assert entry(fleet, "z")["feasible_on"] == []


def test_the_snapshot_shows_nodes_seen_and_not_seen() -> None:
    topology = topology_of("a", "b", aliases={"small": "m"})
    state = state_of(topology, {"a": sighting(WIDE, estimates=(needs(),))})
    state.open(Route("a", "http://a:1", "m"))
    state.see(NodeDown("b", "no answer"))
    found = orjson.loads(orjson.dumps(listing.snapshot(state.fleet)))
    assert (found["catalogue"], found["aliases"], found["loads"]) == (["m"], {"small": "m"}, [])
    seen, unseen = found["nodes"]
    assert (seen["up"], seen["in_flight"], seen["models"][0]["memory_mb"]) == (True, {"m": 1}, 900)
    assert (seen["discovery"]["hostname"], seen["activation"]["state"]) == ("box", "ready")
    assert seen["devices"][0]["memory_total_mb"] == 1000
    assert (unseen["up"], unseen["models"], unseen["discovery"], unseen["devices"]) == (False, [], None, None)
    assert (unseen["error"], unseen["endpoint"]) == ("no answer", "http://b:1")
    assert seen.keys() == unseen.keys()


def test_the_snapshot_shows_what_cortex_knows_of_a_model_on_a_node() -> None:
    fleet = fleet_of({"a": sighting(WIDE, loaded("n"), ModelReport("o", "failed", error="no file"))})
    fleet = evolve(
        fleet,
        in_flight={("a", "m"): 3},
        uses={("a", "m"): Use(0.0, 98.5, pinned=True), ("a", "n"): Use(0.0, 101.0)},
        draining={("a", "n")},
    )
    found = {each["id"]: each for each in listing.snapshot(fleet)["nodes"][0]["models"]}
    shown = {
        name: [each[key] for key in ("in_flight", "pinned", "draining", "idle_seconds")] for name, each in found.items()
    }
    assert shown == {"m": [3, True, False, 1.5], "n": [0, False, True, 0.0], "o": [0, False, False, None]}
    assert found["o"]["error"] == "no file"


def test_the_snapshot_shows_loads_under_way_and_what_is_wrong_with_the_file() -> None:
    fleet = fleet_of({"a": sighting()})
    fleet = evolve(
        fleet, loads={"m": Load("m", "a", "cpu", ("x",), 97.04)}, problems=("3: no such key",), applied_at=12.5
    )
    found = listing.snapshot(fleet)
    load = {"model": "m", "node": "a", "device": "cpu", "others": [], "evicts": ["x"], "seconds": 3.0}
    assert found["loads"] == [load]
    assert found["topology"] == {"applied_at": 12.5, "problems": ["3: no such key"]}
