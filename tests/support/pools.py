"""A pool of device workers in a thread with a trio of its own: several tests use it, each enters there."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from attrs import define, field
from structlog.testing import capture_logs

from actors.device_pool import DevicePool
from actors.device_worker import DeviceWorker
from actors.generation import LiveGeneration
from helexa.neuron.ports import End
from helexa.wire.fleet import ModelReport

T = TypeVar("T")
PATIENCE = 90


@define(eq=False)
class Running:
    """Call it to run an async function there."""

    pool: DevicePool
    token: Any = None
    stop: trio.Event = field(factory=trio.Event)
    ready: threading.Event = field(factory=threading.Event)

    async def main(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.pool.run)
            self.ready.set()
            await self.stop.wait()
            nursery.cancel_scope.cancel()

    def __call__(self, work: Callable[[DevicePool], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with trio.fail_after(PATIENCE):
                return await work(self.pool)

        return trio.from_thread.run(bounded, trio_token=self.token)


@contextmanager
def running_pool(pool: DevicePool) -> Iterator[Running]:
    """The pool, until the block ends."""
    running = Running(pool)
    thread = threading.Thread(target=trio.run, args=[running.main])
    with capture_logs():
        thread.start()
        running.ready.wait()
        yield running
        trio.from_thread.run_sync(running.stop.set, trio_token=running.token)
        thread.join()


def worker_of(pool: DevicePool, device: str = "cpu") -> DeviceWorker:
    return pool._workers[f"device-worker:{device}"]


def report_of(pool: DevicePool, model: str = "m") -> ModelReport:
    (found,) = (each for each in pool.reports() if each.id == model)
    return found


async def read(generation: LiveGeneration) -> tuple[list[int], End]:
    """The tokens of the one choice there is, and its end."""
    ids: list[int] = []
    while True:
        (news,) = await generation.progress()
        ids += news.ids
        if news.end is not None:
            return ids, news.end


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - real processes
        await trio.sleep(0.02)
