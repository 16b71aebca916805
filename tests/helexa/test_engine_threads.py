"""The number of threads follows what a step got of the processor, on clocks of the test's own."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from attrs import define, field

from helexa.engine import threads
from helexa.engine.threads import FIRST_PAUSE, LAST_PAUSE, ThreadGovernor


@pytest.fixture
def cores_of_torch() -> Iterator[int]:
    """How many threads torch would use; put back afterwards."""
    found = torch.get_num_threads()
    yield found
    torch.set_num_threads(found)


def test_a_process_uses_no_more_threads_than_it_may(cores_of_torch: int) -> None:
    torch.set_num_threads(2)
    for most, used in ((0, 2), (5, 2), (2, 2), (1, 1), (4, 1)):
        threads.limit(most)
        assert torch.get_num_threads() == used


@define
class Cores:
    """A machine whose clocks stand still until told."""

    wall: float = 100.0
    spent: float = 7.0
    used: list[int] = field(factory=list)
    governor: ThreadGovernor = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.governor = ThreadGovernor(4, self.used.append, lambda: self.wall, lambda: self.spent)

    def step(self, share: float, seconds: float = 0.1) -> int:
        """A step that got this share of the time its threads could have had; how many threads it had."""
        with self.governor.step():
            threads = self.governor.now
            self.wall += seconds
            self.spent += seconds * threads * share
        return threads


def test_on_quiet_cores_nothing_is_ever_changed() -> None:
    cores = Cores()
    assert [cores.step(1.0) for _ in range(50)] == [4] * 50
    assert cores.used == []


def test_a_step_that_was_held_up_is_followed_by_steps_of_one_thread() -> None:
    cores = Cores()
    assert [cores.step(0.4), cores.step(1.0), cores.step(1.0)] == [4, 1, 1]
    assert cores.used == [1]


def test_a_step_of_one_thread_is_not_judged() -> None:
    cores = Cores()
    cores.step(0.4)
    assert [cores.step(0.1, FIRST_PAUSE / 10) for _ in range(5)] == [1] * 5
    assert cores.used == [1]


def test_all_threads_are_tried_again_after_a_pause() -> None:
    cores = Cores()
    cores.step(0.4)
    cores.step(1.0, FIRST_PAUSE)
    assert [cores.step(1.0), cores.step(1.0)] == [4, 4]


def test_each_vain_attempt_doubles_the_pause_up_to_a_limit() -> None:
    cores = Cores()
    attempts = []
    while len(attempts) < 10:
        began = cores.wall
        if cores.step(0.4, FIRST_PAUSE / 4) == 4:
            attempts.append(began)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses[0] < 2 * FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert LAST_PAUSE <= pauses[-1] <= LAST_PAUSE + FIRST_PAUSE


def test_a_good_step_makes_the_next_pause_short_again() -> None:
    cores = Cores()
    for _ in range(3):
        cores.step(0.4)
        cores.step(1.0, LAST_PAUSE)
    cores.step(1.0)
    cores.step(0.4)
    cores.step(1.0, FIRST_PAUSE)
    assert cores.step(1.0) == 4


def test_a_step_too_short_to_measure_is_not_judged() -> None:
    cores = Cores()
    assert [cores.step(0.0, 1e-4) for _ in range(3)] == [4, 4, 4]
