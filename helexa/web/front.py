"""The front door of both servers: one gate, then the routes on bare ASGI, then the framework for the rest."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from attrs import frozen

from helexa.web.asgi import ClientGoneError, discard_body, origin_form, send_error, serve_whole
from helexa.web.server import LARGEST_HEAD, App, Receive, Scope, Send
from helexa.wire.errors import ApiError

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
MOST_HEADERS = 100
"""Of a request. Clients and the proxies in between add a dozen or two; what counts them reads each for each lookup."""


@frozen
class Front:
    """An ASGI application.

    Attributes:
        admit: lets a request in, or raises ``ApiError``; what it returns, the same request under its proper path, is
            what is served, so that nothing is decided about one path and done on another.
        bare: handlers by path, for ``POST``.
        control: everything else.
    """

    admit: Callable[[Scope], Scope]
    bare: Mapping[str, Handler]
    control: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one lifespan."""
        if scope["type"] == "lifespan":
            await self.control(scope, receive, send)
            return
        with suppress(ClientGoneError):
            try:
                _check_head(scope)
                scope = self.admit(origin_form(scope))
            except ApiError as error:
                await _refuse(scope, receive, send, error)
            else:
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.control(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"] in self.bare:
            await self.bare[scope["path"]](scope, receive, send)
        else:
            await serve_whole(self.control, scope, receive, send)


def _check_head(scope: Scope) -> None:
    """Refuse what no client needs.

    Raises:
        ApiError: there are too many headers, or another version of HTTP is spoken.
    """
    if len(scope["headers"]) > MOST_HEADERS or sum(map(_size, scope["headers"])) > LARGEST_HEAD:
        message = f"A request may have {MOST_HEADERS} headers of {LARGEST_HEAD} bytes together, and this has more."
        raise ApiError(431, message, "invalid_request_error", "request_header_fields_too_large")
    if scope["http_version"] not in ("1.1", "1.0"):
        raise ApiError(505, "Only HTTP/1.1 is spoken here.", "invalid_request_error", "http_version_not_supported")


def _size(line: tuple[bytes, bytes]) -> int:
    return len(line[0]) + len(line[1])


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    if scope["type"] == "http":
        await discard_body(receive)
        await send_error(send, error)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
