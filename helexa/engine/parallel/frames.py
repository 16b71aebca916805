"""What the first rank of a group tells the others, and how it is laid on a socket: msgpack, never a pickle.

A frame is a 4-byte big-endian length and that many bytes of msgpack, as in `helexa.engine.protocol`. Token ids and
block tables travel as packed 32-bit integers: checking each number of a long block table one by one would cost more
than the step that it belongs to.
"""

import socket
import struct
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from helexa.engine.framing import LENGTH, Codec
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.plan import Chunk, StepPlan

VERSION: Final = 2
MAX_FRAME_BYTES: Final = 64 * 2**20


@frozen
class Challenge:
    """First rank to whoever connects: prove that you belong here."""

    version: int
    nonce: bytes


@frozen
class Join:
    """Another rank's answer, and a challenge of its own."""

    rank: int
    proof: bytes
    nonce: bytes


@frozen
class Welcome:
    """The first rank's proof, and the port of the store where the collectives' addresses are exchanged."""

    proof: bytes
    store: int


@frozen
class LoadShard:
    """Load a share of a model; see `helexa.engine.weights.loading.load_model`."""

    model: str
    path: str
    running: int
    memory: int | None
    quant: Quant | None = None


@frozen
class Vote:
    """How far a rank has come with a load; from the first rank: how far the group has.

    Attributes:
        value: KV blocks that it has room for; of the group, the least of all.
        error: why it cannot go on; of the group, the first of all.
    """

    value: int
    error: str | None = None


@frozen
class Row:
    """A chunk of a step: `helexa.engine.scheduling.plan.Chunk`, its numbers packed."""

    number: int
    start: int
    due: bool
    ids: bytes
    blocks: bytes
    scored: int = 0


@frozen
class Step:
    """Run a step of a model."""

    model: str
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, model: str, plan: StepPlan) -> "Step":
        """A plan to be sent."""
        return cls(model, tuple(map(_row, plan.chunks)))

    @property
    def plan(self) -> StepPlan:
        """The plan that was sent."""
        return StepPlan(tuple(map(_chunk, self.rows)))


def _row(chunk: Chunk) -> Row:
    return Row(chunk.number, chunk.start, chunk.due, _pack(chunk.ids), _pack(chunk.blocks), chunk.scored)


def _chunk(row: Row) -> Chunk:
    return Chunk(row.number, _unpack(row.ids), row.start, _unpack(row.blocks), row.due, row.scored)


@frozen
class Drop:
    """Forget a model."""

    model: str


RankFrame = Challenge | Join | Welcome | LoadShard | Vote | Step | Drop


class RankProtocolError(Exception):
    """Bytes that are no frame, or a frame out of turn: the other rank is broken or of another build."""


_CODEC: Codec[RankFrame] = Codec(RankFrame, (bool, int, str, bytes), RankProtocolError)


def encode(frame: RankFrame) -> bytes:
    """A frame with its length prefix."""
    return _CODEC.encode(frame)


def decode(body: bytes) -> RankFrame:
    """A frame without its length prefix.

    Raises:
        RankProtocolError: it is none.
    """
    return _CODEC.decode(body)


def receive(sock: socket.socket) -> RankFrame | None:
    """The next frame of a blocking socket; ``None`` when the other end has closed it.

    Raises:
        RankProtocolError: a length over ``MAX_FRAME_BYTES``, or a body that is no frame.
        OSError: the connection broke, ended within a frame, or took longer than the socket's timeout.
    """
    head = _exact(sock, LENGTH.size)
    if not head:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise RankProtocolError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
    return decode(_exact(sock, length))


def _exact(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or none if the connection ended before the first."""
    found = bytearray()
    while len(found) < size:
        data = sock.recv(min(size - len(found), 1 << 20))
        if not data and found:
            raise ConnectionResetError("the connection ended within a frame")
        if not data:
            return b""
        found += data
    return bytes(found)


def _pack(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


def _unpack(data: bytes) -> list[int]:
    if len(data) % 4:
        raise RankProtocolError(f"{len(data)} bytes are no row of 32-bit numbers")
    return list(struct.unpack(f"<{len(data) // 4}i", data))
