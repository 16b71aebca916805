"""Bare ASGI for the routes where every microsecond and every byte of a stream is ours to account for."""

from collections.abc import Awaitable, Callable
from enum import Enum

import trio

from helexa.web.server import Drain, Receive, Scope, Send
from helexa.wire import errors, sse
from helexa.wire.errors import ApiError

MAX_BODY_BYTES = 16 * 2**20
_DISCARD_BYTES = 4 * MAX_BODY_BYTES
_JSON = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """The client has closed the connection; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def read_body(scope: Scope, receive: Receive, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole request body.

    Raises:
        ApiError: ``request_too_large``. What the client still sends is read and dropped first, within bounds: a socket
            closed over unread bytes is reset, and the client would never see the answer.
        ClientGoneError: the client left in between.
    """
    declared = header(scope, b"content-length")
    size = 0
    pieces: list[bytes] = []
    too_large = declared is not None and declared.isdigit() and int(declared) > limit
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        too_large = too_large or size > limit
        pieces = [] if too_large else [*pieces, piece]
        if not message.get("more_body") or size > _DISCARD_BYTES:
            break
    if too_large:
        raise errors.request_too_large(limit)
    return b"".join(pieces)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_body(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """A whole response, JSON unless ``headers`` say otherwise."""
    extra = headers or []
    kind = [] if any(key == b"content-type" for key, _ in extra) else [_JSON]
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*kind, length, *extra]})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Headers | None = None) -> None:
    """An error envelope."""
    await send_body(send, error.status, error.body(), [*error.headers(), *(headers or [])])


class EventStream:
    """A server-sent event response that always ends as its dialect ends streams.

    The first ``write`` sends the status, so a failure before it can still be a plain error response.
    """

    def __init__(self, send: Send, headers: Headers | None = None) -> None:
        self._send = send
        self._headers = headers or []
        self.started = False

    async def write(self, data: bytes) -> None:
        """Send whole events; waits for the client's socket, and for nothing else."""
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [*_SSE, *self._headers]})
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """The last bytes, and the end of the response."""
        await self._send({"type": "http.response.body", "body": data})

    async def fail(self, error: ApiError) -> None:
        """End with an error: a plain response if nothing was sent yet, else an error event and the end mark."""
        if self.started:
            await self.end(sse.event(error.envelope()) + sse.DONE)
        else:
            await send_error(self._send, error, self._headers)


_SSE: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise buffer the stream
]


class Ending(Enum):
    """How a request's work ended."""

    DONE = "done"
    CLIENT_GONE = "client gone"
    CUT = "cut by shutdown"


async def run_while_connected(work: Callable[[], Awaitable[None]], receive: Receive, drain: Drain) -> Ending:
    """Run ``work``; cancel it when the client leaves or when ``drain`` cuts what is still in flight.

    The request body must have been read: from here on ``receive`` can bring nothing but the disconnect.

    Raises:
        ApiError: what ``work`` raised, unwrapped from the nursery's group.
    """
    ending, error = Ending.DONE, None

    async def watch(scope: trio.CancelScope) -> None:
        nonlocal ending
        await wait_for_disconnect(receive)
        ending = Ending.CLIENT_GONE
        scope.cancel()

    with drain.cuttable() as cut:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                await work()
            except ApiError as raised:
                error = raised
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return Ending.CUT if cut.cancelled_caught else ending
