"""Memory of a host that weights are read into: in huge pages, and used again for the next when those before are gone.

Most weights are there for a moment only, until they are laid out for the device. Memory that the C library takes for
each of them is new each time: the kernel clears it, page by page, which costs more than the reading, and on a virtual
machine many times more, as its host has to find each page first. ``malloc`` set to keep what is freed
(``M_TRIM_THRESHOLD``, ``M_MMAP_MAX``) was tried: what stays for good settles between what does not, and a third of the
memory was touched in vain; besides, it stays set for all that the process does later.
"""

import math
import mmap
import threading
import weakref
from collections import deque
from contextlib import suppress
from itertools import pairwise
from typing import Final

import torch
from attrs import define, field
from torch import Tensor

_ALIGNED: Final = 64
"""Bytes of a line of a processor's cache."""
_HUGE: Final = 2 << 20
_SMALL: Final = 64 << 10
"""Below this many bytes the C library's memory serves as well: norms and biases, which may stay for long."""
SEGMENT: Final = 32 << 20
"""Bytes that are asked of the system at once, where no tensor needs more."""
Range = tuple[int, int]
"""First byte, and the byte after the last."""


@define(eq=False)
class _Segment:
    """One mapping. It ends with the last tensor that lies in it.

    Attributes:
        memory: the mapping.
        free: what no tensor lies in, in order, no two side by side.
        returned: what tensors that are gone lay in, from whichever thread let them go.
    """

    memory: mmap.mmap
    free: list[Range] = field(init=False)
    returned: deque[Range] = field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.free = [(0, len(self.memory))]

    def cut(self, size: int) -> Tensor | None:
        """``[size]`` uint8, if it fits somewhere: at the lowest place, so that few pages are ever touched."""
        self.collect()
        wanted = -(-size // _ALIGNED) * _ALIGNED
        for index, (start, end) in enumerate(self.free):
            if wanted <= end - start:
                self.free[index : index + 1] = [(start + wanted, end)] if wanted < end - start else []
                return self._tensor((start, start + wanted), size)
        return None

    def _tensor(self, place: Range, size: int) -> Tensor:
        view = memoryview(self.memory)[place[0] : place[0] + size]
        weakref.finalize(view, self.returned.append, place).atexit = False  # torch lets go of it with the last tensor
        return torch.frombuffer(view, dtype=torch.uint8)

    def collect(self) -> None:
        """Put what has been returned to what is free."""
        found = [*self.free]
        while self.returned:
            found.append(self.returned.popleft())
        if len(found) > len(self.free):
            self.free = _joined(found)

    def discard(self) -> None:
        """Give the pages in which nothing lies back to the system."""
        self.collect()
        for start, end in self.free:
            first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                self.memory.madvise(mmap.MADV_DONTNEED, first, last - first)


def _joined(found: list[Range]) -> list[Range]:
    """Ranges that do not overlap, in order, those that touch as one."""
    found.sort()
    starts = [found[0][0], *(after[0] for before, after in pairwise(found) if before[1] < after[0])]
    ends = [*(before[1] for before, after in pairwise(found) if before[1] < after[0]), found[-1][1]]
    return list(zip(starts, ends, strict=True))


class Arena:
    """Hands out memory, in any thread; its tensors may be let go of in any.

    Args:
        most: bytes of all tensors that will ever be asked for: no more is mapped at once.
    """

    def __init__(self, most: int = SEGMENT) -> None:
        self._size = min(SEGMENT, most)
        self._segments: list[_Segment] = []
        self._cutting = threading.Lock()

    def empty(self, size: int) -> Tensor:
        """``[size]`` uint8, of any content."""
        if size < _SMALL:
            return torch.empty(size, dtype=torch.uint8)
        with self._cutting:
            for segment in self._segments:
                if (found := segment.cut(size)) is not None:
                    return found
            return self._cut_new(size)

    def _cut_new(self, size: int) -> Tensor:
        self._segments.append(segment := _Segment(_map(max(size, self._size))))
        made = segment.cut(size)
        assert made is not None
        return made

    def like(self, tensor: Tensor, rows: int | None = None) -> Tensor:
        """A tensor of any content, of the dtype, the device and the shape of another, but for the number of rows.

        Args:
            tensor: on whichever device; on others than CPUs the memory is torch's.
            rows: its first dimension; ``None`` for that of ``tensor``.
        """
        shape = (len(tensor) if rows is None else rows, *tensor.shape[1:])
        if tensor.device.type != "cpu":
            return tensor.new_empty(shape)
        return self.empty(math.prod(shape) * tensor.element_size()).view(tensor.dtype).view(shape)

    def close(self) -> None:
        """Hand out no more, and keep nothing but what tensors lie in."""
        for segment in self._segments:
            segment.discard()
        self._segments.clear()


def _map(size: int) -> mmap.mmap:
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared, which is the default, has no huge pages
    memory = mmap.mmap(-1, -(-size // _HUGE) * _HUGE, private)
    with suppress(OSError, AttributeError):  # a kernel without huge pages, or none of Linux
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
