"""What a GGUF file says of itself: its metadata, and where its tensors are. Reads nothing of the tensors.

Source: the GGUF specification in ggml's repository, ``docs/gguf.md``: magic, version, counts, then key and value pairs,
then a name, dimensions, a type and an offset for each tensor; strings and arrays with 64-bit lengths; little-endian.
Nothing that a file says is believed before it has been held against the file's length.
"""

import mmap
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MOST_DIMENSIONS: Final = 4
_DEEPEST: Final = 1
"""Arrays in arrays are allowed, and nobody writes them."""
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SHORTEST_ENTRY: Final = 13
"""Bytes of the shortest pair or tensor: so many more than there can be are not tried one by one."""


@frozen
class Kind:
    """How a tensor's numbers are stored: ``weights`` of them in ``size`` bytes."""

    name: str
    weights: int
    size: int


KINDS: Final = {
    0: Kind("F32", 1, 4),
    1: Kind("F16", 1, 2),
    2: Kind("Q4_0", 32, 18),
    3: Kind("Q4_1", 32, 20),
    6: Kind("Q5_0", 32, 22),
    7: Kind("Q5_1", 32, 24),
    8: Kind("Q8_0", 32, 34),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    14: Kind("Q6_K", 256, 210),
    30: Kind("BF16", 1, 2),
}
"""Those that are read here, by their numbers in a file."""


class GgufError(ValueError):
    """A file that is no GGUF, or none that is read here; the message is for the operator."""


@frozen
class TensorInfo:
    """A tensor of a file.

    Attributes:
        name: as the file has it.
        kind: how it is stored.
        shape: the slowest dimension first, other than in the file.
        start: where in the file it begins, in bytes.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) // self.kind.weights * self.kind.size

    @property
    def end(self) -> int:
        """Where in the file it ends, in bytes."""
        return self.start + self.size


@frozen
class Header:
    """What a file says.

    Attributes:
        metadata: values by key; arrays are lists.
        tensors: by name.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @property
    def architecture(self) -> str:
        """The family of models, ``llama`` or the like; empty if it is not said."""
        return str(self.metadata.get("general.architecture", ""))

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own, ``block_count`` or the like."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_header(path: Path) -> Header:
    """Read what a file says of itself.

    Raises:
        GgufError: it is no GGUF file, a part of one, or has tensors of a kind that is not read here.
    """
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _parse(mapped, path.name)
    except (OSError, ValueError) as error:  # mmap has ValueError for an empty file
        if isinstance(error, GgufError):
            raise
        raise GgufError(f"'{path.name}' cannot be read as GGUF: {error}") from error


def parse_header(data: bytes, name: str = "file") -> Header:
    """Read what a file of these bytes says of itself; see ``read_header``."""
    return _parse(data, name)


def _parse(data: "bytes | mmap.mmap", name: str) -> Header:
    reader = _Reader(data, name)
    if reader.take(4) != _MAGIC:
        raise reader.wrong("it does not begin with 'GGUF'")
    if (version := reader.scalar("I")) not in _VERSIONS:
        raise reader.wrong(f"it is of version {version}; {_VERSIONS[0]} and {_VERSIONS[1]} are read")
    tensors, pairs = reader.count(), reader.count()
    metadata = {reader.string(): reader.value(reader.scalar("I"), 0) for _ in range(pairs)}
    if metadata.get("split.count", 1) not in (0, 1):
        raise reader.wrong("it is one of several parts; parts are joined with llama.cpp's gguf-split first")
    found = [_tensor(reader) for _ in range(tensors)]
    return Header(metadata, _placed(found, reader, metadata.get("general.alignment", 32)))


@define
class _Reader:
    """Reads from the front, never beyond the end."""

    data: "bytes | mmap.mmap"
    name: str
    at: int = 0
    length: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.length = len(self.data)

    def wrong(self, problem: str) -> GgufError:
        return GgufError(f"'{self.name}' cannot be read as GGUF: {problem}")

    def take(self, size: int) -> bytes:
        if size > self.length - self.at:
            raise self.wrong("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def count(self, entry: int = _SHORTEST_ENTRY) -> int:
        """A number of entries of at least so many bytes each."""
        found: int = self.scalar("Q")
        if found * entry > self.length - self.at:
            raise self.wrong("it ends too early")
        return found

    def string(self) -> str:
        return self.take(self.count(1)).decode(errors="replace")

    def value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < _DEEPEST:
            return self._array(self.scalar("I"), depth + 1)
        raise self.wrong(f"it has a value of the unknown type {kind}")

    def _array(self, kind: int, depth: int) -> list[Any]:
        if kind not in _SCALARS:
            return [self.value(kind, depth) for _ in range(self.count(8))]
        size = struct.calcsize(f"<{_SCALARS[kind]}")
        count = self.count(size)  # all at once: a vocabulary has a hundred thousand
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self.take(count * size)))


def _tensor(reader: _Reader) -> TensorInfo:
    name, dimensions = reader.string(), reader.scalar("I")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise reader.wrong(f"the tensor '{name}' has {dimensions} dimensions")
    shape = tuple(reader.scalar("Q") for _ in range(dimensions))
    number, start = reader.scalar("I"), reader.scalar("Q")
    if (kind := KINDS.get(number)) is None:
        known = ", ".join(kind.name for kind in KINDS.values())
        raise reader.wrong(f"the tensor '{name}' is of the kind {number}; those that are read are {known}")
    if shape[0] % kind.weights or not all(shape):
        raise reader.wrong(f"the tensor '{name}' has rows of {shape[0]}, which {kind.name} cannot have")
    return TensorInfo(name, kind, shape[::-1], start)


def _placed(found: Sequence[TensorInfo], reader: _Reader, alignment: Any) -> dict[str, TensorInfo]:
    """Tensors at their places in the file, of which each is in it and none in another."""
    if not isinstance(alignment, int) or alignment <= 0:
        raise reader.wrong(f"its alignment is {alignment!r}")
    first = -(-reader.at // alignment) * alignment
    placed = [TensorInfo(each.name, each.kind, each.shape, each.start + first) for each in found]
    for one, two in pairwise(sorted(placed, key=lambda each: each.start)):
        if one.end > two.start:
            raise reader.wrong(f"the tensors '{one.name}' and '{two.name}' overlap")
    if late := [each.name for each in placed if each.end > reader.length]:
        raise reader.wrong(f"the tensor '{late[0]}' goes beyond its end; it may not have been copied whole")
    if len(by_name := {each.name: each for each in placed}) < len(placed):
        raise reader.wrong("two of its tensors have the same name")
    return by_name
