"""A thin HTTP/1.1 client on trio sockets: what a proxy needs, and nothing between it and the bytes.

A general client costs several times what proxying itself does, and hides whether a body ended or broke off, which is
the one thing a proxy of streams must know. Parsing is llhttp's (through httptools); requests are written by hand, from
parts that never come from a client unchecked.
"""

import ssl
from collections import deque
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httptools
import trio
from attrs import define, field, frozen

from helexa.web.tls import distrust

CONNECT_SECONDS = 5.0
MAX_IDLE = 64
_RECEIVE_BYTES = 65_536
_FIRST_FINAL_STATUS = 200
"""Below it are interim answers, such as ``103 Early Hints``: passed over."""


@frozen
class Patience:
    """How long to wait, in seconds.

    Attributes:
        first_byte: for the head of an answer. Without streaming it comes after the whole generation.
        idle: for the next bytes of its body.
    """

    first_byte: float = 600.0
    idle: float = 300.0


PATIENCE = Patience()


class UpstreamError(Exception):
    """An upstream that did not answer as it should."""


class ConnectError(UpstreamError):
    """No connection could be made: the request was never sent, so it may be sent elsewhere."""


class BrokenError(UpstreamError):
    """The connection broke, or what came is not HTTP."""


class TimeoutExceededError(UpstreamError):
    """Nothing came for too long."""


@define(eq=False)
class _Parsed:
    """What llhttp's callbacks have seen of the response now being read; one parser for all of a connection's.

    Attributes:
        keeps_alive: whether the connection may serve again. Asked in the last callback, as llhttp forgets it after.
    """

    parser: Any = field(init=False)
    headers: list[tuple[bytes, bytes]] = field(factory=list)
    body: list[bytes] = field(factory=list)
    status: int = 0
    head_done: bool = False
    done: bool = False
    keeps_alive: bool = False

    def __attrs_post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def begin(self) -> None:
        """Get ready for the answer to the next request."""
        self.headers, self.body = [], []
        self.head_done = self.done = self.keeps_alive = False

    def on_message_begin(self) -> None:
        if self.done:
            raise ValueError("more than one answer came")  # llhttp stops here and reports it as its own error
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.head_done = self.status >= _FIRST_FINAL_STATUS

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.done = self.head_done
        self.keeps_alive = self.parser.should_keep_alive()


