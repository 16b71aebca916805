"""The tables of the ledger, and how they are spoken to."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from attrs import frozen

from helexa.database import Component

_T = TypeVar("_T")
LARGEST: Final = 2**63 - 1
"""That a column holds."""
VALUES_AT_ONCE: Final = 500
"""Values beside a statement; there are builds of SQLite that take 999."""
_PART: Final = 10**6
_BINDING: Final = 8
"""How tightly a division binds in SQLAlchemy's terms: more than a sum."""

COMPONENT: Final = Component(
    "usage",
    (
        (
            (
                "CREATE TABLE helexa_usage (id TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, key TEXT NOT NULL,"
                " name TEXT NOT NULL, account TEXT NOT NULL, model TEXT NOT NULL, node TEXT NOT NULL,"
                " route TEXT NOT NULL, prompt BIGINT NOT NULL, cached BIGINT NOT NULL, completion BIGINT NOT NULL,"
                " cost BIGINT NOT NULL, request_id TEXT NOT NULL)"
            ),
            "CREATE INDEX helexa_usage_at ON helexa_usage (at)",
            "CREATE INDEX helexa_usage_key ON helexa_usage (key, at)",
            "CREATE INDEX helexa_usage_account ON helexa_usage (account, at)",
            (
                "CREATE TABLE helexa_spend (subject TEXT, width BIGINT, start BIGINT, tokens BIGINT NOT NULL,"
                " requests BIGINT NOT NULL, cost BIGINT NOT NULL, PRIMARY KEY (subject, width, start))"
            ),
            (
                "CREATE TABLE helexa_windows (subject TEXT, width BIGINT, period DOUBLE PRECISION NOT NULL,"
                " asked DOUBLE PRECISION NOT NULL, PRIMARY KEY (subject, width))"
            ),
            (
                "CREATE TABLE helexa_leases (subject TEXT, unit TEXT, period DOUBLE PRECISION, gateway TEXT,"
                " amount BIGINT NOT NULL, PRIMARY KEY (subject, unit, period, gateway))"
            ),
            "CREATE TABLE helexa_gateways (id TEXT PRIMARY KEY, seen DOUBLE PRECISION NOT NULL)",
        ),
    ),
)
"""Requests; what counts of them by subject and stretch of time; which such stretches are kept; who has leased what."""


def _columns(table: str, *names: str) -> sa.TableClause:
    return sa.table(table, *map(sa.column, names))


usage: Final = _columns(
    "helexa_usage",
    *("id", "at", "key", "name", "account", "model", "node", "route", "prompt", "cached", "completion", "cost"),
    "request_id",
)

INSERT_USAGE: Final = (
    "INSERT INTO helexa_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
ADD_SPEND: Final = (
    "INSERT INTO helexa_spend VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, width, start) DO UPDATE SET"
    " tokens = helexa_spend.tokens + CASE WHEN helexa_spend.tokens > 9223372036854775807 - excluded.tokens"
    " THEN 9223372036854775807 - helexa_spend.tokens ELSE excluded.tokens END,"
    " requests = helexa_spend.requests + excluded.requests,"
    " cost = helexa_spend.cost + CASE WHEN helexa_spend.cost > 9223372036854775807 - excluded.cost"
    " THEN 9223372036854775807 - helexa_spend.cost ELSE excluded.cost END"
)
"""A sum that no column holds stays at the largest number: an error would keep all later rows from being booked."""
SET_SPEND: Final = (
    "INSERT INTO helexa_spend VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, width, start) DO UPDATE SET"
    " tokens = excluded.tokens, requests = excluded.requests, cost = excluded.cost"
)
SET_WINDOW: Final = (
    "INSERT INTO helexa_windows VALUES (?, ?, ?, ?) ON CONFLICT (subject, width) DO UPDATE SET"
    " period = excluded.period, asked = excluded.asked"
)
SET_LEASE: Final = (
    "INSERT INTO helexa_leases VALUES (?, ?, ?, ?, ?) ON CONFLICT (subject, unit, period, gateway) DO UPDATE SET"
    " amount = excluded.amount"
)
LOWER_LEASE: Final = (
    "UPDATE helexa_leases SET amount = ? WHERE subject = ? AND unit = ? AND period = ? AND gateway = ? AND amount > ?"
)
SEEN: Final = "INSERT INTO helexa_gateways VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen"


def batched(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Parts of so many at most."""
    return (values[first : first + size] for first in range(0, len(values), size))


def sums(*columns: sa.ColumnElement[int]) -> list[sa.ColumnElement[int]]:
    """What to select for the sums of columns, two of each; ``joined`` makes them of it.

    The sum of large enough numbers is an error in SQLite, and one request that says it cost a fortune is enough then
    to keep all others from being summed.
    """
    whole = [each.op("/", precedence=_BINDING)(_PART) for each in columns]  # SQLAlchemy's own would make fractions
    return [sa.func.sum(part) for each, over in zip(columns, whole, strict=True) for part in (over, each % _PART)]


def joined(parts: Sequence[Any]) -> list[int]:
    """The sums; one that no column holds is the largest number that one does."""
    return [min(int(high) * _PART + int(low), LARGEST) for high, low in zip(parts[::2], parts[1::2], strict=True)]


@frozen
class Sql:
    """Statements with ``?`` in the place of values, on a connection to either database.

    Not SQLAlchemy's, and said to the drivers themselves: what that does beside it costs more than the databases do.
    """

    connection: sa.Connection

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL that is spoken to."""
        return self.connection.dialect.name == "postgresql"

    def rows(self, statement: str, *values: Any) -> Sequence[Any]:
        """What a query finds, as tuples."""
        return list(self._execute(statement, values).fetchall())

    def run(self, statement: str, *values: Any) -> int:
        """Change something; how many rows."""
        return int(self._execute(statement, values).rowcount)

    def many(self, statement: str, values: Sequence[tuple[Any, ...]]) -> int:
        """Run one statement for each tuple of values; how many rows that changed."""
        if not values:
            return 0
        cursor = self.connection.connection.cursor()
        cursor.executemany(self._own(statement), values)
        return int(cursor.rowcount)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> Any:
        cursor = self.connection.connection.cursor()
        cursor.execute(self._own(statement), values)
        return cursor

    def _own(self, statement: str) -> str:
        return statement.replace("?", "%s") if self.is_postgres else statement
