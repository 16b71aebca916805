"""A server that is slower than it should be: it hands on what another one answers, each piece a share later.

What comes `t` seconds after it was asked for is handed on after `t * factor`, so that first tokens, gaps between tokens
and totals all grow by the same factor, as they would in a build that is slower throughout.

By hand: `python tests/support/slow_proxy.py 8001 8000 1.2` stands on port 8001 before what serves on 8000.
"""

import sys
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import trio
from own_thread import on_a_thread

_PIECE = 65536
_PIECES = 10_000


async def relay(upstream: int, factor: float, client: trio.SocketStream) -> None:
    """One connection, until either side ends it."""
    with trio.CancelScope() as scope:
        try:
            async with client, await trio.open_tcp_stream("127.0.0.1", upstream) as server:
                await _both_ways(client, server, factor, scope)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # whoever was talked to is gone, and so is the connection


async def _both_ways(
    client: trio.SocketStream, server: trio.SocketStream, factor: float, scope: trio.CancelScope
) -> None:
    asked = [trio.current_time()]
    send, receive = trio.open_memory_channel[tuple[float, bytes]](_PIECES)

    async def questions() -> None:
        while piece := await client.receive_some(_PIECE):
            asked[0] = trio.current_time()
            await server.send_all(piece)
        scope.cancel()

    async def answers() -> None:
        with send:
            while piece := await server.receive_some(_PIECE):
                now = trio.current_time()
                await send.send((asked[0] + factor * (now - asked[0]), piece))

    async def hand_on() -> None:
        async for due, piece in receive:  # a task of its own: one that slept between reads would stamp pieces too late
            await trio.sleep_until(due)
            await client.send_all(piece)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for part in (questions, answers, hand_on):
            nursery.start_soon(part)


async def serve(port: int, upstream: int, factor: float, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on `port` (0: any) until cancelled; `started` with the port."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(partial(relay, upstream, factor), listeners)


def slowed(upstream: int, factor: float) -> AbstractContextManager[int]:
    """Such a server on a thread of its own; its port."""
    return on_a_thread(lambda nursery: nursery.start(serve, 0, upstream, factor))


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
