"""Agents' billing headers inside system prompts, taken out.

An agent may begin its system prompt with a line such as ``x-anthropic-billing-header: …; cch=1a2b3;``. It says nothing
to a model, and its checksum differs from request to request: left at the very beginning of the prompt, it would keep
each request from finding the KV cache of the one before.
"""

from typing import Any

from helexa.wire.dialect import Json

_HEADER = "x-anthropic-billing-header:"


def strip(body: Json) -> Json:
    """A Messages request without billing headers; the very same object where there are none.

    Only lines at the beginning of the system prompt, or of one of its text blocks, are headers; a prompt that speaks
    of them further down keeps its words. Nothing is checked here: what is not a system prompt is passed on as it is.
    """
    system = body.get("system")
    found = _without(system)
    if found is system:
        return body
    rest = {key: value for key, value in body.items() if key != "system"}
    return rest if _is_blank(found) else {**rest, "system": found}


def _without(system: Any) -> Any:
    if isinstance(system, str):
        return _text(system)
    if not isinstance(system, list):
        return system
    blocks = [(block, _block(block)) for block in system]
    if all(after is before for before, after in blocks):
        return system
    # A block of nothing but the header goes altogether: Anthropic refuses blank ones.
    return [after for before, after in blocks if after is before or not _is_blank(after["text"])]


def _is_blank(found: Any) -> bool:
    return not (found.strip() if isinstance(found, str) else found)


def _block(block: Any) -> Any:
    text = block.get("text") if isinstance(block, dict) else None
    if not isinstance(text, str):
        return block
    found = _text(text)
    return block if found is text else {**block, "text": found}


def _text(text: str) -> str:
    while text[: len(_HEADER)].lower() == _HEADER:
        text = text.partition("\n")[2]
    return text
