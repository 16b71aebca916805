"""Models on their way to a node: how often that is worth an event."""

from typing import Any

import pytest
from fleets import Clock, loaded, sighting
from states import EMPTY, PLAN, two

from helexa.cortex.routing.fleet import Sighting
from helexa.cortex.routing.state import NodeDown, NodeUp, State
from helexa.wire.fleet import ModelReport
from helexa.wire.progress import Phase, Progress

TOTAL = 100_000


@pytest.fixture
def state() -> State:
    return two(Clock())


def at(done: int, phase: Phase = "downloading", total: int = TOTAL) -> Sighting:
    return sighting(ModelReport("m", "loading", progress=Progress(phase, done, total, 10.0, 5.0)))


def told(state: State, said: Sighting) -> list[dict[str, Any]]:
    happened = state.see(NodeUp("a", said, state.fleet.clock()))
    return [dict(each.data) for each in happened if each.kind == "model.progress"]


def test_progress_is_told_as_the_node_tells_it(state: State) -> None:
    figures = {"phase": "downloading", "done": 10, "total": TOTAL, "rate": 10.0, "seconds_left": 5.0}
    assert told(state, at(10)) == [{"node": "a", "model": "m", **figures}]


def test_what_is_less_than_a_hundredth_is_no_news(state: State) -> None:
    steps = [told(state, at(done)) for done in (10, 20, 999, 1000, 1999, 2000)]
    assert [len(step) for step in steps] == [1, 0, 0, 1, 0, 1]


def test_another_phase_is_news(state: State) -> None:
    steps = [told(state, at(0, phase, total=0)) for phase in ("resolving", "resolving", "downloading", "loading")]
    assert [len(step) for step in steps] == [1, 0, 1, 1]


def test_a_load_of_cortex_s_own_is_told_of_as_well(state: State) -> None:
    state.begin(PLAN)
    assert len(told(state, at(10))) == 1


def test_what_is_not_on_its_way_has_no_progress(state: State) -> None:
    assert told(state, sighting(loaded())) == told(state, EMPTY) == []


def test_a_node_that_is_down_tells_nothing(state: State) -> None:
    told(state, at(10))
    assert [each.kind for each in state.see(NodeDown("a", "gone")) if each.kind == "model.progress"] == []
