"""What a generated conversation is made of."""

from typing import Any

from attrs import frozen

Message = dict[str, Any]
"""A chat message in the OpenAI shape, as chat templates take it."""

Tool = dict[str, Any]
"""A tool in the OpenAI shape: ``{"type": "function", "function": {...}}``."""


@frozen
class Exchange:
    """One question and its answer.

    Attributes:
        task: the documented task that it belongs to.
        user: what the user says.
        reply: what the model says.
        thought: what stands between the think tags when the model is told to think.
        accept: a reply that contains one of these is right; empty: only the reply itself is.
    """

    task: str
    user: str
    reply: str
    thought: str
    accept: tuple[str, ...] = ()


@frozen
class Conversation:
    """A conversation up to its last assistant turn, and that turn.

    Attributes:
        task: the documented task that the last turn belongs to.
        messages: everything before the last assistant turn.
        target: the text of the last assistant turn, without its end token.
        tools: the tools on offer.
        directive: whether the template is told ``enable_thinking``.
        accept: an answer that contains one of these is right; empty: only the target's own answer is.
        calls: the expected tool calls, when the last turn is a call.
        thinks: whether the last turn must think first.
    """

    task: str
    messages: tuple[Message, ...]
    target: str
    tools: tuple[Tool, ...] = ()
    directive: bool = False
    accept: tuple[str, ...] = ()
    calls: tuple[Message, ...] = ()
    thinks: bool = False
