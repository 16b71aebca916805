"""Answers written as Messages: whole, and as a stream.

Source: Anthropic API reference, "Create a Message": the response; "Streaming messages".
"""

from typing import Any
from uuid import uuid4

import orjson
from attrs import define, field

from helexa.wire.anthropic.errors import envelope
from helexa.wire.anthropic.stream import PING, Blocks, Piece, event
from helexa.wire.dialect import Json
from helexa.wire.errors import ApiError

INVALID_JSON = "INVALID_JSON"
"""Where arguments stand that are no JSON object; the key that Anthropic's guide to tool streaming names."""
_SURELY_WRITABLE = 200
_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use", "content_filter": "refusal"}


def _new_id() -> str:
    return f"msg_{uuid4().hex}"


@define
class _Calls:
    """Tells calls apart: by their index, and by their id where an upstream gives several the same index."""

    count: int = 0
    _known: dict[int, tuple[int, str]] = field(factory=dict)

    def pieces(self, calls: list[Any]) -> list[Piece]:
        return [self._piece(place, call) for place, call in enumerate(map(_object, calls))]

    def _piece(self, place: int, call: Json) -> Piece:
        index = call.get("index")
        index = index if type(index) is int else place
        function = _object(call.get("function"))
        id_ = _text(call.get("id"))
        if index not in self._known or id_ not in ("", self._known[index][1]):
            self._known[index] = self.count, id_ or f"toolu_{uuid4().hex}"
            self.count += 1
        number, id_ = self._known[index]
        return Piece("tool_use", _text(function.get("arguments")), number, id_, _text(function.get("name")))


@define
class MessageReply:
    """A ``dialect.Reply``; what a chunk has in another shape than OpenAI's is passed over.

    Attributes:
        model: as the client named it.
        id: of the message.
    """

    model: str
    id: str = field(factory=_new_id)
    _calls: _Calls = field(factory=_Calls)
    _blocks: Blocks = field(factory=Blocks)
    _begun: bool = False
    _reason: str = ""
    _stop: str = ""
    _usage: Json = field(factory=dict)

    def whole(self, completion: Json) -> Json:
        """The body of an answer in one piece."""
        choice = _first(completion.get("choices"))
        message = _object(choice.get("message"))
        self._note(completion, choice)
        content = [_whole_block(piece) for piece in self._pieces(message)]
        return self._message(content) | self._end() | {"usage": _usage(self._usage)}

    def push(self, chunk: Json) -> bytes:
        """The events that say what this chunk adds; the very first chunk, even an empty one, begins the message."""
        choice = _first(chunk.get("choices"))
        self._note(chunk, choice)
        events = self._blocks.push(self._pieces(_object(choice.get("delta"))))
        return self._begin() + b"".join(map(event, events))

    def finish(self) -> bytes:
        """The events that end the stream."""
        end = {"type": "message_delta", "delta": self._end(), "usage": _usage(self._usage)}
        events = [*self._blocks.finish(), end, {"type": "message_stop"}]
        return self._begin() + b"".join(map(event, events))

    def fail(self, error: ApiError) -> bytes:
        """The event that ends the stream with an error; nothing follows it."""
        return event(envelope(error))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        nothing = {"stop_reason": None, "stop_sequence": None, "usage": _usage(self._usage)}
        return event({"type": "message_start", "message": self._message([]) | nothing}) + PING

    def _message(self, content: list[Json]) -> Json:
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content}

    def _note(self, answer: Json, choice: Json) -> None:
        """Keep what is told at the end: a chat may say why it ends before it says what it has cost."""
        self._usage = _object(answer.get("usage")) or self._usage
        self._reason = _text(choice.get("finish_reason")) or self._reason
        # What ended the text, where the upstream says so: in this field, as vLLM does; OpenAI has none.
        self._stop = _text(choice.get("stop_reason")) or self._stop

    def _end(self) -> Json:
        reason = self._stop_reason()
        return {"stop_reason": reason, "stop_sequence": self._stop if reason == "stop_sequence" else None}

    def _stop_reason(self) -> str:
        if self._reason not in ("", "stop"):
            return _REASONS.get(self._reason, "end_turn")
        # A chat whose function was chosen beforehand ends with "stop"; a message with a call in it never does.
        return "tool_use" if self._calls.count else "stop_sequence" if self._stop else "end_turn"

    def _pieces(self, message: Json) -> list[Piece]:
        """What a message, or a delta of one, says: the pieces of its blocks."""
        thought = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
        said = [_text(message.get("content")), _text(message.get("refusal"))]
        words = [Piece("thinking", thought), *(Piece("text", text) for text in said)]
        calls = message.get("tool_calls")
        return [piece for piece in words if piece.text] + self._calls.pieces(calls if isinstance(calls, list) else [])


def _whole_block(piece: Piece) -> Json:
    match piece.kind:
        case "thinking":
            return {"type": "thinking", "thinking": piece.text, "signature": ""}
        case "tool_use":
            return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": arguments(piece.text)}
        case _:
            return {"type": "text", "text": piece.text}


def arguments(text: str) -> Json:
    """A call's arguments as an object; a text that is none, as when the answer was cut off in it, stands within one."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) and _is_writable(text, found) else {INVALID_JSON: text}


def _is_writable(text: str, found: Json) -> bool:
    """Whether an object can be written again, which is nested less deep than can be read; rarely worth a trial."""
    if text.count("{") + text.count("[") < _SURELY_WRITABLE:
        return True
    try:
        orjson.dumps(found)
    except orjson.JSONEncodeError:
        return False
    return True


def _usage(usage: Json) -> Json:
    """Anthropic counts the prompt's cached tokens beside the others, OpenAI among them."""
    cached = _count(_object(usage.get("prompt_tokens_details")), "cached_tokens")
    details = _object(usage.get("completion_tokens_details"))
    return {
        "input_tokens": max(0, _count(usage, "prompt_tokens") - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(usage, "completion_tokens"),
        "output_tokens_details": {"thinking_tokens": _count(details, "reasoning_tokens")},
    }


def _count(found: Json, key: str) -> int:
    value = found.get(key)
    return value if type(value) is int else 0


def _first(choices: Any) -> Json:
    """The first choice: a message has no others."""
    found = [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []
    return next((each for each in found if each.get("index", 0) == 0), {})


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
