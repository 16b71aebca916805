"""The pieces that a model's output is made of, in the order they were generated."""

from collections.abc import Iterable
from typing import TypeAlias

from attrs import frozen


@frozen
class ContentDelta:
    """More of the answer."""

    text: str


@frozen
class ReasoningDelta:
    """More of the reasoning that precedes the answer."""

    text: str


@frozen
class ToolCallDelta:
    """One whole tool call.

    Attributes:
        index: Position among the calls of this output, from 0.
        id: Identifier by which the tool's result refers to the call.
        name: The function to call.
        arguments: A JSON object, compactly written.
    """

    index: int
    id: str
    name: str
    arguments: str


Delta: TypeAlias = ContentDelta | ReasoningDelta | ToolCallDelta


def merge(deltas: Iterable[Delta]) -> list[Delta]:
    """Join neighbouring deltas of the same kind of text and drop empty ones; linear in the text."""
    groups: list[tuple[type[Delta], list[str]] | ToolCallDelta] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            groups.append(delta)
        elif delta.text:
            last = groups[-1] if groups else None
            if isinstance(last, tuple) and last[0] is type(delta):
                last[1].append(delta.text)
            else:
                groups.append((type(delta), [delta.text]))
    return [_join(group) for group in groups]


def _join(group: tuple[type[Delta], list[str]] | ToolCallDelta) -> Delta:
    if isinstance(group, ToolCallDelta):
        return group
    text = "".join(group[1])
    return ReasoningDelta(text) if group[0] is ReasoningDelta else ContentDelta(text)
