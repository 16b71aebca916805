"""The ledger's database: what was used, what counts of it, and what gateways have leased of what is left.

For each limit, what counts of what was used and all leases are at most its cap; gateways that share a database promise
each other no more than that. On SQLite one transaction that writes waits for the other; on PostgreSQL they take a lock.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from helexa.cortex.ledger import windows
from helexa.cortex.ledger.limits import Limit, account_subject
from helexa.cortex.ledger.rows import Grouping, Leased, Leases, LimitId, Row, Spending, Sums, Want
from helexa.cortex.ledger.shares import Standing, share
from helexa.cortex.ledger.tables import (
    COMPONENT,
    INSERT_USAGE,
    LOWER_LEASE,
    SEEN,
    SET_LEASE,
    VALUES_AT_ONCE,
    Sql,
    batched,
    joined,
    sums,
    usage,
)
from helexa.database import Database

LATELY_SECONDS: Final = 60.0
"""A gateway that has asked for something within this time is one to share with."""
DEAD_SECONDS: Final = 3600.0
"""One that has not for this long has no leases any more."""
PRUNED_AT_ONCE: Final = 5000
"""Rows; others wait meanwhile."""

_LOCK: Final = 0x68656C657862
"""The advisory lock of whoever writes to the ledger in PostgreSQL."""
_MOST_TOKENS: Final = 10**12
_MOST_COST: Final = 10**16
"""Ten thousand dollars for one request: who tells us more is wrong, and sums of it would not fit a column."""
_LONGEST_TEXT: Final = 500
_TEXTS: Final = ("name", "model", "node", "route", "request_id")
_PRUNE: Final = "DELETE FROM helexa_usage WHERE id IN (SELECT id FROM helexa_usage WHERE at < ? ORDER BY at LIMIT ?)"


class UsageStore:
    """Usage in one database. Everything blocks, so it is called in threads.

    Calls that write come one at a time, in order: one that was given up on has to have ended before the next one, as
    leases are said as totals. ``spending`` and ``usage`` may run beside others. Every call may be repeated when it is
    unknown whether it was carried out.

    Args:
        url: ``cortex.database`` of a topology.

    Raises:
        StoreSettingError: it names no database that this installation can use. Nothing is connected to as yet.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, COMPONENT)

    def close(self) -> None:
        """Give the connections back. The store can be used again."""
        self._database.close()

    def open(self, gateway: str, rows: Sequence[Row], now: float) -> None:
        """Book what a gateway left when it ended, drop the leases that it had, and note that it lives.

        Args:
            gateway: its identity, which it keeps for as long as its leases matter.
            rows: those that are booked already are left out.
            now: Unix time.

        Raises:
            StoreError: as every method here; nothing was changed, or the answer got lost.
        """
        with self._writing() as sql:
            _book(sql, rows, now)
            sql.run("DELETE FROM helexa_leases WHERE gateway = ?", gateway)
            sql.run(SEEN, gateway, now)

    def lease(self, gateway: str, wants: Sequence[Want], now: float) -> Leases:
        """Set amounts aside for a gateway.

        Args:
            gateway: its identity.
            wants: each limit at most once.
            now: Unix time.
        """
        with self._writing() as sql:
            sql.run(SEEN, gateway, now)
            dropped = _drop_dead(sql, now)
            alone = _is_alone(sql, gateway, now)
            return Leases(tuple(_lease(sql, gateway, want, now, alone=alone) for want in wants), alone, dropped)

    def flush(self, gateway: str, rows: Sequence[Row], keep: Mapping[LimitId, int], now: float) -> dict[LimitId, int]:
        """Book rows and lower leases, in one transaction; rows that are booked already are left out.

        Without either it tells others that this gateway lives: whoever holds leases calls it every few minutes.

        Args:
            gateway: whose leases.
            rows: what was used.
            keep: totals of the gateway's leases from now on: what they were, less what these rows have used of them,
                less what is given back. No lease is raised. Those not named stay as they are.
            now: Unix time.

        Returns:
            All leases that the gateway has now; those of nothing are left out.
        """
        with self._writing() as sql:
            _book(sql, rows, now)
            lowered = [(max(amount, 0), *limit, gateway, max(amount, 0)) for limit, amount in keep.items()]
            sql.many(LOWER_LEASE, lowered)
            sql.run("DELETE FROM helexa_leases WHERE gateway = ? AND amount = 0", gateway)
            sql.run(SEEN, gateway, now)
            left = "SELECT subject, unit, period, amount FROM helexa_leases WHERE gateway = ?"
            return {(subject, unit, period): amount for subject, unit, period, amount in sql.rows(left, gateway)}

    def close_gateway(self, gateway: str) -> None:
        """Give back all leases of a gateway that ends."""
        with self._writing() as sql:
            sql.run("DELETE FROM helexa_leases WHERE gateway = ?", gateway)
            sql.run("DELETE FROM helexa_gateways WHERE id = ?", gateway)

    def spending(self, limits: Iterable[Limit], now: float) -> tuple[Spending, ...]:
        """Where limits stand, in their order; ``now`` as a Unix time."""
        with self._database.transaction(reading=True) as connection:
            sql = Sql(connection)
            return tuple(_spending(sql, limit, now) for limit in limits)

    def usage(self, since: float, until: float, by: Grouping, most: int) -> tuple[Sums, ...]:
        """What was used in a time, of the rows that are kept.

        Args:
            since: Unix time.
            until: likewise, excluded.
            by: what is summed under one name.
            most: so many sums at most: the dearest, then those of the most tokens.
        """
        name = getattr(usage.c, by)
        shown = sa.func.max(usage.c.name) if by == "key" else name
        numbers = sums(usage.c.prompt, usage.c.cached, usage.c.completion, usage.c.cost)
        order = [sa.func.sum(each * 1.0).desc() for each in (usage.c.cost, usage.c.prompt + usage.c.completion)]
        query = sa.select(shown, name, sa.func.count(), *numbers).where(usage.c.at >= since, usage.c.at < until)
        with self._database.transaction(reading=True) as connection:
            found = connection.execute(query.group_by(name).order_by(*order, name).limit(most))
            return tuple(Sums(shown, _subject(by, name), count, *joined(parts)) for shown, name, count, *parts in found)

    def prune(self, now: float, retention: float) -> int:
        """Forget the oldest rows and what counts no more.

        Args:
            now: Unix time.
            retention: seconds that rows are kept; may be infinite.

        Returns:
            How many rows were forgotten; if any, call again: it is done in parts, so that nobody waits for long.
        """
        with self._writing() as sql:
            pruned = sql.run(_PRUNE, now - retention, PRUNED_AT_ONCE)
            if pruned == 0:
                windows.forget(sql, now, retention)
            return pruned

    @contextmanager
    def _writing(self) -> Iterator[Sql]:
        with self._database.transaction() as connection:
            sql = Sql(connection)
            if sql.is_postgres:
                sql.rows("SELECT pg_advisory_xact_lock(?)", _LOCK)
            yield sql


