"""Servers on real sockets that say what a test scripts, byte by byte, and keep what they were asked."""

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import trio
from attrs import define, field

Stream: TypeAlias = trio.abc.Stream
Step: TypeAlias = "bytes | float | Callable[[Stream], Awaitable[None]]"
"""Bytes are sent, seconds waited; a function does whatever else."""

STREAM: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
UNFRAMED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
END: Final = b"0\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """HTTP's, not a chat's."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer in one piece."""
    lines = (b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers, b"", body)
    return b"\r\n".join(lines)


@define(eq=False)
class Server:
    """One script for each connection; each is a list of answers, one for each request, each a list of steps.

    Attributes:
        scripts: the last serves all connections that follow, too.
        requests: what was asked, in order.
        connections: how many there were, and how many there are.
    """

    scripts: Sequence[Sequence[Sequence[Step]]]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self, nursery: trio.Nursery) -> "Server":
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, self._serve, [listener])
        return self

    async def _serve(self, plain: trio.SocketStream) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections, self.open = self.connections + 1, self.open + 1
        stream = trio.SSLStream(plain, self.tls, server_side=True, https_compatible=True) if self.tls else plain
        try:
            await self._play(stream, script)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone, or it was reset
        finally:
            self.open -= 1
            await trio.aclose_forcefully(plain)

    async def _play(self, stream: Stream, script: Sequence[Sequence[Step]]) -> None:
        for answer in script:
            if (request := await read_request(stream)) is None:
                return
            self.requests.append(request)
            for step in answer:
                await perform(stream, step)


async def perform(stream: Stream, step: Step) -> None:
    if isinstance(step, bytes):
        await stream.send_all(step)
    elif isinstance(step, float):
        await trio.sleep(step)
    else:
        await step(stream)


async def read_request(stream: Stream) -> bytes | None:
    """The next request, head and body; nothing when the client is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := await stream.receive_some()):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    pieces, left = [data], length - len(body)
    while left > 0:
        pieces.append(bytes(await stream.receive_some()))
        left -= len(pieces[-1])
    return b"".join(pieces)


async def hold(stream: Stream) -> None:
    """Say nothing until the client has gone."""
    while await stream.receive_some():
        pass


async def reset(stream: Stream) -> None:
    """End the connection with a reset."""
    plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(plain, trio.SocketStream)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.socket.close()


async def say_goodbye(stream: Stream) -> None:
    """End TLS as it should be ended."""
    await stream.aclose()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that other tasks and real sockets bring about."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nothing there to set an event
            await trio.sleep(0.001)
