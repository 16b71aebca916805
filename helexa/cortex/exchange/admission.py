"""Which requests are served now and which wait: bounds on what is in flight, and turns that are fair between keys.

Who would wait for longer than a request may is turned away at once, and told how long those that wait already will
take: a minute in vain helps nobody.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, Literal, Self, TypeAlias, get_args

import trio
from attrs import define, field, frozen

from config import Cortex
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange.fairqueue import FairQueue, Line, Pace, Ticket, Wait
from helexa.wire import errors
from helexa.wire.errors import ApiError

Reason: TypeAlias = Literal["queue_full", "expected_wait", "queue_timeout"]
"""Why a request was turned away: too many wait; it would wait too long; it has waited too long."""

RECHECK: Final = 1.0
"""Seconds after which whoever waits looks whether limits have been raised: nobody tells."""
_LONGEST: Final = 3600
"""Seconds; nobody is told to wait for longer."""


@frozen
class Figures:
    """What metrics show.

    Attributes:
        in_flight: requests that are served.
        waiting: requests that wait for their turn.
        turned_away: requests that were refused since the start, by reason; each reason is there.
        waited: requests that were served after a wait.
        waited_seconds: how long those have waited, in all.
    """

    in_flight: int
    waiting: int
    turned_away: Mapping[Reason, int]
    waited: int
    waited_seconds: float


@define(eq=False)
class Place(Ticket):
    """One request's place; a context manager that is entered once, and waits for its turn then.

    Attributes:
        waited: seconds it had to wait.
        began: when it came to be served, by the admission's clock; ``None``: it has not.
        lost: whether it had to give way to a request of another key.
    """

    _admission: "Admission"
    _key: Key | None
    waited: float = 0.0
    began: float | None = None
    lost: bool = False
    _news: trio.Event | None = None

    async def __aenter__(self) -> Self:
        if not self._admission.enter(self, self._key):
            await self._admission.wait(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._admission.leave(self)

    @property
    def waits(self) -> bool:
        """Whether nothing has been decided yet."""
        return self.began is None and not self.lost

    def serve(self, now: float) -> None:
        """Its turn has come."""
        self.began = now
        self._wake()

    def give_way(self) -> None:
        """Its turn will not come."""
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    async def news(self, within: float) -> None:
        """Return when something is decided, or after so many seconds."""
        self._news = trio.Event()
        with trio.move_on_after(within):
            await self._news.wait()


@define(eq=False)
class Admission:
    """Grants places. Its owner is the proxy; one for all that a gateway serves.

    Limits are read anew whenever somebody comes or goes, and once a second while somebody waits. What a key says of
    itself counts from its next request on.

    Attributes:
        settings: the gateway's, as they are in force.
        default_most: requests that a key may have in flight that says nothing of it; ``None``: any number.
        clock: seconds; by default the event loop's, which deadlines are kept by too.
    """

    settings: Callable[[], Cortex]
    default_most: Callable[[], int | None] = lambda: None
    clock: Callable[[], float] = trio.current_time
    _queue: FairQueue[Place] = field(factory=FairQueue)
    _pace: Pace = field(factory=Pace)
    _turned_away: dict[Reason, int] = field(factory=lambda: dict.fromkeys(get_args(Reason), 0))
    _waited: int = 0
    _waited_seconds: float = 0.0

    def place(self, key: Key | None) -> Place:
        """A place for a request of a key: ``async with admission.place(key): …``.

        Entering it returns without a switch to other tasks where there is room and nobody has to be let by. Cancelling
        gives it up.

        Raises:
            ApiError: when entered: 429 ``rate_limit_exceeded``, with the seconds to wait at the recent pace.
        """
        return Place(self, key)

    def figures(self) -> Figures:
        """What there is to be shown now."""
        queue = self._queue
        return Figures(queue.in_flight, queue.waiting, dict(self._turned_away), self._waited, self._waited_seconds)

    def enter(self, place: Place, key: Key | None) -> bool:
        """Serve a request at once if that passes over nobody. Called by ``Place``."""
        line = self._line(key)
        if self._queue.waiting:
            self._next()  # limits may have been raised since somebody last came or went
        if not self._queue.enter(place, line, self.settings().max_in_flight, self.default_most()):
            return False
        place.serve(self.clock())
        return True

    def _line(self, key: Key | None) -> Line[Place]:
        if key is None:
            return self._queue.line(None, 1, None)
        return self._queue.line(key.id or key.name, key.weight, key.max_in_flight)

    async def wait(self, place: Place) -> None:
        """Wait for a turn. Called by ``Place``.

        Raises:
            ApiError: there is none, or not in time.
        """
        arrived = self.clock()
        self._line_up(place, arrived)
        try:
            while place.waits and (left := arrived + self.settings().queue_timeout - self.clock()) > 0:
                await place.news(min(left, RECHECK))
                self._next()
        except BaseException:  # whoever waited has gone, perhaps when the turn had just come
            self._withdraw(place)
            raise
        self._conclude(place, arrived)

    def _conclude(self, place: Place, arrived: float) -> None:
        if place.began is None:
            self._withdraw(place)
            raise self._refused("queue_full" if place.lost else "queue_timeout", place.line)
        place.waited = place.began - arrived
        self._waited += 1
        self._waited_seconds += place.waited

    def _withdraw(self, place: Place) -> None:
        if place.began is not None:
            self.leave(place)
        elif place.waits:
            self._queue.drop(place)

    def leave(self, place: Place) -> None:
        """A request has ended. Called by ``Place``."""
        assert place.began is not None
        now = self.clock()
        for pace in (self._pace, place.line.pace):
            pace.ended(now - place.began, now)
        self._queue.leave(place)
        if self._queue.waiting:
            self._next()

    def _next(self) -> None:
        """Serve those whose turn it is, as long as there are places."""
        while (found := self._queue.pop(self.settings().max_in_flight, self.default_most())) is not None:
            found.serve(self.clock())

    def _line_up(self, place: Place, now: float) -> None:
        settings, line, queue = self.settings(), place.line, self._queue
        self._watch(line, now)
        expected = self._expected(line, now)
        if expected.known and expected.seconds > settings.queue_timeout:
            raise self._refused("expected_wait", line)
        leaving = None
        if queue.waiting >= settings.max_queue:
            leaving = queue.giving_way(line)
            if leaving is None:
                raise self._refused("queue_full", line)
        queue.push(place)
        if leaving is not None:
            queue.drop(leaving)
            leaving.give_way()

    def _watch(self, line: Line[Place], now: float) -> None:
        """Nobody waited until now: how long it was quiet before tells nothing."""
        if not self._queue.waiting:
            self._pace.watch(now)
        if not line.waiting:
            line.pace.watch(now)

    def _expected(self, line: Line[Place], now: float) -> Wait:
        """How long one more request of a line would wait."""
        queue, most, own = self._queue, self.settings().max_in_flight, line.most(self.default_most())
        found = [Wait()]
        if queue.in_flight >= most:
            found.append(self._pace.wait(queue.in_flight - most + queue.ahead(line) + 1, queue.in_flight, now))
        if own is not None and line.in_flight >= own:
            endings = line.in_flight - own + len(line.waiting) + 1
            found.append(line.pace.wait(endings, line.in_flight, now))
        return max(found, key=lambda wait: wait.seconds)

    def _refused(self, reason: Reason, line: Line[Place]) -> ApiError:
        """Turn a request away: count it, and say when to come again."""
        self._turned_away[reason] += 1
        seconds = math.ceil(min(max(self._expected(line, self.clock()).seconds, 1), _LONGEST))
        sentence = _SENTENCES[reason].format(timeout=self.settings().queue_timeout)
        own = line.most(self.default_most())
        limit = (
            "" if own is None or line.in_flight < own else f" This API key may have {own} requests served at a time."
        )
        return errors.rate_limited(f"{sentence}{limit} Try again in {seconds} s.", seconds)


_SENTENCES: Final[Mapping[Reason, str]] = {
    "queue_full": "As many requests wait as may.",
    "expected_wait": "So many requests wait that this one would for longer than the {timeout:g} s a request may.",
    "queue_timeout": "The request has waited for {timeout:g} s without its turn coming.",
}
