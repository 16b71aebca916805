"""What Anthropic's answers are made of, read strictly, in OpenAI's terms.

Source: Anthropic API reference, "Create a Message": the response.
"""

from typing import Any

import orjson

from helexa.wire.completion import Usage
from helexa.wire.dialect import Json

_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class ShapeError(ValueError):
    """An answer is not what its dialect says; one sentence that begins with "it"."""


def text(holder: Json, key: str) -> str:
    """A string.

    Raises:
        ShapeError: it is something else, or missing.
    """
    value = holder.get(key)
    if not isinstance(value, str):
        raise ShapeError(f"it sent no text in {key!r}")
    return value


def mapping(holder: Json, key: str) -> Json:
    """An object.

    Raises:
        ShapeError: it is something else, or missing.
    """
    value = holder.get(key)
    if not isinstance(value, dict):
        raise ShapeError(f"it sent no object in {key!r}")
    return value


def optional(holder: Json, key: str) -> Json:
    """An object; an empty one where there is none."""
    return mapping(holder, key) if holder.get(key) is not None else {}


def written(holder: Json, key: str) -> str:
    """An object, as JSON.

    Raises:
        ShapeError: it is something else, missing, or nested deeper than can be written.
    """
    try:
        return orjson.dumps(mapping(holder, key)).decode()
    except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
        raise ShapeError(f"it sent {key!r} nested too deep") from None


def finish_reason(stop_reason: Any) -> str:
    """OpenAI's word; for what it has none, ``stop``."""
    return _REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def usage(found: Json) -> Usage:
    """Token counts; OpenAI counts cached tokens of the prompt among the others."""
    cached = _count(found, "cache_read_input_tokens")
    prompt = _count(found, "input_tokens") + _count(found, "cache_creation_input_tokens") + cached
    thought = _count(optional(found, "output_tokens_details"), "thinking_tokens")
    return Usage(prompt, _count(found, "output_tokens"), thought, cached)


def _count(found: Json, key: str) -> int:
    value = found.get(key)
    return value if type(value) is int else 0
