"""A request in an engine worker, seen from the neuron: tokens pile up here until someone looks."""

from collections.abc import Callable, Iterable

import trio

from helexa.neuron.ports import End, Progress


class LiveGeneration:
    """One reader, one writer, no waiting for the reader: what piles up is bounded by the request's own token limit.

    A channel with room for so many items would either make the worker's reader wait for the slowest client or drop
    tokens.

    Args:
        abort: called once, when the reader closes before the end has come.
    """

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self._ids: list[int] = []
        self._end: End | None = None
        self._news = trio.Event()

    def extend(self, ids: Iterable[int]) -> None:
        """The worker's new tokens."""
        self._ids += ids
        self._news.set()

    def finish(self, end: End) -> None:
        """The worker's last word."""
        self._end = end
        self._news.set()

    async def progress(self) -> Progress:
        """Wait for tokens or the end; everything since the last call."""
        await self._news.wait()
        if self._end is None:
            self._news = trio.Event()
        ids, self._ids = tuple(self._ids), []
        return Progress(ids, self._end)

    def close(self) -> None:
        """Abort unless the end has come. Idempotent."""
        if self._end is None:
            self._end = End("abort")
            self._abort()
