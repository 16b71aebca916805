"""Where keys are kept, and the budgets of accounts: tables of the gateway's database.

Everything here blocks, so it is called in threads, one call at a time.

Every change adds one to a revision, in the same transaction, so that other gateways find out by reading one number.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
import sqlalchemy as sa
from attrs import evolve, frozen
from sqlalchemy.exc import IntegrityError

from config import Account, Budget
from helexa.cortex.access.keys import Record
from helexa.database import Component, Database, StoreError, schema

_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        (
            "CREATE TABLE helexa_keys (id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
            " account TEXT NOT NULL, scopes TEXT NOT NULL, models TEXT NOT NULL, labels TEXT NOT NULL,"
            " hint TEXT NOT NULL, created DOUBLE PRECISION NOT NULL, rotated DOUBLE PRECISION,"
            " expires DOUBLE PRECISION, revoked DOUBLE PRECISION)"
        ),
        "CREATE UNIQUE INDEX helexa_keys_name ON helexa_keys (name) WHERE revoked IS NULL",
    ),
    (
        "ALTER TABLE helexa_keys ADD COLUMN budgets TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE helexa_keys ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE helexa_keys ADD COLUMN max_in_flight INTEGER",
        "CREATE TABLE helexa_accounts (name TEXT PRIMARY KEY, budgets TEXT NOT NULL)",
    ),
)
"""What was released is never edited: databases out there have had it."""

_keys: Final = sa.table("helexa_keys", *(sa.column(each.name) for each in Record.__attrs_attrs__))
_accounts: Final = sa.table("helexa_accounts", sa.column("name"), sa.column("budgets"))
_TEXTS: Final = ("scopes", "models", "labels", "budgets")
"""Columns of JSON."""
_ALTERABLE: Final = frozenset({*_TEXTS, "weight", "max_in_flight"})


class NameTakenError(Exception):
    """There is a key of that name that is not revoked."""


class NoSuchKeyError(Exception):
    """There is no such key, or it is revoked."""


class NoSuchAccountError(Exception):
    """No budgets are kept for an account of that name."""


@frozen
class Snapshot:
    """All that is kept at one time.

    Attributes:
        revision: of the database.
        records: all keys, the oldest first.
        accounts: those that have budgets, by name.
    """

    revision: int
    records: tuple[Record, ...]
    accounts: tuple[Account, ...] = ()


class KeyStore:
    """Keys and accounts in one database. Connections are made when they are needed and kept until ``close``.

    Args:
        url: ``cortex.database`` of a topology.

    Raises:
        StoreSettingError: it names no database that this installation can use. Nothing is connected to as yet.
    """

    def __init__(self, url: str) -> None:
        self._component = Component("keys", _MIGRATIONS)
        self._database = Database(url, self._component)

    def close(self) -> None:
        """Give the connections back. The store can be used again; the schema is then looked at anew."""
        self._database.close()

    def look(self, known: int | None) -> Snapshot | None:
        """All there is, or ``None`` if there was no change since a revision.

        Raises:
            StoreError: as every method here.
        """
        with self._database.transaction(reading=True) as connection:
            revision = connection.execute(sa.select(schema.c.revision).where(self._component.row)).scalar_one()
            if revision == known:
                return None
            # Rowid or not, what was made first comes first
            rows = connection.execute(sa.select(_keys).order_by(_keys.c.created, _keys.c.id)).mappings()
            accounts = connection.execute(sa.select(_accounts).order_by(_accounts.c.name)).mappings()
            return Snapshot(revision, tuple(map(_record, rows)), tuple(map(_account, accounts)))

    def insert(self, record: Record) -> int:
        """Keep a new key; the revision that has it.

        Raises:
            NameTakenError: nothing was changed.
        """
        with self._database.transaction() as connection:
            try:
                connection.execute(sa.insert(_keys).values(_row(record)))
            except IntegrityError:
                raise NameTakenError from None
            return self._next_revision(connection)

    def exchange(self, identity: str, digest: str, hint: str, now: float) -> int:
        """Put another key in the place of one; the revision that has it.

        Args:
            identity: the ``id`` of a key that is not revoked.
            digest: hash of the new key.
            hint: end of the new key.
            now: Unix time.

        Raises:
            NoSuchKeyError: nothing was changed.
        """
        return self._change(identity, {"hash": digest, "hint": hint, "rotated": now})

    def alter(self, identity: str, changes: Mapping[str, Any]) -> int:
        """Change what a key is good for; the revision that has it.

        Args:
            identity: the ``id`` of a key that is not revoked.
            changes: of a record's ``scopes``, ``models``, ``labels``, ``budgets``, ``weight`` and ``max_in_flight``
                those that change, with their new values: two gateways may change two of them at a time.

        Raises:
            NoSuchKeyError: nothing was changed.
        """
        assert changes.keys() <= _ALTERABLE, changes.keys()
        return self._change(identity, _columns(changes))

    def revoke(self, identity: str, now: float) -> int:
        """Note that a key is good for nothing from ``now`` on, a Unix time; the revision that has it.

        Raises:
            NoSuchKeyError: nothing was changed.
        """
        return self._change(identity, {"revoked": now})

    def set_account(self, name: str, budgets: Iterable[Budget]) -> int:
        """Keep the budgets of an account in place of those that it had; the revision that has them."""
        with self._database.transaction() as connection:
            revision = self._next_revision(connection)  # first: its lock keeps others from the same name
            connection.execute(sa.delete(_accounts).where(_accounts.c.name == name))
            connection.execute(sa.insert(_accounts).values(name=name, **_columns({"budgets": tuple(budgets)})))
            return revision

    def drop_account(self, name: str) -> int:
        """Forget the budgets of an account; the revision that has them no more.

        Raises:
            NoSuchAccountError: nothing was changed.
        """
        with self._database.transaction() as connection:
            if connection.execute(sa.delete(_accounts).where(_accounts.c.name == name)).rowcount != 1:
                raise NoSuchAccountError
            return self._next_revision(connection)

    def _change(self, identity: str, values: Mapping[str, Any]) -> int:
        with self._database.transaction() as connection:
            meant = sa.and_(_keys.c.id == identity, _keys.c.revoked.is_(None))
            if connection.execute(sa.update(_keys).where(meant).values(**values)).rowcount != 1:
                raise NoSuchKeyError
            return self._next_revision(connection)

    def _next_revision(self, connection: sa.Connection) -> int:
        """Its row is locked until the commit, so that changes become visible in the order of their revisions."""
        ours, revision = self._component.row, schema.c.revision
        connection.execute(sa.update(schema).where(ours).values(revision=revision + 1))
        return int(connection.execute(sa.select(revision).where(ours)).scalar_one())


def _row(record: Record) -> dict[str, Any]:
    return _columns({column.name: getattr(record, column.name) for column in _keys.c})


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: orjson.dumps(_plain(value)).decode() if name in _TEXTS else value for name, value in values.items()}


def _plain(value: Any) -> Any:
    """Something that JSON knows: a budget is what it limits and the seconds that it does so over."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return {value.unit: getattr(value, value.unit), "per": value.per} if isinstance(value, Budget) else value


def _record(row: sa.RowMapping) -> Record:
    found = Record(**row)
    try:
        scopes, models, labels = (orjson.loads(row[name]) for name in ("scopes", "models", "labels"))
        budgets = _budgets(row["budgets"])
        return evolve(found, scopes=tuple(scopes), models=tuple(models), labels=dict(labels), budgets=budgets)
    except (TypeError, ValueError) as error:  # somebody's hand
        raise StoreError(f"the row of the key '{found.name}' is not as helexa writes it") from error


def _account(row: sa.RowMapping) -> Account:
    try:
        return Account(row["name"], _budgets(row["budgets"]))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the row of the account '{row['name']}' is not as helexa writes it") from error


def _budgets(text: str) -> tuple[Budget, ...]:
    return tuple(Budget(**each) for each in orjson.loads(text))
