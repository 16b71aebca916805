"""An upstream's stream on its way to a client: passed on as it is, or read, translated and written anew. Pure.

Either way only whole events leave, so that an error event can follow whatever was sent.
"""

from collections.abc import Callable
from re import compile as pattern
from typing import Protocol

import orjson
import structlog
from attrs import define, field, frozen

from helexa.wire.dialect import ChunkReader, Json, Reply
from helexa.wire.errors import ApiError
from helexa.wire.sse import EventCutter

_log = structlog.get_logger()
_NO_CHOICES = pattern(rb'"choices": ?\[ ?\]')
_EVENT = pattern(rb"(?s:.*?\n\r?\n|.+)")
_MALFORMED = (TypeError, KeyError, AttributeError, IndexError)


class Relay(Protocol):
    """One stream. Used once."""

    @property
    def complete(self) -> bool:
        """Whether ``finish`` tells all there is: whatever happens to the connection now, nothing is lost."""

    def push(self, data: bytes) -> bytes:
        """The events for the client that these bytes complete.

        Raises:
            ApiError: the upstream told of an error.
            ValueError: the upstream does not speak its dialect; a sentence that begins with "it".
        """

    def finish(self) -> bytes:
        """What the end of the connection completes.

        Raises:
            ApiError: as ``push``.
            ValueError: as ``push``, or the stream had not come to its end.
        """

    def fail(self, error: ApiError) -> bytes:
        """The events that end the stream with an error."""


@frozen
class Marks:
    """How a dialect's streams are told to be at their end without reading them.

    Quotes within JSON strings are escaped, so no text of a model looks like one of these.

    Attributes:
        ends: lines, or beginnings of lines, that are the end.
        enough: found anywhere, they say that nothing is lost if the connection ends in good order.
        errors: beginnings of an event that tells of an error.
    """

    ends: tuple[bytes, ...]
    enough: tuple[bytes, ...]
    errors: tuple[bytes, ...]


@define(eq=False)
class Verbatim:
    """Passes events on byte for byte.

    Attributes:
        marks: of the dialect that both sides speak.
        read_error: raises the ``ApiError`` that these events tell of.
        write_error: how the dialect ends a stream with an error, given how many events went before.
    """

    marks: Marks
    read_error: Callable[[bytes], object]
    write_error: Callable[[ApiError, int], bytes]
    complete: bool = False
    _enough: bool = False
    _begun: bool = False
    _events: int = 0
    _cutter: EventCutter = field(factory=EventCutter)

    def push(self, data: bytes) -> bytes:
        """Whole events."""
        events = self._cutter.push(data)
        if events:
            self._look(events)
            self._events += events.count(b"data:")  # for what they are counted, a rough number is enough
        return events

    def finish(self) -> bytes:
        """The last event, which may lack its blank line."""
        tail = self._cutter.finish()
        self._look(tail)
        if not self.complete and not self._enough:
            raise ValueError("it ended its stream before the answer's end")
        return tail

    def fail(self, error: ApiError) -> bytes:
        """An error event."""
        return self.write_error(error, self._events)

    def _look(self, events: bytes) -> None:
        # An error in place of the first event: nothing was sent yet, so it can still be an answer of its own.
        if not self._begun and events.startswith(self.marks.errors):
            self.read_error(events)
        self._begun = True
        marks = self.marks
        self.complete = self.complete or any(begins_line(events, mark) for mark in marks.ends)
        # After an error the end mark may still come; without it the client knows all there is to know.
        told = any(begins_line(events, mark) for mark in marks.errors)
        self._enough = self._enough or told or any(mark in events for mark in marks.enough)


def begins_line(events: bytes, mark: bytes) -> bool:
    """Whether a line begins like that."""
    return events.startswith(mark) or b"\n" + mark in events


@define(eq=False)
class Rewritten:
    """Passes events on with parts of them exchanged.

    Attributes:
        inner: finds whole events, and the stream's end.
        rewrite: takes whole events.
    """

    inner: Verbatim
    rewrite: Callable[[bytes], bytes]

    @property
    def complete(self) -> bool:
        """See ``Relay``."""
        return self.inner.complete

    def push(self, data: bytes) -> bytes:
        """Whole events."""
        return self.rewrite(self.inner.push(data))

    def finish(self) -> bytes:
        """The last event."""
        tail = self.inner.finish()
        return self.rewrite(tail.rstrip(b"\r\n") + b"\n\n") if tail.strip() else b""

    def fail(self, error: ApiError) -> bytes:
        """An error event."""
        return self.inner.fail(error)


def without_usage(events: bytes) -> bytes:
    """Whole events of a chat or completion without the one that tells its usage and nothing else."""
    if _NO_CHOICES.search(events) is None:
        return events
    return b"".join(each for each in _EVENT.findall(events) if not _tells_usage_alone(each))


def _tells_usage_alone(event: bytes) -> bool:
    if _NO_CHOICES.search(event) is None or not event.startswith(b"data:"):
        return False
    try:
        found = orjson.loads(event[len(b"data:") :])
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("choices") == [] and isinstance(found.get("usage"), dict)


@define(eq=False)
class Translating:
    """Reads chunks, writes a reply."""

    reader: ChunkReader
    reply: Reply

    @property
    def complete(self) -> bool:
        """See ``Relay``."""
        return bool(getattr(self.reader, "complete", False))

    def push(self, data: bytes) -> bytes:
        """What these bytes say, in the client's dialect."""
        return self._write(self.reader.push, data)

    def finish(self) -> bytes:
        """The end of the reply."""
        return self._write(self.reader.finish) + self.reply.finish()

    def fail(self, error: ApiError) -> bytes:
        """The end of the reply, with an error."""
        return self.reply.fail(error)

    def _write(self, read: Callable[..., list[Json]], *data: bytes) -> bytes:
        try:
            return b"".join([self.reply.push(chunk) for chunk in read(*data)])
        except _MALFORMED as error:
            raise unreadable(error) from error


def unreadable(error: Exception) -> ValueError:
    """What came is JSON, and not what it should be in some way that no check has foreseen."""
    _log.warning("exchange.unreadable", exc_info=error)
    return ValueError("it sent what does not have the shape of an answer")
