"""What happens in the fleet, in order: kept for a while, numbered, streamed to whoever watches.

A log of the last events, and readers that each come for what they have not seen. So publishing never waits, and a slow
reader costs nobody anything: one that has fallen out of the log begins anew with a snapshot.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Self

import trio
from attrs import frozen

from helexa.wire import sse

CAPACITY = 1024
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"
"""A comment: proxies on the way close connections on which nothing comes for a while."""
SNAPSHOT = "snapshot"


@frozen
class Event:
    """Something that happened.

    Attributes:
        id: its number; each event's is one more than the one's before.
        time: when, Unix time in seconds.
        kind: what, e.g. ``model.loaded``.
        data: which node, model and so on; plain JSON.
    """

    id: int
    time: float
    kind: str
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        """The event on the wire; its data repeats number and kind for readers that see only the data."""
        body = {"id": self.id, "time": self.time, "event": self.kind, "data": self.data}
        return f"id: {self.id}\nevent: {self.kind}\n".encode() + sse.event(body)


class EventLog:
    """The last events; owned by the gateway's process.

    Args:
        capacity: how many are kept.
        clock: Unix time in seconds.
    """

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.time) -> None:
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._clock = clock
        # Not 0: a reader that comes back after a restart of the gateway must not find its number in use again.
        self._last = int(clock() * 1000)
        self._changed = trio.Event()
        self._closed = False

    @property
    def last(self) -> int:
        """The number of the newest event, or the one before the first."""
        return self._last

    def publish(self, kind: str, /, **data: Any) -> None:
        """Add an event; ``data`` has to be plain JSON. Never waits."""
        self._last += 1
        self._ring.append(Event(self._last, round(self._clock(), 3), kind, data))
        self._wake()

    def event(self, kind: str, /, **data: Any) -> Event:
        """One that is not part of the log, numbered like its newest: whoever has seen it needs only later ones."""
        return Event(self._last, round(self._clock(), 3), kind, data)

    def holds(self, after: int) -> bool:
        """Whether everything that came after event ``after`` is still here."""
        return self._last - len(self._ring) <= after <= self._last

    async def wait(self, after: int) -> list[Event]:
        """The events that came after ``after`` and are still here, as soon as there is one; empty once closed."""
        while self._last <= after and not self._closed:
            await self._changed.wait()
        first = self._last - len(self._ring) + 1
        return list(islice(self._ring, max(0, after + 1 - first), None))

    def close(self) -> None:
        """No more is coming: let every reader go."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Feed:
    """One reader's stream of events, as bytes; used once. No scope is held open between two of them.

    Args:
        log: where the events come from.
        snapshot: everything that events change, as it is now.
        after: the last event that the reader has seen; ``None``: it knows nothing yet.
    """

    def __init__(self, log: EventLog, snapshot: Callable[[], Mapping[str, Any]], after: int | None) -> None:
        self._log = log
        self._snapshot = snapshot
        self._after = after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(HEARTBEAT_SECONDS):
            return await self._next()
        return HEARTBEAT

    async def _next(self) -> bytes:
        if self._after is None or not self._log.holds(self._after):
            return self._anew()
        events = await self._log.wait(self._after)
        if not events:
            raise StopAsyncIteration
        if events[0].id != self._after + 1:  # fell out of the log while this reader slept
            return self._anew()
        self._after = events[-1].id
        return b"".join(event.encode() for event in events)

    def _anew(self) -> bytes:
        """Everything, and from here on what changes. Nothing can happen in between: this does not wait."""
        self._after = self._log.last
        return self._log.event(SNAPSHOT, **self._snapshot()).encode()


def seen(last_event_id: str | None) -> int | None:
    """The number in ``Last-Event-ID``; ``None`` for none, and for what is not one of ours."""
    text = last_event_id or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _LONGEST else None


_LONGEST = 20  # digits; Python refuses to read numbers of thousands
