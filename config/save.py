"""Writing a topology: only what differs from the defaults, and never half a file."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

import tomli_w

from config.problems import Problem, TopologyError, dotted
from config.references import check
from config.structure import CONVERTER
from config.topology import Topology

_NEW_FILE_MODE: Final = 0o644


def dumps(topology: Topology) -> str:
    """Write a topology as TOML that `parse` turns into an equal one.

    Comments of a file the topology was read from are not in the topology, so not in the text either.

    Raises:
        TopologyError: The topology contradicts itself, so that `parse` would refuse the text.
    """
    problems = [Problem("topology", None, dotted(it.path), it.message, it.hint) for it in check(topology)]
    if problems:
        raise TopologyError(problems)
    document: dict[str, Any] = CONVERTER.unstructure(topology)
    return tomli_w.dumps(document)


def save(topology: Topology, path: str | os.PathLike[str]) -> None:
    """Write a topology to a file that readers see whole, either as it was or as it is now.

    The file keeps its mode; a symbolic link stays one, and what it points to is replaced.

    Raises:
        TopologyError: As for `dumps`; the file is left alone.
        OSError: The file cannot be written; it is left alone.
    """
    data = dumps(topology).encode()
    target = Path(path).resolve()
    with contextlib.ExitStack() as undo:
        # In the same directory, because a rename is atomic only within one file system.
        descriptor, created = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(created)
        undo.callback(temporary.unlink)
        _write(descriptor, data, _mode_of(target))
        temporary.replace(target)
        undo.pop_all()
    _sync_directory(target.parent)


def _write(descriptor: int, data: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _mode_of(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return _NEW_FILE_MODE


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
