"""The error envelope: the table of failures, its bytes and its headers."""

from pathlib import Path

import pytest

from helexa.wire import errors, sse
from helexa.wire.errors import ApiError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (errors.invalid_json("x"), 400, "invalid_request_error", "invalid_json", None),
        (errors.missing("p"), 400, "invalid_request_error", "missing_required_parameter", "p"),
        (errors.invalid_value("p", "x"), 400, "invalid_request_error", "invalid_value", "p"),
        (errors.unsupported("p", "x"), 400, "invalid_request_error", "unsupported_value", "p"),
        (errors.context_length_exceeded(1, 2), 400, "invalid_request_error", "context_length_exceeded", "messages"),
        (errors.invalid_api_key(), 401, "invalid_request_error", "invalid_api_key", None),
        (errors.insufficient_scope("s"), 403, "permission_error", "insufficient_scope", None),
        (errors.host_not_allowed(), 403, "permission_error", "host_not_allowed", None),
        (errors.model_not_found("m"), 404, "invalid_request_error", "model_not_found", "model"),
        (errors.route_not_found("GET", "/x"), 404, "invalid_request_error", "not_found", None),
        (errors.method_not_allowed("GET", "/x", "POST"), 405, "invalid_request_error", "method_not_allowed", None),
        (errors.request_too_large(5), 413, "invalid_request_error", "request_too_large", None),
        (errors.rate_limited("x", 1), 429, "rate_limit_error", "rate_limit_exceeded", None),
        (errors.internal(), 500, "api_error", "internal_error", None),
        (errors.upstream_error("x"), 502, "api_error", "upstream_error", None),
        (errors.unavailable("x", 5), 503, "api_error", "service_unavailable", None),
        (errors.upstream_timeout("x"), 504, "api_error", "timeout", None),
    ],
)
def test_each_failure_has_its_status_type_and_code(
    error: ApiError, status: int, kind: str, code: str, param: str | None
) -> None:
    assert (error.status, error.type, error.code, error.param) == (status, kind, code, param)
    assert str(error) == error.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.missing("p"), []),
        (errors.invalid_api_key(), [(b"www-authenticate", b"Bearer")]),
        (errors.rate_limited("x", 3), [(b"retry-after", b"3")]),
        (errors.unavailable("x", 0), [(b"retry-after", b"0")]),
        (errors.method_not_allowed("GET", "/x", "POST"), [(b"allow", b"POST")]),
    ],
)
def test_each_failure_has_its_headers(error: ApiError, expected: list[tuple[bytes, bytes]]) -> None:
    assert error.headers() == expected


def test_the_envelope_is_these_bytes() -> None:
    error = errors.model_not_found("große/kleine")
    assert error.body() == (GOLDEN / "error.json").read_bytes()
    assert sse.event(error.envelope()) == (GOLDEN / "error_event.sse").read_bytes()
