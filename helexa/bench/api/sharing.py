"""Which pages of other origins may read what is served here (Fetch Standard, "CORS protocol").

Where a key is asked for, any page may: it cannot read anything that its user has not given it the key for, as no
browser adds a key by itself. Where none is asked for, being able to reach this port is all the permission there is, and
a browser lends it to every page on the internet: so only pages of this very machine may, such as a console that is
being worked on. A page whose name was rebound to this address is of one origin with us, and none of this concerns it:
it is turned away for the name that it calls us by, see `helexa.web.hosts`.
"""

from functools import partial
from typing import Any, Final

from attrs import frozen

from helexa.web.asgi import Headers, discard_body, header
from helexa.web.hosts import is_loopback
from helexa.web.server import App, Receive, Scope, Send

_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"authorization, x-api-key"),
    (b"access-control-max-age", b"600"),
]


@frozen
class Shared:
    """An application whose answers say which pages may read them. It answers what browsers ask before by itself.

    Attributes:
        app: serves.
        keyed: whether it asks for keys.
    """

    app: App
    keyed: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one lifespan."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = permission(header(scope, b"origin"), keyed=self.keyed)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            await discard_body(receive)
            allowed = _PREFLIGHT if len(headers) > 1 else []  # without permission there is nothing to allow
            await send({"type": "http.response.start", "status": 204, "headers": [*headers, *allowed]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, partial(_send, send, headers))


def permission(origin: bytes | None, *, keyed: bool) -> Headers:
    """The headers that let a page of an origin read an answer; without permission, that it depends on the origin."""
    vary = (b"vary", b"origin")
    if origin is not None and (keyed or _is_of_this_machine(origin)):
        return [vary, (b"access-control-allow-origin", origin)]
    return [vary]


def _is_of_this_machine(origin: bytes) -> bool:
    """A file that a browser shows has the origin ``null``, and so has any page that wants to: neither counts."""
    scheme, _, authority = origin.decode("latin-1").partition("://")
    host = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    return scheme in {"http", "https"} and is_loopback(host)


async def _send(send: Send, headers: Headers, message: dict[str, Any]) -> None:
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message.get("headers", ()), *headers]}
    await send(message)
