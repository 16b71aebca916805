"""Bare ASGI for the routes where every microsecond and every byte of a stream is ours to account for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import structlog
import trio
from attrs import define, field

from helexa.web.server import App, Drain, Receive, Scope, Send
from helexa.wire import errors, sse
from helexa.wire.errors import ApiError

MAX_BODY_BYTES = 16 * 2**20
BODY_SECONDS = 60.0
_DISCARD_BYTES = 4 * MAX_BODY_BYTES
_MOST_DIGITS = 20
"""Of a length: more than any has, and few enough to be read in no time."""
_JSON = (b"content-type", b"application/json")
Headers = list[tuple[bytes, bytes]]
_log = structlog.get_logger()


class ClientGoneError(Exception):
    """The client has closed the connection; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    return next((value for key, value in scope["headers"] if key == name), None)


def origin_form(scope: Scope) -> Scope:
    """The same request with a path that begins with exactly one slash.

    A target may be a whole URL (RFC 9112, section 3.2.2) or begin with several slashes; the framework behind us sees
    the same path in all of them: what is allowed would be decided about one path, and another served.
    """
    path: str = scope["path"]
    if path.startswith("/") and not path.startswith("//"):
        return scope
    return {**scope, "path": "/" + (path if path.startswith("/") else urlsplit(path).path).lstrip("/")}


class BodyTimeoutError(ApiError):
    """A client took too long to send its body; the connection is of no use any more, as the rest may still come."""

    _closing: bool = True

    @classmethod
    def after(cls, seconds: float, scope: Scope) -> "BodyTimeoutError":
        """The error of a request that was given so many seconds."""
        message = f"The request body did not arrive within {seconds:g} s."
        made = cls(408, message, "invalid_request_error", "request_timeout")
        made._closing = scope["http_version"].startswith("1")  # HTTP/2 knows no such header
        return made

    def headers(self) -> Headers:
        """That the connection ends (RFC 9110, section 15.5.9)."""
        return [*super().headers(), *([(b"connection", b"close")] if self._closing else [])]


Take = Callable[[int], ApiError | None]
"""Told of each further so many bytes before they are kept; what it returns ends the keeping."""


def declared_length(scope: Scope) -> int:
    """Bytes that a request says its body has; 0 if it says nothing that could be read."""
    declared = header(scope, b"content-length")
    return int(declared) if declared is not None and declared.isdigit() and len(declared) <= _MOST_DIGITS else 0


async def read_body(
    scope: Scope, receive: Receive, limit: int = MAX_BODY_BYTES, within: float = BODY_SECONDS, take: Take | None = None
) -> bytes:
    """The whole request body.

    Args:
        scope: the request.
        receive: brings the body.
        limit: bytes it may have.
        within: seconds it may take.
        take: see ``Take``.

    Raises:
        ApiError: ``request_too_large``, ``request_timeout`` or what ``take`` returned. What the client still sends is
            read and dropped first, within bounds: a socket closed over unread bytes is reset, and the client would
            never see the answer.
        ClientGoneError: the client left in between.
    """
    gathered = _Gathered(limit, take, errors.request_too_large(limit) if declared_length(scope) > limit else None)
    with trio.move_on_after(within) as reading:
        async for piece in _pieces(receive, max(limit, _DISCARD_BYTES)):
            gathered.add(piece)
    if gathered.refusal is not None:
        raise gathered.refusal
    if reading.cancelled_caught:
        raise BodyTimeoutError.after(within, scope)
    return bytes(gathered.kept)


@define(eq=False)
class _Gathered:
    """A body as it comes, until something speaks against it."""

    limit: int
    take: Take | None = None
    refusal: ApiError | None = None
    kept: bytearray = field(factory=bytearray)  # a list of pieces takes forty times the bytes that are sent one by one

    def add(self, piece: bytes) -> None:
        if self.refusal is None:
            self.refusal = self._refusal(len(piece))
        if self.refusal is None:
            self.kept += piece
        else:
            self.kept.clear()

    def _refusal(self, more: int) -> ApiError | None:
        refusal = None if self.take is None else self.take(more)
        too_large = len(self.kept) + more > self.limit
        return errors.request_too_large(self.limit) if too_large else refusal


async def discard_body(receive: Receive, within: float = BODY_SECONDS) -> None:
    """Read the request body, within bounds, and drop it: whoever is refused early must still see the answer.

    Raises:
        ClientGoneError: the client left in between.
    """
    with trio.move_on_after(within):
        async for _ in _pieces(receive, _DISCARD_BYTES):
            pass


