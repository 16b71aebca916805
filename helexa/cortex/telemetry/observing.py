"""Follows each request and each event of the fleet into the metrics, and each request's end into the log.

Neither prompts nor answers nor keys are kept or written anywhere.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import structlog
import trio
from attrs import define

from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.routing.state import Happening
from helexa.cortex.telemetry import metrics_usage
from helexa.cortex.telemetry.live import Live, State
from helexa.cortex.telemetry.metrics import OTHER, Metrics, printable
from helexa.wire.errors import ApiError
from helexa.wire.meter import Totals
from helexa.wire.patterns import matches

UNKNOWN = "unknown"
"""The model of a request for one that does not exist, or that was refused before it was read."""
NO_KEY = "none"
CLIENT_GONE = 499
"""nginx's status for a client that left before its answer's end; HTTP has none."""
_GONE_CODE = "client_closed_request"
_NO_CODE = "unknown"
_OK, _BAD = 200, 400
_WORTH_TELLING = 0.001
"""Seconds: to be given a place at once takes time, too."""


@define(eq=False)
class Observation:
    """One request, from the moment it was let in. Times in seconds of the observer's clock.

    The calls come in this order: ``read``, then for each place asked for ``wait_begins`` and ``wait_ends``, ``sent``
    for each attempt, then ``answered`` or ``wrote`` for each piece, with ``used`` before it and ``failed`` before
    the last if it is an error. Any may be missing. Leaving it as a context manager is the ``end``, exactly once.

    Attributes:
        cancel: ends its work; ``None``: there is none yet.
        cancelled: whether an operator did that.
        ended_at: ``None``: it has not.
    """

    _observer: "Observer"
    route: str
    request_id: str
    key: str | None
    began_at: float
    asked: str = ""
    model: str | None = None
    node: str = ""
    attempts: int = 0
    status: int = CLIENT_GONE
    code: str | None = None
    waited: float | None = None
    first_token_at: float | None = None
    last_at: float | None = None
    totals: Totals | None = None
    estimated: bool = False
    number: int = 0
    cancel: Callable[[], None] | None = None
    cancelled: bool = False
    ended_at: float | None = None
    _ended: bool = False
    _waits_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def read(self, name: str) -> None:
        """The request is here as a whole, and asks for the model of that name. The time its client took is its own."""
        self.asked, self.model = name, self._observer.model(name)
        self.began_at = self._observer.clock()
        self._observer.metrics.in_flight.at(self.route, self.model).inc()

    def cancellable(self, cancel: Callable[[], None]) -> None:
        """Its work has begun, and ``cancel`` ends it."""
        self.cancel = cancel

    def wait_begins(self) -> None:
        """It asks for a place at a node."""
        self._waits_since = self._observer.clock()
        self._observer.metrics.waiting.at(self._label).inc()

    def wait_ends(self) -> None:
        """It has one, or will not get one; without an effect where no wait had begun."""
        if self._waits_since is not None:
            self.waited = (self.waited or 0.0) + self._observer.clock() - self._waits_since
            self._waits_since = None
            self._observer.metrics.waiting.at(self._label).dec()

    def queued(self, seconds: float) -> None:
        """It had to wait for its turn."""
        if seconds:
            self.waited = (self.waited or 0.0) + seconds

    def sent(self, node: str) -> None:
        """It is sent to a node, or to ``provider:NAME``."""
        self.node = node
        self.attempts += 1
        if self.attempts > 1:
            self._observer.metrics.retries.at(node).inc()
        else:
            spent = self._observer.clock() - self.began_at - (self.waited or 0.0)
            self._observer.metrics.overhead.at(self.route).observe(spent)

    def fell_back(self) -> None:
        """The fleet knows its model and has not answered; somebody outside is asked."""
        self._observer.metrics.fallbacks.at(self._label).inc()

    def wrote(self, data: bytes, *, more: bool) -> None:
        """Whole events are sent to the client; the last of them unless there is ``more``."""
        self.status, self._ended = _OK, not more
        if not data:
            return
        self.last_at = self._observer.clock()
        if self.first_token_at is None and metrics_usage.has_token(data):
            self.first_token_at = self.last_at

    def used(self, totals: Totals, *, estimated: bool = False) -> None:
        """What it will have used with what is sent to the client next, and whether that is an estimate."""
        self.totals, self.estimated = totals, estimated

    def answered(self, status: int, body: bytes) -> None:
        """An answer in one piece is sent to the client."""
        self.status, self._ended = status, True
        if status >= _BAD and self.code is None:
            self.code = metrics_usage.code_of(body) or _NO_CODE

    def failed(self, code: str) -> None:
        """It ends with an error, in place of an answer or in the middle of one."""
        self.code = code

    def end(self) -> None:
        """Nothing more happens to it."""
        self.wait_ends()
        if not self._ended:
            self.status, self.code = CLIENT_GONE, _GONE_CODE
        self.ended_at, self.cancel = self._observer.clock(), None
        self._observer.record(self)

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.ended_at is not None:
            return "ended"
        if not self.asked:
            return "reading"
        if self._waits_since is not None:
            return "waiting"
        if not self.attempts:
            return "queued"
        return "prefill" if self.first_token_at is None else "decode"

    @property
    def _label(self) -> str:
        return self.model or UNKNOWN


class Observer:
    """Feeds the metrics of one gateway. Nothing in here waits.

    Args:
        fleet: the state now, for what is a known model.
        routes: the paths that requests are followed on.
        clock: seconds, monotonic.

    Attributes:
        metrics: what it feeds.
        live: the requests that it follows.
    """

    def __init__(
        self, fleet: Callable[[], Fleet], routes: Collection[str], clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.metrics = Metrics()
        self.live = Live()
        self.clock = clock
        self._fleet = fleet
        self._routes = frozenset(routes)
        self._log = structlog.get_logger().bind()  # bound once: the unbound one binds itself anew for every line

    def begin(self, route: str, request_id: str, key: str | None) -> Observation:
        """Follow a request that was let in.

        Args:
            route: its path, one of the observer's.
            request_id: its name in logs.
            key: the name of the key it bears.
        """
        seen = Observation(self, route, request_id, key, self.clock())
        self.live.begin(seen)
        return seen

    def refused(self, path: str, error: ApiError) -> None:
        """A request was not let in."""
        route = path if path in self._routes else OTHER
        self.metrics.requests.at(route, UNKNOWN, "", str(error.status)).inc()
        self.metrics.errors.at(route, self.metrics.codes(error.code)).inc()

    def model(self, name: str) -> str:
        """The label for a model asked for: its id if the fleet knows it, else the pattern of the route that it matches.

        Everything else is ``unknown``: a client may ask for anything, and each label makes series that stay.
        """
        fleet = self._fleet()
        model = fleet.resolve(name)
        if model in fleet.catalogue or model in fleet.placed:
            return model
        return next((route.pattern for route in fleet.topology.routes if matches(route.pattern, model)), UNKNOWN)

    def record(self, seen: Observation) -> None:
        """Count a request that has ended, and log it."""
        self.live.end(seen)
        model, metrics = seen.model or UNKNOWN, self.metrics
        if seen.model is not None:
            metrics.in_flight.at(seen.route, model).dec()
        metrics.requests.at(seen.route, model, seen.node, str(seen.status)).inc()
        metrics.key_requests.at(self._key(seen)).inc()
        if seen.code is not None:
            metrics.errors.at(seen.route, metrics.codes(seen.code)).inc()
        self._count(seen, model)
        self._time(seen, model)
        self._write(seen)

    def _key(self, seen: Observation) -> str:
        return NO_KEY if seen.key is None else self.metrics.keys(seen.key)

    def _count(self, seen: Observation, model: str) -> None:
        if seen.totals is None:
            return
        prompt, completion, cached = seen.totals
        metrics, key = self.metrics, self._key(seen)
        metrics.prompt_tokens.at(model, seen.node).inc(prompt)
        metrics.cached_tokens.at(model, seen.node).inc(cached)
        metrics.completion_tokens.at(model, seen.node).inc(completion)
        metrics.key_tokens.at(key, "prompt").inc(prompt)
        metrics.key_tokens.at(key, "completion").inc(completion)

    def _time(self, seen: Observation, model: str) -> None:
        metrics = self.metrics
        if seen.waited is not None:
            metrics.queue_time.at(model).observe(seen.waited)
        if seen.first_token_at is not None:
            metrics.first_token.at(model, seen.node).observe(seen.first_token_at - seen.began_at)
        if seen.code is not None:
            return
        metrics.whole.at(model, seen.node).observe(self._end_of(seen) - seen.began_at)
        if (mean := _between_tokens(seen)) is not None:
            metrics.between_tokens.at(model, seen.node).observe(mean)

    def _end_of(self, seen: Observation) -> float:
        """A stream has ended with its last event; what its connection still had to say is nobody's wait."""
        return self.clock() if seen.last_at is None else seen.last_at

    def _write(self, seen: Observation) -> None:
        told: dict[str, Any] = {"request_id": seen.request_id, "route": seen.route, "status": seen.status}
        told["seconds"] = round(self._end_of(seen) - seen.began_at, 6)
        if seen.key is not None:
            told["key"] = seen.key
        if seen.asked:
            told["model"] = printable(seen.asked)
        if seen.attempts:
            told |= {"node": seen.node, "attempts": seen.attempts}
        if seen.waited is not None and seen.waited >= _WORTH_TELLING:
            told["waited"] = round(seen.waited, 6)
        if seen.first_token_at is not None:
            told["first_token"] = round(seen.first_token_at - seen.began_at, 6)
        if seen.totals is not None:
            told["prompt_tokens"], told["completion_tokens"], told["cached_tokens"] = seen.totals
        if seen.estimated:
            told["estimated"] = True
        if seen.code is not None:
            told["code"] = printable(seen.code)
        self._log.info("request.ended", **told)

    def happened(self, happening: Happening) -> None:
        """Count an event of the fleet."""
        data, metrics = happening.data, self.metrics
        metrics.events.at(metrics.kinds(happening.kind)).inc()
        where = (str(data.get("model", UNKNOWN)), str(data.get("node", "")))
        match happening.kind:
            case "model.loading" if "device" in data:  # the others are loads that a node began by itself
                metrics.cold_starts.at(*where).inc()
            case "model.loaded":
                self._loaded(where, data)
            case "model.load_failed":
                metrics.loads.at(*where, "failed").inc()
            case "model.evicted":
                metrics.evictions.at(*where, _reason(data)).inc()

    def _loaded(self, where: tuple[str, str], data: Mapping[str, Any]) -> None:
        self.metrics.loads.at(*where, "loaded").inc()
        if isinstance(seconds := data.get("seconds"), int | float):
            self.metrics.load_time.at(*where).observe(seconds)


def _between_tokens(seen: Observation) -> float | None:
    """The mean time between a stream's tokens; those of several choices come at the same time, and count as one row."""
    tokens = 0 if seen.totals is None else seen.totals[1]
    if seen.first_token_at is None or seen.last_at is None or tokens <= 1:
        return None
    return (seen.last_at - seen.first_token_at) / (tokens - 1)


def _reason(data: Mapping[str, Any]) -> str:
    return "room" if str(data.get("why", "")).startswith("makes room") else "idle"
