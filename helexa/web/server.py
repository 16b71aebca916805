"""Hypercorn on trio, with the sockets and the shutdown in our hands."""

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from attrs import define, field
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STALLED_READER_MS = 60_000
"""A client that acknowledges nothing for this long is cut off by the kernel.

Hypercorn shields its ``send``, so no cancel scope of ours can free a task that waits for a stalled reader.
"""
BACKLOG = 1024
DRAIN_SECONDS = 2.0
CUT_SECONDS = 1.5


class PortInUseError(Exception):
    """A listener that cannot be bound; the message names the address and who asked for it."""


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
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``drain.stopping`` is set or the caller cancels; owns ``sock``.

    Shutdown order: no new connections, ``DRAIN_SECONDS`` for what is in flight, ``Drain.cut``, ``CUT_SECONDS`` for the
    terminal events to leave, then hypercorn cancels what is left.
    """
    config = _config(sock)
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


def _config(sock: socket.socket) -> Config:
    config = Config()
    # detached: hypercorn closes the descriptor, and a second owner would close whoever got its number next
    config.bind = [f"fd://{sock.detach()}"]
    config.backlog = BACKLOG
    config.graceful_timeout = DRAIN_SECONDS + CUT_SECONDS
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000
    config.include_server_header = False
    config.accesslog = None
    config.loglevel = "WARNING"
    return config
