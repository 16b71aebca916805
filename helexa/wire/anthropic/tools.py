"""The tools of a Messages request as functions of a chat.

Source: Anthropic API reference, "Create a Message": ``tools``, ``tool_choice``.
"""

from typing import Any

from helexa.wire import errors
from helexa.wire.anthropic.conversation import Notes
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_CHOICES = ("auto", "any", "tool", "none")
_SHOWN = 64


def to_chat(fields: Fields, notes: Notes) -> Json:
    """``tools``, ``tool_choice`` and ``parallel_tool_calls`` of the chat; nothing where no function is left.

    Tools that Anthropic defines, those it runs itself and those it only trained its models for, are passed over.

    Raises:
        ApiError: naming the first field that is missing or wrong.
    """
    given = [Fields(tool, f"tools[{index}]") for index, tool in enumerate(fields.objects("tools", ()))]
    own = [tool for tool in given if _is_own(tool)]
    for tool in given:
        if not _is_own(tool):
            notes.add(f"The tool of type {_shown(tool.data['type'])} is not known here and was passed over.")
    choice = _choice(fields, given, own)
    return {"tools": [_function(tool) for tool in own], **choice} if own else {}


def _is_own(tool: Fields) -> bool:
    """Whether the client has defined it, so that any model can read what it is."""
    return bool(tool.text("type", "custom") == "custom")


def _shown(name: str) -> str:
    """A client's word, safe in a header."""
    return ascii(name[:_SHOWN])


def _function(tool: Fields) -> Json:
    name = tool.text("name")
    if not name:
        raise tool.wrong("name", "a name")
    function: Json = {"name": name, "parameters": tool.mapping("input_schema")}
    if tool.has("description"):
        function["description"] = tool.text("description")
    if tool.has("strict"):
        function["strict"] = tool.flag("strict")
    return {"type": "function", "function": function}


def _choice(fields: Fields, given: list[Fields], own: list[Fields]) -> Json:
    if not fields.has("tool_choice"):
        return {}
    choice = fields.nested("tool_choice")
    found: Json = {"tool_choice": _wanted(choice, given, own)}
    if choice.flag("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    return found


def _wanted(choice: Fields, given: list[Fields], own: list[Fields]) -> Any:
    kind = choice.choice("type", _CHOICES)
    if kind in ("any", "tool") and not given:
        raise errors.invalid_value(choice.name("type"), "only allowed together with 'tools'")
    match kind:
        case "any":
            return "required"
        case "tool":
            return _named(choice, given, own)
        case _:
            return kind


def _named(choice: Fields, given: list[Fields], own: list[Fields]) -> Any:
    name = choice.text("name")
    if any(tool.data.get("name") == name for tool in own):
        return {"type": "function", "function": {"name": name}}
    if any(tool.data.get("name") == name for tool in given):
        return "auto"  # a tool that was passed over cannot be forced on anyone
    raise choice.wrong("name", "the name of one of the 'tools'")
