"""Requests that wait for their turn, fair between keys by their weights. Pure.

Start-time fair queuing (Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996), with one line of waiting
requests per key: each line has the virtual time at which its first request starts, the line with the earliest goes
next, and the next request of that line starts the later, the lower its weight is. Of keys that all have requests
waiting, none gets ahead of another by more than one request of each. Only the head of a line has a tag, unlike in the
paper: so a weight that is changed counts at once, and a request that gives up has cost its key nothing.

A line whose key has as many requests in flight as it may is passed over, and saves up nothing meanwhile.
"""

from collections import deque
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

_T = TypeVar("_T", bound="Ticket")

_TURN = 2**32
"""Virtual time that a request takes at weight 1: whole numbers, so that no sum ever drifts."""
_KEPT = 256
"""Lines that are kept although nothing is in them: a key that comes again finds how long its requests take."""
_RECENT = 64
"""Requests whose mean is what a request takes at present."""


@frozen
class Wait:
    """How long something is expected to take.

    Attributes:
        seconds: so long.
        known: whether that rests on requests that have ended.
    """

    seconds: float = 0.0
    known: bool = False


@define(eq=False)
class Pace:
    """How long requests take, and so how soon places become free.

    By Little's law, so many requests in flight that take so long on average end at the rate of the one over the other.
    Counting endings per second tells the same in the long run, but for a burst that starts together it would say one
    ending in thirty seconds a moment before a thousand end at once.

    Attributes:
        mean: seconds that a request takes, over the most recent ones; ``None``: none has ended yet.
    """

    mean: float | None = None
    _count: int = 0
    _quiet: float = 0.0

    def watch(self, now: float) -> None:
        """Somebody begins to wait: that nothing ends tells something from here on."""
        self._quiet = now

    def ended(self, took: float, now: float) -> None:
        """A request has ended that took so many seconds."""
        self._quiet = now
        self._count = min(self._count + 1, _RECENT)
        mean = took if self.mean is None else self.mean
        self.mean = mean + (took - mean) / self._count

    def wait(self, endings: int, in_flight: int, now: float) -> Wait:
        """How long until so many of the requests in flight, and of those that follow them, have ended.

        Where nothing has ended for longer than a request takes, those in flight are taken to last as long once more.
        """
        quiet = now - self._quiet
        mean = quiet if self.mean is None else self.mean
        present = min(max(endings, 0), in_flight)
        later = max(endings, 0) - present
        seconds = (present * max(mean, quiet) + later * mean) / max(in_flight, 1)
        return Wait(seconds, known=self.mean is not None)


@define(eq=False)
class Line(Generic[_T]):
    """What one key has in flight and waiting.

    Attributes:
        name: the key's; ``None``: requests without a key, which have no limit of their own.
        weight: its share.
        own: requests it may have in flight; ``None``: what keys may by default.
        start: virtual time at which its next request starts.
        in_flight: how many are served.
        waiting: those that wait, the oldest first.
        pace: how long its requests take.
    """

    name: str | None
    weight: int = 1
    own: int | None = None
    start: int = 0
    in_flight: int = 0
    waiting: deque[_T] = field(factory=deque)
    pace: Pace = field(factory=Pace)

    def most(self, default: int | None) -> int | None:
        """Requests it may have in flight, given what keys may by default; ``None``: any number."""
        return default if self.own is None and self.name is not None else self.own

    def has_room(self, default: int | None) -> bool:
        """Whether one more may be served, as far as the key is concerned."""
        most = self.most(default)
        return most is None or self.in_flight < most


@define(eq=False)
class Ticket:
    """A request that waits or is served.

    Attributes:
        line: its key's.
        number: its place in the order of arrival.
    """

    line: Line[Any] = field(init=False)
    number: int = field(init=False, default=0)


