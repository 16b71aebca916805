"""One connection to a target, plain or with TLS, that tells when each piece came.

TLS runs on buffers of its own, so that what it decrypts has the kernel's times too; trio's stream shows no sockets'.
"""

import os
import re
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import trio
from attrs import define, field, frozen

from helexa.bench.client.arrivals import ANCILLARY_BYTES, ArrivalClock, kernel_time, stamp_arrivals
from helexa.bench.client.exchanges import TargetError
from helexa.web.tls import distrust

Pieces: TypeAlias = list[tuple[float, bytes]]
"""Bytes in order, each with the time at which its last came."""

_RECEIVE_BYTES: Final = 65_536
_EVENT_END: Final = re.compile(rb"\n\r?\n|\r\r")
_CHUNK_END: Final = len(b"\r\n")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@frozen
class Origin:
    """Where connections go.

    Attributes:
        url: as it was given, for errors; no secret is part of it.
        host: name or address.
        port: TCP.
        authority: the ``host`` header.
        path: what all paths begin with; no slash at its end.
        tls: whose certificates are taken; ``None``: it is plain HTTP.
    """

    url: str
    host: str
    port: int
    authority: str
    path: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, trusted: ssl.SSLContext | None) -> "Origin":
        """Read a base URL; ``trusted`` of ``None``: whom the system trusts.

        Raises:
            ValueError: it is no http or https URL, or has parts that a base URL cannot have.
        """
        parts = _parts(url)
        tls = (trusted or _system_trust()) if parts.scheme == "https" else None
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        return cls(url, parts.hostname or "", port, parts.netloc, parts.path.rstrip("/"), tls)


@lru_cache(maxsize=1)
def _system_trust() -> ssl.SSLContext:
    """Made once: reading all that the system trusts takes longer than many requests."""
    return ssl.create_default_context()


def _parts(url: str) -> SplitResult:
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ValueError("A base URL has no user name and no password; give the key as a header")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"'{url}' is not a URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError(f"'{url}' is not an http or https URL")
    if parts.query or parts.fragment or " " in url:
        raise ValueError(f"'{url}' is not a base URL: it ends with its path")
    return parts


def event_sizes(data: bytes) -> list[int]:
    """How many bytes to take at a time so that each take ends where an event does; the last has the rest.

    Except for two bytes: what ends a chunk of HTTP's is no reason to ask again.
    """
    first = _EVENT_END.search(data)
    if first is None or len(data) - first.end() <= _CHUNK_END:
        return [len(data)]
    ends = [match.end() for match in _EVENT_END.finditer(data)]
    if len(data) - ends[-1] <= _CHUNK_END:
        ends.pop()
    return [end - begin for begin, end in pairwise((0, *ends, len(data)))]


class StaleError(Exception):
    """The connection ended before the first byte of an answer."""


