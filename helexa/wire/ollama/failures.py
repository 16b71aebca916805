"""Ollama's errors as ours: ``{"error": "a sentence"}``, as a body or as a line of a stream."""

import orjson

from helexa.wire.dialect import Json
from helexa.wire.errors import ApiError

_KINDS = {
    400: ("invalid_request_error", "invalid_value", None),
    404: ("invalid_request_error", "model_not_found", "model"),
    429: ("rate_limit_error", "rate_limit_exceeded", None),
    503: ("api_error", "service_unavailable", None),
    504: ("api_error", "timeout", None),
}
"""Type, code and field by status. A key that is refused is not here: it is ours, and not the client's."""
_LOWEST = 400


def reported(answer: Json, status: int = 502) -> ApiError | None:
    """The error that a body or a line reports, if it does; ``status`` where it does not say its own."""
    failure = answer.get("error")
    detail = failure.get("message") if isinstance(failure, dict) else failure
    if not isinstance(detail, str):
        return None
    own = answer.get("status")
    status = own if isinstance(own, int) and own >= _LOWEST else status
    kind, code, param = _KINDS.get(status, ("api_error", "upstream_error", None))
    return ApiError(status, detail, kind, code, param)


def error_from(status: int, body: bytes) -> ApiError | None:
    """An error of Ollama's as ours; ``None`` if the body is not one.

    Args:
        status: of the response.
        body: of the response.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return reported(found, status) if isinstance(found, dict) else None
