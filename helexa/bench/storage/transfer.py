"""Runs in files: for other programs as CSV or Parquet, and for another helexa, exactly as they are, as JSON.

Everything here blocks, so it is called in threads.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias, get_args

from helexa.bench.records import Run
from helexa.bench.storage import transfer_json, transfer_rows
from helexa.bench.storage.storable import storable

Format: TypeAlias = Literal["csv", "json", "parquet"]

_WRITERS: Final[dict[Format, Callable[[Iterable[Run], BinaryIO], None]]] = {
    "csv": transfer_rows.write_csv,
    "json": transfer_json.write,
    "parquet": transfer_rows.write_parquet,
}


class TransferError(Exception):
    """A file cannot be written or read; the message is a sentence that names it and the place in it."""


def format_of(path: Path) -> Format:
    """Say which format the end of a file's name stands for.

    Raises:
        TransferError: none.
    """
    for form in get_args(Format):
        if path.suffix.lower() == f".{form}":
            return _checked(form)
    raise TransferError(f"{path}: the name of an export ends in .csv, .json or .parquet.")


def _checked(form: Format) -> Format:
    """Told before the first run is measured or read, not behind the last one."""
    if form == "parquet" and not transfer_rows.has_parquet():
        raise TransferError("Parquet files need pyarrow. Install it with: pip install 'helexa[parquet]'")
    return form


def export(runs: Iterable[Run], to: Path | BinaryIO, form: Format) -> int:
    """Write runs; how many.

    JSON is what ``read`` reads. CSV and Parquet have a row for each value of each sample, with all that is known of its
    run beside it; a sample that failed has one row, with the error, and a run without samples one, with its reason.

    Args:
        runs: each is held only while it is written, with some others.
        to: a file that is replaced when the new one is whole, so that it is never half of one; or a stream that stays
            open.
        form: what the file is.

    Raises:
        TransferError: it cannot be written. What ``runs`` raises is raised as it is.
    """
    _checked(form)
    counted = _Counted(runs)
    with _named(to), _opened(to) as stream:
        _WRITERS[form](counted, stream)
    return counted.seen


def read(source: Path | BinaryIO) -> list[Run]:
    """Read the runs of a JSON export, in its order. All that is in the file has to be as ``export`` writes it.

    Raises:
        TransferError: it cannot be read, is none, or is wrong somewhere: the message says where.
    """
    with _named(source):
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        try:
            return transfer_json.read(data)
        except transfer_json.FormatError as error:
            raise TransferError(f"{_name(source)}: {error}") from None


class _Counted:
    """Runs as they can be written, and how many there were."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = runs
        self.seen = 0

    def __iter__(self) -> Iterator[Run]:
        for run in self._runs:
            self.seen += 1
            yield storable(run)


def _name(place: Path | BinaryIO) -> str:
    return str(place) if isinstance(place, Path) else str(getattr(place, "name", "the stream"))


@contextmanager
def _named(place: Path | BinaryIO) -> Iterator[None]:
    """Have errors of the system say whose they are."""
    try:
        yield
    except OSError as error:
        raise TransferError(f"{_name(place)}: {(error.strerror or str(error)).lower()}.") from error


@contextmanager
def _opened(to: Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(to, Path):
        yield to
        to.flush()
    elif to.exists() and not to.is_file():  # a pipe or a terminal, which nobody wants replaced
        with to.open("wb") as stream:
            yield stream
    else:
        with _replacing(to.resolve()) as stream:
            yield stream


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """The new file takes the place of the old one, and its mode, when it is whole."""
    with ExitStack() as undo:
        # In the same directory, because a rename is atomic only within one file system
        descriptor, created = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        undo.callback(Path(created).unlink)
        with os.fdopen(descriptor, "wb") as stream:
            if target.exists():
                os.fchmod(descriptor, target.stat().st_mode & 0o777)
            yield stream
            stream.flush()
            os.fsync(descriptor)
        Path(created).replace(target)
        undo.pop_all()
