"""How fast bytes come, and when the last of them will be here. Pure but for the clock it is given."""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from attrs import define, field

from helexa.wire.progress import Phase, Progress

_WINDOW_SECONDS = 10.0
"""A rate over less jumps about, one over more goes on telling of a connection that is long dead."""


@define(eq=False)
class Meter:
    """Counts the bytes of one download, in whichever threads they come.

    It is read, and calls nobody: who is told only when bytes come would believe in the speed of a connection that died.

    Attributes:
        clock: seconds that only grow.
    """

    clock: Callable[[], float] = monotonic
    _phase: Phase = "resolving"
    _done: int = 0
    _total: int = 0
    _samples: deque[tuple[float, int]] = field(factory=deque)
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        with self._lock:
            rate = self._rate(self.clock())
            left = round(self.missing / rate, 1) if rate and self._total else None
            return Progress(self._phase, self._done, self._total, round(rate, 1), left)

    @property
    def missing(self) -> int:
        """Bytes that are still to come, as far as is known."""
        return max(self._total - self._done, 0)

    def begin(self, total: int) -> None:
        """Bytes in all, as far as is known by now. Bytes that came before are kept."""
        with self._lock:
            self._phase, self._total = "downloading", total

    def have(self, count: int) -> None:
        """Bytes that were here already: they count as done, and not as speed. Negative: they are worth nothing."""
        with self._lock:
            self._done += count
            self._samples = deque((at, done + count) for at, done in self._samples)

    def fetched(self, count: int) -> None:
        """Bytes that have just come."""
        with self._lock:
            now = self.clock()
            self._samples = self._samples or deque([(now, self._done)])
            self._done += count
            self._samples.append((now, self._done))
            self._forget(now)

    def _forget(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW_SECONDS:
            self._samples.popleft()

    def _rate(self, now: float) -> float:
        self._forget(now)
        if not self._samples or now <= self._samples[0][0]:
            return 0.0
        at, done = self._samples[0]
        return max(self._done - done, 0) / (now - at)
