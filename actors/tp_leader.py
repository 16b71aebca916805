"""Owns a tensor-parallel group: a process per rank, of which the first is the engine worker of all.

To the pool it is a device worker like any other, whose process is a group. A group lives and dies together: the end of
any rank is the end of all, within a moment, and the supervisor has the whole group started again, its models loaded and
its requests taken up, as after the death of a single worker.

What notices what: a process that ends is seen here, and by the other ranks as a connection that ends; a rank that does
not take part in a step is given up by the others after ``patience``; a first rank that falls silent, or whose step does
not end, is judged by its heartbeats like any worker.
"""

import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import Self

import trio
from attrs import define, evolve, field, frozen

from actors import python
from actors.actor import Actor
from actors.device_worker import RECOVERY_SECONDS, STOP_SECONDS, DeviceWorker
from actors.engine_link import LINGER_SECONDS, EngineLink
from actors.process import ChildProcess, Exit
from actors.vitals import LOAD_SECONDS
from helexa.neuron import hosts
from helexa.wire.ranks import group_of

TOKEN = "HELEXA_RANKS_TOKEN"  # noqa: S105 - the variable's name, as in `helexa.engine.ranks`, which imports torch
PATIENCE = 60.0
"""Seconds that a rank may keep the others waiting within a step."""
_GONE, _WEDGED, _ALONE = 3, 4, 6
"""Exit codes, as in `helexa.engine.parallel.control`: it lost another rank; another rank kept it waiting; the ranks did
not come together."""


class RankDiedError(Exception):
    """The process of a rank ended, or had to be ended."""


@frozen
class RankExit(Exit):
    """How the first rank ended that ended by itself."""

    rank: int = 0

    def __str__(self) -> str:
        if self.signal is None and self.code == _GONE:
            return f"its rank {self.rank} lost another rank"
        if self.signal is None and self.code == _WEDGED:
            return f"its rank {self.rank} waited too long for another rank"
        if self.signal is None and self.code == _ALONE:
            return f"its rank {self.rank} did not find the others, or is not let in by them"
        return f"its rank {self.rank} {super().__str__()}"


def culprit(ends: Mapping[int, Exit]) -> RankExit:
    """Which rank's end was the cause, of ends in the order they were seen: not one that only followed. Pure."""
    rank = min(ends, key=lambda each: (ends[each].code == _GONE, list(ends).index(each)))
    return RankExit(ends[rank].code, ends[rank].signal, rank)


@frozen
class Meeting:
    """Where the ranks of a group find each other.

    Attributes:
        host: address of this host that the other ranks reach it by; nothing listens on another one.
        port: 0 takes a free one, which only ranks that are started here can know.
        token: the group's secret; ``None`` makes one, which only ranks that are started here can know.
        elsewhere: how many ranks, the last ones, other hosts start.
        patience: seconds that a rank may keep the others waiting within a step.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    elsewhere: int = 0
    patience: float = PATIENCE


@define(eq=False)
class GroupLink(EngineLink):
    """Frames to and from a group's first rank; owns all processes that were started here."""

    _others: dict[int, ChildProcess] = field(factory=dict, kw_only=True)
    _ends: dict[int, Exit] = field(factory=dict, kw_only=True)

    @classmethod
    async def start(cls, devices: Sequence[str], threads: int, meeting: Meeting) -> Self:
        """Start the ranks of this host; cancelling leaves neither a process nor a socket behind."""
        children: dict[int, ChildProcess] = {}
        with _listen(meeting) as listener:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    await _spawn_all(children, _commands(devices, threads, meeting, theirs, listener), meeting)
                except BaseException:
                    ours.close()
                    await _stop_all(children, 0)
                    raise
        ours.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        return cls(children.pop(0), stream, others=children)

    async def write_for_ever(self) -> None:
        """Write what is queued, as it comes; ends the first rank when another one ends."""
        async with trio.open_nursery() as nursery:
            for rank, child in self._others.items():
                nursery.start_soon(self._watch, rank, child)
            await super().write_for_ever()

    async def _watch(self, rank: int, child: ChildProcess) -> None:
        self._ends[rank] = await child.wait()
        if self._child.exit is None:
            # its own end is told too, if it ended before it could be killed: by whatever killed the other as well
            self._ends[0] = await self._child.stop(0)

    async def kill(self) -> None:
        """End all processes at once."""
        async with trio.open_nursery() as nursery:
            for child in (self._child, *self._others.values()):
                nursery.start_soon(child.stop, 0)

    async def close(self, grace: float) -> Exit:
        """Close the socket, let the processes end by that, or stop them within ``grace`` seconds; reap them.

        Returns:
            How the first of them ended that was not ended by another's end.
        """
        try:
            exit_ = await super().close(grace)
            self._ends.setdefault(0, exit_)
        finally:  # also when the first is stuck in the kernel
            async with trio.open_nursery() as nursery:
                for rank, child in self._others.items():
                    nursery.start_soon(self._end, rank, child, grace)
        return culprit(self._ends)

    async def _end(self, rank: int, child: ChildProcess, grace: float) -> None:
        """Let a rank end with the first; how it is stopped, if it does not, tells nothing about the cause."""
        with trio.move_on_after(LINGER_SECONDS):
            self._ends.setdefault(rank, await child.wait())
        await child.stop(grace)


