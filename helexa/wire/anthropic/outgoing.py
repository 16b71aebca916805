"""Chats written as Messages requests, for providers that speak nothing else.

Sources: Anthropic API reference, "Create a Message"; Anthropic's documentation, "OpenAI SDK compatibility", for what
its own translation does: system messages go first, temperatures above 1 count as 1, seeds and penalties as nothing.
"""

from typing import Any

from helexa.wire import errors
from helexa.wire.anthropic.models import EITHER_SINCE, UNSAMPLED_SINCE, version
from helexa.wire.anthropic.thinking import limits
from helexa.wire.anthropic.turns import conversation
from helexa.wire.decoding import stops
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_NO_THOUGHT = {"type": "disabled"}
_NO_PARAMETERS = {"type": "object", "properties": {}}


def to_messages(chat: Json) -> Json:
    """The body of a Messages request.

    Args:
        chat: the body of a chat completion request, not yet checked.

    Raises:
        ApiError: naming the first field that is wrong, or that a Messages request cannot express.
    """
    fields = Fields(chat)
    _refuse(fields)
    found = {"model": fields.text("model"), **conversation(fields), **_tools(fields), **_ends(fields)}
    bounds = limits(fields)
    config = {**bounds.get("output_config", {}), **_format(fields)}
    sampling = _sampling(fields, thinks=bounds.get("thinking", _NO_THOUGHT) != _NO_THOUGHT)
    return {**found, **sampling, **bounds, **({"output_config": config} if config else {})}


def _refuse(fields: Fields) -> None:
    """What a caller counts on and would not get."""
    if fields.integer("n", 1, 128, 1) != 1:
        raise errors.unsupported("n", "this model's provider gives one answer to a request")
    if fields.flag("logprobs"):
        raise errors.unsupported("logprobs", "this model's provider does not report them")
    if fields.has("structured_outputs"):
        raise errors.unsupported("structured_outputs", "this model's provider takes a 'response_format' only")


def _sampling(fields: Fields, *, thinks: bool) -> Json:
    """How to pick tokens, as far as the model lets itself be told: else it would refuse the whole request."""
    found: Json = {}
    if fields.has("temperature"):
        found["temperature"] = min(1, fields.number("temperature", 0, 2))
    if fields.has("top_p"):
        found["top_p"] = fields.positive("top_p", 1)
    if fields.has("top_k") and fields.integer("top_k", -1, 2**31 - 1) > 0:
        found["top_k"] = fields.data["top_k"]
    made = version(fields.data["model"])
    if thinks or made >= UNSAMPLED_SINCE:
        return {}
    if made >= EITHER_SINCE and "temperature" in found:
        found.pop("top_p", None)
    return found


def _ends(fields: Fields) -> Json:
    """When to stop, on whose behalf, and whether to stream."""
    found: Json = {}
    ends = [stop for stop in stops(fields) if stop.strip()]  # those of white space are refused
    if ends:
        found["stop_sequences"] = ends
    if fields.has("user"):
        found["metadata"] = {"user_id": fields.text("user")}
    return {**found, "stream": True} if fields.flag("stream") else found


def _format(fields: Fields) -> Json:
    if not fields.has("response_format"):
        return {}
    given = fields.nested("response_format")
    match given.choice("type", ("text", "json_object", "json_schema")):
        case "json_schema":
            schema = given.nested("json_schema").mapping("schema")
            return {"format": {"type": "json_schema", "schema": schema}}
        case "json_object":
            raise errors.unsupported("response_format.type", "this model's provider needs a 'json_schema'")
        case _:
            return {}


def _tools(fields: Fields) -> Json:
    given = fields.objects("tools", ())
    if not given:
        return {}
    tools = [_tool(Fields(tool, f"tools[{index}]")) for index, tool in enumerate(given)]
    choice = _choice(fields)
    return {"tools": tools, **({"tool_choice": choice} if choice else {})}


def _tool(tool: Fields) -> Json:
    if tool.text("type") != "function":
        raise errors.unsupported(tool.name("type"), "this model's provider takes functions only")
    function = tool.nested("function")
    found: Json = {"name": function.text("name"), "input_schema": _schema(function)}
    if function.has("description"):
        found["description"] = function.text("description")
    return {**found, "strict": True} if function.flag("strict") else found


def _schema(function: Fields) -> Json:
    """A function without parameters may say nothing of them, or leave the object empty; a tool has to say it."""
    schema: Json = function.mapping("parameters", {})
    return {"type": "object", **schema} if schema else _NO_PARAMETERS


def _choice(fields: Fields) -> Json:
    alone = {} if fields.flag("parallel_tool_calls", default=True) else {"disable_parallel_tool_use": True}
    match fields.data.get("tool_choice"):
        case None | "auto":
            return {"type": "auto", **alone} if alone else {}
        case "required":
            return {"type": "any", **alone}
        case "none":
            return {"type": "none"}
        case _:
            return {"type": "tool", "name": _name(fields), **alone}


def _name(fields: Fields) -> Any:
    if not isinstance(fields.data["tool_choice"], dict):
        raise fields.wrong("tool_choice", "'auto', 'none', 'required' or a function")
    choice = fields.nested("tool_choice")
    if choice.text("type") != "function":
        raise errors.unsupported("tool_choice.type", "a choice that is an object is of type 'function'")
    return choice.nested("function").text("name")
