"""The events of a Messages stream, and content blocks one after the other whatever the order their pieces come in.

Source: Anthropic API reference, "Streaming messages".
"""

from collections.abc import Iterable
from typing import Literal

import orjson
from attrs import define, field, frozen

from helexa.wire import sse
from helexa.wire.dialect import Json

Kind = Literal["thinking", "text", "tool_use"]
_DELTAS = {"thinking": ("thinking_delta", "thinking"), "text": ("text_delta", "text")}
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def event(payload: Json) -> bytes:
    """One event, named by its type; the official clients pass over those without a name."""
    name: str = payload["type"]
    return b"event: " + name.encode() + b"\n" + sse.event(payload)


@frozen
class Piece:
    """More of one block.

    Attributes:
        kind: the block's.
        text: what is added: words, or a fragment of a call's arguments.
        call: which of the calls, counted from 0; otherwise 0.
        id: of the call.
        name: of the function called.
    """

    kind: Kind
    text: str
    call: int = 0
    id: str = ""
    name: str = ""

    @property
    def block(self) -> tuple[Kind, int]:
        """What tells its block from others."""
        return self.kind, self.call


@define
class Blocks:
    """Writes the events of the blocks. Exactly one is open at a time, as Anthropic's own streams have it.

    A chat's chunks may go back and forth between calls. Words of a call that is not open yet wait until the open one is
    complete; to close that early would tear it apart.
    """

    index: int = -1
    _open: tuple[Kind, int] | None = None
    _arguments: list[str] = field(factory=list)
    _closed_calls: set[int] = field(factory=set)
    _waiting: list[Piece] = field(factory=list)

    def push(self, pieces: Iterable[Piece]) -> list[Json]:
        """The events of these pieces, as far as it is their turn."""
        events: list[Json] = []
        for piece in pieces:
            if piece.block == self._open:
                events += self._more(piece)
            elif piece.kind != "tool_use" or piece.call not in self._closed_calls:
                self._waiting.append(piece)
            while self._waiting and self._may_close():
                events += self._next()
        return events

    def finish(self) -> list[Json]:
        """The events of what waits still, and the end of the last block."""
        events: list[Json] = []
        while self._waiting:
            events += self._next()
        return [*events, *self._close()]

    def _may_close(self) -> bool:
        """Words end wherever something else begins; a call does when its arguments are all there."""
        return self._open is None or self._open[0] != "tool_use" or _is_complete("".join(self._arguments))

    def _next(self) -> list[Json]:
        """The end of the open block, and the one that has waited longest with all there is of it."""
        first = self._waiting[0]
        events = [*self._close(), self._start(first)]
        for piece in self._waiting:
            if piece.block == first.block:
                events += self._more(piece)
        self._waiting = [piece for piece in self._waiting if piece.block != first.block]
        return events

    def _start(self, piece: Piece) -> Json:
        self.index += 1
        self._open, self._arguments = piece.block, []
        return {"type": "content_block_start", "index": self.index, "content_block": block(piece)}

    def _more(self, piece: Piece) -> list[Json]:
        if not piece.text:
            return []
        if piece.kind == "tool_use":
            self._arguments.append(piece.text)
            delta: Json = {"type": "input_json_delta", "partial_json": piece.text}
        else:
            kind, key = _DELTAS[piece.kind]
            delta = {"type": kind, key: piece.text}
        return [{"type": "content_block_delta", "index": self.index, "delta": delta}]

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        kind, call = self._open
        if kind == "tool_use":
            self._closed_calls.add(call)
        self._open = None
        return [{"type": "content_block_stop", "index": self.index}]


def block(piece: Piece) -> Json:
    """A block with nothing in it yet."""
    match piece.kind:
        case "thinking":
            # Nobody signs thoughts here; clients insist on the field.
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use":
            return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
        case _:
            return {"type": "text", "text": ""}


def _is_complete(arguments: str) -> bool:
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True
