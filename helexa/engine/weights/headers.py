"""Where the tensors of a safetensors file lie. Imports no torch: a neuron asks as well.

Source: the safetensors README, "Format": a little-endian 64-bit length, and so many bytes of JSON that give the dtype,
the shape and the place of every tensor, which follow each other without holes up to the end of the file. A header is
held against the file's length before anything else is done with it: files come from strangers, and downloads end early.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import frozen

_LENGTH: Final = struct.Struct("<Q")
_LONGEST: Final = 100_000_000
"""Bytes of a header; safetensors itself reads no longer one."""
_METADATA: Final = "__metadata__"
BITS: Final = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of a number of each dtype, by the name that the format has for it."""


class FileError(ValueError):
    """A file that is not what it should be; the message is for the operator."""


@frozen
class Place:
    """Where a tensor lies.

    Attributes:
        file: in which file.
        dtype: of its numbers, one of ``BITS``.
        shape: of it.
        start: its first byte, from the beginning of the file.
        end: the byte after its last.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return self.end - self.start


def read_header(file: Path) -> dict[str, Place]:
    """Every tensor of a file, by its name, in the order in which they lie. None of them is read.

    Raises:
        FileError: it cannot be read, or what it says of itself is not so.
    """
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            first, found = _entries(opened, size)
        places = {name: _place(file, first, name, entry) for name, entry in found.items() if name != _METADATA}
        return _in_a_row(places, first, size)
    except OSError as error:
        raise FileError(f"'{file.name}' cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"'{file.name}' is no safetensors file: {error}") from error


def _entries(opened: BinaryIO, size: int) -> tuple[int, Mapping[str, Any]]:
    """Where the tensors begin, and what the header has."""
    if size < _LENGTH.size:
        raise ValueError(f"it has {size} bytes, fewer than any")
    (length,) = _LENGTH.unpack(opened.read(_LENGTH.size))
    if length > min(size - _LENGTH.size, _LONGEST):
        raise ValueError(f"its header is to have {length} bytes, of a file of {size}")
    found = _parse(opened.read(length))
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")  # noqa: TRY004 - read from a file, not passed
    return _LENGTH.size + length, found


def _parse(header: bytes) -> Any:
    try:
        return json.loads(header.decode(), object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise ValueError(f"its header is no JSON: {reason}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON would take the last of several of one name, and other readers the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _place(file: Path, first: int, name: str, entry: Any) -> Place:
    if not isinstance(entry, dict):
        raise ValueError(f"the tensor '{_short(name)}' is described by {_short(entry)}")  # noqa: TRY004 - likewise
    stated: list[Any] = [entry.get(key) for key in ("dtype", "shape", "data_offsets")]
    dtype, shape, offsets = stated
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"the tensor '{_short(name)}' is of the dtype {_short(dtype)!r}, which is not known")
    if not _is_counts(shape):
        raise ValueError(f"the tensor '{_short(name)}' has the shape {_short(shape)}")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - a start and an end
        raise ValueError(f"the tensor '{_short(name)}' has the place {_short(offsets)}")
    start, end = offsets
    if (bits := math.prod(shape) * BITS[dtype]) != (end - start) * 8:
        raise ValueError(f"the tensor '{_short(name)}' needs {bits / 8:g} bytes and has {end - start}")
    return Place(file, dtype, tuple(shape), first + start, first + end)


def _is_counts(found: Any) -> bool:
    """A list of integers from 0; ``True`` is none."""
    return isinstance(found, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in found)


def _in_a_row(places: dict[str, Place], first: int, size: int) -> dict[str, Place]:
    """One after the other, none in another, up to the end of the file."""
    ordered = dict(sorted(places.items(), key=lambda item: (item[1].start, item[1].end)))
    at = first
    for name, place in ordered.items():
        if place.start != at:
            what = "overlaps the one before" if place.start < at else "begins after a hole"
            raise ValueError(f"the tensor '{_short(name)}' {what}")
        at = place.end
    if at != size:
        what = "it may not have been copied whole" if at > size else "there is more than its header tells of"
        raise ValueError(f"its tensors end at byte {at}, and the file at {size}: {what}")
    return ordered


def _short(found: Any) -> str:
    return str(found)[:60]
