"""What the console knows of a fleet, and how it reads what a fleet tells."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui import shapes
from tui.shapes import Actor, Event, Fleet, Line, Model, Node, Requests
from tui.world import HISTORY, MOST_EVENTS, MOST_LINES, World

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("nodes", "name", "up", "devices", "models", "id", "steps", "kv", "limit", "version", "topology", "loads")
fleets = st.recursive(
    anything, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=12
)


def node(name: str = "a", **told: Any) -> dict[str, Any]:
    return {"name": name, "up": True, **told}


def device(**told: Any) -> dict[str, Any]:
    return {"name": "cuda:0", "memory_total_mb": 1000, "memory_used_mb": 250, **told}


def model(new_tokens: int, name: str = "m") -> dict[str, Any]:
    steps = {"count": 1, "seconds": 0.5, "tokens": new_tokens, "new_tokens": new_tokens}
    return {"id": name, "status": "loaded", "steps": steps}


@given(data=fleets)
def test_whatever_is_told_as_a_fleet_is_read_as_one(data: Any) -> None:
    world = World()
    world.take("fleet", data, 1.0)
    world.take("fleet", data, 2.0)
    assert isinstance(world.fleet, Fleet)


@given(feed=st.sampled_from(["models", "actors", "requests", "logs", "keys", "bench_summary"]), data=anything)
def test_whatever_a_feed_answers_is_taken(feed: str, data: Any) -> None:
    World().take(feed, data, 1.0)


@given(data=anything)
def test_every_shape_is_read_from_anything(data: Any) -> None:
    for kind in (Fleet, Node, Model, Actor, Requests, Line, Event):
        assert isinstance(shapes.read(kind, data), kind)


def test_unknown_fields_are_passed_over_and_wrong_types_count_as_missing() -> None:
    found = shapes.read(Event, {"id": 7, "event": "node.up", "data": "none", "colour": "red", "time": {}})
    assert found == Event(7, 0.0, "node.up", {})


def test_one_broken_node_does_not_hide_the_others() -> None:
    found = shapes.read(Fleet, {"nodes": [node("a"), 7, node("b", devices=[{"name": 3}], models="no")]})
    assert [each.name for each in found.nodes] == ["a", "?", "b"]


def test_courses_of_devices_are_fractions_and_their_memory_is_bounded() -> None:
    world = World()
    for second in range(HISTORY + 5):
        told = device(utilization=50, temperature=61.0, power=120.0)
        world.take("fleet", {"nodes": [node(devices=[told])]}, float(second))
    course = world.devices["a", "cuda:0"]
    assert (course.last("memory"), course.last("utilization"), course.last("power")) == (0.25, 0.5, 120.0)
    assert len(course.of("memory")) == HISTORY


def test_what_a_device_does_not_tell_is_unknown_and_not_nothing() -> None:
    world = World()
    world.take("fleet", {"nodes": [node(devices=[device(memory_total_mb=0)])]}, 1.0)
    course = world.devices["a", "cuda:0"]
    assert course.last("memory") is None
    assert course.of("utilization") == []


def test_tokens_a_second_are_what_an_engine_counted_since_the_last_look() -> None:
    world = World()
    for at, tokens in ((10.0, 100), (12.0, 160), (13.0, 5), (13.0, 9), (14.0, 105)):
        world.take("fleet", {"nodes": [node(models=[model(tokens)])]}, at)
    assert world.rates["a", "m"].of("tokens") == [30.0, 0.0, 100.0]  # it began anew, and was looked at twice at once


def test_a_count_that_the_gateway_has_not_looked_at_anew_is_not_taken_for_idleness() -> None:
    world = World()
    for at, tokens in ((0.0, 0), (1.0, 0), (2.0, 200), (3.0, 200), (4.0, 400), (5.0, 400), (9.5, 400)):
        world.take("fleet", {"nodes": [node(models=[model(tokens)])]}, at)
    assert world.rates["a", "m"].of("tokens") == [100.0, 100.0, 0.0]


def test_what_has_gone_is_forgotten() -> None:
    world = World()
    world.take("fleet", {"nodes": [node(devices=[device()], models=[model(1)])]}, 1.0)
    world.take("fleet", {"nodes": [node(devices=[device()], models=[model(2)])]}, 2.0)
    assert (set(world.devices), set(world.rates)) == ({("a", "cuda:0")}, {("a", "m")})
    world.take("fleet", {"nodes": []}, 3.0)
    assert (world.devices, world.rates, world._steps) == ({}, {}, {})


def test_an_error_is_remembered_until_the_feed_answers_and_what_was_known_stays() -> None:
    world = World()
    world.take("fleet", {"nodes": [node()]}, 1.0)
    world.take("fleet", None, 2.0, "gone")
    assert world.errors == {"fleet": "gone"}
    assert world.fleet is not None
    assert world.fleet.node("a") is not None
    world.take("fleet", {}, 3.0)
    assert world.errors == {}


def test_lines_and_events_are_bounded_and_know_their_node() -> None:
    world = World()
    for number in range(3):
        world.take("logs", {"node": "beast", "lines": [{"id": number, "event": "x"}] * MOST_LINES}, 1.0)
        world.happened([Event(number)] * MOST_EVENTS)
    assert (len(world.lines), len(world.events)) == (MOST_LINES, MOST_EVENTS)
    assert (world.lines[-1].node, world.lines[-1].id, world.events[-1].id) == ("beast", 2, 2)


@pytest.mark.parametrize("feed", ["keys", "usage", "bench_summary"])
def test_feeds_of_one_screen_lie_as_they_came(feed: str) -> None:
    world = World()
    world.take(feed, {"x": 1}, 1.0)
    assert world.raw == {feed: {"x": 1}}
