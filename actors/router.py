"""Owns the fleet state: takes what the poller sees, grants requests a place at a node.

One owner, no locks. Asking it is a plain call, answered between two steps of its loop, rather than a message to it: the
answer is always at hand, and a mailbox round trip per request would cost more than all of routing.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import structlog
import trio
from attrs import evolve, frozen

from actors.actor import Actor
from actors.mailbox import Mailbox
from helexa.cortex.fleet import Fleet, Node, Sighting
from helexa.cortex.policy import Refusal, Route, resolve
from helexa.cortex.ports import Grant

_log = structlog.get_logger()


@frozen
class NodeUp:
    """A neuron answered."""

    node: str
    sighting: Sighting


@frozen
class NodeDown:
    """A neuron did not answer, or not as a neuron does."""

    node: str
    error: str


Sight = NodeUp | NodeDown


class Router(Actor):
    """The fleet state and its one writer. Implements ``ports.Routes``.

    Args:
        endpoints: base URL by node name, in the topology's order.
        catalogue: model ids of the topology.
        aliases: alias to model id.
    """

    def __init__(
        self, endpoints: Mapping[str, str], catalogue: Collection[str] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self.name = "router"
        self.mailbox: Mailbox[Sight] = Mailbox(self.name, capacity=1024)
        nodes = {name: Node(name, endpoint) for name, endpoint in endpoints.items()}
        self._fleet = Fleet(nodes, tuple(catalogue), dict(aliases or {}))
        self._pokes: dict[str, Callable[[], None]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Take sightings for ever."""
        task_status.started()
        while True:
            self.see(await self.mailbox.receive())

    def see(self, sight: Sight) -> None:
        """Change the state by one sighting."""
        before = self._fleet.nodes[sight.node]
        match sight:
            case NodeUp(node, sighting):
                after = evolve(before, up=True, sighting=sighting, error=None)
                if not before.up and before.sighting is not None:
                    _log.info("node.up", node=node, endpoint=before.endpoint)
            case NodeDown(node, error):
                after = evolve(before, up=False, error=error)
                if before.up:
                    _log.warning("node.down", node=node, endpoint=before.endpoint, error=error)
        self._put(after)

    def on_poke(self, node: str, poke: Callable[[], None]) -> None:
        """Call ``poke`` when a request found something odd about the node."""
        self._pokes[node] = poke

    def fleet(self) -> Fleet:
        """The state now; a value, so it stays as it is."""
        return self._fleet

    def grant(self, name: str, avoid: Collection[str] = ()) -> Grant | Refusal:
        """A place for one request of the model or alias ``name``."""
        decision = resolve(self._fleet, name, avoid)
        if not isinstance(decision, Route):
            return decision
        self._count(decision, 1)
        return Grant(decision)

    def release(self, grant: Grant) -> None:
        """Give the place back."""
        self._count(grant.route, -1)

    def unreachable(self, node: str, error: str) -> None:
        """A request could not connect: the node is down until the poller sees it again."""
        self.see(NodeDown(node, error))
        self.suspect(node)

    def suspect(self, node: str) -> None:
        """A request met the node in trouble: have it looked at now."""
        if (poke := self._pokes.get(node)) is not None:
            poke()

    def _count(self, route: Route, change: int) -> None:
        node = self._fleet.nodes[route.node]
        count = node.in_flight.get(route.model, 0) + change
        self._put(evolve(node, in_flight={**node.in_flight, route.model: count}))

    def _put(self, node: Node) -> None:
        self._fleet = evolve(self._fleet, nodes={**self._fleet.nodes, node.name: node})
