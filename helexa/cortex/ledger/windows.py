"""Sums of what was used, by subject and stretch of time, from which limits are read."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import sqlalchemy as sa

from helexa.cortex.ledger.limits import UNITS, Limit, account_subject
from helexa.cortex.ledger.rows import Row
from helexa.cortex.ledger.tables import (
    ADD_SPEND,
    LARGEST,
    SET_SPEND,
    SET_WINDOW,
    VALUES_AT_ONCE,
    Sql,
    batched,
    joined,
    sums,
    usage,
)

_DAY: Final = 86_400.0
_UNASKED: Final = 7 * _DAY
_ACCOUNT: Final = account_subject("")
_MOST_FREES: Final = 64

_Amounts: TypeAlias = tuple[int, int, int]
"""Tokens, requests, picodollars."""
_Buckets: TypeAlias = dict[int, _Amounts]
"""By the Unix time of each beginning."""


def start_of(at: float, width: int) -> int:
    """The beginning of the bucket that a Unix time lies in; a width of 0 has one bucket."""
    return int(at) // width * width if width else 0


def add(sql: Sql, rows: Sequence[Row]) -> None:
    """Count rows in the windows that are kept of their subjects, and in what counts for ever."""
    kept = _kept(sql, {key for row in rows for key in (row.key, account_subject(row.account))})
    added: dict[tuple[str, int, int], list[int]] = {}
    places: dict[tuple[str, str, int], list[list[int]]] = {}
    for row in rows:
        second = int(row.at)
        counting = places.get((row.key, row.account, second))
        if counting is None:  # few rows in a batch differ in all of that
            starts = [(each, width, start_of(second, width)) for each in row.subjects for width in kept[each]]
            counting = places[row.key, row.account, second] = [added.setdefault(at, [0, 0, 0]) for at in starts]
        for amounts in counting:
            amounts[0] += row.prompt + row.completion
            amounts[1] += 1
            amounts[2] += row.cost
    sql.many(ADD_SPEND, [(*at, *(min(each, LARGEST) for each in amounts)) for at, amounts in sorted(added.items())])


def _kept(sql: Sql, subjects: Iterable[str]) -> dict[str, list[int]]:
    """The widths of the windows of each subject, 0 first, which all have: rows are not kept for ever."""
    found = {subject: [0] for subject in subjects}
    for some in batched(list(found), VALUES_AT_ONCE):
        marks = ", ".join("?" * len(some))
        meant = f"SELECT subject, width FROM helexa_windows WHERE subject IN ({marks})"  # noqa: S608 - marks alone
        for subject, width in sql.rows(meant, *some):
            found[subject].append(width)
    return found


def counted(sql: Sql, limit: Limit, now: float, *, keep: bool) -> tuple[int, tuple[tuple[float, int], ...]]:
    """What counts of a limit, and when how much of that will not.

    Args:
        sql: the database.
        limit: its window may never have been asked for: it is then made from the rows that are kept.
        now: Unix time.
        keep: whether to keep the window from now on.
    """
    column, lasts = UNITS[limit.unit], limit.width + limit.period
    buckets = _buckets(sql, limit, now, keep=keep)
    parts = [(start + lasts, amounts[column]) for start, amounts in sorted(buckets.items()) if amounts[column]]
    spent = sum(amount for _, amount in parts)
    return spent, tuple(parts[:_MOST_FREES]) if limit.width else ()


def _buckets(sql: Sql, limit: Limit, now: float, *, keep: bool) -> _Buckets:
    since = now - limit.width - limit.period if limit.width else -1.0
    statement = "SELECT start, tokens, requests, cost FROM helexa_spend WHERE subject = ? AND width = ? AND start > ?"
    found = {start: tuple(rest) for start, *rest in sql.rows(statement, limit.subject, limit.width, since)}
    if limit.width and not _is_kept(sql, limit, now, keep=keep):
        missing = _missing(sql, limit, since, found)
        if keep:
            _keep(sql, limit, missing, now)
        found.update(missing)
    return found


def _is_kept(sql: Sql, limit: Limit, now: float, *, keep: bool) -> bool:
    """Whether there is such a window; it is noted that it was asked for, so that it stays."""
    place = limit.subject, limit.width
    found = sql.rows("SELECT period, asked FROM helexa_windows WHERE subject = ? AND width = ?", *place)
    if not found or found[0][0] < limit.period:
        return False
    if keep and found[0][1] < now - _DAY:
        sql.run("UPDATE helexa_windows SET asked = ? WHERE subject = ? AND width = ?", now, *place)
    return True


def _missing(sql: Sql, limit: Limit, since: float, known: _Buckets) -> _Buckets:
    """The buckets that rows know more of. Rows are forgotten some day, so they never know better than a bucket does."""
    if not sql.rows("SELECT 1 FROM helexa_spend WHERE subject = ? AND width = 0", limit.subject):
        return {}  # nothing was ever used; most windows are those of a new key
    return {
        start: amounts for start, amounts in _from_rows(sql, limit, since).items() if amounts[1] > _of(known, start)
    }


def _of(known: _Buckets, start: int) -> int:
    return known[start][1] if start in known else 0


def _from_rows(sql: Sql, limit: Limit, since: float) -> _Buckets:
    name, own = usage.c.account if limit.subject.startswith(_ACCOUNT) else usage.c.key, limit.subject
    own = own.removeprefix(_ACCOUNT)
    # A cast rounds in PostgreSQL, and SQLite need not have been built with floor, but its cast is one
    second = sa.cast(sa.func.floor(usage.c.at) if sql.is_postgres else usage.c.at, sa.BigInteger)
    start = (second - second % limit.width).label("start")
    query = sa.select(start, sa.func.count(), *sums(usage.c.prompt + usage.c.completion, usage.c.cost))
    found = sql.connection.execute(query.where(name == own, usage.c.at >= since).group_by(start))
    amounts = {int(begun): (requests, joined(parts)) for begun, requests, *parts in found}
    return {begun: (tokens, count, cost) for begun, (count, (tokens, cost)) in amounts.items() if begun > since}


def _keep(sql: Sql, limit: Limit, missing: _Buckets, now: float) -> None:
    place = limit.subject, limit.width
    sql.many(SET_SPEND, [(*place, start, *amounts) for start, amounts in missing.items()])
    sql.run(SET_WINDOW, *place, limit.period, now)


def forget(sql: Sql, now: float, retention: float) -> None:
    """Drop windows that nobody asks for any more, unless the rows to make them anew would be gone; and old buckets."""
    unasked = "DELETE FROM helexa_windows WHERE asked + period < ? AND period + width < ?"
    sql.run(unasked, now - _UNASKED, retention)
    sql.run(
        "DELETE FROM helexa_spend WHERE width > 0 AND start + width + COALESCE((SELECT period FROM helexa_windows"
        " WHERE helexa_windows.subject = helexa_spend.subject AND helexa_windows.width = helexa_spend.width), -1e18)"
        " <= ?",
        now,
    )
