"""How fast this host reads its memory, which is what bounds tokens per second on a CPU.

Measured rather than looked up: channels, speed and how many modules are plugged in decide, and no file tells all three.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter

_PART = 32 * 2**20
"""Bytes that a thread reads: well above its share of the caches, and filled within a tenth of a second."""
_MOST_THREADS = 16
"""So many reach what a socket's memory gives; more only take more of it."""
_PASSES = 3


@cache
def read_bandwidth(threads: int) -> float | None:
    """GB/s (10^9 bytes) that so many threads read together, at most 16; ``None`` where it cannot be measured.

    Blocks for some tenths of a second, with all those threads busy and 32 MiB of memory for each. Only the first call
    measures. What else is running meanwhile makes it less.
    """
    try:
        return round(_measure(min(threads, _MOST_THREADS)), 1)
    except (OSError, AttributeError, ValueError, MemoryError):  # no memory, or no C library of the usual kind
        return None


def _measure(threads: int) -> float:
    # the C library's own functions: quick with every instruction set, and ctypes lets go of the interpreter meanwhile
    library = ctypes.CDLL(None)
    library.memchr.argtypes = library.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    library.memchr.restype = library.memset.restype = ctypes.c_void_p
    parts = [mmap.mmap(-1, _PART) for _ in range(threads)]
    views = [ctypes.c_char.from_buffer(part) for part in parts]
    addresses = [ctypes.addressof(view) for view in views]
    with ThreadPoolExecutor(threads) as pool:
        # written first: memory that never was reads from one page of zeros, out of the cache
        _time(pool.map(lambda address: library.memset(address, 1, _PART), addresses))
        seconds = min(_pass(pool, addresses, library.memchr) for _ in range(_PASSES))
    return threads * _PART / seconds / 1e9


def _pass(pool: ThreadPoolExecutor, addresses: list[int], search: Callable[[int, int, int], int | None]) -> float:
    return _time(pool.map(lambda address: search(address, 0, _PART), addresses))


def _time(work: Iterable[object]) -> float:
    began = perf_counter()
    assert list(work)
    return perf_counter() - began
