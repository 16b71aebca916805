"""Shorthand for JSON schemas and for operations of the document. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ANYTHING: Final[Schema] = {"type": "object"}
NAME: Final[Schema] = {"type": "string", "minLength": 1}
ABOVE_ZERO: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}

_JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
"""What is in a stream no schema of the document says: each dialect's own reference does."""
_ERRORS: Final[Mapping[str, str]] = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No key, or one this fleet does not know.",
    "403": "The key lacks a scope, or the model is not permitted.",
    "404": "There is no such model, or no such route.",
    "409": "The key's name is taken, or the key cannot be changed.",
    "413": "The body is too large.",
    "429": "More is asked for than can be queued, or than the key may use; see `Retry-After`.",
    "502": "The engine or an upstream broke.",
    "503": "Nothing can serve this right now; see `Retry-After`.",
    "504": "The upstream was too slow.",
}


MOST: Final = 2**31 - 1
"""The largest integer that a request may carry where nothing else bounds it."""


def table(required: Iterable[str] = (), /, **properties: Schema) -> Schema:
    """An object; what is not named may be there as well."""
    needed = list(required)
    return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


def items(of: Schema, least: int = 0, most: int | None = None) -> Schema:
    """A list."""
    bounds = {"minItems": least} if least else {}
    return {"type": "array", "items": of, **bounds, **({} if most is None else {"maxItems": most})}


def one_of(*choices: str) -> Schema:
    """One of these strings."""
    return {"type": "string", "enum": list(choices)}


def any_of(*schemas: Schema) -> Schema:
    """What fits one of these schemas."""
    return {"anyOf": list(schemas)}


def whole(low: int, high: int) -> Schema:
    """An integer between two bounds, both included."""
    return {"type": "integer", "minimum": low, "maximum": high}


def between(low: float, high: float) -> Schema:
    """A number between two bounds, both included."""
    return {"type": "number", "minimum": low, "maximum": high}


def nullable(schema: Schema) -> Schema:
    """The same, or ``null``, which every field that may be left out takes for absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """A schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def operation(  # noqa: PLR0913 - what an operation consists of
    name: str,
    summary: str,
    answer: Schema,
    *,
    tag: str,
    body: Schema | None = None,
    body_kind: str = _JSON,
    body_required: bool = True,
    streams: bool = False,
    error: str = "Error",
    errors: Iterable[str] = _ERRORS,
    parameters: Iterable[Schema] = (),
    public: bool = False,
) -> Schema:
    """One method of one path.

    Args:
        name: its ``operationId``.
        summary: what it does.
        answer: schema of the answer.
        tag: the group it belongs to.
        body: schema of the request; ``None``: it has none.
        body_kind: content type of the request.
        body_required: whether the request may be empty.
        streams: the answer may come as server-sent events instead.
        error: the component that errors are of.
        errors: statuses that it may answer with, among those that errors have.
        parameters: of path, query and header.
        public: no key is asked for.
    """
    content: Schema = {_JSON: {"schema": answer}} | ({EVENTS: {}} if streams else {})
    found: Schema = {"operationId": name, "summary": summary, "tags": [tag], "parameters": list(parameters)}
    if body is not None:
        found["requestBody"] = {"required": body_required, "content": {body_kind: {"schema": body}}}
    refusals = {status: failure(_ERRORS[status], error) for status in errors}
    rest = {"default": failure("Any other failure.", error)}
    found["responses"] = {"200": {"description": "Done.", "content": content}, **refusals, **rest}
    return found | ({"security": []} if public else {})


def failure(description: str, error: str = "Error") -> Schema:
    """An answer that is an error envelope."""
    return {"description": description, "content": {_JSON: {"schema": ref(error)}}}


def in_path(name: str, description: str) -> Schema:
    """A parameter of the path."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def in_query(name: str, description: str) -> Schema:
    """A parameter of the query that may be left out."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": TEXT}


def in_header(name: str, description: str) -> Schema:
    """A header that may be left out."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": TEXT}
