"""The content of items: parts as chat messages have them, and reasoning that a client carries for us."""

import base64
import binascii
from typing import Any

from helexa.wire import errors
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

_SEAL = "helexa1:"
_DETAILS = ("low", "high", "auto", "original")


def content(fields: Fields, key: str) -> str | list[Json]:
    """What stands under ``key``, a string or a list of parts, as the content of a chat message.

    One part of text becomes a string, which servers that know no parts understand, too.

    Raises:
        ApiError: naming the part that is missing, wrong or not supported.
    """
    found = parts(fields, key)
    if len(found) > 1 or any(part["type"] != "text" for part in found):
        return found
    return "".join(part["text"] for part in found)


def parts(fields: Fields, key: str) -> list[Json]:
    """What stands under ``key``, a string or a list of parts, as the parts of a chat message.

    Raises:
        ApiError: naming the part that is missing, wrong or not supported.
    """
    if isinstance(fields.data.get(key), str):
        return [_text(fields.data[key])]
    if fields.has(key) and not isinstance(fields.data[key], list):
        raise fields.wrong(key, "a string or a list of parts")
    return [_part(Fields(part, f"{fields.name(key)}[{i}]")) for i, part in enumerate(fields.objects(key))]


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _part(part: Fields) -> Json:
    match part.text("type"):
        case "input_text" | "output_text" | "text":
            return _text(part.text("text"))
        case "refusal":
            return _text(part.text("refusal"))
        case "input_image":
            return {"type": "image_url", "image_url": _image(part)}
        case "input_file":
            return {"type": "file", "file": _file(part)}
        case "input_audio":
            audio = part.nested("input_audio")
            return {"type": "input_audio", "input_audio": {"data": audio.text("data"), "format": audio.text("format")}}
        case _:
            known = "'input_text', 'input_image', 'input_file', 'input_audio', 'output_text' or 'refusal'"
            raise part.wrong("type", known)


def _image(part: Fields) -> Json:
    _refuse_stored(part, "file_id", "'image_url'")
    found = {"url": part.text("image_url")}
    detail = part.choice("detail", _DETAILS, None)
    return found if detail is None else {**found, "detail": detail}


def _file(part: Fields) -> Json:
    _refuse_stored(part, "file_id", "'file_data'")
    _refuse_stored(part, "file_url", "'file_data'")
    name = part.text("filename", None)
    found = {"file_data": part.text("file_data")}
    return found if name is None else {"filename": name, **found}


def _refuse_stored(part: Fields, key: str, instead: str) -> None:
    if part.has(key):
        raise errors.unsupported(part.name(key), f"no files are stored or fetched here; send the content as {instead}")


def seal(reasoning: str) -> str:
    """Reasoning as the ``encrypted_content`` of an item.

    Clients that keep no state here ask for it in order to send it back, and some send nothing else of an item back.
    It is no secret: the same text stands beside it.
    """
    return _SEAL + base64.b64encode(reasoning.encode("utf-8", "replace")).decode()


def unseal(sealed: Any) -> str:
    """The reasoning in an ``encrypted_content`` of ours; empty for anybody else's."""
    if not isinstance(sealed, str) or not sealed.startswith(_SEAL):
        return ""
    try:
        return base64.b64decode(sealed[len(_SEAL) :], validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
