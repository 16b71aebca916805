"""The input of a response as the messages of a chat.

Items are finer than messages: what a model thought, said and called in one turn are several items and one message.
"""

from typing import Any

from helexa.wire import errors
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields
from helexa.wire.responses.content import content, parts, unseal
from helexa.wire.sse import dumps

_ROLES = ("user", "assistant", "system", "developer")
_READ = ("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output")
_HOSTED = (
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
)
"""What tools that run at OpenAI leave in a conversation; no chat has a place for it."""


def messages(fields: Fields) -> tuple[list[Json], tuple[str, ...]]:
    """The messages of ``instructions`` and ``input``, and a sentence for each type of item that was passed over.

    Raises:
        ApiError: naming the field that is missing, wrong or not supported.
    """
    turns = _Turns()
    instructions = fields.text("instructions", None)
    if instructions:
        turns.instruct(instructions)
    for item in _items(fields):
        turns.add(item)
    found = turns.finish()
    if not found:
        raise fields.wrong("input", "a string or at least one item with content")
    return found, tuple(dict.fromkeys(turns.warnings))


def _items(fields: Fields) -> list[Fields]:
    given = fields.data.get("input")
    if given is None:
        raise errors.missing("input")
    if isinstance(given, str):
        return [Fields({"role": "user", "content": given}, "input")]
    if not isinstance(given, list):
        raise fields.wrong("input", "a string or a list of items")
    return [Fields(item, f"input[{i}]") for i, item in enumerate(fields.objects("input"))]


class _Turns:
    """Messages in the making."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._messages: list[Json] = []
        self._thoughts: list[str] = []
        self._seen: list[Json] = []

    def add(self, item: Fields) -> None:
        kind = item.text("type", "message")
        if not kind.endswith("_output"):
            self._show()
        match kind:
            case "message":
                self._message(item)
            case "reasoning":
                self._thoughts += [_reasoning(item)]
            case "function_call":
                self._call(item, item.text("arguments"))
            case "custom_tool_call":
                self._call(item, dumps({"input": item.text("input")}).decode())
            case "function_call_output" | "custom_tool_call_output":
                self._output(item)
            case _:
                self._pass_over(item, kind)

    def finish(self) -> list[Json]:
        """All of them. What a model thought and did not come to say has no place in a chat."""
        self._show()
        return self._messages

    def instruct(self, text: str | list[Json]) -> None:
        """Add a system message, to the one before it where that begins the conversation.

        Many chat templates know one system message only, and it has to come first.
        """
        first = self._messages[0] if len(self._messages) == 1 else {}
        if first.get("role") == "system" and isinstance(first["content"], str) and isinstance(text, str):
            first["content"] += "\n\n" + text
        else:
            self._messages.append({"role": "system", "content": text})

    def _message(self, item: Fields) -> None:
        role = item.choice("role", _ROLES)
        if role == "assistant":
            return self._said(_spoken(item))
        self._thoughts = []
        found = content(item, "content")
        if role == "user":
            self._messages.append({"role": "user", "content": found})
        else:
            # The two mean the same, and the older name is known to every server and template.
            self.instruct(found)
        return None

    def _said(self, text: str) -> None:
        last = self._messages[-1] if self._messages else {}
        # Two messages are two turns, except that nothing may come between calls and their outputs.
        ended = last.get("content") is not None and "tool_calls" not in last
        turn = self._turn(new=ended)
        turn["content"] = text if turn["content"] is None else turn["content"] + "\n" + text

    def _call(self, item: Fields, arguments: str) -> None:
        function = {"name": _named(item), "arguments": arguments}
        call = {"id": item.text("call_id"), "type": "function", "function": function}
        self._turn().setdefault("tool_calls", []).append(call)

    def _turn(self, *, new: bool = False) -> Json:
        """The assistant's message that this item belongs to, with all that was thought before it."""
        if new or not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append({"role": "assistant", "content": None})
        turn = self._messages[-1]
        thoughts = [each for each in (turn.get("reasoning_content"), *self._thoughts) if each]
        if thoughts:
            turn["reasoning_content"] = "\n\n".join(thoughts)
        self._thoughts = []
        return turn

    def _output(self, item: Fields) -> None:
        """Add what a tool answered. Chats have no pictures there, so these follow in a message of the user's."""
        call, found = item.text("call_id"), parts(item, "output")
        text = "\n".join(part["text"] for part in found if part["type"] == "text")
        self._messages.append({"role": "tool", "tool_call_id": call, "content": text})
        seen = [part for part in found if part["type"] != "text"]
        if seen:
            self._seen += [{"type": "text", "text": f"From the output of {call}:"}, *seen]

    def _show(self) -> None:
        if self._seen:
            self._messages.append({"role": "user", "content": self._seen})
            self._seen = []

    def _pass_over(self, item: Fields, kind: str) -> None:
        if kind == "item_reference":
            raise errors.unsupported(item.name("type"), "nothing is stored here; send the item itself")
        if kind not in _HOSTED:
            raise item.wrong("type", "one of " + ", ".join(map(repr, _READ)))
        self.warnings.append(f"Input items of type '{kind}' are passed over: they belong to tools that run elsewhere.")


def _spoken(item: Fields) -> str:
    found = parts(item, "content")
    if any(part["type"] != "text" for part in found):
        raise item.wrong("content", "text, as it is what a model said")
    return "".join(part["text"] for part in found)


def _named(item: Fields) -> str:
    name: str = item.text("name")
    if not name:
        raise item.wrong("name", "a name")
    return name


def _reasoning(item: Fields) -> str:
    """What was thought: in full, as we sealed it, or else as a summary."""
    for key in ("content", "summary"):
        found = _texts(item, key)
        sealed = unseal(item.data.get("encrypted_content")) if key == "content" else ""
        if found or sealed:
            return found or sealed
    return ""


def _texts(item: Fields, key: str) -> str:
    given: Any = item.objects(key, ())
    return "\n\n".join(Fields(part, f"{item.name(key)}[{i}]").text("text") for i, part in enumerate(given))
