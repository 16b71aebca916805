"""Reads a running fleet for the console: each feed that is wanted in a task of its own, and the events as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import httpx
import orjson
from textual.message import Message

from helexa.wire.sse import EventReader
from tui import shapes
from tui.client import CONNECT_SECONDS, FAILURES, FleetError, client_options, no_url, refusal, trouble
from tui.feeds import ALWAYS, FEEDS, Feed
from tui.messages import Happened, LinkChanged, LinkState, Seen
from tui.shapes import Event

Tell = Callable[[Message], None]
READ_SECONDS: Final = 10.0
"""Until a fleet that has accepted a request and says nothing counts as lost."""
LEAST_SECONDS: Final = 0.2
"""Between two reads of a feed."""
GATHER_SECONDS: Final = 0.1
"""Events of this long are told together."""
_REST: Final = 4.0
"""So many times as long as the last answer took to understand is a feed let be: keys are waited for meanwhile."""
_AGAIN: Final = (0.5, 1.0, 2.0, 5.0)
_STALE: Final = 30.0  # the gateway's comments come twice as often


class Source(Protocol):
    """Where what is shown comes from: a fleet, or a recording of one.

    Attributes:
        logs_of: the node whose log is read; ``None``: the gateway's.
        places_of: the model that the feed ``places`` is about; ``None``: it is not read.
        queries: what follows the ``?``, by the name of a feed that is ``queried``; without it, that is not read.
    """

    logs_of: str | None
    places_of: str | None
    queries: dict[str, str]

    async def run(self, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        """Tell of feeds and events until cancelled.

        Args:
            wanted: the names of the feeds that are to be read now.
            tell: takes the messages of ``tui.messages``.
        """

    def poke(self, *feeds: str) -> None:
        """Read these now: something has been changed, or a screen is shown that needs them."""


class Live:
    """A fleet by its URL. Owns its connections while it runs.

    Args:
        url: of the gateway.
        key: API key, if the fleet asks for one.
        bench_url: of the benchmarks' API.
        clock: Unix time in seconds.

    Raises:
        FleetError: a URL is none.
    """

    def __init__(self, url: str, key: str | None, bench_url: str, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        try:
            self._gateway, self._bench = (httpx.AsyncClient(**client_options(each, key)) for each in (url, bench_url))
        except (httpx.InvalidURL, ValueError) as error:
            raise no_url(url, error) from error
        self._clock = clock
        self._pokes = {name: asyncio.Event() for name in FEEDS}
        self._after: dict[str, int] = {}
        self._link: LinkState = "connecting"
        self.logs_of: str | None = None
        self.places_of: str | None = None
        self.queries: dict[str, str] = {}

    def poke(self, *feeds: str) -> None:
        """Read these now."""
        for name in feeds:
            self._pokes[name].set()

    async def run(self, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        """Read until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(tell))
                for feed in FEEDS.values():
                    tasks.create_task(self._keep_reading(feed, wanted, tell))
        finally:
            await self._gateway.aclose()
            await self._bench.aclose()

    async def _keep_reading(self, feed: Feed, wanted: Callable[[], frozenset[str]], tell: Tell) -> None:
        poked = self._pokes[feed.name]
        while True:
            busy = 0.0
            if feed.name in ALWAYS or (feed.name in wanted() and not self._is_idle(feed)):
                busy = await self._read(feed, tell)
            rest = max(LEAST_SECONDS, _REST * busy)  # however many events poke it
            await asyncio.sleep(rest)
            with suppress(TimeoutError):
                await asyncio.wait_for(poked.wait(), max(0.0, feed.seconds - rest))
            poked.clear()

    async def _read(self, feed: Feed, tell: Tell) -> float:
        """Read a feed and tell of it; the seconds that it took to understand the answer."""
        client = self._bench if feed.bench else self._gateway
        about, timeout = self._about(feed), httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        try:
            response = await client.get(self._path(feed), timeout=timeout)
        except FAILURES as error:
            self._failed(feed, trouble(str(client.base_url), error), "lost", tell)
            return 0.0
        begin = time.monotonic()
        if about == self._about(feed):  # else it is about what is not asked for any more
            self._answered(feed, response, tell)
        return time.monotonic() - begin

    def _answered(self, feed: Feed, response: httpx.Response, tell: Tell) -> None:
        try:
            data = _content(response)
        except RefusedError as error:
            self._failed(feed, error, error.state, tell)
        else:
            self._came(feed, data, tell)

    def _is_idle(self, feed: Feed) -> bool:
        """Whether nobody has said yet what a feed is to be about."""
        return (feed.name == "places" and self.places_of is None) or (feed.queried and feed.name not in self.queries)

    def _about(self, feed: Feed) -> tuple[str | None, ...]:
        return self.logs_of, self.places_of, self.queries.get(feed.name)

    def _path(self, feed: Feed) -> str:
        if feed.name == "places":
            return feed.path.format(model=quote(self.places_of or ""))
        if feed.queried:
            return f"{feed.path}?{self.queries[feed.name]}"
        if feed.name != "logs":
            return feed.path
        node = {} if self.logs_of is None else {"node": self.logs_of}
        return f"{feed.path}?{urlencode({**node, 'after': self._after.get(self.logs_of or '', 0)})}"

    def _came(self, feed: Feed, data: Any, tell: Tell) -> None:
        if feed.name in ALWAYS:
            self._change("connected", "", tell)
        if feed.name == "logs" and isinstance(data, dict):
            self._after[self.logs_of or ""] = data.get("last", 0) if isinstance(data.get("last"), int) else 0
            data = {**data, "node": self.logs_of or ""}
        tell(Seen(feed.name, data, self._clock()))

    def _failed(self, feed: Feed, error: Exception, state: LinkState, tell: Tell) -> None:
        if feed.name in ALWAYS:
            self._change(state, str(error), tell)
        tell(Seen(feed.name, None, self._clock(), str(error)))

    def _change(self, state: LinkState, reason: str, tell: Tell) -> None:
        if state != self._link:
            self._link = state
            tell(LinkChanged(state, reason))

    async def _follow(self, tell: Tell) -> None:
        """Hear events; after a break from the one on that was heard last."""
        gathered: list[Event] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_hand_on(gathered, tell))
            last, tries = None, 0
            while True:
                heard = await self._hear(last, gathered)
                tries = 0 if heard != last else tries + 1
                last = heard
                await asyncio.sleep(_AGAIN[min(tries, len(_AGAIN) - 1)])

    async def _hear(self, last: int | None, gathered: list[Event]) -> int | None:
        """One connection's events; the number of the last one."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        reader = EventReader()
        timeout = httpx.Timeout(_STALE, connect=CONNECT_SECONDS)
        with suppress(*FAILURES):
            async with self._gateway.stream("GET", "/fleet/events", headers=headers, timeout=timeout) as response:
                async for piece in response.aiter_bytes() if response.is_success else _nothing():
                    for event in map(_event, reader.push(piece)):
                        last = event.id or last
                        self.poke("fleet", "models")
                        if event.event != "snapshot":
                            gathered.append(event)
        return last


async def _nothing() -> AsyncIterator[bytes]:
    for each in tuple[bytes]():
        yield each


async def _hand_on(gathered: list[Event], tell: Tell) -> None:
    while True:
        await asyncio.sleep(GATHER_SECONDS)
        if gathered:
            events, gathered[:] = tuple(gathered), []
            tell(Happened(events))


def _event(data: str) -> Event:
    with suppress(ValueError):
        return shapes.read(Event, orjson.loads(data))
    return Event()


class RefusedError(Exception):
    """An answer that is not what was asked for; the message is for the operator."""

    def __init__(self, message: str, state: LinkState) -> None:
        super().__init__(message)
        self.state = state


_KEY: Final = (401, 403)
_MISSING: Final = 404


def _content(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        RefusedError: it is an error, or no JSON.
    """
    if response.status_code in _KEY:
        raise RefusedError(str(refusal(response)), "refused")
    if response.status_code == _MISSING:
        raise RefusedError(f"{response.request.url} is not there: no helexa, or an older one.", "strange")
    if not response.is_success:
        raise RefusedError(str(refusal(response)), "strange")
    try:
        found = orjson.loads(response.content)
    except ValueError:
        raise RefusedError(f"{response.request.url} answers, and not as a fleet does.", "strange") from None
    if not isinstance(found, Mapping):
        raise RefusedError(f"{response.request.url} answers, and not as a fleet does.", "strange")
    return found


__all__ = ["FleetError", "Live", "Source", "Tell"]
