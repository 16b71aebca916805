"""Frames as bytes on a socket: a length, then a tagged class as msgpack; read strictly, and never pickled."""

import struct
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

import msgpack
from attrs import field, frozen
from cattrs.preconf.msgpack import make_converter
from cattrs.strategies import configure_tagged_union

LENGTH: Final = struct.Struct(">I")
"""What stands before each frame: how many bytes it has."""
_F = TypeVar("_F")


def _exactly(value: Any, kind: Any) -> Any:
    """Convert nothing: cattrs would make 7 of "7" and "None" of nothing, and a broken peer would go unnoticed."""
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError(f"{value!r} is not {kind.__name__}")


def _converter(frames: Any, kinds: Iterable[type]) -> Any:
    made = make_converter(detailed_validation=False)
    for kind in kinds:
        made.register_structure_hook(kind, _exactly)
    configure_tagged_union(frames, made)
    return made


@frozen
class Codec(Generic[_F]):
    """Writes and reads the frames of one protocol.

    Args:
        frames: the union of their classes.
        kinds: the plain types of their fields.
        error: raised at what is none of them.
    """

    _frames: Any
    _kinds: tuple[type, ...]
    _error: type[Exception]
    _convert: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_convert", _converter(self._frames, self._kinds))

    def encode(self, frame: _F) -> bytes:
        """A frame with its length prefix."""
        body: bytes = msgpack.packb(self._convert.unstructure(frame, self._frames))
        return LENGTH.pack(len(body)) + body

    def decode(self, body: bytes) -> _F:
        """A frame without its length prefix; raises the protocol's error if it is none."""
        try:
            found: _F = self._convert.structure(msgpack.unpackb(body), self._frames)
        except Exception as error:
            raise self._error(f"not a frame: {type(error).__name__}: {error}") from error
        return found
