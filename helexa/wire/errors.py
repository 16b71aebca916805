"""The error envelope every endpoint speaks, and the constructors for each failure a caller can meet.

Shape (OpenAI API reference, "Error codes"): ``{"error": {"message", "type", "code", "param"}}``.
"""

from typing import Any

import orjson
from attrs import define, field


@define(slots=False, eq=False)  # slots and BaseException.__traceback__ do not mix
class ApiError(Exception):
    """A failure with its HTTP status and its envelope.

    Attributes:
        status: HTTP status.
        message: one sentence: what is wrong and, where there is one, what to do.
        type: OpenAI error type, e.g. ``invalid_request_error``.
        code: stable machine-readable code, e.g. ``model_not_found``.
        param: the request field at fault, a path such as ``messages[0].role``.
        retry_after: seconds a caller should wait, sent as ``Retry-After``.
    """

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    retry_after: int | None = None
    allow: str | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return self.message

    def envelope(self) -> dict[str, Any]:
        """The JSON object of the response body."""
        return {"error": {"message": self.message, "type": self.type, "code": self.code, "param": self.param}}

    def body(self) -> bytes:
        """The response body, UTF-8 JSON."""
        return orjson.dumps(self.envelope())

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that belong to this error: ``Retry-After``, ``Allow``, ``WWW-Authenticate``."""
        found: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None:
            found.append((b"retry-after", str(self.retry_after).encode()))
        if self.allow is not None:
            found.append((b"allow", self.allow.encode()))
        if self.status == 401:  # noqa: PLR2004 - RFC 9110 15.5.2 asks for the challenge
            found.append((b"www-authenticate", b"Bearer"))
        return found


def _invalid(message: str, code: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "invalid_request_error", code, param)


def invalid_json(detail: str) -> ApiError:
    """The body is not JSON, or not a JSON object."""
    return _invalid(f"The request body is not valid JSON: {detail}.", "invalid_json")


def missing(param: str) -> ApiError:
    """A required field is absent."""
    return _invalid(f"Missing required parameter: '{param}'.", "missing_required_parameter", param)


def invalid_value(param: str, problem: str) -> ApiError:
    """A field has the wrong type or a value out of range; ``problem`` says what would be right."""
    return _invalid(f"Invalid value for '{param}': {problem}.", "invalid_value", param)


def unsupported(param: str, problem: str) -> ApiError:
    """A field is valid in the protocol, and this build does not act on it: refused rather than ignored."""
    return _invalid(f"Unsupported value for '{param}': {problem}.", "unsupported_value", param)


def context_length_exceeded(limit: int, prompt: int) -> ApiError:
    """The prompt leaves no room for an answer; both in tokens."""
    return _invalid(
        f"This model's context is {limit} tokens, and the prompt has {prompt}. Shorten the messages.",
        "context_length_exceeded",
        "messages",
    )


def invalid_api_key() -> ApiError:
    """No key, or one this fleet does not know. Never says which: that would help only a guesser."""
    return ApiError(
        401,
        "A valid API key is required. Send it as 'Authorization: Bearer …' or 'x-api-key'.",
        "invalid_request_error",
        "invalid_api_key",
    )


def insufficient_scope(scope: str) -> ApiError:
    """The key is known and lacks a scope."""
    return ApiError(403, f"This API key lacks the scope '{scope}'.", "permission_error", "insufficient_scope")


def host_not_allowed() -> ApiError:
    """``Host`` or ``Origin`` is not a name of this machine, and no key is asked for: a hostile page looks like this."""
    return ApiError(
        403,
        "This endpoint asks for no key, so it answers to loopback names only. Call it as localhost, or require keys.",
        "permission_error",
        "host_not_allowed",
    )


def model_not_found(model: str) -> ApiError:
    """No node, alias or route knows the model."""
    return ApiError(
        404,
        f"The model '{model}' does not exist here. GET /v1/models lists those that do.",
        "invalid_request_error",
        "model_not_found",
        "model",
    )


def route_not_found(method: str, path: str) -> ApiError:
    """No such path."""
    return ApiError(404, f"There is no route {method} {path}.", "invalid_request_error", "not_found")


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """The path exists, the method does not; ``allowed`` is the value of ``Allow``."""
    return ApiError(
        405,
        f"{path} does not take {method}; it takes {allowed}.",
        "invalid_request_error",
        "method_not_allowed",
        allow=allowed,
    )


def request_too_large(limit: int) -> ApiError:
    """The body is longer than ``limit`` bytes."""
    return ApiError(
        413, f"The request body is larger than {limit} bytes.", "invalid_request_error", "request_too_large"
    )


def rate_limited(detail: str, retry_after: int) -> ApiError:
    """More is asked for than can be queued; ``retry_after`` in seconds."""
    return ApiError(429, detail, "rate_limit_error", "rate_limit_exceeded", retry_after=retry_after)


def internal() -> ApiError:
    """A fault of our own. The log has the details; the caller gets none of them."""
    return ApiError(500, "The server met an unexpected fault; its log says more.", "api_error", "internal_error")


def upstream_error(detail: str) -> ApiError:
    """The engine or an upstream broke."""
    return ApiError(502, detail, "api_error", "upstream_error")


def unavailable(detail: str, retry_after: int) -> ApiError:
    """Nothing can serve this right now; ``retry_after`` in seconds."""
    return ApiError(503, detail, "api_error", "service_unavailable", retry_after=retry_after)


def shutting_down() -> ApiError:
    """The server ends before this request did."""
    return unavailable("The server is shutting down.", 2)


def request_cancelled() -> ApiError:
    """An operator ended it. 403, as clients try 409, 429 and 5xx again by themselves."""
    return ApiError(403, "An operator has cancelled this request.", "permission_error", "request_cancelled")


def upstream_timeout(detail: str) -> ApiError:
    """The upstream did not answer in time."""
    return ApiError(504, detail, "api_error", "timeout")
