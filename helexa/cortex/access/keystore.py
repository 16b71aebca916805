"""Where keys are kept: a file of SQLite's, or PostgreSQL for several gateways together.

Everything here blocks, so it is called in threads, one call at a time. No statement contains what clients sent: values
go beside it, and are shown in no error.

Every change adds one to a revision, in the same transaction, so that other gateways find out by reading one number.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa
from attrs import evolve, frozen
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from helexa.cortex.access.keys import Record, StoreSettingError

WAIT_SECONDS: Final = 5
"""For a connection, for a lock, for a statement."""
_SQLITE: Final = "sqlite:///"
_COMPONENT: Final = "keys"
_LOCK: Final = 0x68656C657861
"""The advisory lock of whoever brings a PostgreSQL database up to date; any number that others do not use."""

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
)
"""Each brings the schema to the next version. What was released is never edited: databases out there have had it."""

_keys: Final = sa.table("helexa_keys", *(sa.column(each.name) for each in Record.__attrs_attrs__))
_schema: Final = sa.table("helexa_schema", *map(sa.column, ("component", "version", "revision")))
_TEXTS: Final = ("scopes", "models", "labels")
"""Columns of JSON."""


class StoreError(Exception):
    """The database cannot be read or changed now; the message says why, on one line."""


class NameTakenError(Exception):
    """There is a key of that name that is not revoked."""


class NoSuchKeyError(Exception):
    """There is no such key, or it is revoked."""


@frozen
class Snapshot:
    """All keys at one time, the oldest first."""

    revision: int
    records: tuple[Record, ...]


class KeyStore:
    """Keys in one database. Connections are made when they are needed and kept until ``close``.

    Args:
        url: ``cortex.database`` of a topology.

    Raises:
        StoreSettingError: it names no database that this installation can use. Nothing is connected to as yet.
    """

    def __init__(self, url: str) -> None:
        self._path = _path(url) if url.startswith(_SQLITE) else None
        self._engine = _postgres(url) if self._path is None else _sqlite(self._path)
        self._reading = self._engine.execution_options(helexa_reading=True)
        self._ready = False

    def close(self) -> None:
        """Give the connections back. The store can be used again; the schema is then looked at anew."""
        self._ready = False
        self._engine.dispose()

    def look(self, known: int | None) -> Snapshot | None:
        """All keys, or ``None`` if there was no change since a revision.

        Raises:
            StoreError: as every method here.
        """
        with self._transaction(self._reading) as connection:
            revision = connection.execute(sa.select(_schema.c.revision).where(_ours())).scalar_one()
            if revision == known:
                return None
            # Rowid or not, what was made first comes first. Rows may be newer than the revision: then it is read again.
            rows = connection.execute(sa.select(_keys).order_by(_keys.c.created, _keys.c.id))
            return Snapshot(revision, tuple(map(_record, rows.mappings())))

    def insert(self, record: Record) -> int:
        """Keep a new key; the revision that has it.

        Raises:
            NameTakenError: nothing was changed.
        """
        with self._transaction(self._engine) as connection:
            try:
                connection.execute(sa.insert(_keys).values(_row(record)))
            except IntegrityError:
                raise NameTakenError from None
            return _next_revision(connection)

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
        return self._change(identity, hash=digest, hint=hint, rotated=now)

    def revoke(self, identity: str, now: float) -> int:
        """Note that a key is good for nothing from ``now`` on, a Unix time; the revision that has it.

        Raises:
            NoSuchKeyError: nothing was changed.
        """
        return self._change(identity, revoked=now)

    def _change(self, identity: str, **values: Any) -> int:
        with self._transaction(self._engine) as connection:
            meant = sa.and_(_keys.c.id == identity, _keys.c.revoked.is_(None))
            if connection.execute(sa.update(_keys).where(meant).values(values)).rowcount != 1:
                raise NoSuchKeyError
            return _next_revision(connection)

    @contextmanager
    def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """One transaction, on a schema that is up to date; committed when nothing is raised."""
        ready, self._ready = self._ready, False  # after an error it may be another database that answers
        try:
            if not ready:
                self._bring_up_to_date()
            with engine.begin() as connection:
                yield connection
            self._ready = True
        except SQLAlchemyError as error:
            raise StoreError(_why(error)) from error
        except OSError as error:
            raise StoreError(f"{self._path}: {(error.strerror or str(error)).lower()}") from error

    def _bring_up_to_date(self) -> None:
        if self._path is not None:
            _make_file(self._path)
        with self._engine.begin() as connection:
            _migrate(connection)


def _migrate(connection: sa.Connection) -> None:
    """Whoever comes first does it; the others wait, and find it done."""
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself is the lock
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(
        sa.text(
            "CREATE TABLE IF NOT EXISTS helexa_schema"
            " (component TEXT PRIMARY KEY, version INTEGER NOT NULL, revision BIGINT NOT NULL)"
        )
    )
    version = connection.execute(sa.select(_schema.c.version).where(_ours())).scalar()
    if version is None:
        version = 0
        connection.execute(sa.insert(_schema).values(component=_COMPONENT, version=0, revision=0))
    _run(connection, version)


def _run(connection: sa.Connection, version: int) -> None:
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"its keys have schema {version} of a later helexa, and this one knows {len(_MIGRATIONS)} at most"
        )
    for statement in (each for migration in _MIGRATIONS[version:] for each in migration):
        connection.execute(sa.text(statement))
    connection.execute(sa.update(_schema).where(_ours()).values(version=len(_MIGRATIONS)))


def _ours() -> sa.ColumnElement[bool]:
    return _schema.c.component == _COMPONENT


def _next_revision(connection: sa.Connection) -> int:
    """Its row is locked until the commit, so that changes become visible in the order of their revisions."""
    connection.execute(sa.update(_schema).where(_ours()).values(revision=_schema.c.revision + 1))
    return int(connection.execute(sa.select(_schema.c.revision).where(_ours())).scalar_one())


def _row(record: Record) -> dict[str, Any]:
    row = {column.name: getattr(record, column.name) for column in _keys.c}
    return row | {name: orjson.dumps(row[name]).decode() for name in _TEXTS}


def _record(row: sa.RowMapping) -> Record:
    found = Record(**row)
    try:
        scopes, models, labels = (orjson.loads(row[name]) for name in _TEXTS)
        return evolve(found, scopes=tuple(scopes), models=tuple(models), labels=dict(labels))
    except (TypeError, ValueError) as error:  # somebody's hand
        raise StoreError(f"the row of the key '{found.name}' is not as helexa writes it") from error


def _why(error: SQLAlchemyError) -> str:
    """What the driver said, on one line: without the statement, and without the values that it was about."""
    origin = getattr(error, "orig", None) or error
    return f"{type(origin).__name__}: {' '.join(str(origin).split())}"


def _path(url: str) -> Path:
    """All that follows is the path. SQLAlchemy would read settings in it, and ``:memory:`` as no file."""
    try:
        return Path(url.removeprefix(_SQLITE)).expanduser().absolute()
    except RuntimeError:
        raise StoreSettingError(f"cortex.database: the '~' of {url} leads to no home directory.") from None


def _make_file(path: Path) -> None:
    """For the owner alone, from the first moment on: SQLite gives its other files the modes of this one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _sqlite(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    # isolation_level: the driver would begin transactions only when something is written, and none around DDL
    arguments = {"timeout": WAIT_SECONDS, "isolation_level": None, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=arguments, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that has read may fail to begin writing, however long it would wait
        reading = connection.get_execution_options().get("helexa_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgres(url: str) -> sa.Engine:
    wrong = StoreSettingError("cortex.database is not the URL of a PostgreSQL server.")  # it may hold a password
    try:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
        arguments = {"connect_timeout": WAIT_SECONDS, "tcp_user_timeout": WAIT_SECONDS * 1000}
        given = {name: value for name, value in arguments.items() if name not in parsed.query}
        engine = sa.create_engine(parsed, connect_args=given, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise StoreSettingError(
            "cortex.database: PostgreSQL needs a driver. Install it with: pip install 'helexa[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise wrong from None
    sa.event.listen(engine, "connect", _bound_statements)
    return engine


def _bound_statements(connection: Any, _record: object) -> None:
    """Not as an option of the connection: there are poolers that refuse those."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {WAIT_SECONDS * 1000}")
    connection.commit()
