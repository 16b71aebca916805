"""What the store asks the database, and how runs are put together of the answers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import sqlalchemy as sa

from helexa.bench.records import Cell, Run
from helexa.bench.storage import rows
from helexa.bench.storage.kept import Dimensions, Filter, Seen, SeenBuild, SeenName, SeenScenario, Summary
from helexa.bench.storage.rows import cells, figures, samples
from helexa.bench.storage.storable import LONGEST_NAME, cell_kept, text

_T = TypeVar("_T")
_Selected: TypeAlias = "sa.Select[tuple[Any, ...]]"

_VALUES_AT_ONCE: Final = 500
"""Values beside a statement; there are builds of SQLite that take 999."""
_MOST_SEEN: Final = 200
"""Batches and labels that ``dimensions`` lists."""
_WHOLE: Final = (rows.runs.c.outcome == "ok", rows.runs.c.reason == "")
"""What was broken off has a reason though it is ``ok``: see `helexa.bench.records.Run.broken_off`."""


def page(which: Filter, limit: int | None, before: str | None) -> _Selected:
    """Ids of runs, the newest first."""
    older = [] if before is None else [rows.runs.c.id < text(before)]
    return sa.select(rows.runs.c.id).where(*_conditions(which), *older).order_by(rows.runs.c.id.desc()).limit(limit)


def newest(which: Filter) -> _Selected:
    """Ids of the newest run of each cell."""
    return sa.select(sa.func.max(rows.runs.c.id).label("id")).where(*_finished(which)).group_by(rows.runs.c.cell)


def of_newest_batches(which: Filter) -> _Selected:
    """Ids of each cell's runs of the batch that its newest run is of."""
    run = rows.runs.c
    last = sa.select(run.cell, run.batch).where(run.id.in_(newest(which))).subquery()
    ours = sa.and_(last.c.cell == run.cell, last.c.batch == run.batch)
    return sa.select(run.id).select_from(rows.runs.join(last, ours)).where(*_finished(which))


def of_newest_builds(which: Filter, builds: int, most: int) -> _Selected:
    """Ids of the newest runs of each cell's newest builds."""
    run = rows.runs.c
    last = sa.func.max(run.id)
    rank = sa.func.row_number().over(partition_by=run.cell, order_by=last.desc()).label("rank")
    ranked = sa.select(run.cell, run.build, rank).where(*_finished(which)).group_by(run.cell, run.build).subquery()
    ours = sa.and_(ranked.c.cell == run.cell, ranked.c.build == run.build, ranked.c.rank <= builds)
    place = sa.func.row_number().over(partition_by=(run.cell, run.build), order_by=run.id.desc()).label("place")
    placed = sa.select(run.id, place).select_from(rows.runs.join(ranked, ours)).where(*_finished(which)).subquery()
    return sa.select(placed.c.id).where(placed.c.place <= most)


def count(cell: Cell, build_id: str) -> "sa.Select[int]":
    """How many runs of both are ``ok`` and whole."""
    key = rows.digest(cell_kept(cell).key)
    run = rows.runs.c
    return sa.select(sa.func.count()).where(run.cell == key, run.build == text(build_id), *_WHOLE)


def _finished(which: Filter) -> list[sa.ColumnElement[bool]]:
    return [*_conditions(which), *([] if which.outcomes else _WHOLE)]


def _conditions(which: Filter) -> list[sa.ColumnElement[bool]]:
    run = rows.runs.c
    keys = [rows.digest(cell_kept(cell).key) for cell in which.cells or ()]
    labels = [text(label, LONGEST_NAME) for label in which.labels or ()]
    columns = (
        *((run.id, which.ids), (run.cell, keys), (run.build, which.builds), (run.batch, which.batches)),
        *((run.label, labels), (run.outcome, which.outcomes)),
    )
    named = [column.in_(list(map(text, names))) for column, names in columns if names]
    return [*named, *_of_cells(which), *_of_time(which)]


def _of_cells(which: Filter) -> list[sa.ColumnElement[bool]]:
    columns = ((cells.c.target, which.targets), (cells.c.model, which.models), (cells.c.scenario, which.scenarios))
    named = [column.in_(list(map(text, names))) for column, names in columns if names]
    return [rows.runs.c.cell.in_(sa.select(cells.c.id).where(*named))] if named else []


def _of_time(which: Filter) -> list[sa.ColumnElement[bool]]:
    started = rows.runs.c.started_at
    since = [] if which.since is None else [started >= which.since]
    return since if which.until is None else [*since, started < which.until]


def ids(connection: sa.Connection, table: sa.TableClause, wanted: Sequence[str]) -> set[str]:
    """Those of some ids that a table has."""
    return {row["id"] for row in _rows(connection, sa.select(table.c.id), table.c.id, wanted)}


def runs(connection: sa.Connection, meant: _Selected) -> list[Run]:
    """Runs with samples, the newest first."""
    chosen = meant.subquery()
    of_run = rows.runs.join(chosen, chosen.c.id == rows.runs.c.id)
    query = sa.select(rows.runs, samples.c.said).select_from(of_run.outerjoin(samples, samples.c.run == rows.runs.c.id))
    found = list(connection.execute(query.order_by(rows.runs.c.id.desc())).mappings())
    shared = _shared(connection, found)
    return [rows.run_of(row, shared) for row in found]


