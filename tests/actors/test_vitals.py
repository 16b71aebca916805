"""Signs of life: what ends a worker process and what does not."""

import pytest

from actors import vitals
from actors.vitals import HELLO_SECONDS, SILENCE_SECONDS, STALL_SECONDS, Vitals
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


def test_a_load_may_take_as_long_as_it_likes(greeted: Vitals) -> None:
    greeted.beat(beat(10 * STALL_SECONDS, loading=True))
    assert greeted.judge(100.0) is None


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
