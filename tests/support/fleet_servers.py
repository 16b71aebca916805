"""A server on a real socket under asyncio, that answers as a fleet does, or as none should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from attrs import define, field

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: Any, status: int = 200, kind: str = "application/json") -> bytes:
    """What a server says: an object as JSON, bytes as they are."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
    return head.encode() + data


def events(*told: bytes, stay: bool = False) -> Answer:
    """A stream of events that ends, or stays open and says nothing more."""

    async def tell(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(told)
        )
        await writer.drain()
        if stay:
            await asyncio.Event().wait()

    return tell


async def silence(_writer: asyncio.StreamWriter) -> None:
    """Accept, and say nothing."""
    await asyncio.Event().wait()


def event(number: int, kind: str, **data: Any) -> bytes:
    told = {"id": number, "time": 1.0, "event": kind, "data": data}
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), orjson.dumps(told))


@define(eq=False)
class FleetServer:
    """Answers each path with what is set for it; of a list, each connection gets the next, and the last for ever.

    Attributes:
        asked: path and headers of each request.
    """

    answers: dict[str, Answer | list[Answer]] = field(factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(factory=list)
    port: int = 0
    _open: set[asyncio.Task[None]] = field(factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for it."""
        return [headers for asked, headers in self.asked if asked.partition("?")[0] == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = first.split()[1]
        self.asked.append((path, dict(line.lower().split(": ", 1) for line in lines if line)))
        found = self.answers.get(path.partition("?")[0], answer(b"<html>", 404, "text/html"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, bytes):
            writer.write(found)
            await writer.drain()
        else:
            await found(writer)

    def drop(self) -> None:
        """End every connection."""
        for task in list(self._open):
            task.cancel()


@asynccontextmanager
async def serving(port: int = 0, **answers: Answer | list[Answer]) -> AsyncIterator[FleetServer]:
    """A server with these answers; a path's slashes as two underscores."""
    found = FleetServer({f"/{name.replace('__', '/')}": each for name, each in answers.items()})
    server = await asyncio.start_server(found.serve, "127.0.0.1", port)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        found.drop()
        await asyncio.sleep(0)
        await server.wait_closed()
