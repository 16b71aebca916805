"""When bytes came: by the kernel's clock where it says so (Linux, ``socket(7)``), for its user is often late.

A client reads what came once it has a core, and its event loop has turned round to it; the kernel writes down when the
packet came. That is told in wall-clock time, and what is measured is ``time.perf_counter``: the distance between the
two is read anew with each piece. It changes when, and only when, the wall clock is set (both are slewed alike by NTP,
``adjtimex(2)``) or the machine slept; the kernel's time of that piece means nothing then, and is not taken.
"""

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from attrs import define, field

Ancillary: TypeAlias = Iterable[tuple[int, int, bytes]]
"""Level, type and data of what came beside the bytes, as ``recvmsg`` gives it."""

ANCILLARY_BYTES: Final = 64
"""Room for the time: a header and two numbers of 64 bits."""
_TIMESTAMPNS_NEW: Final = 64
"""``SO_TIMESTAMPNS_NEW``: nanoseconds in 64 bits on every machine. Python does not name it."""
_TIMESPEC: Final = struct.Struct("=qq")
_SOON: Final = 20_000
"""Nanoseconds: two readings of the clocks this close were not parted by another process."""
_SLOP: Final = 50_000
"""Nanoseconds: a smaller change of the distance matters to nobody."""
_ATTEMPTS: Final = 4


def stamp_arrivals(sock: socket.socket) -> bool:
    """Have the kernel say when bytes came; whether it does."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS_NEW, 1)
    except OSError:  # Linux before 5.1, or something that only passes for it
        return False
    return True


def kernel_time(ancillary: Ancillary) -> int | None:
    """The wall-clock time in nanoseconds at which the last of the bytes came, if it was told."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMPNS_NEW and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return None


@define(eq=False)
class ArrivalClock:
    """Tells when the pieces of one connection came, in seconds of ``time.perf_counter``; never backwards.

    Attributes:
        wall: the clock that the kernel stamps by, in nanoseconds.
        steady: ``time.perf_counter``, in nanoseconds.
    """

    wall: Callable[[], int] = time.time_ns
    steady: Callable[[], int] = time.perf_counter_ns
    _distance: int = field(init=False, default=0)
    _floor: int = field(init=False, default=0)

    def begin(self) -> float:
        """It is now; nothing that comes from here on came before."""
        for _ in range(_ATTEMPTS):
            before, wall, after = self.steady(), self.wall(), self.steady()
            if after - before <= _SOON:
                break
        self._distance, self._floor = wall - (before + after) // 2, after
        return self._floor / 1e9

    def arrival(self, stamped: int | None) -> float:
        """When a piece came that is read now; ``stamped``: the kernel's word for it."""
        came = now = self.steady()
        if stamped is not None and self._holds(now):
            came = stamped - self._distance
        # before the last piece: it overtook it on the way, and was there to be read when that one came
        self._floor = min(max(came, self._floor), now)
        return self._floor / 1e9

    def _holds(self, before: int) -> bool:
        """Whether the clocks are as far apart as they were. Being interrupted between two readings proves nothing."""
        wall, after = self.wall(), self.steady()
        if wall - after - _SLOP <= self._distance <= wall - before + _SLOP:
            return True
        self._distance = wall - (before + after) // 2
        return False
