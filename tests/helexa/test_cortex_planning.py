"""What a topology would change in a fleet that runs, and where its models would fit."""

from typing import Any

import orjson
import pytest
from attrs import evolve

from config import Topology, parse
from helexa.cortex.routing.fleet import Failure, Fleet, Holder, Node, Sighting
from helexa.cortex.routing.planning import places, plan
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery, Estimate, Version

VERSION = Version("0.1.0", None, None, None, "3.11", "2.13", "5.0", None, 0.0)
NOW = parse(
    """
[[neurons]]
name = "beast"
listen = "127.0.0.1:1"
[[neurons]]
name = "desk"
listen = "127.0.0.1:2"
[[models]]
id = "m/big"
[[models]]
id = "m/small"
"""
)


def node(topology: Topology, name: str, total_mb: int, **needs_mb: int) -> Node:
    """A node with one GPU, all of it free."""
    neuron = topology.neuron(name)
    assert neuron is not None
    discovery = Discovery(name, "Linux", None, (DeviceInfo(0, "cuda:0", "RTX", total_mb),))
    estimates = {f"m/{model}": Estimate(f"m/{model}", weights_mb=need) for model, need in needs_mb.items()}
    health = (DeviceHealth("cuda:0", total_mb, 0),)
    return Node(neuron, up=True, sighting=Sighting(discovery, VERSION, 1.0, health, estimates=estimates))


@pytest.fixture
def fleet() -> Fleet:
    nodes = {
        "beast": node(NOW, "beast", 32000, big=20000, small=2000),
        "desk": node(NOW, "desk", 12000, big=20000, small=2000),
    }
    return Fleet(NOW, nodes, {model.id: model for model in NOW.models})


def sites(fleet: Fleet, text: str, model: str) -> list[tuple[str, str, str | None]]:
    """Node, verdict and reason of each place that a model would have."""
    answer = plan(fleet, parse(text))
    orjson.dumps(answer)
    (found,) = [each for each in answer["models"] if each["id"] == model]
    assert found["fits"] == any(site["verdict"] == "fits" for site in found["sites"])
    return [(site["node"], site["verdict"], site["reason"]) for site in found["sites"]]


def text(extra: str = "", model: str = 'id = "m/big"') -> str:
    return (
        '[[neurons]]\nname = "beast"\nlisten = "127.0.0.1:1"\n[[neurons]]\nname = "desk"\nlisten = "127.0.0.1:2"\n'
        f"{extra}\n[[models]]\n{model}\n"
    )


def test_the_topology_in_force_changes_nothing(fleet: Fleet) -> None:
    answer = plan(fleet, NOW)
    assert answer["changes"] == []
    assert [model["id"] for model in answer["models"]] == ["m/big", "m/small"]


def test_each_place_says_how_much_memory_or_why_not(fleet: Fleet) -> None:
    (model,) = plan(fleet, parse(text()))["models"]
    assert model["fits"]
    assert model["loaded_on"] == []
    first, second = model["sites"]
    assert first == {
        "node": "beast",
        "device": "cuda:0",
        "others": [],
        "need_mb": 20000,
        "free_mb": 32000,
        "total_mb": 32000,
        "evicts": [],
        "verdict": "fits",
        "reason": None,
    }
    assert (second["node"], second["verdict"]) == ("desk", "never")
    assert "20000 MiB" in second["reason"]


def test_pins_and_limits_of_the_new_file_count_and_not_those_in_force(fleet: Fleet) -> None:
    pinned = text(model='id = "m/small"\npinned_on = ["desk"]')
    assert [(name, verdict) for name, verdict, _ in sites(fleet, pinned, "m/small")] == [
        ("desk", "fits"),
        ("beast", "never"),
    ]
    limited = text().replace('listen = "127.0.0.1:1"', 'listen = "127.0.0.1:1"\nmemory = "1GiB"')
    assert all(verdict == "never" for _, verdict, _ in sites(fleet, limited, "m/big"))


def test_a_neuron_that_is_to_come_was_not_seen_yet(fleet: Fleet) -> None:
    found = sites(fleet, text('[[neurons]]\nname = "new"\nlisten = "127.0.0.1:3"'), "m/big")
    assert ("new", "never", "it is down: it was not seen yet") in found


def test_a_neuron_that_is_to_go_is_no_place(fleet: Fleet) -> None:
    alone = '[[neurons]]\nname = "desk"\nlisten = "127.0.0.1:2"\n[[models]]\nid = "m/big"\n'
    assert {name for name, _, _ in sites(fleet, alone, "m/big")} == {"desk"}


def test_a_load_that_failed_a_moment_ago_is_told(fleet: Fleet) -> None:
    failed = evolve(fleet, failures={("beast", "m/big"): Failure("the disk is full", 9.0)})
    assert ("beast", "failed", "the disk is full") in sites(failed, text(), "m/big")


def test_where_a_model_is_loaded_is_told(fleet: Fleet) -> None:
    loaded = evolve(fleet, holders={"m/big": (Holder("beast", "http://beast:1", 8),)})
    assert plan(loaded, NOW)["models"][0]["loaded_on"] == ["beast"]


def changes(fleet: Fleet, text: str) -> list[dict[str, Any]]:
    return list(plan(fleet, parse(text))["changes"])


def test_changes_are_told_for_programs_and_for_people(fleet: Fleet) -> None:
    found = changes(fleet, text(model='id = "m/big"\npriority = 3'))
    assert found == [
        {
            "kind": "changed",
            "path": 'models."m/big".priority',
            "before": None,
            "after": 3,
            "when": "at once",
            "line": '~ models."m/big".priority: default → 3',
        },
        {
            "kind": "removed",
            "path": 'models."m/small"',
            "before": {"id": "m/small"},
            "after": None,
            "when": "at once",
            "line": '- models."m/small"',
        },
    ]


def test_no_hash_of_a_key_is_told(fleet: Fleet) -> None:
    keys = '[[entitlements.keys]]\nname = "ci"\nkey_hash = "sha256:{}"\n'
    added = changes(fleet, text(keys.format("a" * 64)))
    assert "aaaa" not in str(added)
    assert added[0]["after"] == {"name": "ci"} or added[1]["after"] == {"name": "ci"}


def test_the_places_of_a_model_are_those_that_a_plan_of_the_same_topology_has(fleet: Fleet) -> None:
    assert places(fleet, "m/big") == plan(fleet, NOW)["models"][0]
    assert places(fleet, "m/none") is None


def test_an_alias_has_the_places_of_its_model(fleet: Fleet) -> None:
    found = places(evolve(fleet, aliases={"big": "m/big"}), "big")
    assert found is not None
    assert found["id"] == "m/big"


def test_of_a_model_that_a_node_brought_along_no_place_is_known(fleet: Fleet) -> None:
    loaded = evolve(fleet, placed={"m/odd": ("desk",)}, holders={"m/odd": (Holder("desk", "http://desk:1", 8),)})
    assert places(loaded, "m/odd") == {"id": "m/odd", "loaded_on": ["desk"], "fits": False, "sites": []}
