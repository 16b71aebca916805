"""What a console saw, written to a file, and shown again: gzip, one JSON object a line, in the order of time.

A line is ``{"at": Unix time, "feed": name, "data": …}`` for what a feed answered (``"error"`` in place of ``"data"``),
or ``{"at": …, "events": […]}`` for what happened, or ``{"at": …, "link": state, "reason": …}``. The first one is
``{"helexa_recording": 1, "url": …}``.
"""

import asyncio
import gzip
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
from attrs import asdict
from textual.message import Message

from tui import shapes
from tui.live import Tell
from tui.messages import Happened, LinkChanged, LinkState, Seen
from tui.shapes import Event

VERSION: Final = 1
_HEAD: Final = "helexa_recording"
_FLUSH_SECONDS: Final = 5.0
_LAST: Final = 32_503_680_000.0  # the year 3000: what is later is no time that a clock could show


class RecordingError(Exception):
    """A file cannot be written, or is no recording; the message is for the operator."""


class Recorder:
    """Writes messages to a file. Use it as a context manager; what was written stays readable if the process dies.

    The file is for its owner alone: it tells of keys' names, of requests and of logs.

    Args:
        path: made anew.
        url: of the fleet, for who looks at the file.

    Raises:
        RecordingError: the file cannot be written.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._flushed = time.monotonic()
        try:
            self._raw = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
            self._file = gzip.GzipFile(fileobj=self._raw, mode="wb", compresslevel=3)
            self._write({_HEAD: VERSION, "url": url})
        except OSError as error:
            raise RecordingError(f"cannot record to {path}: {(error.strerror or str(error)).lower()}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):  # no room for the rest of it, which tell() has said
            self._file.close()
        with suppress(OSError):
            self._raw.close()

    def tell(self, message: Message) -> None:
        """Write a message down.

        Raises:
            RecordingError: there is no room any more.
        """
        try:
            self._write(_written(message))
        except OSError as error:
            raise RecordingError(f"recording to {self.path} has ended: {error.strerror or error}.") from error

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(line, default=str) + b"\n")
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()  # so that a console that is killed leaves all but its last seconds
            self._flushed = time.monotonic()


def _written(message: Message) -> dict[str, Any]:
    match message:
        case Seen(feed, data, at, None):
            return {"at": at, "feed": feed, "data": data}
        case Seen(feed, _, at, error):
            return {"at": at, "feed": feed, "error": error}
        case Happened(events):
            return {"at": time.time(), "events": [asdict(event) for event in events]}
        case LinkChanged(state, reason):
            return {"at": time.time(), "link": state, "reason": reason}
    raise TypeError(message)


def read(path: Path) -> Iterator[tuple[float, Message]]:
    """The messages of a recording with their times, one after the other: an hour of them is never held at once.

    A file that breaks off, as one of a console that was killed, ends there.

    Raises:
        RecordingError: it cannot be read, or is no recording.
    """
    try:
        with gzip.open(path, "rb") as file:
            _check_head(path, file)
            for line in file:
                try:
                    found = orjson.loads(line)
                except ValueError:
                    return
                if isinstance(found, dict):
                    yield _at(found), _message(found)
    except (EOFError, zlib.error):
        return
    except OSError as error:
        raise RecordingError(f"cannot replay {path}: {(error.strerror or str(error)).lower()}.") from error


def _check_head(path: Path, file: gzip.GzipFile) -> None:
    try:
        version = orjson.loads(file.readline())[_HEAD]
    except (ValueError, KeyError, TypeError, EOFError, zlib.error):
        raise RecordingError(f"{path} is no recording of a console.") from None
    if version != VERSION:
        raise RecordingError(f"{path} was recorded by another version of helexa ({version}, and this one knows 1).")


def _at(found: dict[str, Any]) -> float:
    at = found.get("at")
    return min(_LAST, max(0.0, float(at))) if isinstance(at, int | float) else 0.0


def _message(found: dict[str, Any]) -> Message:
    if "events" in found:
        return Happened(shapes.read_list(Event, found["events"]))
    if "link" in found:
        return LinkChanged("replay", str(found.get("reason") or ""))
    return Seen(str(found.get("feed")), found.get("data"), _at(found), found.get("error"))


class Replay:
    """A recording in place of a fleet.

    Args:
        path: of the recording.
        speed: seconds of the recording in one of ours.

    Attributes:
        paused: whether it stands still.
        speed: may be changed while it runs.
        now: the time it has come to, Unix time in seconds; 0: it has not begun.
    """

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        self.path, self.speed = path, speed
        self.paused = False
        self.now = 0.0
        self.logs_of: str | None = None  # it tells of those that were looked at
        self.places_of: str | None = None
        self.queries: dict[str, str] = {}  # likewise
        self._told = 0.0
        self._changed = asyncio.Event()
        next(read(path), None)  # that it is none is said before a screen is drawn

    def poke(self, *_feeds: str) -> None:
        """A recording holds what it holds."""

    def pause(self) -> None:
        """Stand still, or go on."""
        self.paused = not self.paused
        self._changed.set()

    async def run(self, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        """Tell what was seen then, in its own time; at its end, stay there until cancelled."""
        del wanted  # everything is told: another screen may want it later, and it does not come again
        _link(tell, "replay", str(self.path))
        for at, message in read(self.path):
            await self._until(at)
            if not isinstance(message, LinkChanged):
                tell(message)
        _link(tell, "ended", str(self.path))
        await asyncio.Event().wait()

    async def _until(self, at: float) -> None:
        """Wait as long as the recording did, less what drawing it has taken; a leap of a day is made at once."""
        if self.now == 0.0 or not 0 <= at - self.now < _LEAP:
            self.now, self._told = at, time.monotonic()
        while self.paused or self.now < at:
            await self._go_on(at)
        self._told = max(self._told, time.monotonic() - _LATE)
        await asyncio.sleep(0)

    async def _go_on(self, at: float) -> None:
        """Wait until it is time, or something has been changed."""
        if self.paused:
            await self._wait(None)
            self._told = time.monotonic()
            return
        needed = (at - self.now) / self.speed
        await self._wait(self._told + needed - time.monotonic())
        passed = time.monotonic() - self._told
        if passed < needed:
            self.now, self._told = self.now + passed * self.speed, self._told + passed
        else:
            self.now, self._told = at, self._told + needed

    async def _wait(self, seconds: float | None) -> None:
        if seconds is not None and seconds <= 0:
            return
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return


_LEAP: Final = 3600.0
_LATE: Final = 1.0
"""So many seconds are caught up with; what is later than that goes on from where it is, as fast as it can be shown."""


def _link(tell: Tell, state: LinkState, reason: str) -> None:
    tell(LinkChanged(state, reason))
