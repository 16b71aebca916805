"""What the gateway counts and times, as Prometheus metrics; what others know is read at scrape time, elsewhere.

Names follow Prometheus's rules (base units, ``_seconds``, ``_bytes``, ``_total``), and vLLM's words where it has any
for the same thing, since those are what dashboards for inference ask for. The buckets of times are those of
OpenTelemetry's semantic conventions for generative AI, continued to where a gateway's times may go.

Source: Prometheus documentation, "Metric and label naming"; OpenTelemetry, "Generative AI metrics".
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from re import compile as pattern
from typing import Generic, TypeVar

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

PREFIX = "helexa_"
OTHER = "other"
MAX_KEYS = 100
MAX_CODES = 100
MAX_KINDS = 50

_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 120.0)
_BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_WHOLE = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 655.36)
_WAIT = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_OVERHEAD = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 1.0)
_LAG = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LOAD = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)

_MAX_NAME = 128
_SANE = pattern(r"[\w.:/@ +-]{1,128}")
_T = TypeVar("_T", Counter, Gauge, Histogram)


@cache
def build_version() -> str:
    """Of this helexa, as it was installed."""
    try:
        return version("helexa")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def printable(name: str) -> str:
    """Words of a client or an upstream, for logs and spans: short, on one line, nothing that a terminal would obey."""
    short = name[:_MAX_NAME]
    return short if short.isprintable() else ascii(short)


@define(eq=False)
class Few:
    """Label values that come from outside: as they are as long as they are few, then ``other``.

    Each makes series that stay until the process ends.

    Attributes:
        most: how many there may be.
    """

    most: int
    _seen: set[str] = field(factory=set)

    def __call__(self, value: str) -> str:
        """The label for a value."""
        if value in self._seen:
            return value
        if len(self._seen) >= self.most or not _SANE.fullmatch(value):
            return OTHER
        self._seen.add(value)
        return value


@define(eq=False)
class Family(Generic[_T]):
    """A metric with labels. Finds its series several times faster than the library's ``labels`` does."""

    metric: _T
    _series: dict[tuple[str, ...], _T] = field(factory=dict)

    def at(self, *labels: str) -> _T:
        """The series of these label values, in the order of the label names."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = self.metric.labels(*labels)
        return found


class Metrics:
    """The gateway's own counters, gauges and histograms, and the registry that they and all others are served from.

    ``model`` is always the label of ``Observer.model``, ``node`` what ``x-helexa-node`` says or empty.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.keys, self.codes, self.kinds = Few(MAX_KEYS), Few(MAX_CODES), Few(MAX_KINDS)
        ProcessCollector(registry=self.registry)
        self._count_requests()
        self._time_requests()
        self._count_tokens()
        self._count_events()

    def _count_requests(self) -> None:
        self.requests = self._counter(
            "requests", "Requests that have ended; 499 is a client that left.", "route", "model", "node", "status"
        )
        self.errors = self._counter("request_errors", "Requests that ended with an error.", "route", "code")
        self.in_flight = self._gauge("requests_in_flight", "Requests being served.", "route", "model")
        self.waiting = self._gauge("requests_waiting", "Requests waiting for a place at a node.", "model")
        self.retries = self._counter("request_retries", "Attempts after a request's first one.", "node")
        self.fallbacks = self._counter("fallbacks", "Requests of the fleet's models that went outside.", "model")
        self.key_requests = self._counter("key_requests", "Requests by the key that asked.", "key")

    def _time_requests(self) -> None:
        self.overhead = self._histogram(
            "gateway_overhead_seconds", "From a request read to it being sent on, waits left out.", _OVERHEAD, "route"
        )
        self.queue_time = self._histogram("request_queue_time_seconds", "Wait for a place at a node.", _WAIT, "model")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "To a stream's first token.", _FIRST_TOKEN, "model", "node"
        )
        self.between_tokens = self._histogram(
            "inter_token_latency_seconds", "Between tokens, a stream's mean.", _BETWEEN_TOKENS, "model", "node"
        )
        self.whole = self._histogram(
            "e2e_request_latency_seconds", "To the end of an answer that succeeded.", _WHOLE, "model", "node"
        )

        self.loop_lag = Histogram(
            f"{PREFIX}event_loop_lag_seconds",
            "How late the gateway gets to what is due.",
            registry=self.registry,
            buckets=_LAG,
        )

    def _count_tokens(self) -> None:
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts, as answers tell.", "model", "node")
        self.cached_tokens = self._counter(
            "prompt_tokens_cached", "Of these, tokens found in a prefix cache.", "model", "node"
        )
        self.completion_tokens = self._counter(
            "completion_tokens", "Tokens generated, as answers tell.", "model", "node"
        )
        self.key_tokens = self._counter("key_tokens", "Tokens by the key that asked.", "key", "kind")

    def _count_events(self) -> None:
        self.cold_starts = self._counter("cold_starts", "Loads that the gateway began.", "model", "node")
        self.loads = self._counter("model_loads", "Loads that have ended.", "model", "node", "result")
        self.load_time = self._histogram(
            "model_load_seconds", "Loads that the gateway began and that succeeded.", _LOAD, "model", "node"
        )
        self.evictions = self._counter("model_evictions", "Models unloaded unasked.", "model", "node", "reason")
        self.events = self._counter("fleet_events", "What happened, as /fleet/events tells.", "kind")

    def _counter(self, name: str, text: str, *labels: str) -> Family[Counter]:
        return Family(Counter(PREFIX + name, text, labels, registry=self.registry))

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Gauge]:
        return Family(Gauge(PREFIX + name, text, labels, registry=self.registry))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Family[Histogram]:
        return Family(Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=buckets))
