"""Servers on a thread of their own, for commands that run an event loop themselves."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

T = TypeVar("T")


@contextmanager
def on_a_thread(start: Callable[[trio.Nursery], Awaitable[T]]) -> Iterator[T]:
    """What `start` gives, for as long as the nursery that it was given is open, on another thread."""
    found: list[Any] = []
    ready = threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            token = trio.lowlevel.current_trio_token()
            found.extend([await start(nursery), lambda: token.run_sync_soon(nursery.cancel_scope.cancel)])
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        found[1]()
        thread.join(10)
