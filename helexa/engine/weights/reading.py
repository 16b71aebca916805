"""Weights from files to the memory of a device: read by several threads, a little ahead of whoever needs them.

Files are read and not mapped: a mapped one that is cut short meanwhile ends the process by a signal, its pages come in
one small fault at a time, and on a CPU each would be held twice, by the page cache and by what is made of it.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Final, Self

import torch
from attrs import define, field, frozen
from torch import Tensor

from helexa.engine.arena import Arena
from helexa.engine.weights.headers import FileError, Place

THREADS: Final = min(16, max(4, os.cpu_count() or 4))
"""More than a processor or two need: a disk, or a server of files, is fast only if it is asked for several things."""
PIECE: Final = 8 << 20
"""Bytes that one thread reads at a time."""
AHEAD: Final = 64 << 20
"""Bytes that may have been read and not taken yet: what loading needs beyond the weights themselves."""
Told = Callable[[int, int], None]
"""Told how many bytes have been read so far, and how many there are; from any thread."""
_TYPES: Final = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@frozen(eq=False)
class _Started:
    """A tensor that is being read, and what still does so."""

    tensor: Tensor
    pieces: Sequence[Future[None]]


_Copier = Callable[[Tensor, int, int, str], None]
"""Fills ``[bytes]`` uint8 from an open file, from a byte on; the file's name is for errors."""


@define(eq=False)
class _Count:
    """Bytes read so far by several threads."""

    total: int
    told: Told
    _done: int = 0
    _changing: threading.Lock = field(factory=threading.Lock)

    def add(self, size: int) -> None:
        """Tell; outside of the lock, since nobody knows how long that takes, and out of order it does no harm."""
        with self._changing:
            self._done += size
            done = self._done
        self.told(done, self.total)


def _tell_nobody(_done: int, _total: int) -> None:
    pass


@define(eq=False)
class WeightReader:
    """Reads tensors of floats to a device, each once, and best in the order that was told.

    A context manager: at its end the threads are gone and the files closed.

    Args:
        places: every tensor to be read, in the order in which they will be taken.
        device: where to.
        dtype: what they are made.
        ahead: bytes that may have been read and not taken yet.
        told: how far it is, after every piece that was read and every tensor that was taken; what it raises ends both.

    Attributes:
        seconds: how long whoever takes them has waited for the files.
    """

    places: Mapping[str, Place]
    device: torch.device
    dtype: torch.dtype
    ahead: int = AHEAD
    told: Told | None = None
    seconds: float = 0
    _next: deque[str] = field(init=False)
    _started: dict[str, _Started] = field(factory=dict, init=False)
    _held: int = field(default=0, init=False)
    _pool: ThreadPoolExecutor = field(init=False)
    _files: dict[Path, int] = field(factory=dict, init=False)
    _arena: Arena = field(init=False)
    _done: _Count = field(init=False)

    def __attrs_post_init__(self) -> None:
        total = sum(place.nbytes for place in self.places.values())
        self._arena, self._done = Arena(total), _Count(total, self.told or _tell_nobody)
        self._next = deque(self.places)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="weights")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for opened in self._files.values():
            os.close(opened)
        self._started.clear()
        self._arena.close()

    def take(self, name: str) -> Tensor:
        """A tensor, on the device; waits for it.

        Raises:
            FileError: its file can no longer be read to its end.
            KeyError: it is not among those to be read, or has been taken.
        """
        if name not in self._started:
            self._next.remove(name)
            self._start(name)
        begun = perf_counter()
        self._read_ahead()
        found = self._started[name]
        for piece in found.pieces:
            piece.result()
        self.seconds += perf_counter() - begun
        del self._started[name]
        self._held -= self.places[name].nbytes
        self._read_ahead()
        self._done.add(0)
        return found.tensor.to(self.dtype)

    def _read_ahead(self) -> None:
        while self._next and self._held < self.ahead:
            self._start(self._next.popleft())

    def _start(self, name: str) -> None:
        place = self.places[name]
        flat = self._empty(place.nbytes)
        copy = _copier(self.device)
        opened = self._open(place.file)
        pieces = [
            self._pool.submit(self._copy, copy, flat[at : at + PIECE], opened, place, at)
            for at in range(0, place.nbytes, PIECE)
        ]
        self._started[name] = _Started(flat.view(_TYPES[place.dtype]).view(place.shape), pieces)
        self._held += place.nbytes

    def _empty(self, size: int) -> Tensor:
        if self.device.type == "cpu":
            return self._arena.empty(size)
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def _copy(self, copy: _Copier, target: Tensor, opened: int, place: Place, at: int) -> None:
        copy(target, opened, place.start + at, place.file.name)
        self._done.add(len(target))

    def _open(self, file: Path) -> int:
        if file not in self._files:
            try:
                self._files[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise FileError(f"'{file.name}' cannot be read: {error.strerror}") from error
        return self._files[file]


def _copier(device: torch.device) -> _Copier:
    return _to_host if device.type == "cpu" else _Staged(device)


def _to_host(target: Tensor, opened: int, start: int, name: str) -> None:
    """Fill ``target [bytes]`` uint8 with what a file has from ``start``."""
    left = target.numpy().data
    while left:
        try:
            count = os.preadv(opened, [left], start)
        except OSError as error:
            raise FileError(f"'{name}' cannot be read: {error.strerror}") from error
        if not count:
            raise FileError(f"'{name}' ended while it was being read; it has been changed")
        start, left = start + count, left[count:]


_own = threading.local()
"""Of each reading thread: its stream, and memory that a GPU copies from by itself."""


class _Staged:
    """Fills memory of a GPU, by way of pinned memory of the thread that reads.

    Copied from other memory, the driver would do the same with one buffer for all.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # The memory may have been another tensor's a moment ago, which what is queued still reads.
        self._free = torch.cuda.current_stream(device).record_event()

    def __call__(self, target: Tensor, opened: int, start: int, name: str) -> None:
        if getattr(_own, "device", None) != self._device:
            _own.device, _own.stream = self._device, torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            _own.memory = _pinned(PIECE)
        staged = _own.memory[: len(target)]
        _to_host(staged, opened, start, name)
        # What is made while models are loaded may be written in that mode alone, and each thread has its own.
        with torch.inference_mode(), torch.cuda.stream(_own.stream):
            _own.stream.wait_event(self._free)
            target.copy_(staged, non_blocking=True)
        _own.stream.synchronize()


def _pinned(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)
