"""The tools of a request for a response, as a chat has them.

Source: OpenAI API reference, "Create a model response": ``tools``, ``tool_choice``, ``parallel_tool_calls``.
"""

import re
from collections.abc import Sequence

from helexa.wire import errors
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_WISHES = ("auto", "none", "required")
_PLAIN = re.compile(r"[a-z0-9_.-]{1,64}")


def functions(fields: Fields) -> tuple[list[Json], tuple[str, ...]]:
    """The functions among the tools, and a sentence for each other type, which is passed over.

    Raises:
        ApiError: naming the field that is missing or wrong.
    """
    found: list[Json] = []
    warnings: list[str] = []
    for index, tool in enumerate(fields.objects("tools", ())):
        given = Fields(tool, f"tools[{index}]")
        kind = given.text("type")
        if kind == "function":
            found.append(_function(given))
        else:
            warnings.append(f"Tools of type '{_shown(kind)}' are passed over: only functions can be called here.")
    return found, tuple(dict.fromkeys(warnings))


def _shown(kind: str) -> str:
    """A type as it may stand in a header."""
    return kind if _PLAIN.fullmatch(kind) else "?"


def _function(given: Fields) -> Json:
    name = given.text("name")
    if not name:
        raise given.wrong("name", "a name")
    function = {
        "name": name,
        "description": given.text("description", None),
        "parameters": given.mapping("parameters", None),
        "strict": given.flag("strict") if given.has("strict") else None,
    }
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def chosen(fields: Fields, tools: Sequence[Json]) -> Json:
    """What a chat says about these tools: ``tools``, ``tool_choice`` and ``parallel_tool_calls``, as far as given.

    Raises:
        ApiError: the choice is wrong, or cannot be had.
    """
    choice = fields.data.get("tool_choice")
    allowed, wish = _allowed(fields.nested("tool_choice"), tools) if _is_list(choice) else (tools, choice)
    translated = _choice(fields, wish, [tool["function"]["name"] for tool in allowed])
    if not allowed:
        return _without_tools(translated)
    found: Json = {"tools": list(allowed)}
    if translated is not None:
        found["tool_choice"] = translated
    if fields.has("parallel_tool_calls"):
        found["parallel_tool_calls"] = fields.flag("parallel_tool_calls")
    return found


def _is_list(choice: object) -> bool:
    return isinstance(choice, dict) and choice.get("type") == "allowed_tools"


def _allowed(choice: Fields, tools: Sequence[Json]) -> tuple[list[Json], str]:
    """The tools that a list of allowed ones leaves, and whether one of them has to be called."""
    names = {tool.get("name") for tool in choice.objects("tools") if tool.get("type") == "function"}
    mode: str = choice.choice("mode", ("auto", "required"))
    return [tool for tool in tools if tool["function"]["name"] in names], mode


def _choice(fields: Fields, choice: object, names: Sequence[str]) -> str | Json | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _WISHES:
        return choice
    if not isinstance(choice, dict):
        raise fields.wrong("tool_choice", "'auto', 'none', 'required' or an object")
    given = fields.nested("tool_choice")
    if given.text("type") != "function":
        raise errors.unsupported("tool_choice.type", "only functions can be called here")
    if given.text("name") not in names:
        raise given.wrong("name", "the name of one of the functions among the 'tools'")
    return {"type": "function", "function": {"name": given.text("name")}}


def _without_tools(choice: str | Json | None) -> Json:
    if choice in (None, "auto", "none"):
        return {}
    raise errors.unsupported("tool_choice", "a tool has to be called, and there is no function among the 'tools'")
