"""A model's output text as content, reasoning and tool calls. Pure."""

import secrets
from collections.abc import Callable
from typing import Protocol

from helexa.text.deltas import ContentDelta, Delta, merge
from helexa.text.reasoning import ReasoningSplitter
from helexa.text.tool_calls import ToolCallSplitter


def random_call_id() -> str:
    """Return a fresh tool call identifier."""
    return f"call_{secrets.token_hex(12)}"


class _Splitter(Protocol):
    @property
    def inside(self) -> bool: ...

    def push(self, text: str) -> list[Delta]: ...

    def finish(self) -> list[Delta]: ...


class _Plain:
    """Stands in for a splitter that is switched off."""

    inside = False

    def push(self, text: str) -> list[Delta]:
        return [ContentDelta(text)]

    def finish(self) -> list[Delta]:
        return []


class OutputParser:
    """Parses one output stream: first the reasoning block is split off, then tool calls from what remains.

    However the text is cut into chunks, the deltas joined by `merge` are the same.
    """

    def __init__(
        self,
        *,
        reasoning: bool,
        tools: bool,
        inside_reasoning: bool = False,
        new_call_id: Callable[[], str] = random_call_id,
    ) -> None:
        """Start a stream.

        Args:
            reasoning: Split off a `<think>` block at the start; otherwise its tags are plain text.
            tools: Split off `<tool_call>` blocks; otherwise their tags are plain text.
            inside_reasoning: The prompt already opened the block, see `prompt_opens_reasoning`.
            new_call_id: Names each tool call.
        """
        self._reasoning: _Splitter = ReasoningSplitter(inside=inside_reasoning) if reasoning else _Plain()
        self._tools: ToolCallSplitter | _Plain = ToolCallSplitter(new_call_id) if tools else _Plain()

    @property
    def inside_reasoning(self) -> bool:
        """Whether the text so far ends within the reasoning block."""
        return self._reasoning.inside

    def push(self, text: str) -> list[Delta]:
        """Return the deltas that are certain after this text; none of them is empty."""
        return merge(self._split_tools(self._reasoning.push(text)))

    def finish(self) -> list[Delta]:
        """Return what was held back. Nothing that was generated is lost except trimmed white space and tags."""
        return merge([*self._split_tools(self._reasoning.finish()), *self._tools.finish()])

    def _split_tools(self, deltas: list[Delta]) -> list[Delta]:
        out: list[Delta] = []
        for delta in deltas:
            out.extend(self._tools.push(delta.text) if isinstance(delta, ContentDelta) else [delta])
        return out
