"""Content blocks of a Messages request as parts of chat messages.

Source: Anthropic API reference, "Create a Message": the blocks of ``content``; OpenAI API reference, "Create chat
completion": the parts of ``content``.
"""

from helexa.wire import errors
from helexa.wire.dialect import Json
from helexa.wire.fields import Fields

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
PDF = "application/pdf"


def blocks(fields: Fields, key: str) -> list[Fields]:
    """The blocks under ``key``, for which a string may stand: it is short for one text block.

    Raises:
        ApiError: it is missing, or neither a string nor a list of objects.
    """
    given = fields.data.get(key)
    if given is None:
        raise errors.missing(fields.name(key))
    if isinstance(given, str):
        return [Fields({"type": "text", "text": given}, fields.name(key))]
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise fields.wrong(key, "a string or a list of content blocks")
    return [Fields(each, f"{fields.name(key)}[{index}]") for index, each in enumerate(given)]


def text_part(text: str) -> Json:
    """A text part."""
    return {"type": "text", "text": text}


def only_text(block: Fields) -> str:
    """What a block says where nothing but text may stand.

    Raises:
        ApiError: it is another block, or not as its type has it.
    """
    block.choice("type", ("text",))
    text: str = block.text("text")
    return text


def content(parts: list[Json]) -> str | list[Json]:
    """Parts as the content of a message: a string where they are all text, which is what every upstream can read."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def parts(block: Fields) -> list[Json]:
    """What a block of a user says.

    Raises:
        ApiError: its type is not one a chat can carry, or it is not as its type has it.
    """
    match block.text("type"):
        case "text":
            return [text_part(block.text("text"))]
        case "image":
            return [_image(block.nested("source"))]
        case "document":
            return _document(block)
        case "search_result":
            return [_search_result(block)]
        case "tool_reference":
            return [text_part(block.text("tool_name"))]
        case _:
            raise errors.unsupported(block.name("type"), "no such block can be passed to the models here")


def _image(source: Fields) -> Json:
    match source.choice("type", ("base64", "url", "file")):
        case "base64":
            kind = source.choice("media_type", IMAGE_TYPES)
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{source.text('data')}"}}
        case "url":
            return {"type": "image_url", "image_url": {"url": source.text("url")}}
        case _:
            raise _no_files(source)


def _no_files(source: Fields) -> errors.ApiError:
    return errors.unsupported(source.name("type"), "no files are kept here; send the content itself")


def _document(block: Fields) -> list[Json]:
    heading = [text_part(block.text(key)) for key in ("title", "context") if block.has(key)]
    source = block.nested("source")
    match source.choice("type", ("text", "content", "base64", "url", "file")):
        case "text":
            return [*heading, text_part(source.text("data"))]
        case "content":
            return [*heading, *(_inner(each) for each in blocks(source, "content"))]
        case "base64":
            return [*heading, _pdf(source, block.text("title", "document.pdf"))]
        case _:
            raise _no_files(source)


def _inner(block: Fields) -> Json:
    """A block within a document; no document within a document, so nothing here nests."""
    if block.choice("type", ("text", "image")) == "text":
        return text_part(block.text("text"))
    return _image(block.nested("source"))


def _pdf(source: Fields, name: str) -> Json:
    kind = source.choice("media_type", (PDF,))
    return {"type": "file", "file": {"filename": name, "file_data": f"data:{kind};base64,{source.text('data')}"}}


def _search_result(block: Fields) -> Json:
    found = [block.text("title"), block.text("source")]
    return text_part("\n".join([*found, *(only_text(each) for each in blocks(block, "content"))]))


def tool_result(block: Fields) -> tuple[Json, list[Json]]:
    """A tool's answer as a ``tool`` message, and the parts that such a message cannot carry: anything but text.

    Raises:
        ApiError: as of ``parts``, or it does not say which call it answers.
    """
    call = block.text("tool_use_id")
    found = [part for each in blocks(block, "content") for part in parts(each)] if block.has("content") else []
    texts = [part for part in found if part["type"] == "text"]
    others = [part for part in found if part["type"] != "text"]
    said = content(texts)
    assert isinstance(said, str)
    message = {"role": "tool", "tool_call_id": call, "content": _failed(said) if block.flag("is_error") else said}
    # Beside the answer, not in it: so they say which one they belong to.
    return message, [text_part(f"Of the result of {call}:"), *others] if others else []


def _failed(text: str) -> str:
    """A chat has no field for a failure, so the words have to tell."""
    return text if text[:5].lower() == "error" else f"Error: {text}"
