"""When a process that draws looks for cycles of garbage: while nobody waits for a picture.

Python looks through all there is whenever it has grown by a quarter, which takes a tenth of a second in a console that
shows a large fleet, and comes in the middle of a key as likely as not. Most of what a console makes is in no cycle and
goes as soon as it is not used any more; what is young is still looked through as ever.
"""

import gc
import time
from collections.abc import Callable
from typing import Final

CHECK_SECONDS: Final = 5.0
"""How often a console sees whether it is time."""
_EVERY: Final = 30.0
_QUIET: Final = 1.0
_AT_LATEST: Final = 300.0
_NEVER: Final = 1_000_000


class Garbage:
    """The collector of the process. Only whoever owns the process makes one.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._touched = self._collected = clock()

    def begin(self) -> None:
        """Once the first picture is there: what has been made until now stays, and is not looked at again.

        Until then its owner had better have it switched off.
        """
        gc.freeze()
        gc.enable()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)

    def touched(self) -> None:
        """A key or the mouse was used: whoever did that may do it again at once."""
        self._touched = self._clock()

    def check(self) -> bool:
        """Collect, if it is time, and nobody is typing; whether it was done."""
        now = self._clock()
        quiet, since = now - self._touched, now - self._collected
        if since < _EVERY or (quiet < _QUIET and since < _AT_LATEST):
            return False
        gc.collect()
        self._collected = self._clock()
        return True
