"""A real PostgreSQL server for the tests that want one, where it is installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from attrs import define


def _as_nobody() -> dict[str, str]:
    """The server refuses to be run by root."""
    return {"user": "nobody"} if os.getuid() == 0 else {}


@define
class Server:
    """A PostgreSQL that only this test run can reach: on a socket in a directory of its own."""

    directory: Path

    def control(self, *arguments: str) -> None:
        """Have ``pg_ctl`` start, stop or restart it, and wait until that is done."""
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off"
        command = ["pg_ctl", "-D", str(self.directory / "data"), "-l", str(self.directory / "log"), "-o", options]
        subprocess.run([*command, "-w", *arguments], check=True, stdout=subprocess.DEVNULL, **_as_nobody())

    def make(self) -> None:
        """Make its data."""
        data = str(self.directory / "data")
        command = ["initdb", "-D", data, "-A", "trust", "-U", "helexa", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_nobody())

    @property
    def url(self) -> str:
        """The database, as ``cortex.database`` names it."""
        return f"postgresql://helexa@/postgres?host={self.directory}"

    def empty(self) -> str:
        """Drop all of helexa's tables; its URL."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'helexa%'").fetchall()
            for (table,) in tables:
                connection.execute(f'DROP TABLE "{table}"')
        return self.url


def _missing() -> str | None:
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        return "there is no PostgreSQL server on the path"
    return None if find_spec("psycopg") else "psycopg is not installed"


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs; the test is skipped where there is none."""
    if (reason := _missing()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="helexa-pg-", ignore_cleanup_errors=True) as name:
        if os.getuid() == 0:
            shutil.chown(name, "nobody")
        found = Server(Path(name))
        found.make()
        found.control("start")
        try:
            yield found
        finally:
            found.control("stop", "-m", "immediate")
