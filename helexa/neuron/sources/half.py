"""A file of which a part may have come, with the checksum of that part."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from attrs import define, field

from helexa.neuron.sources.listing import RemoteFile

_PIECE = 1 << 20


@define(eq=False)
class Half:
    """Owns the open file; a context manager. What is in it when it is closed stays there.

    Attributes:
        file: what it is to become.
        size: bytes that are here.
    """

    file: RemoteFile
    _opened: BinaryIO
    size: int = 0
    _digest: Any = field(init=False)

    @_digest.default
    def _new_digest(self) -> Any:
        """As Git names a blob, or of the content alone: see `RemoteFile`."""
        if self.file.sha256 is None and self.file.git_sha1 is not None:
            return hashlib.sha1(b"blob %d\0" % self.file.size, usedforsecurity=False)
        return hashlib.sha256()

    @classmethod
    def open(cls, path: Path, file: RemoteFile) -> Self:
        """Open what has come so far, or begin. Nothing of it counts before `read_again`.

        Raises:
            OSError: it cannot be read or written.
        """
        return cls(file, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0))

    def read_again(self, seen: Callable[[int], None]) -> None:
        """Take what has come so far into the checksum.

        Args:
            seen: told of the bytes of each piece; what it raises ends the reading.

        Raises:
            OSError: it cannot be read.
        """
        length = os.fstat(self._opened.fileno()).st_size
        if length > self.file.size:
            self.empty()
            return
        while self.size < length and (piece := self._opened.read(min(_PIECE, length - self.size))):
            self._digest.update(piece)
            self.size += len(piece)
            seen(len(piece))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._opened.close()

    @property
    def missing(self) -> int:
        """Bytes that are not here."""
        return self.file.size - self.size

    def write(self, piece: bytes) -> None:
        """Go on with it.

        Raises:
            OSError: it cannot be written.
        """
        rest = memoryview(piece)
        while rest:  # a raw file writes what there is room for, and says so only the next time
            written = self._opened.write(rest)
            rest = rest[written:]
        self._digest.update(piece)
        self.size += len(piece)

    def empty(self) -> None:
        """Begin anew."""
        self._opened.seek(0)
        self._opened.truncate()
        self.size, self._digest = 0, self._new_digest()

    def is_right(self) -> bool:
        """Whether it is all here and has the checksum that it should have, where one is known."""
        expected = self.file.sha256 or self.file.git_sha1
        return self.missing == 0 and expected in {None, self._digest.hexdigest()}

    def settle(self) -> None:
        """Have it on the disk: a power failure must not leave a file of the right name and length, full of zeros."""
        os.fsync(self._opened.fileno())
