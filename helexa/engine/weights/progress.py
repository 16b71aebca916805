"""Whether a load comes further, and how far it is: told to the neuron, which ends a process whose load does not.

How long a load takes says nothing: a large model from a slow disk takes an hour. But whatever it waits for, it reads.
"""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

import psutil

from helexa.engine.protocol import Loading

PAUSE: Final = 0.25
"""Seconds from one word to the next."""
_MOVED: Final = 1 << 20
"""Bytes read by this process that show that it loads: looking how many they are reads some, too."""


def bytes_read() -> int:
    """What this process has read so far, from files and from disks; 0 where the system does not tell.

    For what reads weights without telling: transformers does, and maps its files, so that only disks notice.
    """
    try:
        found = psutil.Process().io_counters()
        return int(found.read_bytes) + int(getattr(found, "read_chars", 0))
    except (AttributeError, OSError, RuntimeError, psutil.Error):  # macOS has none; some containers hide them
        return 0


class LoadProgress:
    """One load. Made when it begins, which it tells at once.

    Args:
        model: its id.
        tell: sends a frame; called from whichever thread reads.
        clock: seconds, monotonic.
        read: bytes that the process has read so far.
    """

    def __init__(
        self,
        model: str,
        tell: Callable[[Loading], None],
        clock: Callable[[], float] = monotonic,
        read: Callable[[], int] = bytes_read,
    ) -> None:
        self._model, self._tell, self._clock, self._read = model, tell, clock, read
        self._sending = threading.Lock()
        self._done, self._due = -1, 0.0
        self._seen, self._moved = read(), clock()
        tell(Loading(model))

    def told(self, done: int, total: int) -> None:
        """So many bytes of so many are there. From any thread, as often as it likes; waits for none but at the end.

        Each call shows that the load comes further, so that work which reads nothing can say the same number again.
        """
        self._moved = now = self._clock()
        is_last = done >= total
        if done <= self._done or (now < self._due and not is_last):
            return
        if not self._sending.acquire(blocking=is_last):
            return
        try:
            self._done, self._due = done, now + PAUSE
            self._tell(Loading(self._model, done, total))
        finally:
            self._sending.release()

    def stalled(self) -> float:
        """Seconds since the load last came further. For one thread."""
        if (seen := self._read()) - self._seen >= _MOVED:
            self._seen, self._moved = seen, self._clock()
        return self._clock() - self._moved
