"""Real parts for tests of HTTP: a served application, a raw client, a server that plays a script, a call in memory."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

import h11
import orjson
import trio
from attrs import define, field

from helexa.web.server import App, Drain, Receive, Scope, Send, bind, serve
from helexa.wire.sse import EventReader


def scope_of(method: str, path: str, headers: list[tuple[bytes, bytes]] | None = None) -> Scope:
    """An ASGI scope as hypercorn makes it."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *(headers or [])],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
        "extensions": {},
    }


@define(eq=False)
class Call:
    """One request made in memory: what was sent to it, and the end of its client when `leave` is called.

    `pace`, if given, is awaited before each message is taken, as a client's socket would have it.
    """

    scope: Scope
    body: bytes = b""
    pace: Callable[[], Awaitable[None]] | None = None
    messages: list[dict[str, Any]] = field(factory=list)
    gone: trio.Event = field(factory=trio.Event)
    _asked: bool = False

    @classmethod
    def post(cls, path: str, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Self:
        return cls(scope_of("POST", path, headers), body)

    async def run(self, app: App) -> Self:
        await app(self.scope, self.receive, self.send)
        return self

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message if it is the right one at this point; as strict as a server, and as cancellable."""
        await (self.pace or trio.lowlevel.checkpoint)()
        expected = "http.response.body" if self.messages else "http.response.start"
        assert message["type"] == expected, f"{message} after {self.messages}"
        assert not self.ended, f"{message} after the end"
        self.messages.append(message)

    def leave(self) -> None:
        self.gone.set()

    @property
    def ended(self) -> bool:
        return len(self.messages) > 1 and not self.messages[-1].get("more_body")

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def error(self) -> dict[str, Any]:
        """The error of an envelope; the call must have ended with one."""
        assert self.ended
        assert self.headers[b"content-type"] == b"application/json"
        return orjson.loads(self.answer)["error"]


async def live(receive: Receive, send: Send) -> None:
    """The lifespan of an application that has nothing to prepare."""
    for event in ("startup", "shutdown"):
        assert await receive() == {"type": f"lifespan.{event}"}
        await send({"type": f"lifespan.{event}.complete"})


async def start_app(nursery: trio.Nursery, app: App, drain: Drain | None = None) -> int:
    """Serve an application on a port of loopback until the nursery is cancelled; the port."""
    sock = bind("127.0.0.1", 0, "test")
    port = int(sock.getsockname()[1])
    await nursery.start(serve, app, sock, drain or Drain())
    return port


def request_bytes(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@define(eq=False)
class RawClient:
    """One connection, and what h11 reads from it."""

    stream: trio.SocketStream
    _h11: h11.Connection = field(factory=lambda: h11.Connection(h11.CLIENT))

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def request(self, data: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send a whole request, read a whole answer."""
        await self.stream.send_all(data)
        return await self.response(data.partition(b" ")[0])

    async def read_until(self, mark: bytes) -> bytes:
        """Whatever comes, up to and with `mark`."""
        data = b""
        while mark not in data:
            piece = await self.stream.receive_some()
            assert piece, f"the connection ended after {data!r}"
            data += piece
        return data

    async def response(self, method: bytes = b"POST") -> tuple[int, dict[bytes, bytes], bytes]:
        self.expect(method)
        return await self.rest()

    def expect(self, method: bytes = b"POST") -> None:
        """What `feed` brings from here on answers a request of that method."""
        self._h11 = h11.Connection(h11.CLIENT)
        self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))

    def feed(self, data: bytes) -> None:
        self._h11.receive_data(data)

    async def rest(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The answer, part of which may have been fed."""
        head, body = None, b""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            assert not isinstance(event, h11.ConnectionClosed), "the connection ended without an answer"
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        assert head is not None
        return head.status_code, dict(head.headers), body

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self.stream.receive_some())
        return event


@define(eq=False)
class Peer:
    """The connection a scripted server plays on."""

    stream: trio.SocketStream
    keep: bool = True

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as the kernel goes along."""
        for piece in pieces:
            await self.stream.send_all(piece)

    async def wait_closed(self) -> None:
        """Return when the other side has closed."""
        with suppress(trio.BrokenResourceError):
            assert await self.stream.receive_some() == b""
        self.keep = False


Play = Callable[[Peer], Awaitable[None]]


@define(eq=False)
class Script:
    """A TCP server that answers each HTTP request with the next play; the last one is played again and again."""

    plays: list[Play]
    port: int = 0
    connections: int = 0
    open: int = 0
    requests: list[tuple[bytes, bytes]] = field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self, *, task_status: trio.TaskStatus["Script"]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            task_status.started(self)

    async def _serve(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        self.connections += 1
        self.open += 1
        peer = Peer(stream)
        try:
            async with stream:
                while peer.keep and (request := await _read_request(stream)) is not None:
                    self.requests.append(request)
                    play = self.plays[min(len(self.requests), len(self.plays)) - 1]
                    await play(peer)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


async def _read_request(stream: trio.SocketStream) -> tuple[bytes, bytes] | None:
    data = b""
    length = math.inf
    while len(data) < length:
        piece = await stream.receive_some()
        if not piece:
            return None
        data += piece
        head, found, _ = data.partition(b"\r\n\r\n")
        if found:
            length = len(head) + 4 + int(head.lower().rpartition(b"content-length:")[2].split(b"\r\n")[0])
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


async def start_script(nursery: trio.Nursery, *plays: Play) -> Script:
    """A scripted server that runs until the nursery is cancelled."""
    return await nursery.start(Script(list(plays)).run)


def plays(*pieces: bytes, close: bool = False) -> Play:
    """Send these bytes, then keep the connection or close it."""

    async def play(peer: Peer) -> None:
        await peer.send(*pieces)
        peer.keep = not close

    return play


def whole(body: bytes, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    """A response framed by its length."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body; the last one if empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse_data(stream: bytes) -> list[Any]:
    """The data of each event of a whole stream, JSON where it is JSON; nothing may be left over."""
    assert stream.endswith((b"\n\n", b"\n\r\n")), stream
    found = EventReader().push(stream)
    return [orjson.loads(data) if data.startswith("{") else data for data in found]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks and real sockets bring about."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - nothing there to set an event
            await trio.sleep(0.001)
