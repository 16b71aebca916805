"""What is kept of a measurement: shapes that scenarios fill, the store keeps, and comparisons read. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import orjson
from attrs import field, frozen

TargetKind: TypeAlias = Literal["neuron", "cortex", "openai"]
Better: TypeAlias = Literal["higher", "lower"]
Outcome: TypeAlias = Literal["ok", "failed", "skipped", "yielded"]
"""``skipped``: the model cannot do it, or has not the room; ``yielded``: users came, and it made way."""

UNKNOWN: Final = "unknown"


@frozen
class Metric:
    """Something that a scenario measures.

    Attributes:
        name: unique within a scenario, e.g. ``ttft``.
        title: what a table calls it.
        unit: SI or common: ``s``, ``tokens/s``, ``requests/s``, ``J/token``, ``nats/token``; a fraction has ``""``.
        better: which way is better.
        primary: whether a change of it alone is called a regression or an improvement. The others are shown beside.
    """

    name: str
    title: str
    unit: str
    better: Better
    primary: bool = False


@frozen
class Build:
    """What software on what hardware was measured. Two runs are of one build if their ``id`` is one.

    Attributes:
        name: for people, e.g. ``helexa 0.1.0 ac1aa60``.
        details: what tells builds apart: versions, commit, driver, CUDA, devices, the model's precision. Nothing that
            changes with a restart.
    """

    name: str = UNKNOWN
    details: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def id(self) -> str:
        """12 hexadecimal digits."""
        said = orjson.dumps([self.name, dict(self.details)], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(said).hexdigest()[:12]


@frozen
class Target:
    """Where something was measured: a neuron of a fleet, a gateway, or any server that speaks OpenAI's API.

    Attributes:
        name: what tables call it; runs of one name are one history.
        kind: how it is asked what it is.
        url: its base URL, without ``/v1``. No secret is part of it.
    """

    name: str
    kind: TargetKind
    url: str


@frozen
class Cell:
    """What is measured again and again: runs of one cell are compared with each other, build by build.

    Attributes:
        target: the target's name.
        model: its id there.
        scenario: its name, e.g. ``chat``.
        parameters: what the scenario was told, e.g. ``{"prompt_tokens": 128}``; plain JSON.
    """

    target: str
    model: str
    scenario: str
    parameters: Mapping[str, Any] = field(factory=dict, hash=False)

    @property
    def key(self) -> str:
        """The cell as text: equal for equal cells, whatever the order of parameters."""
        parts = (self.target, self.model, self.scenario, dict(self.parameters))
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()

    @property
    def has_key(self) -> bool:
        """Whether its parameters can be written: JSON of more levels than that can be read."""
        try:
            return bool(self.key)
        except TypeError:
            return False


@frozen
class Sample:
    """One measurement: a request, or a level of load.

    Attributes:
        round: which round of the run, from 0. Rounds of several cells alternate, so that each is spread over the run.
        at: when it began, Unix time in seconds.
        values: by the metric's name, in its unit.
        error: why it failed; it has no values then. ``None``: it did not.
    """

    round: int
    at: float
    values: Mapping[str, float] = field(factory=dict)
    error: str | None = None


@frozen
class Run:
    """One scenario on one model of one target, several rounds of it.

    Attributes:
        id: unique among all runs anywhere, and later ones sort behind earlier ones.
        batch: those that were measured together have one.
        label: what the operator calls the batch; may be empty.
        started_at: Unix time in seconds.
        seconds: how long it took, by a clock that does not jump.
        target: where.
        cell: what.
        build: of the target, at the start.
        metrics: what the values of samples mean.
        outcome: ``ok`` as long as one sample has values.
        reason: why it is not ``ok``, or why an ``ok`` one was `broken_off`, one sentence; else empty.
        samples: in the order they were taken.
    """

    id: str
    batch: str
    started_at: float
    seconds: float
    target: Target
    cell: Cell
    build: Build
    metrics: tuple[Metric, ...]
    outcome: Outcome
    reason: str = ""
    label: str = ""
    samples: tuple[Sample, ...] = ()

    def values(self, metric: str) -> list[float]:
        """Every sample's value of a metric, in order."""
        return [sample.values[metric] for sample in self.samples if metric in sample.values]

    @property
    def broken_off(self) -> bool:
        """Whether it has figures, but of fewer rounds than were wanted: nothing that others are measured by."""
        return self.outcome == "ok" and self.reason != ""

    @property
    def failures(self) -> int:
        """How many samples failed."""
        return sum(sample.error is not None for sample in self.samples)
