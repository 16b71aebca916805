"""A database: a file of SQLite's, or PostgreSQL for several gateways together.

Everything here blocks, so it is called in threads. No statement contains what clients sent: values go beside it, and
are shown in no error.

Several components share one database, each with tables and migrations of its own; a table of all of them tells which
version the tables of each have.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from helexa.faults import OperatorError

WAIT_SECONDS: Final = 5
"""For a connection, for a lock, for a statement."""
_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = frozenset({"postgresql", "postgres"})
"""What PostgreSQL's own tools take a URL to begin with."""
_LOCK: Final = 0x68656C657861
"""The advisory lock of whoever brings a PostgreSQL database up to date; any number that others do not use."""

_READING: Final = {"helexa_reading": True}
_READING_POSTGRES: Final = {"isolation_level": "REPEATABLE READ"}
"""All that a transaction reads is of one moment; SQLite does not know it otherwise."""

Migrations: TypeAlias = Sequence[Sequence[str]]
"""Statements by version: each part brings the schema to the next one. What was released is never edited."""

schema: Final = sa.table("helexa_schema", *map(sa.column, ("component", "version", "revision")))
"""A row per component; what the revision counts is the component's to say."""


class StoreSettingError(OperatorError):
    """The setting names nothing that can be used, whatever is waited for; the message says why."""


class StoreError(Exception):
    """The database cannot be read or changed now; the message says why, on one line."""


@frozen
class Component:
    """What shares the database with others.

    Attributes:
        name: what it is called in the table of versions, and in errors.
        migrations: how its tables come about.
        setting: where the topology says which database it is, for errors.
    """

    name: str
    migrations: Migrations
    setting: str = "cortex.database"

    @property
    def row(self) -> sa.ColumnElement[bool]:
        """Its row of ``schema``."""
        return schema.c.component == self.name


class Database:
    """One component's way to the database. Connections are made when they are needed and kept until ``close``.

    Args:
        url: as the component's setting in a topology says.
        component: whose tables are brought up to date before anything else.

    Raises:
        StoreSettingError: it names no database that this installation can use. Nothing is connected to as yet.
    """

    def __init__(self, url: str, component: Component) -> None:
        self._component = component
        self._path = _path(url, component.setting) if url.startswith(_SQLITE) else None
        self._engine = _postgres(url, component.setting) if self._path is None else _sqlite(self._path)
        self._reading = self._engine.execution_options(**_READING if self._path else _READING_POSTGRES)
        self._ready = False

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL; else it is SQLite."""
        return self._path is None

    def close(self) -> None:
        """Give the connections back. They are made again on demand; the schema is then looked at anew."""
        self._ready = False
        self._engine.dispose()

    @contextmanager
    def transaction(self, *, reading: bool = False) -> Iterator[sa.Connection]:
        """One transaction, on a schema that is up to date; committed when nothing is raised.

        Args:
            reading: nothing is written. On SQLite any other one waits for its turn, and keeps others waiting.

        Raises:
            StoreError: the database is away, or did not do what it was asked.
        """
        try:
            if not self._ready:
                self._bring_up_to_date()
            with (self._reading if reading else self._engine).begin() as connection:
                yield connection
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as error:  # the driver's: see `ledger.tables`
            self._ready = False  # it may be another database that answers next
            raise StoreError(_why(error)) from error
        except OSError as error:
            self._ready = False
            raise StoreError(f"{self._path}: {(error.strerror or str(error)).lower()}") from error

    def _bring_up_to_date(self) -> None:
        if self._path is not None:
            _make_file(self._path)
        with self._reading.begin() as connection:  # where there is nothing to do, nobody is waited for
            self._ready = _is_up_to_date(connection, self._component)
        if not self._ready:
            with self._engine.begin() as connection:
                _migrate(connection, self._component)
            self._ready = True


def _is_up_to_date(connection: sa.Connection, component: Component) -> bool:
    if not sa.inspect(connection).has_table(schema.name):
        return False
    version = connection.execute(sa.select(schema.c.version).where(component.row)).scalar()
    return version == len(component.migrations)


def _migrate(connection: sa.Connection, component: Component) -> None:
    """Whoever comes first does it; the others wait, and find it done."""
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself is the lock
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(
        sa.text(
            "CREATE TABLE IF NOT EXISTS helexa_schema"
            " (component TEXT PRIMARY KEY, version INTEGER NOT NULL, revision BIGINT NOT NULL)"
        )
    )
    version = connection.execute(sa.select(schema.c.version).where(component.row)).scalar()
    if version is None:
        version = 0
        connection.execute(sa.insert(schema).values(component=component.name, version=0, revision=0))
    _run(connection, component, version)


def _run(connection: sa.Connection, component: Component, version: int) -> None:
    known = len(component.migrations)
    if version > known:
        raise StoreError(
            f"its tables of {component.name} have schema {version} of a later helexa,"
            f" and this one knows {known} at most"
        )
    for statement in (each for migration in component.migrations[version:] for each in migration):
        connection.execute(sa.text(statement))
    connection.execute(sa.update(schema).where(component.row).values(version=known))


def _why(error: Exception) -> str:
    """What the driver said, on one line: without the statement, and without the values that it was about."""
    origin = getattr(error, "orig", None) or error
    said, _, _ = str(origin).partition("\nDETAIL:")  # where PostgreSQL shows the row that it refuses
    return f"{type(origin).__name__}: {' '.join(said.split())}"


def _path(url: str, setting: str) -> Path:
    """All that follows is the path. SQLAlchemy would read settings in it, and ``:memory:`` as no file."""
    try:
        return Path(url.removeprefix(_SQLITE)).expanduser().absolute()
    except RuntimeError:
        raise StoreSettingError(f"{setting}: the '~' of {url} leads to no home directory.") from None


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
        _keep_log(connection)

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that has read may fail to begin writing, however long it would wait
        reading = connection.get_execution_options().get("helexa_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _keep_log(connection: sqlite3.Connection) -> None:
    """With a log, readers and the writer do not wait for each other.

    SQLite waits for locks, but not for the one that this takes while others open or close the same file.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _postgres(url: str, setting: str) -> sa.Engine:
    wrong = StoreSettingError(f"{setting} is not the URL of a PostgreSQL server.")  # it may hold a password
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in _POSTGRES:  # as given: our driver's name would make one of any URL
            raise wrong
        parsed = parsed.set(drivername="postgresql+psycopg")
        arguments = {"connect_timeout": WAIT_SECONDS, "tcp_user_timeout": WAIT_SECONDS * 1000}
        given = {name: value for name, value in arguments.items() if name not in parsed.query}
        engine = sa.create_engine(parsed, connect_args=given, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise StoreSettingError(
            f"{setting}: PostgreSQL needs a driver. Install it with: pip install 'helexa[postgres]'"
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
