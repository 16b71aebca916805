"""From a model's token ids to what its reader sees: text cut at stop strings, reasoning and tool calls apart."""

from collections.abc import Iterable
from typing import Any, Self

from attrs import define, field

from helexa.text import ChatTokenizer, ContentDelta, Delta, OutputParser, ReasoningDelta, StopStrings, ToolCallDelta
from helexa.wire.chat import ChatRequest, Usage


@define(eq=False)
class Answer:
    """One answer in the making. Pure: ids in, deltas out; it never waits.

    Attributes:
        prompt_tokens: length of the rendered prompt.
        stopped: a stop string was found; the engine may be told to stop, and later ids are ignored.
    """

    prompt_tokens: int
    _detokenizer: Any
    _stops: StopStrings
    _parser: OutputParser
    _ignored: frozenset[int]
    _completion_tokens: int = 0
    _reasoning_tokens: int = 0
    _calls: int = 0

    @classmethod
    def begin(cls, text: ChatTokenizer, request: ChatRequest, prompt_tokens: int, *, inside_reasoning: bool) -> Self:
        """The state before the first token; ``inside_reasoning`` if the prompt itself has opened the block."""
        return cls(
            prompt_tokens,
            text.decode_stream(),
            StopStrings(request.stop),
            OutputParser(
                reasoning=text.supports_thinking, tools=bool(request.tools), inside_reasoning=inside_reasoning
            ),
            text.eos_ids,
        )

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._stops.matched is not None

    def push(self, ids: Iterable[int]) -> list[Delta]:
        """What the new ids add."""
        found: list[Delta] = []
        for token in ids:
            if self.stopped:
                break
            found += self._push_one(token)
        return found

    def _push_one(self, token: int) -> list[Delta]:
        self._completion_tokens += 1
        # An end-of-sequence id is counted, as it was sampled, and never shown, whether or not it is marked special.
        if token in self._ignored:
            return []
        inside = self._parser.inside_reasoning
        deltas = self._note(self._parser.push(self._stops.push(self._detokenizer.push([token]))))
        # Before or after: the block's tags belong to it.
        self._reasoning_tokens += inside or self._parser.inside_reasoning
        return deltas

    def _note(self, deltas: list[Delta]) -> list[Delta]:
        self._calls += sum(isinstance(delta, ToolCallDelta) for delta in deltas)
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back until the end was certain."""
        rest = "" if self.stopped else self._stops.push(self._detokenizer.finish()) + self._stops.finish()
        return self._note([*self._parser.push(rest), *self._parser.finish()])

    def finish_reason(self, engine_reason: str) -> str:
        """OpenAI's ``finish_reason``."""
        if self._calls:
            return "tool_calls"
        return "length" if engine_reason == "length" and not self.stopped else "stop"

    def usage(self) -> Usage:
        """Exact counts so far."""
        return Usage(self.prompt_tokens, self._completion_tokens, self._reasoning_tokens)


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
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


@define
class Message:
    """The deltas of a whole answer put together."""

    content: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(factory=list)

    def add(self, deltas: Iterable[Delta]) -> None:
        """Append what came."""
        for delta in deltas:
            match delta:
                case ContentDelta(text):
                    self.content += text
                case ReasoningDelta(text):
                    self.reasoning += text
                case ToolCallDelta():
                    self.calls.append(_call_json(delta))

    def to_json(self) -> dict[str, Any]:
        """OpenAI's ``message`` object."""
        content = None if self.calls and not self.content else self.content
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = self.calls
        return message
