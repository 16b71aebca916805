"""Chat messages as clients send them, brought to the one form that chat templates understand. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helexa.text.errors import TemplateError

Message = dict[str, Any]


def normalise(
    messages: Sequence[Mapping[str, Any]],
    *,
    content_as_parts: bool,
    developer_role: bool,
    arguments_as_text: bool = False,
) -> list[Message]:
    """Return new messages whose content is text and whose tool call arguments are objects.

    Args:
        messages: OpenAI chat messages, already decoded from JSON. They are not changed.
        content_as_parts: Write content as a list with one text part, for templates that read nothing else.
        developer_role: The template knows the role `developer`; otherwise it becomes `system`.
        arguments_as_text: Write the arguments of tool calls as JSON, for templates that print them as they are.

    Raises:
        TemplateError: The list is empty, or one of its messages is not usable as text.
    """
    if not messages:
        raise TemplateError("messages is empty; a chat needs at least one message.")
    write = _written if arguments_as_text else _arguments
    return [_message(i, m, write, as_parts=content_as_parts, developer=developer_role) for i, m in enumerate(messages)]


def _message(
    index: int, message: Mapping[str, Any], write: Callable[[object], object], *, as_parts: bool, developer: bool
) -> Message:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str) or not role:
        raise TemplateError(f"messages[{index}] has no role; give each message a role such as 'user'.")
    # Absent and null mean the same to a client; templates disagree, and many print the word None.
    out = {key: value for key, value in message.items() if value is not None}
    out["role"] = "system" if role == "developer" and not developer else role
    text = _text(index, out.get("content"))
    out["content"] = [{"type": "text", "text": text}] if as_parts else text
    calls = out.pop("tool_calls", None)
    if calls:
        out["tool_calls"] = _tool_calls(index, calls, write)
    return out


def _text(index: int, content: object) -> str:
    """Join text parts with newlines: clients use parts for separate passages, which would otherwise run together."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        return "\n".join(_part(index, part) for part in content)
    raise TemplateError(f"messages[{index}].content is neither text nor a list of text parts.")


def _part(index: int, part: object) -> str:
    if isinstance(part, str):
        return part
    # what an assistant said in a turn that was a refusal stands under a name of its own
    text = part.get("text", part.get("refusal")) if isinstance(part, Mapping) else None
    if isinstance(text, str):
        return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise TemplateError(f"messages[{index}].content has a part of type {kind!r}; this model reads only text parts.")


def _tool_calls(index: int, calls: object, write: Callable[[object], object]) -> list[Message]:
    if not isinstance(calls, Sequence) or isinstance(calls, str) or not all(isinstance(c, Mapping) for c in calls):
        raise TemplateError(f"messages[{index}].tool_calls is not a list of tool calls.")
    return [_tool_call(call, write) for call in calls]


def _tool_call(call: Mapping[str, Any], write: Callable[[object], object]) -> Message:
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    return {**call, "function": {**function, "arguments": write(function.get("arguments"))}}


def _arguments(arguments: object) -> object:
    """Turn the JSON string of the protocol into the object templates print; leave alone what does not parse to one."""
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _written(arguments: object) -> object:
    """Turn arguments into the JSON string of the protocol, if they are not one."""
    value = _arguments(arguments)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
