"""Errors of Anthropic's API as ours. Source: Anthropic API reference, "Errors"."""

from typing import Any

import orjson

from helexa.wire.errors import ApiError

_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 503,
}
"""For errors within a stream, whose own status was 200; 503 is what this gateway says for overload (theirs is 529)."""
_MEANINGS = {
    "invalid_request_error": ("invalid_request_error", "invalid_value"),
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", "insufficient_scope"),
    "not_found_error": ("invalid_request_error", "model_not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("api_error", "timeout"),
    "overloaded_error": ("api_error", "service_unavailable"),
}
_TOO_LONG = "prompt is too long"


def error_from(status: int, body: bytes) -> ApiError | None:
    """The error that a response reports; ``None`` if its body is not Anthropic's envelope.

    Args:
        status: of the response, which the error keeps.
        body: of the response.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or found.get("type") != "error":
        return None
    return _error(found.get("error"), status)


def streamed(event: dict[str, Any]) -> ApiError | None:
    """The error that an ``error`` event reports; ``None`` if it has another shape."""
    return _error(event.get("error"), None)


def _error(error: Any, status: int | None) -> ApiError | None:
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    kind, message = str(error.get("type")), error["message"]
    type_, code = _MEANINGS.get(kind, ("api_error", "upstream_error"))
    if kind == "invalid_request_error" and _TOO_LONG in message.lower():
        code = "context_length_exceeded"
    return ApiError(status or _STATUSES.get(kind, 502), message, type_, code)
