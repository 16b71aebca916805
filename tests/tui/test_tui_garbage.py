"""When the console looks for cycles of garbage."""

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from tui.garbage import Garbage


class Ring:
    """In a cycle with itself."""

    def __init__(self) -> None:
        self.itself = self


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def garbage(clock: Clock) -> Iterator[Garbage]:
    thresholds = gc.get_threshold()
    gc.freeze()  # and so it stays: what the run has frozen would be walked through again until its end
    yield Garbage(clock)
    gc.set_threshold(*thresholds)


def test_a_cycle_goes_once_half_a_minute_is_over_and_nobody_types(garbage: Garbage, clock: Clock) -> None:
    gone = ref(Ring())
    clock.now += 29
    assert not garbage.check()
    clock.now += 1
    assert garbage.check()
    assert gone() is None
    assert not garbage.check()


def test_who_types_is_not_disturbed_until_five_minutes_are_over(garbage: Garbage, clock: Clock) -> None:
    for _ in range(599):
        clock.now += 0.5
        garbage.touched()
        assert not garbage.check()
    clock.now += 0.5
    garbage.touched()
    assert garbage.check()


def test_it_is_done_a_second_after_the_last_key(garbage: Garbage, clock: Clock) -> None:
    clock.now += 40
    garbage.touched()
    clock.now += 0.9
    assert not garbage.check()
    clock.now += 0.1
    assert garbage.check()


def test_what_was_there_at_the_beginning_is_not_looked_at_again_and_nothing_is_by_itself(garbage: Garbage) -> None:
    kept = Ring()
    gc.disable()
    garbage.begin()
    assert gc.isenabled()
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_threshold()[:2] == (700, 10)
    assert gc.get_threshold()[2] > 100_000
