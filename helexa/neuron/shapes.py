"""Answers as chat completions have them: pieces as the deltas of chunks, and put together as messages."""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field

from helexa.neuron.answer import Answer, Piece
from helexa.neuron.logprobs import Entry
from helexa.text import ContentDelta, Delta, ReasoningDelta, ToolCallDelta
from helexa.wire import sse
from helexa.wire.chat import ChatRequest
from helexa.wire.completion import Head, Usage, choice


@define(eq=False)
class ChatWriter:
    """Implements ``exchange.Writer``.

    Args:
        request: what is answered.
        head: what every piece repeats.

    Attributes:
        prompt: the request's field with the messages.
    """

    _request: ChatRequest
    _head: Head
    prompt: str = field(default="messages", init=False)

    def begin(self, choices: int) -> bytes:
        """The role of each."""
        role = {"role": "assistant", "content": ""}
        return b"".join(self._event(index, role) for index in range(choices))

    def piece(self, index: int, piece: Piece) -> bytes:
        """A delta."""
        return self._event(index, delta_json(piece.delta), None, piece.entries)

    def end(self, index: int, answer: Answer) -> bytes:
        """An empty delta with the reason."""
        return self._event(index, {}, answer.finish_reason, answer.last_entries(), answer.stop_string)

    def usage(self, found: Usage) -> bytes:
        """The chunk without choices."""
        return sse.event(self._head.usage_chunk(found)) if self._request.include_usage else b""

    def whole(self, pieces: Sequence[Sequence[Piece]], answers: Sequence[Answer], found: Usage) -> bytes:
        """The body."""
        choices = [self._choice(index, *each) for index, each in enumerate(zip(pieces, answers, strict=True))]
        return sse.dumps(self._head.completion(choices, found))

    def _choice(self, index: int, pieces: Sequence[Piece], answer: Answer) -> dict[str, Any]:
        message = Message()
        message.add(pieces)
        assert answer.finish_reason is not None
        asked = self._request.sampling.logprobs is not None
        entries = [*message.entries, *answer.last_entries()] if asked else None
        return choice(index, message.to_json(), answer.finish_reason, entries, answer.stop_string)

    def _event(self, *chunk: Any) -> bytes:
        return sse.event(self._head.chunk(*chunk))


def delta_json(delta: Delta) -> dict[str, Any]:
    """A delta as the ``delta`` of a streamed chunk."""
    match delta:
        case ContentDelta(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning_content": text}
        case ToolCallDelta():
            return {"tool_calls": [{"index": delta.index, **_call_json(delta)}]}


def _call_json(call: ToolCallDelta) -> dict[str, Any]:
    """The first delta of a call names it; the others are fragments of its arguments."""
    if not call.id:
        return {"function": {"arguments": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


@define
class Message:
    """The pieces of a whole answer put together."""

    entries: list[Entry] = field(factory=list)
    _content: list[str] = field(factory=list)
    _reasoning: list[str] = field(factory=list)
    _calls: dict[int, dict[str, Any]] = field(factory=dict)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Append what came."""
        for piece in pieces:
            self.entries += piece.entries
            match piece.delta:
                case ContentDelta(text):
                    self._content.append(text)
                case ReasoningDelta(text):
                    self._reasoning.append(text)
                case ToolCallDelta() as call:
                    self._add_call(call)

    def _add_call(self, call: ToolCallDelta) -> None:
        if call.id:
            self._calls[call.index] = _call_json(call)
        else:
            self._calls[call.index]["function"]["arguments"] += call.arguments

    def to_json(self) -> dict[str, Any]:
        """OpenAI's ``message`` object."""
        content = "".join(self._content)
        calls = list(self._calls.values())
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if calls:
            message["tool_calls"] = calls
        return message
