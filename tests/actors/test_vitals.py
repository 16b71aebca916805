"""Signs of life: what ends a worker process and what does not."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from actors import vitals
from actors.vitals import (
    HELLO_SECONDS,
    LOAD_SECONDS,
    SILENCE_SECONDS,
    STALL_SECONDS,
    STEP_SECONDS,
    Vitals,
    patience,
)
from helexa.engine.protocol import VERSION, Heartbeat, Hello


def hello(version: int = VERSION) -> Hello:
    return Hello(version, 1, "cpu", "2.13.0")


def beat(stalled: float, *, loading: bool = False) -> Heartbeat:
    return Heartbeat(1, stalled, loading, [])


@pytest.fixture
def greeted() -> Vitals:
    found = Vitals(heard=100.0)
    found.greet(hello())
    return found


def test_a_fresh_process_has_time_to_start() -> None:
    process = Vitals(heard=100.0)
    assert process.judge(100.0 + HELLO_SECONDS) is None
    assert process.judge(100.1 + HELLO_SECONDS) == f"it gave no sign of life for {HELLO_SECONDS:.0f} s"


def test_one_that_has_greeted_must_not_fall_silent(greeted: Vitals) -> None:
    assert greeted.judge(100.0 + SILENCE_SECONDS) is None
    assert greeted.judge(101.0 + SILENCE_SECONDS) == f"it gave no sign of life for {SILENCE_SECONDS + 1:.0f} s"


def test_hearing_from_it_starts_the_clock_anew(greeted: Vitals) -> None:
    greeted.heard = 110.0
    assert greeted.judge(110.0 + SILENCE_SECONDS) is None


def test_a_step_that_never_ends(greeted: Vitals) -> None:
    greeted.beat(beat(STALL_SECONDS))
    assert greeted.judge(100.0) is None
    greeted.beat(beat(STALL_SECONDS + 1))
    assert greeted.judge(100.0) == f"one step has been running for {STALL_SECONDS + 1:.0f} s"
    assert not greeted.load_hangs


def step(tokens: int, longest: float, largest: int) -> Heartbeat:
    return Heartbeat(1, 0.0, loading=False, models=[], tokens=tokens, longest=longest, largest=largest)


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        (step(1, 0.05, 512), STEP_SECONDS + 1),
        (step(512, 2.0, 512), 70.0),
        (step(512, 60.0, 512), STALL_SECONDS),
        (step(512, 600.0, 512), 1800.0),
    ],
    ids=["quick steps", "steps of seconds", "steps of a minute", "steps of ten"],
)
def test_steps_like_the_earlier_ones_are_given_a_multiple_of_what_those_took(last: Heartbeat, seconds: float) -> None:
    assert patience(last) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        (step(0, 0.0, 0), STALL_SECONDS),
        (step(512, 0.2, 0), STALL_SECONDS),
        (step(512, 0.2, 40), STALL_SECONDS),
        (step(512, 90.0, 0), 1800.0),
    ],
    ids=["nothing is known", "the first", "the largest so far", "the first of a slow model"],
)
def test_a_step_that_is_like_none_before_is_given_its_time(last: Heartbeat, seconds: float) -> None:
    """Kernels may be compiled in it, and a large model on a small host takes minutes for a prompt."""
    assert patience(last) == pytest.approx(seconds)


@given(st.integers(1, 10**6), st.floats(1e-4, 1e4), st.integers(0, 10**6))
def test_no_step_is_given_less_time_than_three_of_the_longest_so_far(tokens: int, longest: float, largest: int) -> None:
    assert patience(step(tokens, longest, largest)) >= max(3 * longest, STEP_SECONDS)


def test_a_quick_model_s_hang_is_noticed_soon(greeted: Vitals) -> None:
    greeted.beat(evolve(step(1, 0.02, 512), stalled_seconds=29.0))
    assert greeted.judge(100.0) is None
    greeted.beat(evolve(step(1, 0.02, 512), stalled_seconds=31.0))
    assert greeted.judge(100.0) == "one step has been running for 31 s"


def test_a_load_may_take_as_long_as_it_likes_while_it_comes_further(greeted: Vitals) -> None:
    for _ in range(1000):
        greeted.beat(beat(LOAD_SECONDS, loading=True))
        assert greeted.judge(100.0) is None


def test_a_load_that_comes_no_further_is_ended() -> None:
    process = Vitals(100.0, 20.0)
    process.greet(hello())
    process.beat(beat(20.0, loading=True))
    assert process.judge(100.0) is None
    process.beat(beat(21.0, loading=True))
    assert (process.judge(100.0), process.load_hangs) == ("its load came no further for 21 s", True)


def test_silence_within_a_load_is_not_taken_for_a_load_that_hangs(greeted: Vitals) -> None:
    greeted.beat(beat(1.0, loading=True))
    assert "no sign of life" in (greeted.judge(200.0) or "")
    assert not greeted.load_hangs


def test_a_step_that_ended_after_all_is_forgiven(greeted: Vitals) -> None:
    greeted.beat(beat(STALL_SECONDS + 1))
    greeted.beat(beat(0.0))
    assert greeted.judge(100.0) is None


def test_a_worker_of_another_build_is_not_worked_with() -> None:
    stranger = Vitals(heard=100.0)
    stranger.greet(hello(VERSION + 1))
    verdict = stranger.judge(100.0)
    assert verdict is not None
    assert f"version {VERSION + 1}" in verdict
    assert f"version {VERSION}" in verdict


def test_a_verdict_stands(greeted: Vitals) -> None:
    verdict = greeted.judge(1000.0)
    greeted.heard = 1000.0
    assert greeted.judge(1000.0) == verdict is not None


def test_a_heart_beats_often_enough() -> None:
    from helexa.engine.worker import HEARTBEAT_SECONDS

    assert vitals.SILENCE_SECONDS > 5 * HEARTBEAT_SECONDS