def _book(sql: Sql, rows: Sequence[Row], now: float) -> None:
    clean = _clean(list({row.id: row for row in rows}.values()), now)
    sql.run("SAVEPOINT booking")
    if sql.many(INSERT_USAGE, clean) != len(clean):  # the answer to an earlier call got lost: find out which are new
        sql.run("ROLLBACK TO SAVEPOINT booking")
        clean = _new(sql, clean)
        sql.many(INSERT_USAGE, clean)
    sql.run("RELEASE SAVEPOINT booking")
    if clean:
        windows.add(sql, clean)


def _new(sql: Sql, rows: Sequence[Row]) -> list[Row]:
    booked: set[str] = set()
    for some in batched([row.id for row in rows], VALUES_AT_ONCE):
        booked.update(sql.connection.execute(sa.select(usage.c.id).where(usage.c.id.in_(some))).scalars())
    return [row for row in rows if row.id not in booked]


def _clean(rows: list[Row], now: float) -> list[Row]:
    """The rows as the tables can take them: one that they refused would keep all others from being booked for ever."""
    if not rows or _are_clean(rows, now):
        return rows
    return [row if _are_clean([row], now) else _bounded(row, now) for row in rows]


def _are_clean(rows: list[Row], now: float) -> bool:
    """All at once: the columns are gone through by the interpreter's own loops."""
    _, at, _, name, _, model, node, route, prompt, cached, completion, cost, request = zip(*rows, strict=True)
    texts = name, model, node, route, request
    together = "".join(map("".join, texts))
    plain = together.isascii() and "\0" not in together and sum(max(map(len, each)) for each in texts) <= _LONGEST_TEXT
    counts = all(min(each) >= 0 and max(each) <= _MOST_TOKENS for each in (prompt, cached, completion))
    return plain and counts and min(cost) >= 0 and max(cost) <= _MOST_COST and min(at) > 0 and max(at) <= now


def _bounded(row: Row, now: float) -> Row:
    bounded: dict[str, Any] = {name: _text(getattr(row, name)) for name in _TEXTS}
    bounded |= {name: min(max(getattr(row, name), 0), _MOST_TOKENS) for name in ("prompt", "cached", "completion")}
    at = row.at if 0 < row.at <= now else now  # nothing is used in the future: a clock was set
    return row._replace(at=at, cost=min(max(row.cost, 0), _MOST_COST), **bounded)


def _text(text: str) -> str:
    """Without what PostgreSQL or UTF-8 has no place for."""
    return text[:_LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _drop_dead(sql: Sql, now: float) -> tuple[str, ...]:
    dead = tuple(each for (each,) in sql.rows("SELECT id FROM helexa_gateways WHERE seen < ?", now - DEAD_SECONDS))
    for statement in ("DELETE FROM helexa_leases WHERE gateway = ?", "DELETE FROM helexa_gateways WHERE id = ?"):
        sql.many(statement, [(each,) for each in dead])
    return dead


def _is_alone(sql: Sql, gateway: str, now: float) -> bool:
    others = "SELECT 1 FROM helexa_gateways WHERE id <> ? AND seen > ? LIMIT 1"
    return not sql.rows(others, gateway, now - LATELY_SECONDS)


def _lease(sql: Sql, gateway: str, want: Want, now: float, *, alone: bool) -> Leased:
    spent, frees = windows.counted(sql, want.limit, now, keep=True)
    leases = _leases(sql, want.limit)
    own = leases.pop(gateway, 0)
    leased = share(want, Standing(spent, frees, own, sum(leases.values()), alone))
    if leased.held != own:
        sql.run(SET_LEASE, *want.limit.id, gateway, leased.held)
    return leased


def _leases(sql: Sql, limit: Limit) -> dict[str, int]:
    """By gateway."""
    statement = "SELECT gateway, amount FROM helexa_leases WHERE subject = ? AND unit = ? AND period = ?"
    return dict(sql.rows(statement, *limit.id))


def _spending(sql: Sql, limit: Limit, now: float) -> Spending:
    leased = sum(_leases(sql, limit).values())
    return Spending(limit, windows.counted(sql, limit, now, keep=False)[0], leased)


def _subject(by: Grouping, name: str) -> str:
    """Under which limits know it."""
    return name if by == "key" else account_subject(name) if by == "account" else ""
