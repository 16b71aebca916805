"""What is kept, as plain JSON for whoever asks. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from attrs import asdict

from helexa.bench.analysis.compare import Change
from helexa.bench.analysis.statistics import Interval
from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target
from helexa.bench.storage.kept import Dimensions, MetricSummary, Seen, SeenName, Summary

Shown: TypeAlias = dict[str, Any]


def dimensions(found: Dimensions) -> Shown:
    """By what runs can be asked for."""
    return {
        "targets": _names(found.targets),
        "models": _names(found.models),
        "scenarios": [
            {"name": each.name, "parameters": dict(each.parameters), **_seen(each.seen)} for each in found.scenarios
        ],
        "builds": [{**build(each.build), "targets": list(each.targets), **_seen(each.seen)} for each in found.builds],
        "batches": _names(found.batches),
        "labels": _names(found.labels),
    }


def _names(found: Iterable[SeenName]) -> list[Shown]:
    return [{"name": each.name, **_seen(each.seen)} for each in found]


def _seen(seen: Seen) -> Shown:
    return {"runs": seen.runs, "first": seen.first, "last": seen.last}


def summary(found: Summary) -> Shown:
    """A run's figures, without its samples."""
    return {
        **_facts(found),
        "samples": found.samples,
        "failures": found.failures,
        "figures": [_figure(each) for each in found.figures],
    }


def run(found: Run) -> Shown:
    """A run with all its samples."""
    return {
        **_facts(found),
        "metrics": [asdict(each) for each in found.metrics],
        "samples": [_sample(each) for each in found.samples],
    }


def _facts(found: Run | Summary) -> Shown:
    return {
        "id": found.id,
        "batch": found.batch,
        "label": found.label,
        "started_at": found.started_at,
        "seconds": found.seconds,
        "outcome": found.outcome,
        "reason": found.reason,
        "target": _target(found.target),
        "cell": cell(found.cell),
        "build": build(found.build),
    }


def _target(target: Target) -> Shown:
    return {"name": target.name, "kind": target.kind, "url": target.url}


def cell(found: Cell) -> Shown:
    """What was measured; ``key`` tells cells apart."""
    return {
        "target": found.target,
        "model": found.model,
        "scenario": found.scenario,
        "parameters": dict(found.parameters),
        "key": found.key,
    }


def build(found: Build) -> Shown:
    """A build, with its id."""
    return {"id": found.id, "name": found.name, "details": dict(found.details)}


def _metric(metric: Metric) -> Shown:
    return asdict(metric)


def _figure(found: MetricSummary) -> Shown:
    return {"metric": _metric(found.metric), **_interval(found)}


def _interval(found: MetricSummary | Interval) -> Shown:
    return {"n": found.n, "median": found.median, "low": found.low, "high": found.high}


def _sample(found: Sample) -> Shown:
    return {"round": found.round, "at": found.at, "values": dict(found.values), "error": found.error}


def series(metric: str, found: Sequence[Summary]) -> list[Shown]:
    """One metric over time, cell by cell; points in the order of runs, the oldest first.

    Args:
        metric: its name.
        found: the newest first; those without a value of it are left out.
    """
    by_cell: dict[str, Shown] = {}
    for each in reversed(found):
        figure = each.figure(metric)
        if figure is not None:
            kept = by_cell.setdefault(
                each.cell.key, {"cell": cell(each.cell), "metric": _metric(figure.metric), "points": []}
            )
            kept["points"].append(_point(each, figure))
    return list(by_cell.values())


def _point(found: Summary, figure: MetricSummary) -> Shown:
    return {
        "run": found.id,
        "at": found.started_at,
        "build": {"id": found.build.id, "name": found.build.name},
        **_interval(figure),
    }


def change(found: Change) -> Shown:
    """A regression or an improvement from one build to the next."""
    difference = found.difference
    return {
        "verdict": found.verdict,
        "cell": cell(found.cell),
        "metric": _metric(found.metric),
        "at": found.at,
        "run": found.run,
        "from": {"build": build(found.before), **_interval(difference.before)},
        "to": {"build": build(found.after), **_interval(difference.after)},
        "ratio": difference.ratio,
        "size": difference.size,
        "floor": difference.floor,
        "p": difference.p,
    }