class TpLeader(DeviceWorker):
    """The ranks of one tensor-parallel group, and what is known of its models and requests.

    Args:
        devices: torch's names of the devices of this host, rank 0's first.
        threads: CPU threads of each rank; 0 shares a host's cores among its ranks on CPUs.
        memory: bytes of each device that its models may have together; ``None`` for what is free.
        recovery: seconds that a request waits for a new group to serve its model.
        load_seconds: how long a load may read nothing before the group is ended.
        meeting: where the ranks find each other.
        label: what tells it from another group with ranks on the same devices, if there can be one.
    """

    def __init__(  # noqa: PLR0913 - what a worker takes, and where its ranks meet
        self,
        devices: Sequence[str],
        *,
        threads: int = 0,
        memory: int | None = None,
        recovery: float = RECOVERY_SECONDS,
        load_seconds: float = LOAD_SECONDS,
        meeting: Meeting | None = None,
        label: str = "",
    ) -> None:
        super().__init__(
            group_of(tuple(devices)),
            threads=threads or _threads(devices),
            memory=memory,
            recovery=recovery,
            load_seconds=load_seconds,
        )
        self.name = f"tp-leader:{self.device}{label and '/'}{label}"
        self._devices = tuple(devices)
        self._meeting = meeting or Meeting()

    async def _open(self) -> EngineLink:
        meeting = evolve(self._meeting, token=self._meeting.token or secrets.token_hex(32))
        return await GroupLink.start(self._devices, self._threads, meeting)


class TpFollower(Actor):
    """A rank of a group that another host leads: a process that comes to it, and is started again when it ends.

    Args:
        device: torch's name of it.
        rank: its number.
        ranks: how many there are.
        own: this host's address towards the other ranks.
        meeting: where the first rank is; host, port and token have to be given.
    """

    def __init__(  # noqa: PLR0913 - what tells one rank of one group from all others
        self, device: str, *, rank: int, ranks: int, own: str, meeting: Meeting, threads: int = 0
    ) -> None:
        self.name = f"tp-follower:{device}"
        self._command = _command(
            _Place(rank, ranks, device, own, threads or hosts.usable_threads(), meeting.patience),
            meeting.host,
            meeting.port,
        )
        self._meeting = meeting
        self.pid: int | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run one process until it ends.

        Raises:
            RankDiedError: it ended; the supervisor starts the next one.
        """
        child = await ChildProcess.spawn(self._command, env=_environment(self._meeting), name=self.name)
        self.pid = child.pid
        task_status.started()
        try:
            exit_ = await child.wait()
        finally:
            self.pid = None
            await child.stop(STOP_SECONDS)
        raise RankDiedError(f"the process of {self.name} {_reason(exit_)}")


def _reason(exit_: Exit) -> str:
    """What became of a rank that another host leads."""
    if exit_.signal is None and exit_.code == _ALONE:
        return "did not find the first rank, or is not let in by it"
    return "lost the other ranks" if exit_.signal is None and exit_.code == _GONE else str(exit_)


@frozen
class _Place:
    """Which rank a process is. ``own``: its host's address towards the others."""

    rank: int
    ranks: int
    device: str
    own: str
    threads: int
    patience: float


def _commands(
    devices: Sequence[str], threads: int, meeting: Meeting, engine: socket.socket, listener: socket.socket
) -> list[tuple[list[str], tuple[int, ...]]]:
    """Command line and inherited descriptors of each rank of this host."""
    ranks, port, fds = len(devices) + meeting.elsewhere, listener.getsockname()[1], (engine.fileno(), listener.fileno())
    found: list[tuple[list[str], tuple[int, ...]]] = []
    for rank, device in enumerate(devices):
        place = _Place(rank, ranks, device, meeting.host, threads, meeting.patience)
        inherited = ("--fd", str(fds[0]), "--listen-fd", str(fds[1])) if rank == 0 else ()
        found.append(([*_command(place, meeting.host, port), *inherited], () if rank else fds))
    return found


def _command(place: _Place, host: str, port: int) -> list[str]:
    which = ("--rank", str(place.rank), "--ranks", str(place.ranks), "--device", place.device)
    where = ("--own", place.own, "--meet", f"{host}:{port}")
    limits = ("--threads", str(place.threads), "--patience", str(place.patience))
    return python.command("helexa.engine.ranks", *which, *where, *limits)


async def _spawn_all(
    children: dict[int, ChildProcess], commands: Sequence[tuple[list[str], tuple[int, ...]]], meeting: Meeting
) -> None:
    for rank, (command, fds) in enumerate(commands):
        name = f"engine rank {rank}"
        children[rank] = await ChildProcess.spawn(command, env=_environment(meeting), pass_fds=fds, name=name)


async def _stop_all(children: Mapping[int, ChildProcess], grace: float) -> None:
    for child in children.values():
        await child.stop(grace)


def _environment(meeting: Meeting) -> dict[str, str]:
    assert meeting.token is not None
    return {**python.environment(), TOKEN: meeting.token}


def _listen(meeting: Meeting) -> socket.socket:
    family = socket.AF_INET6 if ":" in meeting.host else socket.AF_INET
    return socket.create_server((meeting.host, meeting.port), family=family)


def _threads(devices: Sequence[str]) -> int:
    """At most: ranks on CPUs share what this host may use of its cores; one on a GPU uses what torch thinks right."""
    cpus = sum(device.partition(":")[0] == "cpu" for device in devices)
    return max(1, hosts.usable_threads() // max(1, cpus))
