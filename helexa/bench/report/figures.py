"""How figures, cells and verdicts are put in words, the same in every kind of report. Pure.

Names come from servers and topologies: `plain` takes what would move a terminal's cursor, the rest is each report's own
to escape.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from attrs import frozen

from helexa.bench.analysis.compare import Comparison, Difference, Side
from helexa.bench.analysis.statistics import Interval, of_run
from helexa.bench.records import Cell, Metric, Run

MINUS: Final = "\N{MINUS SIGN}"
_SECONDS: Final = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))
_DIGITS: Final[Mapping[str, int]] = {"nats/token": 4}
_SHARE: Final = "%"


@frozen
class Shown:
    """A metric's figure in words; ``interval`` is in the unit of ``median``."""

    metric: Metric
    median: str
    interval: str
    rounds: str


@frozen
class Group:
    """What a report puts under one heading: runs of one model of one target, cell by cell."""

    target: str
    model: str
    runs: tuple[Run, ...]


def plain(text: str) -> str:
    """Return a text on one line and without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def unit_of(unit: str, largest: float) -> tuple[float, str]:
    """Return what to multiply values with, and their unit then, so that the largest is pleasant to read."""
    if unit == "s":
        return next((factor, name) for least, factor, name in _SECONDS if abs(largest) >= least)
    return 1.0, unit


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits; whole parts are never rounded to tens."""
    if not math.isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞" if value < 0 else "?"
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(0, digits - 1 - magnitude)}f}" if value else "0"
    return text.replace("-", MINUS)


def figure(value: float, unit: str) -> str:
    """Write one value with its unit."""
    factor, name = unit_of(unit, value)
    return f"{number(value * factor, _DIGITS.get(unit, 3))} {name}".strip()


def both(before: float, after: float, unit: str) -> str:
    """Write two values with one unit, from the one to the other."""
    factor, name = unit_of(unit, max(abs(before), abs(after)))
    first, last = (number(value * factor, _DIGITS.get(unit, 3)) for value in (before, after))
    return f"{first} → {last} {name}".strip()


def spread(found: Interval, unit: str) -> str:
    """Write an interval's ends, in the unit that `figure` gives its median."""
    factor, _ = unit_of(unit, found.median)
    low, high = (number(end * factor, _DIGITS.get(unit, 3)) for end in (found.low, found.high))
    return low if found.low == found.high else f"{low} … {high}"


def change(difference: Difference) -> str:
    """Write how large a change is: a share of the earlier figure, or the difference where that is what counts."""
    return _signed(difference.size, difference)


def floor(difference: Difference) -> str:
    """Write the size from which a change in this direction counted: twice as slow is +100 %, half of it is -50 %."""
    return _signed(math.copysign(difference.floor, difference.size), difference)


def chance(p: float) -> str:
    """Write a p."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004 - three digits are shown


def parameters(cell: Cell) -> str:
    """Write what a scenario was told, e.g. ``128 prompt tokens, 4 clients``."""
    return plain(", ".join(_parameter(name, value) for name, value in cell.parameters.items()))


def scenario(cell: Cell) -> str:
    """Write a cell's scenario and what it was told."""
    told = parameters(cell)
    return f"{plain(cell.scenario)} ({told})" if told else plain(cell.scenario)


def day(at: float) -> str:
    """Write a date, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def moment(at: float) -> str:
    """Write a date and a time, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def groups(runs: Iterable[Run]) -> Iterator[Group]:
    """Sort runs under headings: by target, model, cell, oldest first."""
    ordered = sorted(runs, key=lambda run: (run.cell.target, run.cell.model, run.cell.key, run.started_at, run.id))
    for (target, model), found in groupby(ordered, key=lambda run: (run.cell.target, run.cell.model)):
        yield Group(target, model, tuple(found))


def shown(run: Run) -> list[Shown]:
    """Put a run's figures in words, those of its primary metrics first."""
    ordered = sorted(run.metrics, key=lambda metric: not metric.primary)
    return [
        Shown(metric, figure(found.median, metric.unit), spread(found, metric.unit), str(found.n))
        for metric in ordered
        if (found := of_run(run, metric.name)) is not None
    ]


def trouble(run: Run) -> str:
    """Say what a run's figures do not: that it failed, or how much of it, or was broken off. Empty: nothing."""
    if run.outcome != "ok":
        return plain(f"{run.outcome}: {run.reason}" if run.reason else run.outcome)
    failed = f"{run.failures} of {len(run.samples)} samples failed" if run.failures else ""
    return plain("; ".join(part for part in (run.reason.rstrip("."), failed) if part))


def side(told: Side) -> str:
    """Say who one side of a comparison is: its label or builds, targets, and when."""
    names = told.labels or tuple(dict.fromkeys(build.name for build in told.builds))
    when = day(told.since) if day(told.since) == day(told.until) else f"{day(told.since)} to {day(told.until)}"
    return plain(f"{_listed(names)} on {_listed(told.targets)}, {_many(told.runs, 'run')}, {when}")


def headline(compared: Comparison) -> str:
    """Say what a comparison found, in a sentence."""
    counts = Counter(difference.verdict for difference in compared.differences)
    found = [_many(counts["regression"], "regression"), _many(counts["improvement"], "improvement")]
    rest = [f"{counts[verdict]} {verdict}" for verdict in ("changed", "same", "unclear", "too few") if counts[verdict]]
    lost = [f"{_many(len(compared.lost), 'cell')} lost"] if compared.lost else []
    return f"{', '.join([*found, *lost, *rest])}." if compared.differences else "Nothing that both sides measured."


def _parameter(name: str, value: Any) -> str:
    said = name.replace("_", " ")
    if isinstance(value, bool):
        return said if value else f"no {said}"
    if isinstance(value, int | float):
        noun = said.removesuffix("s") if value == 1 else said
        return f"{value:,} {noun}" if said.endswith("s") else f"{said} {value:,}"
    return f"{said} {value}"


def _signed(value: float, difference: Difference) -> str:
    sign = MINUS if value < 0 else "+"
    if difference.metric.unit == "nats/token":
        return f"{sign}{abs(value):.3f} nats"
    if difference.absolute:
        return f"{sign}{abs(value):.3f}"
    return f"{sign}{abs(value) * 100:.1f} {_SHARE}" if math.isfinite(value) else f"{sign}∞"


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


def _many(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
