"""What was measured, over HTTP: read only, JSON, on a port of its own."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, cast

import structlog
import trio
from attrs import define, field
from quart import Response, request
from quart_trio import QuartTrio

from helexa.bench.analysis.compare import Change, changes
from helexa.bench.api import asking, shown
from helexa.bench.api.asking import FILTER, PAGE, Page, Query
from helexa.bench.api.sharing import Shared
from helexa.bench.storage.kept import Filter
from helexa.bench.storage.store import Store
from helexa.database import StoreError
from helexa.web.front import Front
from helexa.web.hosts import is_local
from helexa.web.quart_errors import json_app, json_response
from helexa.web.server import App, Scope
from helexa.wire import errors, sse

AT_ONCE: Final = 4
"""Reads of the database at a time."""
RETRY_SECONDS: Final = 5
_PAGE: Final = (100, 1000)
"""Runs of an answer: as a rule, and at most."""
_WITH_SAMPLES: Final = (20, 100)
"""Likewise; a run may have thousands of samples."""
_POINTS: Final = (1000, 10_000)
_BUILDS, _RUNS = 5, 10
"""Of each cell, that are looked through for changes: its newest builds, and of each its newest runs."""
T = TypeVar("T")
Status = Callable[[], Mapping[str, Any]]
_log = structlog.get_logger()


def make_app(  # noqa: PLR0913 - everything that the routes are about
    store: Store,
    admit: Callable[[Scope], None],
    status: Status,
    *,
    keyed: bool,
    local_only: bool,
    now: Callable[[], float] = time.time,
) -> App:
    """Wire the routes.

    Args:
        store: what is kept; read in threads.
        admit: lets a request in, or raises ``ApiError``.
        status: what the loop does, as plain JSON.
        keyed: whether ``admit`` asks for keys; it decides which pages may read answers, see `sharing`.
        local_only: requests must name a loopback host, so that a page that rebinds its own name to 127.0.0.1 reads
            nothing. For a listener on loopback that asks for no key.
        now: Unix time in seconds.
    """

    def check(scope: Scope) -> Scope:
        if local_only and not is_local(scope):
            raise errors.host_not_allowed()
        admit(scope)
        return scope

    control = json_app("helexa.bench")
    _routes(control, _Reader(store, now), status)
    return Shared(Front(check, {}, cast("App", control)), keyed)


@define(eq=False)
class _Reader:
    """Reads the store, in threads and a few at a time, so that what measures in this process keeps its time."""

    store: Store
    now: Callable[[], float]
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(AT_ONCE))
    _judging: trio.Lock = field(factory=trio.Lock)
    _judged: tuple[Any, list[Change]] | None = None

    async def read(self, work: Callable[[], T]) -> T:
        """Have it done.

        Raises:
            ApiError: 503; the database is away.
        """
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except StoreError as error:
            _log.warning("bench.unreadable", error=str(error))
            raise errors.unavailable("The database of the benchmarks does not answer.", RETRY_SECONDS) from None

    async def answer(self, work: Callable[[], Any]) -> Response:
        """Answer with what it makes, as JSON: that of a thousand runs takes so long that it is made in the thread too.

        Raises:
            ApiError: as `read`.
        """
        return json_response(await self.read(lambda: sse.dumps(work())))

    async def changes(self, which: Filter) -> list[Change]:
        """What changed with builds. Rank tests take a while, so the answer is kept until there is a new run."""
        async with self._judging:
            newest = await self.read(lambda: [each.id for each in self.store.summaries(limit=1)])
            asked = (which, newest)
            if self._judged is None or self._judged[0] != asked:
                self._judged = asked, await self.read(partial(self._judge, which))
            return self._judged[1]

    def _judge(self, which: Filter) -> list[Change]:
        return changes(self.store.newest_builds(which, _BUILDS, _RUNS))


def _query(*known: frozenset[str]) -> Query:
    """The query of the request at hand.

    Raises:
        ApiError: 400; it has a name that is not known.
    """
    query: Query = request.args.to_dict(flat=False)
    asking.check_names(query, frozenset().union(*known))
    return query


def _routes(app: QuartTrio, reader: _Reader, status: Status) -> None:
    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/api/status")
    async def show_status() -> Response:
        _query()
        return _json(status())

    @app.get("/api/dimensions")
    async def dimensions() -> Response:
        _query()
        return await reader.answer(lambda: shown.dimensions(reader.store.dimensions()))

    _run_routes(app, reader)
    _figure_routes(app, reader)


def _run_routes(app: QuartTrio, reader: _Reader) -> None:
    @app.get("/api/runs")
    async def runs() -> Response:
        query = _query(FILTER, PAGE, frozenset({"samples"}))
        which, samples = asking.filter_of(query, reader.now()), asking.flag(query, "samples")
        page = asking.page_of(query, *(_WITH_SAMPLES if samples else _PAGE))
        return await reader.answer(partial(_whole if samples else _short, reader.store, which, page))


def _whole(store: Store, which: Filter, page: Page) -> Mapping[str, Any]:
    found = store.runs(which, page.limit, page.before)
    return {"runs": [shown.run(each) for each in found], "next": _next(found, page)}


def _short(store: Store, which: Filter, page: Page) -> Mapping[str, Any]:
    found = store.summaries(which, page.limit, page.before)
    return {"runs": [shown.summary(each) for each in found], "next": _next(found, page)}


def _figure_routes(app: QuartTrio, reader: _Reader) -> None:
    @app.get("/api/summary")
    async def summary() -> Response:
        which = asking.filter_of(_query(FILTER), reader.now())
        return await reader.answer(lambda: {"cells": [shown.summary(each) for each in reader.store.newest(which)]})

    @app.get("/api/series")
    async def series() -> Response:
        query = _query(FILTER, PAGE, frozenset({"metric", "parameters"}))
        metric, page = asking.needed(query, "metric"), asking.page_of(query, *_POINTS)
        which = asking.points_of(query, reader.now())
        return await reader.answer(partial(_series, reader.store, which, page, metric))

    @app.get("/api/regressions")
    async def regressions() -> Response:
        query = _query(FILTER, frozenset({"improvements"}))
        minute = reader.now() // 60 * 60  # "since 30d" is another question every moment, and each takes a while
        which, both = asking.filter_of(query, minute), asking.flag(query, "improvements")
        found = [each for each in await reader.changes(which) if both or each.verdict == "regression"]
        return _json({"changes": [shown.change(each) for each in found]})


def _series(store: Store, which: Filter, page: Page, metric: str) -> Mapping[str, Any]:
    found = store.summaries(which, page.limit, page.before, metrics=(metric,))
    return {"series": shown.series(metric, found), "next": _next(found, page)}


def _next(found: list[Any], page: Page) -> str | None:
    """The id that the next part of a list is asked for with; ``None``: this was the last."""
    return found[-1].id if len(found) >= page.limit else None


def _json(payload: Any) -> Response:
    return json_response(sse.dumps(payload))
