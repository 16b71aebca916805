"""Lines of logs and events of the fleet as one list, and what of it is wanted. Pure."""

from bisect import bisect_left
from collections.abc import Mapping, Reversible
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final, TypeVar

import orjson
from attrs import define, field, frozen

from tui.shapes import Event, Line
from tui.views.safe import line as one_line
from tui.views.sieve import LEVELS, Sieve
from tui.world import World

MOST: Final = 6000
"""Entries that are kept."""
_SLACK: Final = 1000
_T = TypeVar("_T")


@frozen(eq=False)
class Entry:
    """A line of a log, or an event of the fleet.

    Attributes:
        time: Unix time in seconds.
        level: one of ``LEVELS``.
        event: what.
        fields: everything else.
        node: whose log; ``""``: the gateway's.
        is_event: whether it is one of ``/fleet/events``.
        words: what a filter looks at, in lower case.
    """

    time: float
    level: str
    event: str
    fields: Mapping[str, Any]
    node: str
    is_event: bool
    words: str

    def stated(self) -> str:
        """What it says beside its name, as ``key=value``."""
        return stated(self.fields)


def stated(fields: Mapping[str, Any]) -> str:
    """Fields in one line; those with a space in quotes."""
    return " ".join(f"{name}={_quoted(plain(value))}" for name, value in fields.items())


def plain(value: Any) -> str:
    """A field's value in text."""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text or not text else text


def of_line(line: Line) -> Entry:
    """A log's line as an entry."""
    level = line.level if line.level in LEVELS else "info"
    words = _words(level, line.event, line.fields)
    return Entry(line.time, level, line.event, line.fields, line.node, is_event=False, words=words)


def of_event(event: Event) -> Entry:
    """An event as an entry, at a level that its name tells."""
    node, level = str(event.data.get("node") or ""), level_of(event.event)
    words = _words(level, event.event, event.data)
    return Entry(event.time, level, event.event, event.data, node, is_event=True, words=words)


def _words(level: str, event: str, fields: Mapping[str, Any]) -> str:
    return f"{level} {event} {stated(fields)}".lower()


def level_of(event: str) -> str:
    """How much an event of the fleet matters."""
    if event.endswith(".progress"):
        return "debug"
    if event.endswith("failed"):
        return "error"
    return "warning" if event.endswith(("down", "rejected", "crashed", "recovering", "lost")) else "info"


def fresh(known: Reversible[_T], last: _T | None) -> list[_T]:
    """What stands behind the last one that was seen, in its order; everything, where that one is gone."""
    return list(takewhile(lambda each: each is not last, reversed(known)))[::-1]


def order(entry: Entry) -> float:
    """Entries stand by time; those of one moment as they came."""
    return entry.time


@define
class Journal:
    """The entries of one process's log with the fleet's events among them, by time, and those that are wanted.

    Lines come in thousands; so each is read, and held against the sieve, once.

    Attributes:
        node: whose log; ``""``: the gateway's.
        with_events: whether events are wanted: with the gateway's log all of them, with a node's those about it.
        sieve: what is wanted.
        shown: that.
        kept: everything.
    """

    node: str = ""
    with_events: bool = True
    sieve: Sieve = field(factory=Sieve)
    shown: list[Entry] = field(factory=list)
    kept: list[Entry] = field(factory=list)
    _line: Line | None = None
    _event: Event | None = None

    def take(self, world: World) -> bool:
        """Read what is new; whether there was something."""
        lines, happened = fresh(world.lines, self._line), fresh(world.events, self._event)
        self._line = lines[-1] if lines else self._line
        self._event = happened[-1] if happened else self._event
        found = [of_line(each) for each in lines if each.node == self.node]
        found += [of_event(each) for each in happened if each.event and self.node in ("", each.data.get("node"))]
        self._add(found)
        return bool(found)

    def _add(self, found: list[Entry]) -> None:
        if not found:
            return
        found.sort(key=order)
        _merge(self.kept, found)
        _merge(self.shown, [entry for entry in found if self._wants(entry)])
        if len(self.kept) > MOST + _SLACK:
            del self.kept[:-MOST]
            del self.shown[: bisect_left(self.shown, self.kept[0].time, key=order)]

    def _wants(self, entry: Entry) -> bool:
        return (self.with_events or not entry.is_event) and self.sieve.passes(entry)

    def look_at(self, node: str, world: World) -> None:
        """From now on at another process's log."""
        self.node, self._line, self._event, self.kept, self.shown = node, None, None, [], []
        self.take(world)

    def want(self, sieve: Sieve, *, with_events: bool) -> None:
        """From now on this."""
        self.sieve, self.with_events = sieve, with_events
        self.shown = [entry for entry in self.kept if self._wants(entry)]


def _merge(there: list[Entry], more: list[Entry]) -> None:
    """Entries of a log come a second later than events: few are to be moved, which a sort finds out by itself."""
    late = bool(there and more and more[0].time < there[-1].time)
    there += more
    if late:
        there.sort(key=order)


def clock(at: float, *, fine: bool) -> str:
    """A local time of day; what no clock can show is dashes."""
    try:
        found = datetime.fromtimestamp(at, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return "--:--:--"
    return f"{found:%H:%M:%S}.{found.microsecond // 1000:03d}" if fine else f"{found:%H:%M:%S}"


def date(at: float) -> str:
    """A local date, time and zone."""
    try:
        return datetime.fromtimestamp(at, UTC).astimezone().isoformat(" ", "milliseconds")
    except (OverflowError, ValueError, OSError):
        return "?"


def copied(entry: Entry) -> str:
    """A line for the clipboard."""
    return one_line(f"{date(entry.time)} {entry.level} {entry.event} {entry.stated()}".rstrip())
