"""One file's way from a registry to the cache: resumed where it broke off, checked, and then there at once.

Hugging Face's own library could bring it, and was not enough: it compares sizes and no checksums, waits between
attempts for as long as it likes, cannot be stopped, and leaves on a full disk what filled it.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx
from attrs import frozen

from helexa.neuron.sources import problems
from helexa.neuron.sources.cache import Cache
from helexa.neuron.sources.half import Half
from helexa.neuron.sources.listing import RemoteFile
from helexa.neuron.sources.meter import Meter
from helexa.neuron.sources.registry import PassingError, Registry, reason
from helexa.wire.errors import ApiError

_LOOK_SECONDS = 0.2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PARTIAL_CONTENT, _NO_SUCH_RANGE = 206, 416

_T = TypeVar("_T")


@frozen
class Patience:
    """How long a registry is tried.

    Attributes:
        attempts: in a row that brought nothing.
        first_attempts: likewise, for the first thing that is asked: of an address that is wrong one should soon learn.
        first_wait: seconds after the first of them; each later wait is twice as long.
        longest_wait: seconds.
    """

    attempts: int = 6
    first_attempts: int = 3
    first_wait: float = 1.0
    longest_wait: float = 20.0

    def seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return float(min(self.first_wait * 2 ** (failures - 1), self.longest_wait))


PATIENCE = Patience()


@frozen(eq=False)
class Errand:
    """What all files of one download share.

    Attributes:
        registry: where they come from.
        client: the connections to it.
        cache: where they go to.
        meter: what has come.
        patience: when to give up.
        stop: set when nobody wants them any more.
    """

    registry: Registry
    client: httpx.Client
    cache: Cache
    meter: Meter
    patience: Patience
    stop: threading.Event

    @property
    def model(self) -> str:
        """The repository's name."""
        return self.cache.repository

    def check_stop(self) -> None:
        """Leave when nobody wants it any more.

        Raises:
            ApiError: ``download_stopped``.
        """
        if self.stop.is_set():
            raise problems.stopped(self.model)

    def have(self, count: int) -> None:
        """Bytes that were here already; as many as come in a moment.

        Raises:
            ApiError: ``download_stopped``.
        """
        self.check_stop()
        self.meter.have(count)

    def persist(self, attempt: Callable[[], _T], reached: Callable[[], int] = int, attempts: int | None = None) -> _T:
        """Try again what failed in passing, until too many attempts in a row brought nothing.

        Args:
            attempt: raises `PassingError` if another one makes sense.
            reached: how far it has come, in bytes; only more than ever before counts as having brought something, or a
                server that always breaks off somewhere would be tried for ever.
            attempts: in a row that brought nothing; ``None``: as many as there is patience for.

        Raises:
            ApiError: it has failed, or was stopped.
        """
        failures, best = 0, reached()
        while True:
            self.check_stop()
            try:
                return attempt()
            except PassingError as error:
                failures = 1 if reached() > best else failures + 1
                best = max(best, reached())
                if failures >= (attempts or self.patience.attempts):
                    raise problems.download_failed(self.model, self.registry.name, str(error)) from error
                self.stop.wait(self.patience.seconds(failures))


def fetch_file(errand: Errand, file: RemoteFile) -> None:
    """Have a file's content in the cache, whole and checked. Who else fetches the same is waited for.

    Raises:
        ApiError: it cannot be had. What came of it stays, for the next time, unless the disk has no room for more.
    """
    blob, partial = errand.cache.blob(file.key), errand.cache.partial(file.key)
    try:
        with _locked(errand, errand.cache.lock(file.key)):
            if not _is_there(blob, file):
                _fetch(errand, file, partial, blob)
                return
        errand.meter.have(file.size)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _unwritten(errand, error) from error


def _is_there(blob: Path, file: RemoteFile) -> bool:
    """A content of another length is the remains of somebody's crash; it would never be fetched again."""
    try:
        return blob.stat().st_size == file.size
    except FileNotFoundError:
        return False


def _unwritten(errand: Errand, error: OSError) -> ApiError:
    folder = str(errand.cache.folder)
    if error.errno in _FULL:
        return problems.disk_full(errand.model, folder, errand.meter.missing, 0)
    return problems.cannot_write(errand.model, folder, error.strerror or str(error))


@contextmanager
def _locked(errand: Errand, path: Path) -> Iterator[None]:
    """Hold a lock that other processes, and other threads of this one, wait for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _lock(held):
            errand.check_stop()
            errand.stop.wait(_LOOK_SECONDS)
        yield
    finally:
        os.close(held)


def _lock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(errand: Errand, file: RemoteFile, partial: Path, blob: Path) -> None:
    partial.parent.mkdir(parents=True, exist_ok=True)
    with Half.open(partial, file) as half:
        half.read_again(errand.have)
        was_here = half.size > 0
        _complete(errand, half)
        if not half.is_right() and was_here:  # rotten from the last time: not this server's fault
            _begin_anew(errand, half)
            _complete(errand, half)
        if not half.is_right():
            partial.unlink()
            raise problems.checksum_mismatch(errand.model, errand.registry.name, file.name)
        half.settle()
    partial.replace(blob)


def _complete(errand: Errand, half: Half) -> None:
    errand.persist(lambda: _continue(errand, half), lambda: half.size)


def _begin_anew(errand: Errand, half: Half) -> None:
    errand.meter.have(-half.size)
    half.empty()


def _continue(errand: Errand, half: Half) -> None:
    """Fetch what is missing, or as much of it as one connection brings."""
    if half.missing == 0:
        return
    headers = {"range": f"bytes={half.size}-"} if half.size else {}
    try:
        with errand.client.stream("GET", errand.registry.url(errand.model, half.file), headers=headers) as response:
            _begin(errand, half, response)
            _take(errand, half, response)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PassingError(reason(error)) from error
    if half.missing:
        raise PassingError(f"the connection ended {half.missing} bytes before the end of '{half.file.name}'")


def _begin(errand: Errand, half: Half, response: httpx.Response) -> None:
    """See to it that what comes is what goes on from what is here."""
    if half.size and response.status_code == _NO_SUCH_RANGE:
        _begin_anew(errand, half)
        raise PassingError(f"it has no such part of '{half.file.name}'")
    errand.registry.check(response, errand.model, half.file.name)
    if half.size and not _goes_on(response, half.size):
        _begin_anew(errand, half)
        if response.status_code == _PARTIAL_CONTENT:
            raise PassingError(f"it answered with another part of '{half.file.name}'")


def _goes_on(response: httpx.Response, at: int) -> bool:
    """A server may ignore that a part was asked for; and a part of a compressed body is none of the file."""
    fits = response.headers.get("content-range", "").startswith(f"bytes {at}-")
    return response.status_code == _PARTIAL_CONTENT and fits and "content-encoding" not in response.headers


def _take(errand: Errand, half: Half, response: httpx.Response) -> None:
    for piece in response.iter_bytes():  # as they come: pieces put together to a size would be lost with the connection
        errand.check_stop()
        if len(piece) > half.missing:
            _begin_anew(errand, half)
            raise PassingError(f"it sends more than the {half.file.size} bytes of '{half.file.name}'")
        half.write(piece)
        errand.meter.fetched(len(piece))
