"""How many CPU threads a step may use, judged by how much of the processor the last one got.

The threads of a matrix product meet some hundred times in a step of a few hundredths of a second, and wait for each
other by spinning: the fastest way on cores of their own, and the worst on cores that something else uses too, where one
waits for the other to be given its turn. Measured on two cores, one busy process beside the engine costs it nine tenths
of its speed. One thread alone has nobody to wait for and loses half at most. (Sleeping instead of spinning,
``OMP_WAIT_POLICY=passive``, costs a third on quiet cores, and cannot be changed while the process lives.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

import torch

CROWDED = 0.8
"""Below this share of the processor time that its threads could have had, a step was held up by others."""
SHORTEST = 1e-3
"""Seconds: a shorter step says nothing, since clocks and sleeping threads blur it."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0
"""Seconds with one thread before all are tried again; doubled each time that it was too early."""


def limit(threads: int) -> None:
    """Have torch use no more threads than this process may have at a time; 0 leaves it as it is.

    torch counts the cores of the host. It does not see that a container may have the processor for a part of the time
    only: more threads than that are all stopped together, for most of each tenth of a second. And it counts cores, not
    hardware threads, so that its own number is the better one where it is smaller.
    """
    if threads and threads < torch.get_num_threads():
        torch.set_num_threads(threads)


class ThreadGovernor:
    """Sets the number of threads between steps. For the one thread that steps.

    Args:
        threads: how many there are to use.
        use: told the number, whenever it changes.
        clock: wall time in seconds.
        spent: processor time of the process in seconds, all its threads together.
    """

    def __init__(
        self,
        threads: int,
        use: Callable[[int], None],
        clock: Callable[[], float] = perf_counter,
        spent: Callable[[], float] = process_time,
    ) -> None:
        self.now = self._all = threads
        self._use = use
        self._clock = clock
        self._spent = spent
        self._pause = FIRST_PAUSE
        self._retry_at = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a step: decides how the next one is run."""
        if self.now < self._all and self._clock() >= self._retry_at:
            self._set(self._all)
        began, spent = self._clock(), self._spent()
        yield
        wall = self._clock() - began
        if self.now > 1 and wall >= SHORTEST:
            self._judge((self._spent() - spent) / (wall * self.now))

    def _judge(self, share: float) -> None:
        if share >= CROWDED:
            self._pause = FIRST_PAUSE
            return
        self._retry_at = self._clock() + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE)
        self._set(1)

    def _set(self, threads: int) -> None:
        self.now = threads
        self._use(threads)
