"""Runs as rows of a database: its tables, and what becomes of a run in them.

Builds, cells and sets of metrics are the same in most runs, so each is kept once, under a digest of what it says.
Samples are read and written a run at a time, so those of a run are one text: a row for each value of each would repeat
the run's id and the metric's name a million times, and in an index too.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
import sqlalchemy as sa
from attrs import asdict, astuple, frozen

from helexa.bench.analysis.statistics import of_run
from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target
from helexa.bench.storage.kept import MetricSummary, Summary
from helexa.database import Component, StoreError

_DIGITS: Final = 32
"""Of a digest."""
_SAME: Final = ("id", "batch", "label", "started_at", "seconds", "outcome", "reason")
"""Columns that are called what a run calls them."""

_T = TypeVar("_T")

_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        (
            "CREATE TABLE helexa_bench_cells (id TEXT PRIMARY KEY, target TEXT NOT NULL, model TEXT NOT NULL,"
            " scenario TEXT NOT NULL, said TEXT NOT NULL)"
        ),
        "CREATE TABLE helexa_bench_builds (id TEXT PRIMARY KEY, said TEXT NOT NULL)",
        "CREATE TABLE helexa_bench_metrics (id TEXT PRIMARY KEY, said TEXT NOT NULL)",
        (
            "CREATE TABLE helexa_bench_runs (id TEXT COLLATE {bytewise} PRIMARY KEY, batch TEXT NOT NULL,"
            " label TEXT NOT NULL, started_at DOUBLE PRECISION NOT NULL, seconds DOUBLE PRECISION NOT NULL,"
            " kind TEXT NOT NULL, url TEXT NOT NULL, cell TEXT NOT NULL, build TEXT NOT NULL, metrics TEXT NOT NULL,"
            " outcome TEXT NOT NULL, reason TEXT NOT NULL, samples BIGINT NOT NULL, failures BIGINT NOT NULL)"
        ),
        "CREATE INDEX helexa_bench_runs_cell ON helexa_bench_runs (cell, build, outcome, id, started_at)",
        "CREATE INDEX helexa_bench_runs_build ON helexa_bench_runs (build)",
        "CREATE INDEX helexa_bench_runs_batch ON helexa_bench_runs (batch, id, started_at)",
        "CREATE INDEX helexa_bench_runs_label ON helexa_bench_runs (label, id, started_at) WHERE label <> ''",
        "CREATE INDEX helexa_bench_runs_started_at ON helexa_bench_runs (started_at)",
        "CREATE TABLE helexa_bench_samples (run TEXT PRIMARY KEY, said TEXT NOT NULL)",
        (
            "CREATE TABLE helexa_bench_figures (run TEXT NOT NULL, metric TEXT NOT NULL, n BIGINT NOT NULL,"
            " median DOUBLE PRECISION NOT NULL, low DOUBLE PRECISION NOT NULL, high DOUBLE PRECISION NOT NULL,"
            " PRIMARY KEY (run, metric))"
        ),
    ),
)
"""What was released is never edited: databases out there have had it."""


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(f"helexa_bench_{name}", *map(sa.column, columns))


cells: Final = _table("cells", "id", "target", "model", "scenario", "said")
builds: Final = _table("builds", "id", "said")
metric_sets: Final = _table("metrics", "id", "said")
runs: Final = _table(
    "runs",
    *("id", "batch", "label", "started_at", "seconds", "kind", "url", "cell", "build", "metrics", "outcome", "reason"),
    *("samples", "failures"),
)
samples: Final = _table("samples", "run", "said")
figures: Final = _table("figures", "run", "metric", "n", "median", "low", "high")


def component(*, postgres: bool) -> Component:
    """The tables. Order of ids is that of their bytes: PostgreSQL's own depends on the server's language."""
    bytewise = '"C"' if postgres else "BINARY"
    migrations = [[each.replace("{bytewise}", bytewise) for each in migration] for migration in _MIGRATIONS]
    return Component("bench", migrations, "bench.database")


def digest(said: str) -> str:
    """Under what a text is kept."""
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]


@frozen
class Rows:
    """What becomes of a run: a row of each table, several of figures."""

    run: dict[str, Any]
    cell: dict[str, Any]
    build: dict[str, Any]
    metrics: dict[str, Any]
    samples: dict[str, Any]
    figures: list[dict[str, Any]]


def rows(run: Run) -> Rows:
    """The rows of a run that is storable."""
    cell, build = _cell_row(run.cell), _said([run.build.name, dict(run.build.details)])
    metrics = _said([astuple(each) for each in run.metrics])
    taken = [(sample.round, sample.at, sample.values, sample.error) for sample in run.samples]
    return Rows(
        _run_row(run, cell["id"], digest(metrics)),
        cell,
        {"id": run.build.id, "said": build},
        {"id": digest(metrics), "said": metrics},
        {"run": run.id, "said": _said(taken)},
        _figure_rows(run),
    )


def _said(value: Any) -> str:
    return orjson.dumps(value).decode()


def _cell_row(cell: Cell) -> dict[str, Any]:
    """Parameters in the scenario's order, which reports show, and ``Cell.key`` has not."""
    names = {"target": cell.target, "model": cell.model, "scenario": cell.scenario}
    return {"id": digest(cell.key), **names, "said": _said([*names.values(), dict(cell.parameters)])}


