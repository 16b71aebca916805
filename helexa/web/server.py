"""Hypercorn on trio, with the sockets and the shutdown in our hands."""

import errno
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypercorn.protocol
import hypercorn.trio.run
import structlog
import trio
from attrs import define, field
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.trio.tcp_server import TCPServer

from helexa.faults import OperatorError
from helexa.web.http11 import Http11

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STALLED_READER_MS = 60_000
"""A client that acknowledges nothing for this long is cut off by the kernel.

Hypercorn shields its ``send``, so no cancel scope of ours can free a task that waits for a stalled reader.
"""
HEADER_SECONDS = 75
"""How long a connection may take to bring a whole request head, and to bring another after an answer.

Counted from when the connection came or was last answered, whatever trickles in meanwhile.
"""
HANDSHAKE_SECONDS = 10
LARGEST_HEAD = 32 * 2**10
"""Bytes of a request's line and headers."""
BACKLOG = 1024
DRAIN_SECONDS = 2.0
CUT_SECONDS = 1.5
_log = structlog.get_logger()


class _Connection(TCPServer):
    """One connection, whose faults are its own.

    Hypercorn lets what it raises about a client's bytes, such as a WebSocket handshake that is no ASCII or frames that
    come before their time, end the whole server.
    """

    async def run(self) -> None:
        """Serve it."""
        try:
            await super().run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other connections have no part in it
            _log.warning("http.connection_failed", error=type(error).__name__, exc_info=error)


hypercorn.protocol.H11Protocol = Http11  # type: ignore[attr-defined] # there it is looked up for each connection
hypercorn.trio.run.TCPServer = _Connection  # type: ignore[attr-defined] # likewise


class PortInUseError(OperatorError):
    """A listener that cannot be bound; the message names the address and who asked for it."""


def allow_connections(wanted: int = 65_536) -> None:
    """Let this process, and those it starts, have so many files and sockets open, or as many as the system lets it.

    The usual limit of 1024 is there for programs that cannot count further. A gateway needs two for each request.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def bind(host: str, port: int, asked_by: str) -> socket.socket:
    """A listening TCP socket. The caller owns it until it is handed to ``serve``.

    Args:
        host: address or name to bind.
        port: TCP port; 0 picks a free one.
        asked_by: the topology key that wants it, for the error.

    Raises:
        PortInUseError: the address cannot be bound.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver would take
        raise PortInUseError(_why(host, port, asked_by, error)) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_READER_MS)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise PortInUseError(_why(host, port, asked_by, error)) from error
    return sock


def _why(host: str, port: int, asked_by: str, error: OSError | UnicodeError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = getattr(error, "strerror", None) or error
    taken = getattr(error, "errno", None) == errno.EADDRINUSE
    remedy = f"Stop what holds the port, or give {asked_by} another one" if taken else f"Give {asked_by} another one"
    return f"cannot listen on {where}, which {asked_by} asks for: {reason}. {remedy}."


@define(eq=False)
class Drain:
    """How a server ends: requests in flight get ``DRAIN_SECONDS``, then each stream ends with an error event.

    Attributes:
        stopping: set when the server no longer takes new requests.
    """

    stopping: trio.Event = field(factory=trio.Event)
    _scopes: set[trio.CancelScope] = field(factory=set)
    _has_cut: bool = False

    @contextmanager
    def cuttable(self) -> Iterator[trio.CancelScope]:
        """A cancel scope for one request's work, known here while it lasts; cancelled from the start after ``cut``."""
        with trio.CancelScope() as scope:
            if self._has_cut:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def cut(self) -> None:
        """Cancel the work of every request still in flight; its handler then writes the terminal error event."""
        self._has_cut = True
        for scope in list(self._scopes):
            scope.cancel()


async def serve(
    app: App,
    sock: socket.socket,
    drain: Drain,
    tls: ssl.SSLContext | None = None,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``drain.stopping`` is set or the caller cancels; owns ``sock``.

    Shutdown order: no new connections, ``DRAIN_SECONDS`` for what is in flight, ``Drain.cut``, ``CUT_SECONDS`` for the
    terminal events to leave, then hypercorn cancels what is left.

    Args:
        app: who answers.
        sock: where.
        drain: how it ends.
        tls: what is shown to clients, as ``tls.server_context`` makes it; ``None``: plain HTTP.
        task_status: told once connections are taken.
    """
    config = _config(sock, tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cut_after_drain, drain)
        await _serve(app, config, drain.stopping.wait, task_status)
        nursery.cancel_scope.cancel()  # nothing in flight is left to be cut


async def _serve(
    app: App,
    config: Config,
    trigger: Callable[..., Awaitable[None]],
    task_status: trio.TaskStatus[list[str]],
) -> None:
    # mode is given because hypercorn would otherwise have to guess from the callable's signature
    await hypercorn_serve(app, config, shutdown_trigger=trigger, task_status=task_status, mode="asgi")  # type: ignore[arg-type]


async def _cut_after_drain(drain: Drain) -> None:
    await drain.stopping.wait()
    await trio.sleep(DRAIN_SECONDS)
    drain.cut()


class _Config(Config):
    """Hypercorn's settings, with a context that was made, and found to be good, before anything was started."""

    tls: ssl.SSLContext | None = None

    @property
    def ssl_enabled(self) -> bool:
        return self.tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self.tls


def _config(sock: socket.socket, tls: ssl.SSLContext | None) -> Config:
    config = _Config()
    config.tls = tls
    # detached: hypercorn closes the descriptor, and a second owner would close whoever got its number next
    config.bind = [f"fd://{sock.detach()}"]
    config.backlog = BACKLOG
    config.graceful_timeout = DRAIN_SECONDS + CUT_SECONDS
    config.keep_alive_timeout = HEADER_SECONDS
    config.keep_alive_max_requests = 1_000_000
    config.ssl_handshake_timeout = HANDSHAKE_SECONDS
    config.h11_max_incomplete_size = LARGEST_HEAD
    config.include_server_header = config.include_date_header = False  # the latter is `http11`'s
    config.accesslog = None
    config.loglevel = "WARNING"
    return config
