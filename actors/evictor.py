"""Unloads what nobody has used for a while, and has worn devices begin anew."""

import math
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
import trio

from actors.actor import Actor
from actors.control import ControlError
from actors.loads import BusyError
from actors.router import Router
from helexa.cortex.routing import eviction
from helexa.cortex.routing.fleet import At

INTERVAL_SECONDS = 1.0
AGAIN_SECONDS = 60.0
"""After a node was asked for something that it may not have done."""
_log = structlog.get_logger()


class Evictor(Actor):
    """Looks at the fleet every second. What it decides on is the router's state of that very moment.

    Args:
        router: whose state it is, and who carries out what is decided.
    """

    def __init__(self, router: Router) -> None:
        self.name = "evictor"
        self._router = router
        self._tried: dict[At, float] = {}
        self._tended: set[str] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Evict for ever."""
        self._tended.clear()
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._look(nursery)
                await trio.sleep(INTERVAL_SECONDS)

    def _look(self, nursery: trio.Nursery) -> None:
        """Have everything done that is due now, each node by itself: one that hangs delays no other."""
        now = trio.current_time()
        self._tried = {at: then for at, then in self._tried.items() if now < then + AGAIN_SECONDS}
        idle, worn = eviction.idle(self._router.fleet(), now), eviction.worn(self._router.fleet())
        for node in {at[0] for at in (*idle, *worn)} - self._tended:
            self._tended.add(node)
            nursery.start_soon(self._tend, node, _of(node, idle), _of(node, worn))

    async def _tend(self, node: str, idle: list[At], worn: list[At]) -> None:
        """See to one node: its models, then its devices."""
        for at in idle:
            await self._try(at, self._evict)
        for at in worn:
            await self._try(at, self._restart)
        self._tended.discard(node)

    async def _try(self, at: At, act: Callable[[At], Awaitable[None]]) -> None:
        if trio.current_time() >= self._tried.get(at, -math.inf) + AGAIN_SECONDS:
            await act(at)

    async def _evict(self, at: At) -> None:
        if at not in eviction.idle(self._router.fleet(), trio.current_time()):
            return  # used again while another one was being unloaded
        try:
            await self._router.loads.unload(at, "it was idle", "model.evicted")
        except (BusyError, ControlError) as error:
            self._tried[at] = trio.current_time()
            _log.warning("model.not_evicted", node=at[0], model=at[1], error=str(error))

    async def _restart(self, at: At) -> None:
        if at in eviction.worn(self._router.fleet()):
            self._tried[at] = trio.current_time()
            await self._router.loads.restart(*at)


def _of(node: str, places: list[At]) -> list[At]:
    return [at for at in places if at[0] == node]