def summaries(connection: sa.Connection, meant: _Selected, metrics: Sequence[str] | None) -> list[Summary]:
    """Runs without samples, the newest first, with figures of some metrics or of all."""
    chosen = meant.subquery()
    query = sa.select(rows.runs).join(chosen, chosen.c.id == rows.runs.c.id).order_by(rows.runs.c.id.desc())
    found = list(connection.execute(query).mappings())
    shared = _shared(connection, found)
    by_run = _figures(connection, [row["id"] for row in found], metrics)
    return [rows.summary_of(row, shared, by_run.get(row["id"], {})) for row in found]


def _figures(
    connection: sa.Connection, wanted: Sequence[str], metrics: Sequence[str] | None
) -> dict[str, dict[str, sa.RowMapping]]:
    """By run and metric."""
    query = sa.select(figures) if metrics is None else sa.select(figures).where(figures.c.metric.in_(list(metrics)))
    by_run: dict[str, dict[str, sa.RowMapping]] = {}
    for row in _rows(connection, query, figures.c.run, wanted):
        by_run.setdefault(row["run"], {})[row["metric"]] = row
    return by_run


def _shared(connection: sa.Connection, found: Sequence[sa.RowMapping]) -> rows.Shared:
    return rows.Shared(
        _said(connection, cells, rows.cell_of, {row["cell"] for row in found}),
        _said(connection, rows.builds, rows.build_of, {row["build"] for row in found}),
        _said(connection, rows.metric_sets, rows.metrics_of, {row["metrics"] for row in found}),
    )


def _said(
    connection: sa.Connection, table: sa.TableClause, read: Callable[[str], _T], wanted: Iterable[str]
) -> dict[str, _T]:
    query = sa.select(table.c.id, table.c.said)
    return {row["id"]: read(row["said"]) for row in _rows(connection, query, table.c.id, list(wanted))}


def _rows(
    connection: sa.Connection, query: _Selected, column: sa.ColumnElement[str], wanted: Sequence[str]
) -> Iterator[sa.RowMapping]:
    for first in range(0, len(wanted), _VALUES_AT_ONCE):
        some = column.in_(wanted[first : first + _VALUES_AT_ONCE])
        yield from connection.execute(query.where(some)).mappings()


def dimensions(connection: sa.Connection) -> Dimensions:
    """By what runs can be asked for."""
    groups = _groups(connection)
    by_cell = _merged((cell, seen) for cell, _, seen in groups)
    known = _said(connection, cells, rows.cell_of, by_cell)
    there = [(known[cell], seen) for cell, seen in by_cell.items() if cell in known]
    return Dimensions(
        targets=_by_name((cell.target, seen) for cell, seen in there),
        models=_by_name((cell.model, seen) for cell, seen in there),
        scenarios=_scenarios(there),
        builds=_builds(connection, groups, known),
        batches=names(connection, rows.runs.c.batch, _MOST_SEEN),
        labels=names(connection, rows.runs.c.label, _MOST_SEEN),
    )


_Groups: TypeAlias = Sequence[tuple[str, str, Seen]]
"""How much there is of each cell and build, by their ids."""


def _groups(connection: sa.Connection) -> _Groups:
    run = rows.runs.c
    query = sa.select(run.cell, run.build, *_seen_columns()).group_by(run.cell, run.build)
    return [(cell, build, Seen(*seen)) for cell, build, *seen in connection.execute(query)]


def _seen_columns() -> list[sa.ColumnElement[Any]]:
    """The fields of ``Seen``, in their order."""
    run = rows.runs.c
    return [sa.func.count(), sa.func.min(run.started_at), sa.func.max(run.started_at), sa.func.max(run.id)]


def _by_name(named: Iterable[tuple[str, Seen]]) -> tuple[SeenName, ...]:
    found = _merged(named)
    return tuple(SeenName(each, found[each]) for each in sorted(found))


def _scenarios(there: Sequence[tuple[Cell, Seen]]) -> tuple[SeenScenario, ...]:
    keyed = [((cell.scenario, Cell("", "", "", cell.parameters).key), cell.parameters, seen) for cell, seen in there]
    parameters = {key: each for key, each, _ in keyed}
    found = _merged((key, seen) for key, _, seen in keyed)
    return tuple(SeenScenario(key[0], parameters[key], found[key]) for key in sorted(found))


def _builds(connection: sa.Connection, groups: _Groups, known: Mapping[str, Cell]) -> tuple[SeenBuild, ...]:
    found = _merged((build, seen) for _, build, seen in groups)
    built = _said(connection, rows.builds, rows.build_of, found)
    targets: dict[str, set[str]] = {}
    for cell, build, _ in groups:
        targets.setdefault(build, set()).update([known[cell].target] if cell in known else [])
    newest_first = sorted(built, key=lambda each: found[each].newest, reverse=True)
    return tuple(SeenBuild(built[each], tuple(sorted(targets[each])), found[each]) for each in newest_first)


def _merged(seen: Iterable[tuple[_T, Seen]]) -> dict[_T, Seen]:
    found: dict[_T, Seen] = {}
    for name, each in seen:
        found[name] = _both(found[name], each) if name in found else each
    return found


def _both(one: Seen, other: Seen) -> Seen:
    first, last = min(one.first, other.first), max(one.last, other.last)
    return Seen(one.runs + other.runs, first, last, max(one.newest, other.newest))


def names(connection: sa.Connection, column: sa.ColumnElement[str], most: int) -> tuple[SeenName, ...]:
    """Batches or labels, the newest first; runs without a label have none."""
    newest_first = sa.func.max(rows.runs.c.id).desc()
    query = sa.select(column, *_seen_columns()).where(column != "").group_by(column)
    found = connection.execute(query.order_by(newest_first).limit(most))
    return tuple(SeenName(name, Seen(*seen)) for name, *seen in found)
