"""The ranks of a neuron as a recording stand-in: none is ever run."""

import trio
from attrs import define, field

from helexa.wire.errors import ApiError
from helexa.wire.fleet import ActorReport
from helexa.wire.rank_reports import RankReport, RankStatus
from helexa.wire.ranks import RankRequest


@define(eq=False)
class FakeRanks:
    """Implements `ports.Ranks`.

    Attributes:
        held: what was asked for and is still wanted, by group and device.
        started: every request that was taken.
        stopped: every group that was ended.
        broken: raised by a start.
        gate: starts wait for it.
        status: of every rank.
    """

    held: dict[tuple[str, str], RankRequest] = field(factory=dict)
    started: list[RankRequest] = field(factory=list)
    stopped: list[str] = field(factory=list)
    broken: ApiError | None = None
    gate: trio.Event | None = None
    status: RankStatus = "running"

    def reports(self) -> tuple[RankReport, ...]:
        return tuple(map(self._report, self.held.values()))

    def _report(self, request: RankRequest) -> RankReport:
        return RankReport(request.group, request.device, request.rank, request.ranks, self.status)

    def actors(self) -> tuple[ActorReport, ...]:
        return tuple(ActorReport(f"tp-follower:{device}", "running", 0, 0, None, 1.5) for _, device in self.held)

    async def start(self, request: RankRequest) -> RankReport:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        self.started.append(request)
        self.held[request.group, request.device] = request
        return self._report(request)

    async def stop(self, group: str) -> None:
        mine = [at for at in self.held if at[0] == group]
        for at in mine:
            del self.held[at]
        if not mine:
            raise ApiError(404, f"This host runs no rank of '{group}'.", "invalid_request_error", "rank_not_found")
        self.stopped.append(group)
