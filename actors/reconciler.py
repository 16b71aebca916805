"""Has edits of the topology file take effect while the fleet serves, and keeps the last valid one when an edit is not.

The file is looked at twice a second. Notifications of the kernel would be quicker by a moment, and do not come for
files on network shares, behind replaced symbolic links, or in mounted configuration of containers.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
import trio

from actors.actor import Actor, error_line
from config import Changes, Topology, TopologyError, diff, load

INTERVAL_SECONDS = 0.5
AGAIN_SECONDS = 30.0
"""After a valid edit could not be put into force, as when a disk was full."""
Signature = tuple[int, int, int] | None
_log = structlog.get_logger()


class Reconciler(Actor):
    """Watches one file.

    Args:
        path: the file.
        current: the topology in force, as read from it.
        env: where overrides are looked for.
        apply: has another topology in force.
        reject: hears what is wrong with an edit; nothing: the latest one is in force again.
    """

    def __init__(
        self,
        path: Path,
        current: Topology,
        env: Mapping[str, str],
        apply: Callable[[Topology, Changes], Awaitable[None]],
        reject: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.name = "reconciler"
        self._path = path
        self._current = current
        self._env = env
        self._apply = apply
        self._reject = reject
        self._problems: tuple[str, ...] = ()
        self._last: tuple[Signature] | None = None
        self._acted_on: tuple[Signature] | None = None
        self._again_at = math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for ever."""
        task_status.started()
        while True:
            await self.look()
            await trio.sleep(INTERVAL_SECONDS)

    async def look(self) -> None:
        """Act on the file once it is another one and has been so for two looks.

        One that is just being written may be valid as far as it goes: an empty file is a fleet of nothing.
        """
        # in a thread, abandoned when cancelled: a network share may hang
        signature = (await trio.to_thread.run_sync(_signature, self._path, abandon_on_cancel=True),)
        settled, self._last = signature == self._last, signature
        if settled and (signature != self._acted_on or trio.current_time() >= self._again_at):
            await self._read()
            self._acted_on = signature

    async def _read(self) -> None:
        try:
            wanted = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)
        except TopologyError as error:
            self._refuse(tuple(map(str, error.problems)))
        except Exception as error:  # noqa: BLE001 - what no mistake in a file should lead to must not end the gateway
            self._refuse((f"{self._path}: cannot be read: {error_line(error)}",))
        else:
            await self._have(wanted)

    def _load(self) -> Topology:
        return load(self._path, env=self._env)

    def _refuse(self, problems: tuple[str, ...]) -> None:
        if problems == self._problems:
            return
        self._problems = problems
        _log.error("topology.rejected", file=str(self._path), problems=list(problems))
        self._reject(problems)

    def _mended(self) -> None:
        if self._problems:
            self._problems = ()
            self._reject(())

    async def _have(self, wanted: Topology) -> None:
        changes = diff(self._current, wanted)
        torn, self._again_at = self._again_at < math.inf, math.inf
        if not torn:
            self._mended()
        if changes or torn:
            await self._put_into_force(wanted, changes)

    async def _put_into_force(self, wanted: Topology, changes: Changes) -> None:
        """Apply an edit. Where that fails, part of it may be in force: then whatever the file says is applied again."""
        try:
            await self._apply(wanted, changes)
        except Exception as error:  # noqa: BLE001 - an edit must not be able to end the gateway
            self._again_at = trio.current_time() + AGAIN_SECONDS
            _log.error("topology.not_applied", file=str(self._path), exc_info=error)
            self._refuse((f"{self._path}: cannot be put into force: {error_line(error)}",))
            return
        self._current = wanted
        self._mended()
        _log.info("topology.applied", file=str(self._path), changes=changes.lines())


def _signature(path: Path) -> Signature:
    """Enough to tell an edited file from the one seen before; ``None`` if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
