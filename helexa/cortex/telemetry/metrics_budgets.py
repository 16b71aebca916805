"""What keys have used, what is left to them, and who waits for a turn, as Prometheus metrics when they are asked for.

Amounts spent count from the start of this process, so that those of several gateways add up; amounts left are of all
gateways together, as far as this one knows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from attrs import field, frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config import BudgetUnit
from helexa.cortex.ledger.limits import PICODOLLARS, Amounts, Limit
from helexa.cortex.telemetry.metrics import MAX_KEYS, PREFIX, Few

_FOR_EVER = "forever"


class AdmissionFigures(Protocol):
    """What is served, and what waits."""

    @property
    def in_flight(self) -> int:
        """Requests that are served."""

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""

    @property
    def turned_away(self) -> Mapping[Any, int]:
        """Requests that were refused so far, by reason."""

    @property
    def waited(self) -> int:
        """Requests that were served after a wait."""

    @property
    def waited_seconds(self) -> float:
        """How long those have waited, in all."""


class LimitFigures(Protocol):
    """A limit that requests were counted against."""

    @property
    def limit(self) -> Limit:
        """Which."""

    @property
    def name(self) -> str:
        """Of the key or account."""

    @property
    def left(self) -> int:
        """What is neither spent nor set aside, in the limit's unit."""


class LedgerFigures(Protocol):
    """What was booked, and how the books are kept."""

    @property
    def spent(self) -> Mapping[str, Amounts]:
        """What this process has booked, by the name of the key."""

    @property
    def limits(self) -> Iterable[LimitFigures]:
        """Those that this process has to do with."""

    @property
    def open(self) -> int:
        """Charges that are not settled."""

    @property
    def journal(self) -> int:
        """Rows that wait for the database to come back."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with the database; ``None``: nothing."""


@frozen(eq=False)
class BudgetCollector(Collector):
    """Registered with ``Metrics.registry``.

    Attributes:
        admission: the figures now.
        ledger: likewise; ``None``: there is no ledger.
        keys: which names of keys become labels.
    """

    admission: Callable[[], AdmissionFigures]
    ledger: Callable[[], LedgerFigures] | None
    keys: Few
    _owners: Few = field(factory=lambda: Few(MAX_KEYS))

    def collect(self) -> Iterator[Metric]:
        """Everything, as of one moment."""
        yield from _turns(self.admission())
        if self.ledger is not None:
            found = self.ledger()
            yield from _books(found)
            yield from _spent(self._by_key(found.spent))
            yield from _left(self._by_owner(found.limits))

    def _by_key(self, spent: Mapping[str, Amounts]) -> dict[str, Amounts]:
        """Of the keys that are one label, the sum."""
        sums: dict[str, Amounts] = {}
        for name, amounts in spent.items():
            label = self.keys(name)
            sums[label] = sums.get(label, Amounts()) + amounts
        return sums

    def _by_owner(self, limits: Iterable[LimitFigures]) -> dict[tuple[str, ...], tuple[Limit, int]]:
        """Of the limits that are one label, the one of which the least is left."""
        found: dict[tuple[str, ...], tuple[Limit, int]] = {}
        for each in limits:
            kind = each.limit.subject.partition(":")[0]
            labels = kind, self._owners(each.name), each.limit.unit, _period(each.limit.period)
            known = found.get(labels)
            if known is None or _ratio(each.limit, each.left) < _ratio(*known):
                found[labels] = each.limit, each.left
        return found


def _turns(found: AdmissionFigures) -> Iterator[Metric]:
    yield _gauge("admission_in_flight", "Requests that were let in and are served.", found.in_flight)
    yield _gauge("admission_waiting", "Requests that wait for their turn.", found.waiting)
    refused = _counter("admission_turned_away", "Requests without a turn, by reason.", "reason")
    for reason, count in found.turned_away.items():
        refused.add_metric((str(reason),), count)
    yield refused
    waits = _counter("admission_waits", "Requests that had to wait for their turn and got it.")
    waits.add_metric((), found.waited)
    seconds = _counter("admission_wait_seconds", "How long these have waited.")
    seconds.add_metric((), found.waited_seconds)
    yield from (waits, seconds)


def _books(found: LedgerFigures) -> Iterator[Metric]:
    yield _gauge("ledger_open_charges", "Requests whose usage is set aside and not yet booked.", found.open)
    yield _gauge("ledger_journal_rows", "Requests booked in a file until the database is back.", found.journal)
    yield _gauge("ledger_database_up", "Whether the ledger's database answered when last asked.", not found.trouble)


def _spent(spent: Mapping[str, Amounts]) -> Iterator[Metric]:
    tokens = _counter("ledger_tokens", "Tokens booked to a key.", "key")
    requests = _counter("ledger_requests", "Requests booked to a key.", "key")
    cost = _counter("ledger_cost_usd", "US dollars booked to a key.", "key")
    for key, amounts in spent.items():
        tokens.add_metric((key,), amounts.tokens)
        requests.add_metric((key,), amounts.requests)
        cost.add_metric((key,), amounts.cost / PICODOLLARS)
    yield from (tokens, requests, cost)


def _left(limits: Mapping[tuple[str, ...], tuple[Limit, int]]) -> Iterator[Metric]:
    labels = ("kind", "owner", "unit", "period")
    amount = GaugeMetricFamily(f"{PREFIX}budget_remaining", "What is left of a budget, in its unit.", labels=labels)
    ratio = GaugeMetricFamily(f"{PREFIX}budget_remaining_ratio", "What part of a budget is left.", labels=labels)
    for at, (limit, left) in limits.items():
        amount.add_metric(at, _in_unit(limit.unit, left))
        ratio.add_metric(at, _ratio(limit, left))
    yield from (amount, ratio)


def _in_unit(unit: BudgetUnit, amount: int) -> float:
    return amount / PICODOLLARS if unit == "usd" else float(amount)


def _ratio(limit: Limit, left: int) -> float:
    return left / limit.cap if limit.cap > 0 else 0.0


def _period(seconds: float) -> str:
    return f"{seconds:g}s" if seconds else _FOR_EVER


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, labels=labels)
