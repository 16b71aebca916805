"""The ranks that a neuron runs for groups that other neurons lead.

A rank is a process that comes to its group's first rank, wherever that is, and does what it says. When it ends, for
whatever reason, it is started again, for the first rank's host builds its group anew as well. It is given up when its
budget is used up: of ``actors.tp_leader.restart`` as it comes that is after some ten minutes in which there was no
first rank to come to, so that a leader that is gone for good leaves nothing behind.
"""

import socket
from collections.abc import Sequence
from typing import Final

import trio
from attrs import define

from actors.actor import ActorState, ActorStatus
from actors.reports import actor_report
from actors.supervisor import Supervisor, SupervisorNotRunningError
from actors.tp_leader import Meeting, TpFollower
from config import Address, RestartPolicy
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport
from helexa.wire.rank_reports import RankReport, RankStatus
from helexa.wire.ranks import RankRequest

_STATUSES: Final[dict[ActorState, RankStatus]] = {
    "starting": "starting",
    "running": "running",
    "backoff": "starting",
    "failed": "failed",
    "stopped": "failed",
}


@define(eq=False)
class _Rank:
    """What was asked for on one device, and what became of it."""

    request: RankRequest
    status: RankStatus = "starting"
    restarts: int = 0
    error: str | None = None

    def note(self, status: ActorStatus) -> None:
        self.status, self.restarts, self.error = _STATUSES[status.state], status.restarts, status.last_error

    def report(self) -> RankReport:
        asked = self.request
        return RankReport(asked.group, asked.device, asked.rank, asked.ranks, self.status, self.restarts, self.error)


class RankPool:
    """Runs ranks of others' groups, one a device. Supervises them; implements ``ports.Ranks``.

    Args:
        devices: torch's names of the devices of this host.
        own: this host's address towards the other ranks; ``None``: it runs none.
        policy: restart budget of each rank.
        threads: CPU threads of each; 0 leaves the choice to torch.
    """

    def __init__(self, devices: Sequence[str], own: Address | None, policy: RestartPolicy, threads: int = 0) -> None:
        self._devices = tuple(devices)
        self._own = own
        self._policy = policy
        self._threads = threads
        self._ranks: dict[str, _Rank] = {}
        self._changing = trio.Lock()
        self._supervisor = Supervisor("ranks", on_change=self._note)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is asked for until cancelled; then every rank has ended."""
        await self._supervisor.run(task_status=task_status)

    def reports(self) -> tuple[RankReport, ...]:
        """Every rank that was asked for and is still wanted."""
        return tuple(rank.report() for rank in self._ranks.values())

    def actors(self) -> tuple[ActorReport, ...]:
        """The ranks as actors."""
        return tuple(actor_report(status) for status in self._supervisor.status())

    async def start(self, request: RankRequest) -> RankReport:
        """Run a rank from now on; instead of the one that this group had on the device, if it was another one.

        Does not wait until the group has come together: that takes the first rank, which may start later.

        Raises:
            ApiError: ``device_not_found``; ``device_busy`` while another group has a rank there; ``no_interconnect``
                if this host has no address at which ranks of others could be reached.
        """
        own = self._check(request)
        async with self._changing:
            held = self._ranks.get(request.device)
            if held is not None and held.request.group != request.group and held.status != "failed":
                raise _busy(request.device, held.request.group)
            if held is None or held.request != request or held.status == "failed":
                await self._end(request.device)
                self._begin(request, own)
        return self._ranks[request.device].report()

    async def stop(self, group: str) -> None:
        """End all ranks of a group; returns when their processes are gone.

        Raises:
            ApiError: ``rank_not_found``.
        """
        async with self._changing:
            devices = [device for device, rank in self._ranks.items() if rank.request.group == group]
            for device in devices:
                await self._end(device)
        if not devices:
            message = f"This host runs no rank of '{group}'."
            raise ApiError(404, message, "invalid_request_error", "rank_not_found")

    def _check(self, request: RankRequest) -> str:
        """This host's own address, if the rank can be run at all."""
        if request.device not in self._devices:
            message = f"There is no device '{request.device}'; this host has {', '.join(self._devices)}."
            raise ApiError(404, message, "invalid_request_error", "device_not_found")
        if self._own is None:
            raise no_interconnect("none is set for this neuron in the topology")
        if (problem := _unusable(self._own.host)) is not None:
            raise no_interconnect(f"{self._own.host} cannot be used: {problem}")
        return self._own.host

    def _begin(self, request: RankRequest, own: str) -> None:
        meeting = Meeting(request.host, request.port, request.token)
        follower = TpFollower(
            request.device, rank=request.rank, ranks=request.ranks, own=own, meeting=meeting, threads=self._threads
        )
        self._ranks[request.device] = _Rank(request)
        try:
            self._supervisor.spawn(follower, self._policy, escalate=False)
        except SupervisorNotRunningError as error:
            del self._ranks[request.device]
            raise errors.shutting_down() from error

    async def _end(self, device: str) -> None:
        """Stop what runs on a device, if anything does. Shielded: half ended, it would still be in the way."""
        if device not in self._ranks:
            return
        with trio.CancelScope(shield=True):  # bounded by the end of a process
            await self._supervisor.stop(_name(device))
        del self._ranks[device]

    def _note(self, status: ActorStatus) -> None:
        for device, rank in self._ranks.items():
            if _name(device) == status.name:
                rank.note(status)


def _name(device: str) -> str:
    """What ``TpFollower`` is called."""
    return f"tp-follower:{device}"


def _unusable(host: str) -> str | None:
    """Why no connection can come from an address; it may have been taken from this host, or never been its."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((host, 0))
    except OSError as error:
        return error.strerror or str(error)
    return None


def no_interconnect(why: str) -> ApiError:
    """Ranks of other hosts cannot meet those of this one."""
    message = f"This host has no interconnect address: {why}."
    return ApiError(409, message, "invalid_request_error", "no_interconnect")


def _busy(device: str, group: str) -> ApiError:
    message = f"The device '{device}' has a rank of '{group}'; it runs one rank at a time."
    return ApiError(409, message, "invalid_request_error", "device_busy")
