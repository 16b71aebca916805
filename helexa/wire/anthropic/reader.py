"""Messages streams read as chunks of a chat completion. Source: Anthropic API reference, "Streaming messages"."""

from typing import Any

import orjson
from attrs import define, field

from helexa.wire import sse
from helexa.wire.anthropic.failures import streamed
from helexa.wire.anthropic.incoming import head, stop
from helexa.wire.anthropic.shapes import ShapeError, finish_reason, mapping, optional, text, usage, written
from helexa.wire.completion import Head
from helexa.wire.dialect import Json
from helexa.wire.errors import ApiError


@define
class MessageReader:
    """A ``dialect.ChunkReader``.

    Attributes:
        created: Unix time for the chunks, which a stream does not tell; ``None`` takes the time of its beginning.
    """

    created: int | None = None
    _events: sse.EventReader = field(factory=sse.EventReader)
    _head: Head | None = None
    _usage: Json = field(factory=dict)
    _calls: dict[int, int] = field(factory=dict)
    _count: int = 0
    _silent: set[int] = field(factory=set)
    _reason: str | None = None
    _ended: bool = False
    _failure: ApiError | ShapeError | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be read: ``finish`` tells all there is, be it an error."""
        return self._ended or self._failure is not None

    def push(self, data: bytes) -> list[Json]:
        """The chunks that these bytes complete.

        What came whole before a failure is returned first, however the stream was cut; the next call raises.

        Raises:
            ApiError: the upstream reported an error.
            ValueError: the upstream does not speak its dialect; one sentence that begins with "it".
        """
        if self._failure is not None:
            raise self._failure
        chunks, failure = self._take(data)
        if failure is not None and not chunks:
            raise failure
        return chunks

    def finish(self) -> list[Json]:
        """What the end of the connection completes: the last event, if the blank line after it is missing.

        Raises:
            ApiError: the upstream reported an error.
            ValueError: the stream had not come to its end.
        """
        if self._failure is not None:
            raise self._failure
        rest, failure = self._take(b"\n\n")
        if isinstance(failure, ApiError):
            raise failure
        if not self._ended:
            raise ShapeError("it ended its stream before the message was complete")
        return rest

    def _take(self, data: bytes) -> tuple[list[Json], ApiError | ShapeError | None]:
        """What came whole, and what went wrong after it."""
        chunks: list[Json] = []
        try:
            for found in self._events.push(data):
                chunks += self._read(found)
        except (ApiError, ShapeError) as error:
            self._failure = error
        return chunks, self._failure

    def _read(self, data: str) -> list[Json]:
        if self._ended:
            return []
        event = _parse(data)
        kind = event.get("type")
        if kind == "error":
            raise streamed(event) or ShapeError("it sent an error without a message")
        if kind == "message_start":
            return self._begin(mapping(event, "message"))
        if self._head is None:
            return _ignore(kind)
        return self._go_on(self._head, kind, event)

    def _begin(self, message: Json) -> list[Json]:
        self._head = head(message, self.created)
        self._usage = optional(message, "usage")
        return [self._head.chunk(0, {"role": "assistant", "content": ""})]

    def _go_on(self, head_: Head, kind: Any, event: Json) -> list[Json]:
        match kind:
            case "content_block_start":
                deltas = self._start(_index(event), mapping(event, "content_block"))
            case "content_block_delta":
                deltas = self._delta(_index(event), mapping(event, "delta"))
            case "content_block_stop":
                deltas = self._stop(_index(event))
            case "message_delta":
                return self._end(head_, event)
            case "message_stop":
                return self._close(head_)
            case _:
                return []
        return [head_.chunk(0, delta) for delta in deltas]

    def _start(self, index: int, block: Json) -> list[Json]:
        match block.get("type"):
            case "text":
                return _some("content", text(block, "text"))
            case "thinking":
                return _some("reasoning_content", text(block, "thinking"))
            case "tool_use":
                return [self._call(index, block)]
            case _:
                return []

    def _call(self, index: int, block: Json) -> Json:
        """A call's beginning. Who sends its input with it, all at once, sends nothing more of it."""
        arguments = written(block, "input") if optional(block, "input") else ""
        number, self._count = self._count, self._count + 1
        if not arguments:
            self._calls[index] = number
            self._silent.add(index)
        function = {"name": text(block, "name"), "arguments": arguments}
        return {"tool_calls": [{"index": number, "id": text(block, "id"), "type": "function", "function": function}]}

    def _delta(self, index: int, delta: Json) -> list[Json]:
        match delta.get("type"):
            case "text_delta":
                return _some("content", text(delta, "text"))
            case "thinking_delta":
                return _some("reasoning_content", text(delta, "thinking"))
            case "input_json_delta":
                return self._arguments(index, text(delta, "partial_json"))
            case _:
                return []

    def _arguments(self, index: int, more: str) -> list[Json]:
        if index not in self._calls or not more:
            return []
        self._silent.discard(index)
        return [{"tool_calls": [{"index": self._calls[index], "function": {"arguments": more}}]}]

    def _stop(self, index: int) -> list[Json]:
        """The end of a block. A call without arguments has said nothing of them; a chat's says that there are none."""
        return self._arguments(index, "{}") if index in self._silent else []

    def _end(self, head_: Head, event: Json) -> list[Json]:
        self._usage |= {key: value for key, value in optional(event, "usage").items() if value is not None}
        delta = optional(event, "delta")
        reason = delta.get("stop_reason")
        if self._reason or not isinstance(reason, str):
            return []
        self._reason = reason
        chunk = head_.chunk(0, {}, finish_reason(reason))
        chunk["choices"][0] |= stop(delta)
        return [chunk]

    def _close(self, head_: Head) -> list[Json]:
        self._ended = True
        last = [] if self._reason else [head_.chunk(0, {}, "stop")]
        return [*last, head_.usage_chunk(usage(self._usage))]


def _parse(data: str) -> Json:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ShapeError("it sent an event that is not JSON") from None
    if not isinstance(event, dict):
        raise ShapeError("it sent an event that is not an object")
    return event


def _index(event: Json) -> int:
    index = event.get("index")
    if type(index) is not int:
        raise ShapeError("it sent a piece of content without its index")
    return index


def _ignore(kind: Any) -> list[Json]:
    """Events that may come before the message does."""
    if isinstance(kind, str) and not kind.startswith(("content_block", "message")):
        return []
    raise ShapeError("it sent a stream that does not begin with a message")


def _some(key: str, words: str) -> list[Json]:
    return [{key: words}] if words else []