def _run_row(run: Run, cell: str, metrics: str) -> dict[str, Any]:
    same = {name: getattr(run, name) for name in _SAME}
    where = {"kind": run.target.kind, "url": run.target.url, "cell": cell, "build": run.build.id, "metrics": metrics}
    return same | where | {"samples": len(run.samples), "failures": run.failures}


def _figure_rows(run: Run) -> list[dict[str, Any]]:
    found = ((metric.name, of_run(run, metric.name)) for metric in run.metrics)
    return [{"run": run.id, "metric": name} | asdict(figure) for name, figure in found if figure is not None]


@frozen
class Shared:
    """What rows of runs refer to, by id."""

    cells: Mapping[str, Cell]
    builds: Mapping[str, Build]
    metrics: Mapping[str, tuple[Metric, ...]]


def cell_of(said: str) -> Cell:
    """A cell as ``rows`` has it."""
    return _read("cell", said, lambda found: Cell(found[0], found[1], found[2], dict(found[3])))


def build_of(said: str) -> Build:
    """A build as ``rows`` has it."""
    return _read("build", said, lambda found: Build(found[0], dict(found[1])))


def metrics_of(said: str) -> tuple[Metric, ...]:
    """Metrics as ``rows`` has them."""
    return _read("set of metrics", said, lambda found: tuple(Metric(*each) for each in found))


def samples_of(run: str, said: str | None) -> tuple[Sample, ...]:
    """Samples as ``rows`` has them."""
    return _read(f"run '{run}'", said or "", lambda found: tuple(Sample(*each) for each in found))


def _read(what: str, said: str, make: Callable[[Any], _T]) -> _T:
    try:
        return make(orjson.loads(said))
    except (TypeError, ValueError, LookupError) as error:  # somebody's hand
        raise StoreError(f"the row of a {what} is not as helexa writes it") from error


def run_of(row: sa.RowMapping, shared: Shared) -> Run:
    """A run with its samples, which the row has as ``said``."""
    return Run(**_facts(row, shared), samples=samples_of(row["id"], row["said"]))


def summary_of(row: sa.RowMapping, shared: Shared, found: Mapping[str, sa.RowMapping]) -> Summary:
    """A run without them.

    Args:
        row: of the run.
        shared: what it refers to.
        found: rows of its figures, by the metric's name.
    """
    facts = _facts(row, shared)
    known = [(metric, found[metric.name]) for metric in facts["metrics"] if metric.name in found]
    shown = tuple(MetricSummary(metric, each["n"], each["median"], each["low"], each["high"]) for metric, each in known)
    return Summary(**facts, samples=row["samples"], failures=row["failures"], figures=shown)


def _facts(row: sa.RowMapping, shared: Shared) -> dict[str, Any]:
    try:
        cell, build = shared.cells[row["cell"]], shared.builds[row["build"]]
        metrics = shared.metrics[row["metrics"]]
    except KeyError as error:
        raise StoreError(f"what the row of the run '{row['id']}' refers to is missing") from error
    same = {name: row[name] for name in _SAME}
    target = Target(cell.target, row["kind"], row["url"])
    return same | {"target": target, "cell": cell, "build": build, "metrics": metrics}