@define(eq=False)
class Connection:
    """A connection that was made. Whoever opened it closes it; one task uses it at a time.

    Attributes:
        clock: when what came last came.
    """

    _socket: socket.socket
    _tls: "_Tls | None" = None
    clock: ArrivalClock = field(factory=ArrivalClock)

    @classmethod
    async def open(cls, origin: Origin, seconds: float) -> "Connection":
        """Connect, and agree on TLS.

        Raises:
            TargetError: ``unreachable``.
        """
        try:
            with trio.fail_after(seconds):
                return await cls._opened(origin)
        except trio.TooSlowError:
            raise TargetError("unreachable", f"No connection to {origin.url} within {seconds:g} s.") from None
        except (OSError, UnicodeError, StaleError) as error:  # UnicodeError: a name that cannot be one
            raise TargetError("unreachable", f"No connection to {origin.url}: {_why(error)}.") from error

    @classmethod
    async def _opened(cls, origin: Origin) -> "Connection":
        stream = await trio.open_tcp_stream(origin.host, origin.port)
        # as a plain socket: trio's own costs a fifth of a core at 10,000 pieces a second
        plain = socket.socket(fileno=stream.socket.detach())
        plain.setblocking(False)
        stamp_arrivals(plain)
        connection = cls(plain, _Tls.to(origin.host, origin.tls) if origin.tls else None)
        try:
            await connection._greet()
        except BaseException:
            connection.close()
            raise
        return connection

    async def _greet(self) -> None:
        if self._tls is None:
            return
        while not self._tls.is_agreed():
            await self._flush(self._tls)
            _, data = await self._read()
            if not data:
                raise StaleError
            self._tls.incoming.write(data)
        await self._flush(self._tls)

    async def send(self, data: bytes) -> None:
        """Send all of it. A connection that is broken says so to whoever reads next: an answer may have come before."""
        with suppress(OSError):
            if self._tls is None:
                await self._send(data)
            else:
                self._tls.encrypted.write(data)
                await self._flush(self._tls)

    async def receive(self, *, by_event: bool = False) -> Pieces:
        """What came next, and when; an empty last piece is the connection's end.

        Args:
            by_event: it is a stream of events, and more than one may have come since the last call: the kernel tells
                of the last byte that it hands out when it came, so it is asked for one event after the other. (Where
                it has joined their packets there is one time for all; it does so on networks, not within a machine.)

        Raises:
            TargetError: ``protocol``; what came is not TLS where it should be.
        """
        if self._tls is None:
            return await self._read_events() if by_event else [await self._read()]
        while not self._tls.ended:
            at, data = await self._read()
            if not data:
                break
            plain = self._tls.decrypted(data)
            with suppress(OSError):  # as for `send`
                await self._flush(self._tls)
            if plain:
                return [(at, plain)]
        return [(self.clock.arrival(None), b"")]

    def is_spoilt(self) -> bool:
        """Whether the idle connection has something to say: its end, or bytes that would pass for the next answer."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Close at once."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    async def _read_events(self) -> Pieces:
        """All that has come, one event a piece."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError:  # reset: that is an end too
                data = b""
            return [self._take(size) for size in event_sizes(data)] if data else [(self.clock.arrival(None), b"")]

    async def _read(self) -> tuple[float, bytes]:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._take(_RECEIVE_BYTES)

    def _take(self, most: int) -> tuple[float, bytes]:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(most, ANCILLARY_BYTES)
        except BlockingIOError:
            raise
        except OSError:
            return self.clock.arrival(None), b""
        return self.clock.arrival(kernel_time(ancillary)), data

    async def _flush(self, tls: "_Tls") -> None:
        if tls.outgoing.pending:
            await self._send(tls.outgoing.read())

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        await trio.lowlevel.checkpoint_if_cancelled()
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)


@define(eq=False)
class _Tls:
    """TLS on buffers.

    Attributes:
        incoming: what came, encrypted.
        outgoing: what is to be sent, encrypted.
        encrypted: takes what is to be sent, in plain.
        ended: whether the other side said that nothing more comes.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    encrypted: ssl.SSLObject
    ended: bool = False

    @classmethod
    def to(cls, host: str, context: ssl.SSLContext) -> "_Tls":
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(incoming, outgoing, context.wrap_bio(incoming, outgoing, server_hostname=host))

    def is_agreed(self) -> bool:
        """Go on with the handshake; whether it is done. Raises ``ssl.SSLError``."""
        try:
            self.encrypted.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypted(self, data: bytes) -> bytes:
        """All that these bytes, and what was held back, make up; may be empty."""
        self.incoming.write(data)
        pieces: list[bytes] = []
        try:
            while piece := self.encrypted.read(_RECEIVE_BYTES):
                pieces.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise TargetError("protocol", f"Its TLS broke: {error.reason or error}.") from error
        return b"".join(pieces)


def _why(error: Exception) -> str:
    """Why there is no connection, as the end of a sentence."""
    if (why := distrust(error)) is not None:
        return why
    if isinstance(error, StaleError):
        return "it broke off"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    leaf: BaseException = error
    while isinstance(leaf, BaseExceptionGroup) or leaf.__cause__ is not None:
        leaf = leaf.exceptions[0] if isinstance(leaf, BaseExceptionGroup) else leaf.__cause__ or leaf
    if isinstance(leaf, socket.gaierror) or not isinstance(leaf, OSError) or leaf.errno is None:
        return str(getattr(leaf, "strerror", None) or leaf or "it broke off")
    return os.strerror(leaf.errno)  # trio's own text repeats the address
