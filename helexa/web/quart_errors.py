"""A Quart-trio application whose every answer is JSON: unknown paths, wrong methods and faults included."""

import structlog
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from helexa.web.asgi import MAX_BODY_BYTES
from helexa.wire import errors
from helexa.wire.errors import ApiError

_log = structlog.get_logger()


def json_app(name: str) -> QuartTrio:
    """An application without static files whose errors are envelopes."""
    app = QuartTrio(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # A path with a double slash is an unknown path. Merging would answer with a redirect.
    app.url_map.merge_slashes = False
    # Our handlers decide about every exception, in debug runs and tests too.
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _fault)
    return app


def json_response(body: bytes, status: int = 200) -> Response:
    """A JSON response from bytes already encoded."""
    return Response(body, status, content_type="application/json")


async def _api_error(error: ApiError) -> Response:
    response = json_response(error.body(), error.status)
    for key, value in error.headers():
        response.headers[key.decode()] = value.decode()
    return response


async def _http_error(error: HTTPException) -> Response:
    return await _api_error(_translate(error))


def _translate(error: HTTPException) -> ApiError:
    match error:
        case NotFound():
            return errors.route_not_found(request.method, request.path)
        case MethodNotAllowed():
            allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"OPTIONS", "HEAD"}))
            return errors.method_not_allowed(request.method, request.path, allowed)
        case RequestEntityTooLarge():
            return errors.request_too_large(MAX_BODY_BYTES)
        case _:
            return ApiError(error.code or 500, error.description or error.name, "invalid_request_error", "bad_request")


async def _fault(error: Exception) -> Response:
    _log.error("http.fault", path=request.path, exc_info=error)
    return await _api_error(errors.internal())
