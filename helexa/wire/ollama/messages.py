"""The messages of a chat as Ollama has them: plain text, pictures beside it, arguments as objects."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from helexa.wire import errors
from helexa.wire.chat import ROLES
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_ROLES = {"developer": "system", "function": "tool"}
_PICTURE = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


def messages(fields: Fields) -> list[Json]:
    """The messages of a chat.

    Raises:
        ApiError: naming the field that is missing, wrong or not supported.
    """
    given = fields.objects("messages")
    if not given:
        raise fields.wrong("messages", "at least one message")
    called: dict[str, str] = {}
    return [_message(Fields(message, f"messages[{i}]"), called) for i, message in enumerate(given)]


def _message(message: Fields, called: dict[str, str]) -> Json:
    """One message; ``called`` collects the names of the functions called so far by the ids of the calls."""
    role = message.choice("role", ROLES)
    text, images = _content(message)
    found: Json = {"role": _ROLES.get(role, role), "content": text}
    if images:
        found["images"] = images
    if role == "assistant":
        found |= _turn(message, called)
    elif found["role"] == "tool":
        found |= _answered(message, called)
    return found


def _content(message: Fields) -> tuple[str, list[str]]:
    content = message.data.get("content")
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise message.wrong("content", "a string or a list of parts")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(message.objects("content")):
        _add_part(Fields(part, f"{message.name('content')}[{index}]"), texts, images)
    return "\n".join(texts), images


def _add_part(part: Fields, texts: list[str], images: list[str]) -> None:
    match part.text("type"):
        case "text" | "refusal" as kind:
            texts.append(part.text(kind))
        case "image_url":
            images.append(_picture(part))
        case _:
            raise errors.unsupported(part.name("type"), "Ollama reads text and pictures only")


def _picture(part: Fields) -> str:
    """The base64 of a picture."""
    given = part.data.get("image_url")
    url: str = given if isinstance(given, str) else part.nested("image_url").text("url")
    head = _PICTURE.match(url)
    if head is None:
        raise errors.unsupported(part.name("image_url"), "Ollama takes pictures as base64 data URLs, not as addresses")
    return url[head.end() :]


def _turn(message: Fields, called: dict[str, str]) -> Json:
    found: Json = {}
    thought = message.text("reasoning_content", None)
    if thought:
        found["thinking"] = thought
    calls = message.objects("tool_calls", ())
    if calls:
        path = message.name("tool_calls")
        found["tool_calls"] = [_call(Fields(call, f"{path}[{i}]"), i, called) for i, call in enumerate(calls)]
    return found


def _call(call: Fields, index: int, called: dict[str, str]) -> Json:
    function = call.nested("function")
    name, id_ = function.text("name"), call.text("id", None)
    named = {} if id_ is None else {"id": id_}
    called.update(dict.fromkeys(named.values(), name))
    return {**named, "function": {"index": index, "name": name, "arguments": arguments(function.data.get("arguments"))}}


def _answered(message: Fields, called: Mapping[str, str]) -> Json:
    """Which call this answers: newer servers go by its id, older ones and most templates by the function's name."""
    id_ = message.text("tool_call_id", None)
    name = message.text("name", None) or called.get(id_)
    return {key: value for key, value in (("tool_call_id", id_), ("tool_name", name)) if value is not None}


def arguments(given: Any) -> Json:
    """The arguments of a call as an object.

    A model may have written something else, and an agent that sends it back, together with what came of it, cannot mend
    it. So that stands under a name of its own rather than ending the conversation.
    """
    if isinstance(given, dict):
        return given
    if given is None or (isinstance(given, str) and not given.strip()):
        return {}
    try:
        value = orjson.loads(given)
    except (orjson.JSONDecodeError, TypeError):
        value = given
    return value if isinstance(value, dict) else {"arguments": value}
