"""Server-sent events as bytes (WHATWG HTML, section 9.2): written, cut at their ends, read."""

from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"
"""How OpenAI's chat streams end."""
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: readers pass it over, and whoever watches the connection sees that it is in use."""


def dumps(payload: Any) -> bytes:
    """JSON, UTF-8, compact."""
    return orjson.dumps(payload)


def event(payload: Any) -> bytes:
    """One ``data:`` event of a JSON payload."""
    return b"data: " + dumps(payload) + b"\n\n"


class EventCutter:
    r"""Passes a byte stream on verbatim, cut so that every piece ends where an event ends.

    A proxy that has sent half an event when its upstream dies cannot append an error event any more: a client would
    read the two as one. So the unfinished tail, at most one event, waits here. Line ends may be ``\n`` or ``\r\n``.
    """

    def __init__(self) -> None:
        self._tail = b""

    def push(self, data: bytes) -> bytes:
        """Whole events seen so far and not yet returned; may be empty."""
        data = self._tail + data
        cut = max(_end(data, b"\n\n"), _end(data, b"\n\r\n"))
        self._tail = data[cut:]
        return data[:cut]

    def finish(self) -> bytes:
        """The unfinished tail of a stream that ended well; an upstream may omit the last blank line."""
        tail, self._tail = self._tail, b""
        return tail


def _end(data: bytes, mark: bytes) -> int:
    found = data.rfind(mark)
    return found + len(mark) if found >= 0 else 0


class EventReader:
    """Reads the ``data`` of each event from chunks cut anywhere; comments and other fields are passed over."""

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def push(self, chunk: bytes) -> list[str]:
        """The data of every event that ``chunk`` completes."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        found = (self._line(line.removesuffix(b"\r")) for line in lines)
        return [data for data in found if data is not None]

    def _line(self, line: bytes) -> str | None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        if line or not self._data:
            return None
        data, self._data = b"\n".join(self._data), []
        return data.decode("utf-8", "replace")
