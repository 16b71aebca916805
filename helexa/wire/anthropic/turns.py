"""A chat's messages as the turns of a Messages request.

Sources: OpenAI API reference, "Create chat completion"; Anthropic API reference, "Create a Message".
"""

import re
from itertools import groupby

from helexa.wire import errors
from helexa.wire.anthropic.blocks import IMAGE_TYPES, PDF
from helexa.wire.anthropic.replies import arguments
from helexa.wire.chat import ROLES
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")
_SYSTEM = ("system", "developer")
_Turn = tuple[str, list[Json]]


def conversation(fields: Fields) -> Json:
    """``system`` and ``messages``.

    Messages of one role that follow each other become one turn, answers of tools with those of the user. Empty texts
    are left out, as Anthropic refuses them, and earlier thoughts, which it takes only with a signature of its own.

    Raises:
        ApiError: naming the first field that is missing, wrong, or that a turn cannot express.
    """
    given = [Fields(each, f"messages[{index}]") for index, each in enumerate(fields.objects("messages"))]
    if not given:
        raise fields.wrong("messages", "at least one message")
    system = [block for each in given if each.choice("role", ROLES) in _SYSTEM for block in _content(each)]
    turns = _merged([_turn(each) for each in given if each.data["role"] not in _SYSTEM])
    if not turns:
        raise fields.wrong("messages", "at least one message of a user that says something")
    messages = [{"role": role, "content": blocks} for role, blocks in turns]
    return {"system": system, "messages": messages} if system else {"messages": messages}


def _merged(turns: list[_Turn]) -> list[_Turn]:
    grouped = groupby((turn for turn in turns if turn[1]), lambda turn: turn[0])
    merged = [(role, [block for _, blocks in group for block in blocks]) for role, group in grouped]
    if merged and merged[-1][0] == "assistant":
        _trim(merged[-1][1])
    return merged


def _trim(blocks: list[Json]) -> None:
    """An answer begun for the model to go on with must not end in white space, or Anthropic refuses it."""
    last = blocks[-1]
    if last["type"] == "text":
        blocks[-1] = {**last, "text": last["text"].rstrip()}


def _turn(message: Fields) -> _Turn:
    match message.data["role"]:
        case "user":
            return "user", _content(message)
        case "tool":
            return "user", [_result(message)]
        case "assistant":
            return "assistant", [*_content(message), *_calls(message)]
        case _:
            raise errors.unsupported(message.name("role"), "this model's provider knows no such role; use 'tool'")


def _content(message: Fields) -> list[Json]:
    """The blocks of what is said, without empty texts."""
    content = message.data.get("content")
    if isinstance(content, str):
        return _text(content)
    if content is None and message.data["role"] == "assistant":
        return _text(message.text("refusal", ""))
    if content is None:
        raise errors.missing(message.name("content"))
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise message.wrong("content", "a string or a list of parts")
    path = message.name("content")
    return [block for index, part in enumerate(content) for block in _part(Fields(part, f"{path}[{index}]"))]


def _text(text: str) -> list[Json]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _part(part: Fields) -> list[Json]:
    match part.text("type"):
        case "text" | "refusal" as kind:
            return _text(part.text(kind))
        case "image_url":
            return [_image(part.nested("image_url"))]
        case "file":
            return [_document(part.nested("file"))]
        case _:
            raise errors.unsupported(part.name("type"), "this model's provider reads text, images and PDF files")


def _image(image: Fields) -> Json:
    url = image.text("url")
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": _source(image, "url", IMAGE_TYPES)}


def _document(file: Fields) -> Json:
    """A PDF; a file known only by an id is kept at another provider than this one."""
    block: Json = {"type": "document", "source": _source(file, "file_data", (PDF,))}
    return {**block, "title": file.text("filename")} if file.has("filename") else block


def _source(holder: Fields, key: str, kinds: tuple[str, ...]) -> Json:
    url = holder.text(key)
    found = _DATA_URL.match(url)
    if found is None or found[1] not in kinds:
        raise holder.wrong(key, "a data URL in base64 of " + ", ".join(kinds))
    return {"type": "base64", "media_type": found[1], "data": url[found.end() :]}


def _result(message: Fields) -> Json:
    result: Json = {"type": "tool_result", "tool_use_id": message.text("tool_call_id")}
    content = _content(message)
    return {**result, "content": content} if content else result


def _calls(message: Fields) -> list[Json]:
    calls = message.objects("tool_calls", ())
    return [_call(Fields(call, f"{message.name('tool_calls')}[{index}]")) for index, call in enumerate(calls)]


def _call(call: Fields) -> Json:
    function = call.nested("function")
    return {"type": "tool_use", "id": call.text("id"), "name": function.text("name"), "input": _input(function)}


def _input(function: Fields) -> Json:
    """A call's arguments; some clients send them as the object they are meant to be."""
    given = function.data.get("arguments")
    return given if isinstance(given, dict) else arguments(function.text("arguments", ""))