class Response:
    """One response. Read it to its end or ``aclose`` it; a connection that was read to its end is used again."""

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._connection.parsed.status

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self._connection.parsed.headers if key == name), None)

    async def read(self) -> bytes:
        """Whatever has come of the body, at least one byte; empty at its end.

        Raises:
            BrokenError: the connection ended before the body did.
            TimeoutExceededError: nothing came for ``Patience.idle``.
        """
        return await self._connection.read_body()

    async def read_all(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: as ``read``, or a body longer than ``limit`` bytes.
        """
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > limit:
                raise BrokenError(f"its answer is longer than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end. Never waits for the network."""
        await self._connection.release()


class Upstream:
    """Keep-alive connections to one origin; makes as many as there are requests, keeps ``MAX_IDLE``.

    Args:
        origin: scheme, host and port.
        trusted: whose certificates are taken, where the scheme asks for one; ``None``: whom the system trusts.

    Raises:
        ValueError: that is no http or https URL.
    """

    def __init__(self, origin: str, trusted: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{origin}' is not an http or https URL")
        self._tls = (trusted or _system_trust()) if parts.scheme == "https" else None
        self._host = parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2].encode()
        self._idle: deque[_Connection] = deque()

    async def post(
        self, path: str, headers: list[tuple[bytes, bytes]], body: bytes, patience: Patience = PATIENCE
    ) -> Response:
        """Send a request and wait for the head of its response.

        A connection that turns out to have been closed while idle costs nothing: the request is sent again on a fresh
        one, which is safe as long as not a byte of an answer has come.

        Raises:
            ConnectError: no connection.
            BrokenError: the upstream broke off before the head was complete.
            TimeoutExceededError: nothing came for ``Patience.first_byte``.
        """
        request = self._request(path, headers, body)
        while self._idle:
            connection = self._idle.pop()
            if connection.is_spoilt():
                await connection.close()
                continue
            with suppress(_StaleError):
                return await connection.exchange(request, patience)
        connection = await self._connect()
        try:
            return await connection.exchange(request, patience)
        except _StaleError as error:
            raise BrokenError("it closed the connection without an answer") from error

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().close()

    def _request(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
        lines = [b"POST %s HTTP/1.1" % path.encode(), b"host: " + self._authority]
        lines += [b"%s: %s" % header for header in headers]
        lines += [b"content-length: %d" % len(body), b"", body]
        return b"\r\n".join(lines)

    async def _connect(self) -> "_Connection":
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self._host, self._port)
                return _Connection(await self._secured(stream), stream.socket, self._idle)
        except trio.TooSlowError as error:
            raise ConnectError(f"no connection within {CONNECT_SECONDS:g} s") from error
        except (OSError, trio.BrokenResourceError) as error:
            raise ConnectError(f"no connection: {_reason(error)}") from error

    async def _secured(self, stream: trio.SocketStream) -> trio.abc.Stream:
        if self._tls is None:
            return stream
        secured = trio.SSLStream(stream, self._tls, server_hostname=self._host)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


@lru_cache(maxsize=1)
def _system_trust() -> ssl.SSLContext:
    """Made once: reading all that the system trusts takes longer than many requests."""
    return ssl.create_default_context()


def _reason(error: Exception) -> str:
    """Why there is no connection. What went wrong with TLS is only told by the cause of trio's own error."""
    if (why := distrust(error)) is not None:
        return why
    cause = error.__cause__
    return f"no TLS: {cause.reason or cause}" if isinstance(cause, ssl.SSLError) else str(error) or "it broke off"


class _StaleError(Exception):
    """The connection ended before the first byte of an answer."""


class _Connection:
    """One connection and the response being read from it."""

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType, idle: "deque[_Connection]") -> None:
        self.parsed = _Parsed()
        self._stream = stream
        self._socket = socket
        self._idle = idle
        self._bytes_seen = False
        self._failure: BrokenError | None = None
        self._patience = PATIENCE

    def is_spoilt(self) -> bool:
        """Whether the idle connection has something to say: its end, or bytes that would pass for the next answer."""
        return self._socket.is_readable()

    async def exchange(self, request: bytes, patience: Patience = PATIENCE) -> Response:
        """Send a request, read the head of the answer."""
        self.parsed.begin()
        self._bytes_seen, self._patience = False, patience
        try:
            with trio.fail_after(patience.first_byte):
                await self._send(request)
                while not self.parsed.head_done:
                    await self._feed()
        except trio.TooSlowError as error:
            await self.close()
            raise TimeoutExceededError(f"nothing came for {patience.first_byte:g} s") from error
        except BaseException:
            await self.close()
            raise
        return Response(self)

    async def _send(self, request: bytes) -> None:
        try:
            await self._stream.send_all(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _StaleError from error

    async def read_body(self) -> bytes:
        """The next piece of the body; empty at its end."""
        with trio.move_on_after(self._patience.idle) as scope:
            while not self.parsed.body and not self.parsed.done:
                await self._feed()
        if scope.cancelled_caught:
            raise TimeoutExceededError(f"nothing came for {self._patience.idle:g} s")
        piece, self.parsed.body = b"".join(self.parsed.body), []
        return piece

    async def _feed(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._end()
            return
        self._bytes_seen = True
        try:
            self.parsed.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # raised by the next call: what was good of these bytes is read first
            self._failure = BrokenError(f"its answer is not HTTP: {error}")

    def _end(self) -> None:
        """The connection ended: fine for a body that is framed by just that, an error for any other."""
        if not self._bytes_seen:
            raise _StaleError
        framed = any(key in (b"content-length", b"transfer-encoding") for key, _ in self.parsed.headers)
        if not self.parsed.head_done or framed:
            raise BrokenError("the connection broke off in the middle of its answer")
        self.parsed.done = True

    async def release(self) -> None:
        """Keep the connection if it can serve again."""
        whole = self.parsed.done and not self.parsed.body and self._failure is None
        if whole and self.parsed.keeps_alive and len(self._idle) < MAX_IDLE:
            self._idle.append(self)
        else:
            await self.close()

    async def close(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


@lru_cache(maxsize=1024)
def split_url(url: str) -> tuple[str, str]:
    """The origin of a URL, and its path without a slash at the end."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower(), parts.path.rstrip("/")


@frozen
class Pool:
    """One ``Upstream`` per origin, made when first asked for.

    Attributes:
        trusted: whose certificates this fleet's nodes may show. Nobody else may show them: who vouches for the fleet
            does not thereby vouch for a provider.
    """

    trusted: ssl.SSLContext | None = None
    _upstreams: dict[tuple[str, bool], Upstream] = field(factory=dict)

    def to(self, origin: str, *, local: bool = False) -> Upstream:
        """The upstream of that origin, as ``split_url`` gives it; ``local``: it is a node of this fleet."""
        found = self._upstreams.get((origin, local))
        if found is None:
            found = self._upstreams[origin, local] = Upstream(origin, self.trusted if local else None)
        return found

    async def aclose(self) -> None:
        """Close every idle connection."""
        for upstream in self._upstreams.values():
            await upstream.aclose()
