"""What the store is asked for and answers, beside runs themselves. Pure."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from helexa.bench.records import Build, Cell, Metric, Outcome, Target


class RefError(Exception):
    """A reference names no runs, or several kinds of them; the message is a sentence that lists what there is."""


@frozen
class Filter:
    """Which runs are meant: those that every field lets through. ``None`` and an empty tuple let all through.

    Attributes:
        ids: of runs.
        targets: names of targets.
        models: ids of models.
        scenarios: names of scenarios.
        cells: whole cells; compared by ``Cell.key``.
        builds: whole ids of builds.
        batches: whole ids of batches.
        labels: labels of batches.
        outcomes: how runs ended.
        since: the earliest start, Unix time in seconds.
        until: the first start that is too late, likewise.
    """

    ids: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    scenarios: tuple[str, ...] | None = None
    cells: tuple[Cell, ...] | None = None
    builds: tuple[str, ...] | None = None
    batches: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    outcomes: tuple[Outcome, ...] | None = None
    since: float | None = None
    until: float | None = None


@frozen
class MetricSummary:
    """One metric over the rounds of one run: what ``statistics.of_run`` says.

    Attributes:
        metric: what it is; its name is ``metric.name``.
        n: how many rounds have a value.
        median: in the metric's unit, as the others.
        low: end of the median's 95 % interval.
        high: the other end.
    """

    metric: Metric
    n: int
    median: float
    low: float
    high: float


@frozen
class Summary:
    """A run without its samples; fields of its names are a run's.

    Attributes:
        samples: how many samples the run has.
        failures: how many of them failed.
        figures: of each metric that has values, in the order of the run's metrics.
    """

    id: str
    batch: str
    label: str
    started_at: float
    seconds: float
    target: Target
    cell: Cell
    build: Build
    metrics: tuple[Metric, ...]
    outcome: Outcome
    reason: str
    samples: int
    failures: int
    figures: tuple[MetricSummary, ...] = ()

    @property
    def broken_off(self) -> bool:
        """As a run's."""
        return self.outcome == "ok" and self.reason != ""

    def figure(self, metric: str) -> MetricSummary | None:
        """That of a metric's name, if the run has values of it."""
        return next((each for each in self.figures if each.metric.name == metric), None)


@frozen
class Seen:
    """How much there is of something, and of when.

    Attributes:
        runs: how many.
        first: when the earliest began, Unix time in seconds.
        last: when the latest did, likewise.
        newest: id of the newest run. Ids tell the order, times need not: clocks jump.
    """

    runs: int
    first: float
    last: float
    newest: str


@frozen
class SeenName:
    """A target's, model's, batch's or label's name, and the runs of it."""

    name: str
    seen: Seen


@frozen
class SeenScenario:
    """A scenario with the parameters it was run with, and the runs of it."""

    name: str
    parameters: Mapping[str, Any] = field(hash=False)
    seen: Seen


@frozen
class SeenBuild:
    """A build, the targets it was seen on, by name, and the runs of it."""

    build: Build
    targets: tuple[str, ...]
    seen: Seen


@frozen
class Dimensions:
    """By what runs can be asked for.

    Attributes:
        targets: by name.
        models: by name.
        scenarios: one for each set of parameters; by name, then by parameters.
        builds: the newest first.
        batches: likewise; not all of them.
        labels: likewise.
    """

    targets: tuple[SeenName, ...] = ()
    models: tuple[SeenName, ...] = ()
    scenarios: tuple[SeenScenario, ...] = ()
    builds: tuple[SeenBuild, ...] = ()
    batches: tuple[SeenName, ...] = ()
    labels: tuple[SeenName, ...] = ()
