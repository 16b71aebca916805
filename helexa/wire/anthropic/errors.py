"""Failures in Anthropic's shape. Source: Anthropic API reference, "Errors"."""

from typing import Any

from helexa.wire.errors import ApiError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def envelope(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """The JSON object of a response's body, or of an ``error`` event.

    Args:
        error: in OpenAI's terms; the type is Anthropic's for its status.
        request_id: what the response's ``request-id`` says, too; events have none.
    """
    found: dict[str, Any] = {"type": "error", "error": {"type": _type(error.status), "message": error.message}}
    return found if request_id is None else {**found, "request_id": request_id}


def _type(status: int) -> str:
    # Every other 4xx is the caller's doing, and the API has no finer word for it.
    other = "invalid_request_error" if 400 <= status < 500 else "api_error"  # noqa: PLR2004 - RFC 9110 15.5
    return _TYPES.get(status, other)