@define(eq=False)
class FairQueue(Generic[_T]):
    """Who is served, and who waits.

    Limits are arguments, not state, because they may change between any two calls. A ``default`` is what keys may have
    in flight that say nothing of it themselves.

    Attributes:
        in_flight: requests that are served.
        waiting: requests that wait.
    """

    in_flight: int = 0
    waiting: int = 0
    _lines: dict[str | None, Line[_T]] = field(factory=dict)
    _crowded: dict[str | None, Line[_T]] = field(factory=dict)
    _kept: int = _KEPT
    _virtual: int = 0
    _furthest: int = 0
    _arrivals: int = 0

    def line(self, name: str | None, weight: int, own: int | None) -> Line[_T]:
        """The line of a key, as the key is now."""
        found = self._lines.get(name)
        if found is None:
            found = self._new(name)
        found.weight, found.own = weight, own
        return found

    def _new(self, name: str | None) -> Line[_T]:
        if len(self._lines) >= self._kept:
            self._lines = {each.name: each for each in self._lines.values() if not self._at_rest(each)}
            self._kept = max(_KEPT, 2 * len(self._lines))
        return self._lines.setdefault(name, Line(name))

    def _at_rest(self, line: Line[_T]) -> bool:
        """Whether a new line would do as well: nothing is in it, and it would not be behind those that wait."""
        return not line.in_flight and not line.waiting and line.start <= self._virtual

    def enter(self, ticket: _T, line: Line[_T], most: int, default: int | None) -> bool:
        """Serve a request at once, if there is a place; ``pop`` first whoever waits, so that nobody is passed over."""
        ticket.line = line
        if self.in_flight >= most or not line.has_room(default):
            return False
        self._serve(line)
        return True

    def push(self, ticket: _T) -> None:
        """Have a request wait that was not let in."""
        self._arrivals += 1
        ticket.number = self._arrivals
        line = ticket.line
        if not line.waiting:
            line.start = max(line.start, self._virtual)
            self._crowded[line.name] = line
        line.waiting.append(ticket)
        self.waiting += 1

    def pop(self, most: int, default: int | None) -> _T | None:
        """Serve the request whose turn it is, if there is a place for it."""
        if not self.waiting or self.in_flight >= most:
            return None
        chosen = min(
            (line for line in self._crowded.values() if line.has_room(default)),
            key=lambda line: (line.start, line.waiting[0].number),
            default=None,
        )
        return None if chosen is None else self._pop(chosen, default)

    def _pop(self, chosen: Line[_T], default: int | None) -> _T:
        self._virtual = chosen.start
        for line in self._crowded.values():
            if not line.has_room(default):
                line.start = max(line.start, self._virtual)  # its key is at its own limit: that is not saved up
        chosen.start += _TURN // chosen.weight
        self._furthest = max(self._furthest, chosen.start)
        found = chosen.waiting.popleft()
        self._fewer(chosen)
        self._serve(chosen)
        return found

    def _serve(self, line: Line[_T]) -> None:
        line.in_flight += 1
        self.in_flight += 1

    def _fewer(self, line: Line[_T]) -> None:
        self.waiting -= 1
        if not line.waiting:
            del self._crowded[line.name]

    def leave(self, ticket: _T) -> None:
        """A request that was served has ended."""
        ticket.line.in_flight -= 1
        self.in_flight -= 1
        if not self.waiting:
            self._virtual = self._furthest  # there is a place for whoever comes: what each was served matters no longer

    def drop(self, ticket: _T) -> None:
        """A request no longer waits."""
        ticket.line.waiting.remove(ticket)
        self._fewer(ticket.line)

    def giving_way(self, line: Line[_T]) -> _T | None:
        """Who goes when there is no room for one more of ``line`` to wait: the newest of the key that waits the most.

        Measured by their weights, and only where that key would still wait no less than the newcomer's.
        """
        longest = max(self._crowded.values(), key=lambda each: len(each.waiting) / each.weight, default=line)
        more = len(longest.waiting) * line.weight > (len(line.waiting) + 1) * longest.weight
        return longest.waiting[-1] if more else None

    def ahead(self, line: Line[_T]) -> int:
        """How many that wait now would be served before one more of ``line``."""
        start = max(line.start, self._virtual) + len(line.waiting) * (_TURN // line.weight)
        others = (other for other in self._crowded.values() if other is not line)
        return len(line.waiting) + sum(_before(start, other) for other in others)


def _before(start: int, line: Line[Any]) -> int:
    """Requests of a line that start before, or with, one that starts then."""
    return max(0, min(len(line.waiting), (start - line.start) // (_TURN // line.weight) + 1))
