"""How the work that something takes grows with its size, told by processor time: other work does not count."""

import time
from collections.abc import Callable


def grows_like_a_square(work: Callable[[int], object], size: int) -> bool:
    """Whether eight times `size` takes 30 times as long, at each of three looks; in proportion it is 8, squared 64."""
    once = min(_seconds(work, size) for _ in range(3))
    return all(_seconds(work, 8 * size) >= 30 * once for _ in range(3))


def _seconds(work: Callable[[int], object], size: int) -> float:
    start = time.process_time()
    work(size)
    return time.process_time() - start
