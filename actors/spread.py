"""Has the other hosts of a group run their ranks of it, and lets go of them when the group is over.

A group's first rank, and so its requests, are its leader's; what is kept here is what its other ranks were asked to do:
a neuron that was started anew has forgotten it, and is asked again. Should this gateway have been started anew, nobody
can ask them again, as nobody else knows the group's secret; then the group fails when it loses a rank, and is loaded
anew by the next request.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NoReturn

import structlog
import trio
from attrs import define, field

from actors.control import ControlError, NeuronControl
from config import Address
from helexa.cortex.routing import spread
from helexa.cortex.routing.fleet import Node
from helexa.cortex.routing.policy import ColdLoad
from helexa.cortex.routing.state import State
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import Elsewhere, RankRequest, devices_of

ASK_SECONDS: Final = 30.0
"""For a neuron to start a rank, or to end one."""
LEAVE_SECONDS: Final = 10.0
"""For all of a group's neurons to end their ranks, which nothing waits for longer: they are asked again later."""
LOOK_SECONDS: Final = 5.0
"""Between two looks at which ranks there are; the first rank waits some 100 s for one that has to come again."""
_log = structlog.get_logger()

_Asked = tuple[tuple[str, RankRequest], ...]
"""A group's ranks but for the leader's: the nodes, and what each was asked to run."""


@define(eq=False)
class Spread:
    """The groups that several nodes share. Never changes the fleet's state.

    Attributes:
        state: the fleet's.
        control: reaches the neurons.
    """

    state: State
    control: NeuronControl
    _groups: dict[str, _Asked] = field(factory=dict, repr=False)
    _strays: frozenset[tuple[str, str]] = frozenset()
    _asking: trio.Lock = field(factory=trio.Lock)

    async def follow(self, leader: str, plan: ColdLoad) -> Elsewhere:
        """Have the other nodes of a plan run their ranks, before its leader is asked to load.

        Args:
            leader: the node of rank 0.
            plan: with others.

        Returns:
            What the leader is to be told of them.

        Raises:
            ControlError: one of them does not; then none does.
        """
        meet, group = self._meeting_place(leader), spread.name_of(leader, plan.model)
        elsewhere = Elsewhere(len(plan.others), meet.host, meet.port, secrets.token_hex(32))
        asked = tuple(_asked(group, plan, elsewhere))
        async with self._asking:  # what it was asked before must not come after
            self._groups.pop(group, None)
            try:
                await self._each(asked, self._start)
            except BaseException:
                await self._release(group, asked)
                raise
            self._groups[group] = asked
        return elsewhere

    async def unfollow(self, node: str, model: str) -> None:
        """End the ranks of a model that ``node`` led, wherever they are; nothing if they are not known.

        Never raises. Neurons that do not answer are asked again when they do.
        """
        group = spread.name_of(node, model)
        if (asked := self._groups.pop(group, None)) is not None:
            await self._release(group, asked)

    async def tend(self) -> NoReturn:
        """For ever: have missing ranks run again, and ranks of groups that are over ended."""
        while True:
            await self._look()
            await trio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        groups, found = dict(self._groups), dict[str, tuple[RankReport, ...]]()

        async def ask(node: Node) -> None:
            try:
                with trio.fail_after(ASK_SECONDS):
                    found[node.name] = await self.control.ranks(node.endpoint)
            except (ControlError, trio.TooSlowError) as error:
                _log.info("ranks.unknown", node=node.name, error=str(error) or "it takes too long")

        async with trio.open_nursery() as nursery:
            for node in spread.can_share(self.state.fleet):
                nursery.start_soon(ask, node)
        await self._end_strays(found)
        for group, asked in groups.items():
            async with self._asking:
                await self._mend(group, asked, found)

    async def _end_strays(self, found: dict[str, tuple[RankReport, ...]]) -> None:
        """End what no group needs, as two looks in a row see it: one may have seen a leader that was just starting."""
        fleet = self.state.fleet
        there = {(node, each.group) for node, reports in found.items() for each in reports}
        strays = frozenset(at for at in there if spread.is_over(fleet, at[1]))
        old, self._strays = self._strays & strays, strays
        for node, group in old:
            await self._stop(node, group)

    async def _mend(self, group: str, asked: _Asked, found: dict[str, tuple[RankReport, ...]]) -> None:
        """Ask neurons again that have forgotten their ranks. One that has given up on its rank has not."""
        if self._groups.get(group) is not asked or spread.is_over(self.state.fleet, group):
            return
        for node, request in asked:
            reports = found.get(node)
            if reports is None or any(each.group == group and each.device == request.device for each in reports):
                continue
            _log.warning("rank.missing", node=node, group=group, device=request.device)
            try:
                await self._start(node, request)
            except ControlError as error:
                _log.warning("rank.not_started", group=group, error=str(error))

    async def _each(self, asked: _Asked, ask: Callable[[str, RankRequest], Awaitable[None]]) -> None:
        """Ask all at once.

        Raises:
            ControlError: what the first of them said that does not.
        """
        failed: list[ControlError] = []

        async def one(node: str, request: RankRequest) -> None:
            try:
                await ask(node, request)
            except ControlError as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for node, request in asked:
                nursery.start_soon(one, node, request)
        if failed:
            raise failed[0]

    async def _start(self, node: str, request: RankRequest) -> None:
        try:
            with trio.fail_after(ASK_SECONDS):
                await self.control.start_rank(self._node(node).endpoint, request)
        except ControlError as error:
            raise ControlError(f"{node} does not run rank {request.rank} of it: {error}", error.status) from error
        except trio.TooSlowError:
            why = f"{node} did not start rank {request.rank} of it within {ASK_SECONDS:g} s"
            raise ControlError(why) from None

    async def _release(self, group: str, asked: _Asked) -> None:
        """Shielded: who is stopped in the middle of a load would leave ranks that wait for nobody."""
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for node in {node for node, _ in asked}:
                    nursery.start_soon(self._stop, node, group)

    async def _stop(self, node: str, group: str) -> None:
        try:
            with trio.fail_after(ASK_SECONDS):
                await self.control.stop_ranks(self._node(node).endpoint, group)
        except (ControlError, trio.TooSlowError) as error:
            _log.warning("rank.not_ended", node=node, group=group, error=str(error) or "it takes too long")

    def _meeting_place(self, leader: str) -> Address:
        if (found := self._node(leader).settings.interconnect) is None:
            raise ControlError(f"{leader} has no interconnect address in the topology")
        return found

    def _node(self, name: str) -> Node:
        if (found := self.state.fleet.nodes.get(name)) is None:
            raise ControlError(f"the node '{name}' is no longer in the topology")
        return found


def _asked(group: str, plan: ColdLoad, meet: Elsewhere) -> Iterator[tuple[str, RankRequest]]:
    """The last ranks of a plan, in its order. Pure."""
    own = len(devices_of(plan.device))
    for rank, (node, device) in enumerate(plan.others, own):
        yield node, RankRequest(group, device, rank, own + len(plan.others), meet.host, meet.port, meet.token)
