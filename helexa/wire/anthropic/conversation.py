"""The conversation of a Messages request as chat messages.

Source: Anthropic API reference, "Create a Message": ``system``, ``messages``.
"""

from collections.abc import Iterable
from itertools import groupby

import orjson
from attrs import field, frozen

from helexa.wire import errors
from helexa.wire.anthropic.blocks import blocks, content, only_text, parts, tool_result
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_ROLES = ("user", "assistant", "system")
_PASSED_OVER = ("server_tool_use", "mcp_tool_use", "container_upload")


@frozen
class Notes:
    """Sentences about what was passed over, each once, in the order of their first mention."""

    _found: dict[str, None] = field(factory=dict)

    def add(self, sentence: str) -> None:
        """Remember one."""
        self._found[sentence] = None

    def sentences(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._found)


@frozen
class _Message:
    role: str
    blocks: list[Fields]


def messages(fields: Fields, notes: Notes) -> list[Json]:
    """The system prompt and the turns; turns of one role that follow each other are one, as in Anthropic's own API.

    Raises:
        ApiError: naming the first field that is missing, wrong or not supported.
    """
    given = fields.objects("messages")
    if not given:
        raise fields.wrong("messages", "at least one message")
    said = [*_system(fields), *(_message(Fields(each, f"messages[{i}]")) for i, each in enumerate(given))]
    if said[-1].role == "assistant":
        notes.add("The last message is the assistant's: it is read as a turn of its own, and not continued.")
    turns = groupby(said, lambda message: message.role)
    return [message for role, turn in turns for message in _turn(role, turn, notes)]


def _system(fields: Fields) -> list[_Message]:
    found = blocks(fields, "system") if fields.has("system") else []
    return [_Message("system", found)] if found else []


def _message(fields: Fields) -> _Message:
    return _Message(fields.choice("role", _ROLES), blocks(fields, "content"))


def _turn(role: str, turn: Iterable[_Message], notes: Notes) -> list[Json]:
    match role:
        case "user":
            return _user([block for message in turn for block in message.blocks])
        case "assistant":
            return [_assistant(turn, notes)]
        case _:
            texts = [only_text(block) for message in turn for block in message.blocks]
            return [{"role": "system", "content": "\n".join(texts)}]


def _user(found: list[Fields]) -> list[Json]:
    """Answers of tools first, wherever they stood in the turn: a chat has them right after the calls."""
    results: list[Json] = []
    rest: list[Json] = []
    for block in found:
        if block.text("type") == "tool_result":
            message, beside = tool_result(block)
            results.append(message)
            rest += beside
        else:
            rest += parts(block)
    return [*results, {"role": "user", "content": content(rest)}] if rest or not results else results


def _assistant(turn: Iterable[_Message], notes: Notes) -> Json:
    text, thoughts, calls = "", [], []
    for message in turn:
        before = None
        for block in message.blocks:
            kind = block.text("type")
            if kind == "text":
                # Blocks in a row are one text that citations cut; anything in between makes it two.
                text += ("" if before == "text" or not text else "\n") + block.text("text")
            elif kind == "thinking":
                thoughts.append(block.text("thinking"))
            elif kind == "tool_use":
                calls.append(_call(block))
            else:
                _pass_over(block, kind, notes)
            before = kind
    return _spoken(text, thoughts, calls)


def _spoken(text: str, thoughts: list[str], calls: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": text or (None if calls else "")}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: Fields) -> Json:
    function = {"name": block.text("name"), "arguments": _arguments(block)}
    return {"id": block.text("id"), "type": "function", "function": function}


def _arguments(block: Fields) -> str:
    try:
        return orjson.dumps(block.mapping("input")).decode()
    except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
        raise block.wrong("input", "an object that is not nested that deep") from None


def _pass_over(block: Fields, kind: str, notes: Notes) -> None:
    """Thoughts that only Anthropic can read say nothing here; what its own tools did is told, and left out."""
    if kind == "redacted_thinking":
        return
    if kind not in _PASSED_OVER and (kind == "tool_result" or not kind.endswith("_tool_result")):
        raise errors.invalid_value(block.name("type"), "no block of this type can be the assistant's")
    notes.add("Calls and results of server tools in earlier turns were passed over.")
