"""What an operator who waits for a model is told of a fleet's events."""

from typing import Any

import pytest

from helexa.cli.progress import Progress

SNAPSHOT = {"event": "snapshot", "data": {"aliases": {"small": "m", "other": "n"}}}


def told(model: str, *events: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    progress = Progress(model, lines.append)
    for event in events:
        progress.hear(event)
    return lines


def event(kind: str, model: str = "m", **data: Any) -> dict[str, Any]:
    return {"event": f"model.{kind}", "data": {"node": "a", "model": model, **data}}


@pytest.mark.parametrize("name", ["m", "small"])
def test_a_load_is_told_from_making_room_to_the_end(name: str) -> None:
    assert told(
        name,
        SNAPSHOT,
        event("loading", evicts=["n", "k"]),
        event("unloading", "n"),
        event("evicted", "n"),
        event("loaded", seconds=1.5),
    ) == [
        "a: loading m in place of n, k",
        "a: unloading n once its requests have ended",
        "a: unloaded n",
        "a: loaded m in 1.5 s",
    ]


def test_what_concerns_other_models_is_not_told() -> None:
    assert told("m", SNAPSHOT, event("loading", "n"), event("unloading", "n"), event("loaded", "other")) == []


def test_what_the_neuron_says_once_more_is_not_told_again() -> None:
    assert told("m", event("loading", evicts=[]), event("loading"), event("loaded", seconds=2), event("loaded")) == [
        "a: loading m",
        "a: loaded m in 2 s",
    ]


def fetching(done: int, seconds_left: float | None = None, **data: Any) -> dict[str, Any]:
    told = {"phase": "downloading", "done": done, "total": 10 * 2**30, "seconds_left": seconds_left}
    return event("progress", **{**told, **data})


def test_a_download_is_told_at_each_tenth() -> None:
    steps = [fetching(part * 2**30 // 20, seconds_left=90.0) for part in range(40)]
    lines = told("m", event("progress", phase="resolving", done=0, total=0, seconds_left=None), *steps)
    assert lines[:2] == ["a: fetching m: 0 % of 10.0 GiB, 1m30s left", "a: fetching m: 10 % of 10.0 GiB, 1m30s left"]
    assert len(lines) == 2


def test_a_download_of_unknown_size_and_speed() -> None:
    assert told("m", fetching(0, total=0)) == ["a: fetching m: nothing yet"]


def test_a_load_that_takes_long_says_each_tenth_of_it_after_those_of_its_download() -> None:
    fetched = fetching(5 * 2**30, seconds_left=90.0)
    loads = [fetching(part * 2**30 // 20, seconds_left=9.0, phase="loading") for part in range(101, 104)]
    assert told("m", fetched, fetching(0, total=0, phase="loading"), *loads) == [
        "a: fetching m: 50 % of 10.0 GiB, 1m30s left",
        "a: loading m: 50 % of 10.0 GiB, 9s left",
    ]


def test_a_failure_says_why() -> None:
    assert told("m", event("load_failed", error="no memory")) == ["a: could not load m: no memory"]


@pytest.mark.parametrize("strange", [{}, {"event": "snapshot"}, {"event": "x", "data": 1}, {"data": {"model": "m"}}])
def test_strange_events_are_passed_over(strange: dict[str, Any]) -> None:
    assert told("m", strange, {"event": "snapshot", "data": {}}, event("pinned")) == []
