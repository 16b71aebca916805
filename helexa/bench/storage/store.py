"""Where runs are kept: a database, and what it is asked for.

Everything here blocks, so it is called in threads; calls may run beside each other. The order of runs is that of their
ids everywhere: clocks jump, so a later run may well have begun at an earlier time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from helexa.bench.records import Cell, Run
from helexa.bench.storage import queries, references, rows
from helexa.bench.storage.kept import (
    Dimensions,
    Filter,
    MetricSummary,
    RefError,
    Seen,
    SeenBuild,
    SeenName,
    SeenScenario,
    Summary,
)
from helexa.bench.storage.storable import storable
from helexa.database import Database, StoreError, StoreSettingError

__all__ = [
    "Dimensions",
    "Filter",
    "MetricSummary",
    "RefError",
    "Seen",
    "SeenBuild",
    "SeenName",
    "SeenScenario",
    "Store",
    "StoreError",
    "StoreSettingError",
    "Summary",
]

_T = TypeVar("_T")

ALL: Final = Filter()
_AT_ONCE: Final = 100
"""Runs that are written in one transaction, or read: others wait meanwhile, and samples take memory."""
_PRUNED_AT_ONCE: Final = 500
_MOST_FOUND: Final = 5000
"""Runs that a reference is good for."""
_LOCK: Final = 0x68656C657864
"""The advisory lock of whoever writes runs in PostgreSQL."""


class Store:
    """Runs in one database. Connections are made when they are needed and kept until ``close``.

    Args:
        url: ``bench.database`` of a topology, in the forms of ``cortex.database``.

    Raises:
        StoreSettingError: it names no database that this installation can use. Nothing is connected to as yet.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, rows.component(postgres=not url.startswith("sqlite:///")))

    def close(self) -> None:
        """Give the connections back. The store can be used again; the schema is then looked at anew."""
        self._database.close()

    def add(self, run: Run) -> bool:
        """Keep a run, all of it or nothing.

        What no database has a place for is left out or replaced: see ``storable.storable``.

        Returns:
            Whether it is new. A run of the same id stays as it is, so that whoever does not know whether a call came to
            anything repeats it.

        Raises:
            StoreError: as every method here.
        """
        return self.add_all((run,)) == 1

    def add_all(self, runs: Iterable[Run]) -> int:
        """Keep runs; how many of them are new. Some are kept if it fails on the way; it may be repeated."""
        return sum(self._add(part) for part in _parts(runs, _AT_ONCE))

    def runs(self, which: Filter = ALL, limit: int = 100, before: str | None = None) -> list[Run]:
        """Read runs with their samples, the newest first.

        Args:
            which: those that are meant.
            limit: so many at most.
            before: only runs older than the one of this id: the last of the page before.
        """
        with self._reading() as connection:
            return queries.runs(connection, queries.page(which, limit, before))

    def every(self, which: Filter = ALL) -> Iterator[Run]:
        """Read all runs with their samples, the newest first, without holding more than a few of them at a time.

        Runs that are added meanwhile are left out, and those that are pruned meanwhile may be.
        """
        before = None
        while found := self.runs(which, _AT_ONCE, before):
            yield from found
            before = found[-1].id

    def summaries(
        self,
        which: Filter = ALL,
        limit: int | None = None,
        before: str | None = None,
        *,
        metrics: Sequence[str] | None = None,
    ) -> list[Summary]:
        """Read runs without their samples, the newest first.

        Args:
            which: those that are meant.
            limit: so many at most; ``None`` for all.
            before: as for ``runs``.
            metrics: names of those that figures are wanted of; ``None`` for all.
        """
        with self._reading() as connection:
            return queries.summaries(connection, queries.page(which, limit, before), metrics)

    def newest(self, which: Filter = ALL) -> list[Summary]:
        """Read the newest whole run of each cell, without samples; others only if ``which`` names their outcomes."""
        with self._reading() as connection:
            return queries.summaries(connection, queries.newest(which), None)

    def newest_builds(self, which: Filter = ALL, builds: int = 2, runs: int = 10) -> list[Run]:
        """Read what the newest builds did, cell by cell: enough to compare each with the one before it.

        Args:
            which: those that are meant; runs that are not whole only if it names their outcomes.
            builds: so many of each cell. That one is newer whose newest run is.
            runs: so many of each cell and build, the newest.

        Returns:
            With samples, the newest first.
        """
        with self._reading() as connection:
            return queries.runs(connection, queries.of_newest_builds(which, builds, runs))

    def count(self, cell: Cell, build_id: str) -> int:
        """Count the runs of a cell and a build that are ``ok``, without those that were broken off."""
        with self._reading() as connection:
            return connection.execute(queries.count(cell, build_id)).scalar_one()

    def dimensions(self) -> Dimensions:
        """Say by what runs can be asked for."""
        with self._reading() as connection:
            return queries.dimensions(connection)

    def find(self, ref: str) -> list[Run]:
        """Read the runs that an operator means, with their samples, the newest first and 5,000 at most.

        Args:
            ref: ``last`` or ``previous``, which are batches; the id of a run or of a batch; a label; a build's id; a
                target's name, for the newest batch of each of its cells that has whole runs of it. Of a batch's or a
                build's id the beginning is enough if no other begins so. Where it may be several of these,
                ``label:…``, ``target:…`` and so on say which.

        Raises:
            RefError: it is none of these, or several.
        """
        with self._reading() as connection:
            found = references.resolve(connection, ref)
            of_now = queries.of_newest_batches(found).limit(_MOST_FOUND)
            return queries.runs(connection, of_now if found.targets else queries.page(found, _MOST_FOUND, None))

    def prune(self, older_than: float) -> int:
        """Forget runs that began before a Unix time, and what only they referred to; how many.

        It is done in parts, so that nobody waits for long. The file of SQLite gets no smaller: what is free in it is
        used again.
        """
        if math.isnan(older_than):  # PostgreSQL holds it to be later than all times
            return 0
        pruned = 0
        while some := self._prune(older_than):
            pruned += some
        return pruned

    def _add(self, runs: Sequence[Run]) -> int:
        kept = {run.id: rows.rows(run) for run in map(storable, reversed(runs))}  # of two, the first one stays
        with self._writing() as connection:
            there = queries.ids(connection, rows.runs, list(kept))
            new = [each for identity, each in kept.items() if identity not in there]
            _insert(connection, new)
        return len(new)

    def _prune(self, older_than: float) -> int:
        old = sa.select(rows.runs.c.id).where(rows.runs.c.started_at < older_than).limit(_PRUNED_AT_ONCE)
        with self._writing() as connection:
            ids = list(connection.execute(old).scalars())
            if not ids:
                _forget_orphans(connection)
            for table, run in ((rows.samples, "run"), (rows.figures, "run"), (rows.runs, "id")):
                connection.execute(sa.delete(table).where(table.c[run].in_(ids)))
        return len(ids)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._database.transaction(reading=True) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One at a time: what is looked up stays true until the commit."""
        with self._database.transaction() as connection:
            if self._database.is_postgres:  # on SQLite the transaction itself is the lock
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection


def _insert(connection: sa.Connection, new: Sequence[rows.Rows]) -> None:
    for table, shared in (
        (rows.cells, [each.cell for each in new]),
        (rows.builds, [each.build for each in new]),
        (rows.metric_sets, [each.metrics for each in new]),
    ):
        _insert_missing(connection, table, {row["id"]: row for row in shared})
    _insert_rows(connection, rows.runs, [each.run for each in new])
    _insert_rows(connection, rows.samples, [each.samples for each in new])
    _insert_rows(connection, rows.figures, [figure for each in new for figure in each.figures])


def _insert_missing(connection: sa.Connection, table: sa.TableClause, shared: Mapping[str, Any]) -> None:
    there = queries.ids(connection, table, list(shared))
    _insert_rows(connection, table, [row for identity, row in shared.items() if identity not in there])


def _insert_rows(connection: sa.Connection, table: sa.TableClause, new: list[dict[str, Any]]) -> None:
    if new:
        connection.execute(sa.insert(table), new)


def _forget_orphans(connection: sa.Connection) -> None:
    for table, column in (
        (rows.cells, rows.runs.c.cell),
        (rows.builds, rows.runs.c.build),
        (rows.metric_sets, rows.runs.c.metrics),
    ):
        used = sa.exists().where(column == table.c.id)
        connection.execute(sa.delete(table).where(~used))


def _parts(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part
