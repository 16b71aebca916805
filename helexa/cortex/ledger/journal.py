"""What was used while the database was away: rows in a file that only grows, a line of JSON each, until it is booked.

Everything here blocks, so it is called in threads, one call at a time.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import orjson
from attrs import frozen

from helexa.cortex.ledger.rows import Row

SUFFIX: Final = ".journal"
_TYPES: Final = tuple(Row.__annotations__.values())
_NEWLINE: Final = b"\n"


@frozen
class Read:
    """Some rows of a journal.

    Attributes:
        rows: in the order in which they were added.
        unreadable: lines that are no rows.
        end: the position behind them.
    """

    rows: tuple[Row, ...]
    unreadable: tuple[bytes, ...]
    end: int


class Journal:
    """One file; it exists once something was added. Its owner is whoever owns the file of slots beside it.

    Args:
        path: the file.

    Attributes:
        rows: how many it holds, those that ``read`` has passed among them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._size = 0

    def open(self) -> None:
        """Find out what is in it. A last line without an end is dropped: who wrote it still had its rows in slots.

        Raises:
            OSError: as by every method.
        """
        self.rows = self._size = 0
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            for line in file:
                if line.endswith(_NEWLINE):
                    self.rows += 1
                    self._size += len(line)
            file.truncate(self._size)

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows. They are on the disk when this returns; when it raises, none of them is in the journal."""
        lines = [orjson.dumps(tuple(row)) + _NEWLINE for row in rows]
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
            try:
                _write(file, self._size, b"".join(lines))
            except OSError:
                file.truncate(self._size)
                raise
        self._size += sum(map(len, lines))
        self.rows += len(lines)

    def read(self, begin: int, most: int) -> Read:
        """Up to so many lines from a position on, 0 or the ``end`` of what was read before."""
        if begin >= self._size:
            return Read((), (), begin)
        with self.path.open("rb") as file:
            file.seek(begin)
            lines = [line for line, _ in zip(file, range(most), strict=False)]
        return _read(lines, begin + sum(map(len, lines)))

    def set_aside(self, lines: Sequence[bytes]) -> Path:
        """Keep lines that are no rows in a file of their own, for somebody to look at; that file."""
        path = self.path.with_suffix(".unreadable")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(b"".join(lines))
        return path

    def forget(self, end: int) -> bool:
        """Drop all rows if they are booked up to ``end`` and there is nothing behind; whether it was so."""
        if end < self._size:
            return False
        self.path.unlink(missing_ok=True)
        self.rows = self._size = 0
        return True


def _write(file: BinaryIO, begin: int, raw: bytes) -> None:
    file.seek(begin)
    file.write(raw)
    file.flush()
    os.fsync(file.fileno())


def _read(lines: Sequence[bytes], end: int) -> Read:
    found = [(line, _row(line)) for line in lines]
    rows = tuple(row for _, row in found if row is not None)
    return Read(rows, tuple(line for line, row in found if row is None), end)


def _row(line: bytes) -> Row | None:
    try:
        values = orjson.loads(line)
    except ValueError:
        return None
    if not (isinstance(values, list) and len(values) == len(_TYPES)):
        return None
    fits = all(isinstance(value, kind) for value, kind in zip(values, _TYPES, strict=True))
    return Row(*values) if fits else None
