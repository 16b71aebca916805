"""What clients and the operator see of a fleet."""

from typing import Any

import orjson
import pytest
from fleets import fleet_of, node

from helexa.cortex import listing
from helexa.cortex.fleet import Fleet, Node
from helexa.wire.fleet import Limit, ModelReport

WIDE = ModelReport("m", "loaded", "cuda:0", 900, Limit(4096, 4000, 1024), ("chat", "reasoning"), 1, 0)
NARROW = ModelReport("m", "loading", "cpu", 400, Limit(2048, 2047, 2048), ("chat", "tool_call"))


def entry(fleet: Fleet, model: str = "m") -> dict[str, Any]:
    (found,) = [each for each in listing.models(fleet, 7) if each["id"] == model]
    return found


def test_a_model_on_two_nodes_is_one_entry() -> None:
    assert entry(fleet_of(node("a", NARROW), node("b", WIDE))) == {
        "id": "m",
        "object": "model",
        "created": 7,
        "owned_by": "helexa",
        "status": "loaded",
        "loaded": True,
        "feasible_on": ["a", "b"],
        "locations": [
            {"node": "a", "status": "loading", "memory_mb": 400},
            {"node": "b", "status": "loaded", "memory_mb": 900},
        ],
        "capabilities": ["chat", "reasoning", "tool_call"],
        "limit": {"context": 2048, "input": 2047, "output": 1024},
        "tool_call": True,
        "reasoning": True,
    }


def test_a_model_that_no_node_reports_is_listed_as_unloaded() -> None:
    found = entry(fleet_of(node("a")))
    assert (found["status"], found["loaded"], found["limit"], found["locations"]) == ("unloaded", False, None, [])


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
    nodes = [node(f"n{index}", ModelReport("m", status)) for index, status in enumerate(statuses)]
    assert entry(fleet_of(*nodes))["status"] == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loaded", "recovering"),
        ("loading", "recovering"),
        ("recovering", "recovering"),
        ("failed", "failed"),
        ("unloaded", "unloaded"),
    ],
)
def test_a_node_that_is_down_will_bring_back_what_it_had(before: Any, after: str) -> None:
    found = entry(fleet_of(node("a", ModelReport("m", before), up=False)))
    assert (found["status"], found["loaded"], found["feasible_on"]) == (after, False, ["a"])


def test_an_alias_is_an_entry_of_its_own_like_its_models() -> None:
    fleet = fleet_of(node("a", WIDE), aliases={"small": "m", "gone": "x"})
    assert entry(fleet, "small") == {**entry(fleet), "id": "small"}
    assert [each["id"] for each in listing.models(fleet, 7)] == ["m", "small"]


def test_models_come_in_the_catalogues_order_then_what_nodes_have_besides() -> None:
    fleet = fleet_of(node("a", ModelReport("z", "loaded"), WIDE), catalogue=("y", "m"))
    assert [each["id"] for each in listing.models(fleet, 7)] == ["y", "m", "z"]


def test_the_snapshot_shows_nodes_seen_and_not_seen() -> None:
    fleet = fleet_of(node("a", WIDE, in_flight={"m": 2}), Node("b", "http://b:1"), aliases={"small": "m"})
    found = orjson.loads(orjson.dumps(listing.snapshot(fleet)))
    assert (found["catalogue"], found["aliases"]) == (["m"], {"small": "m"})
    seen, unseen = found["nodes"]
    assert (seen["up"], seen["in_flight"], seen["models"][0]["memory_mb"]) == (True, {"m": 2}, 900)
    assert (seen["discovery"]["hostname"], seen["activation"]["state"]) == ("box", "ready")
    assert (unseen["up"], unseen["models"], unseen["discovery"], unseen["devices"]) == (False, [], None, None)
