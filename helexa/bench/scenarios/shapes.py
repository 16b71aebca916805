"""Whether JSON has the shape that was asked for: the small part of JSON Schema that our own requests use. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

_TYPES: Final = {"string": str, "integer": int, "boolean": bool}


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value is as a schema says: ``enum``, ``type``, ``properties``, ``required``, no others."""
    if "enum" in schema:
        return value in schema["enum"]
    if schema["type"] == "object":
        return isinstance(value, dict) and _object_fits(value, schema)
    # type(), not isinstance: a bool is an int to Python, and none to JSON
    return type(value) is _TYPES[schema["type"]]


def _object_fits(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    properties = schema["properties"]
    return (
        value.keys() <= properties.keys()
        and set(schema["required"]) <= value.keys()
        and all(fits(item, properties[name]) for name, item in value.items())
    )


def parsed(text: object) -> object:
    """JSON from an answer; ``None``: it is none, or ``null``, which is no answer either."""
    if not isinstance(text, str):
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None