async def _pieces(receive: Receive, most: int) -> AsyncIterator[bytes]:
    """The body as it comes; ends early, after more than ``most`` bytes: no answer is worth waiting for any longer."""
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        yield piece


async def serve_whole(
    app: App,
    scope: Scope,
    receive: Receive,
    send: Send,
    held: AbstractAsyncContextManager[bytes] | None = None,
) -> None:
    """Have ``app`` answer once the request body is here, so that no answer of its own comes before the body's end.

    Args:
        app: answers.
        scope: the request.
        receive: brings its body.
        send: takes the answer.
        held: brings the body, too, and counts it as held meanwhile; ``None``: it is read here.

    Raises:
        ClientGoneError: the client left before that.
    """
    async with AsyncExitStack() as stack:
        try:
            body = await (read_body(scope, receive) if held is None else stack.enter_async_context(held))
        except ApiError as error:
            await send_error(send, error)
        else:
            await app(scope, _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> dict[str, Any]:
        return messages.pop() if messages else await receive()

    return receive_again


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_body(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """A whole response, JSON unless ``headers`` say otherwise."""
    extra = headers or []
    kind = [] if any(key == b"content-type" for key, _ in extra) else [_JSON]
    length = (b"content-length", str(len(body)).encode())
    with trio.CancelScope(shield=True):  # all or nothing: an answer cut in two could not be mended
        await send({"type": "http.response.start", "status": status, "headers": [*kind, length, *extra]})
        await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Headers | None = None) -> None:
    """An error envelope."""
    await send_body(send, error.status, error.body(), [*error.headers(), *(headers or [])])


class EventStream:
    """A server-sent event response that always ends as its dialect ends streams.

    The first bytes bring the status with them, so a failure before them can still be a plain error response. Each piece
    is sent whatever is cancelled meanwhile: half of one could not be taken back. The server behind ``send`` waits for a
    client's socket without regard to cancellation anyway.
    """

    def __init__(self, send: Send, headers: Headers | None = None) -> None:
        self._send = send
        self._headers = headers or []
        self.started = False

    async def write(self, data: bytes) -> None:
        """Send whole events; waits for the client's socket, and for nothing else."""
        if data:
            await self._write(data, more=True)

    async def end(self, data: bytes = b"") -> None:
        """The last bytes, and the end of the response."""
        await self._write(data, more=False)

    async def _write(self, data: bytes, *, more: bool) -> None:
        with trio.CancelScope(shield=True):
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": [*_SSE, *self._headers]})
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

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


@asynccontextmanager
async def one_end(stream: EventStream, fault: str, **context: str) -> AsyncIterator[None]:
    """Whatever the block raises becomes the one end of the response; nothing if the client has gone.

    Args:
        stream: the response.
        fault: names an unforeseen error in the log; the caller is told no more than that there was one.
        context: what else the log says then.
    """
    try:
        yield
    except ClientGoneError:
        return
    except ApiError as error:
        await stream.fail(error)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        _log.error(fault, exc_info=error, **context)
        await stream.fail(errors.internal())


class Ending(Enum):
    """How a request's work ended."""

    DONE = "done"
    CLIENT_GONE = "client gone"
    CUT = "cut by shutdown"


async def run_while_connected(
    work: Callable[[], Awaitable[None]],
    receive: Receive,
    drain: Drain,
    began: Callable[[Callable[[], None]], None] = lambda _: None,
) -> Ending:
    """Run ``work``; cancel it when the client leaves or when ``drain`` cuts what is still in flight.

    The request body must have been read: from here on ``receive`` can bring nothing but the disconnect.

    Args:
        work: what is run.
        receive: brings the disconnect.
        drain: the server's shutdown.
        began: is told how to end the work, for whoever has a reason of its own; it then ends as if the client had gone.

    Raises:
        ApiError: what ``work`` raised, unwrapped from the nursery's group.
    """
    ended, error = False, None

    async def watch(scope: trio.CancelScope) -> None:
        await wait_for_disconnect(receive)
        scope.cancel()

    with drain.cuttable() as cut:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            began(nursery.cancel_scope.cancel)
            try:
                await work()
            except ApiError as raised:
                error = raised
            ended = True  # whatever comes now is too late to change the outcome; an answer's end is a disconnect, too
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    if ended:
        return Ending.DONE
    return Ending.CUT if cut.cancelled_caught else Ending.CLIENT_GONE
