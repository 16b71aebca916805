"""Owns the fleet's state: takes what the poller sees, grants requests a place at a node, has models loaded for them.

One owner, no locks. Asking it is a plain call, answered between two steps of its loop, rather than a message to it: the
answer is always at hand where the model is loaded, and a mailbox round trip per request would cost more than all of
routing. Only a request whose model has to be loaded first waits.
"""

import ssl
from collections.abc import Callable
from time import time

import structlog
import trio

from actors.actor import Actor
from actors.bell import Bell
from actors.control import NeuronControl
from actors.loads import Loads
from actors.mailbox import Mailbox
from config import Topology
from helexa.cortex.ports import Grant
from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.routing.policy import ColdLoad, LoadingTooLong, NoFeasibleNeuron, Refusal, Route, Wait, Wanted
from helexa.cortex.routing.state import Happening, NodeDown, NodeUp, Sight, State
from helexa.wire.fleet import Activation

_log = structlog.get_logger()
Publish = Callable[[Happening], None]


class Router(Actor):
    """The fleet's state and its one writer. Implements ``ports.Routes``.

    Args:
        topology: what is to be.
        secret: the fleet secret, if there is one.
        publish: hears of everything that happens.
        clock: seconds, monotonic.
        trusted: whose certificates neurons may show; ``None``: whom the system trusts.
    """

    def __init__(
        self,
        topology: Topology,
        secret: str | None = None,
        publish: Publish = lambda _: None,
        clock: Callable[[], float] = trio.current_time,
        *,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self.name = "router"
        self.mailbox: Mailbox[Sight] = Mailbox(self.name, capacity=1024)
        self.state = State(topology, clock, time())
        self.changed = Bell()
        self._publish = publish
        self._nursery: trio.Nursery | None = None
        self._pokes: dict[str, Callable[[], None]] = {}
        self._control = NeuronControl(secret, trusted)
        self.loads = Loads(self.state, self._control, self.tell, self.changed, self.suspect)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take sightings for ever. Loads under way end with it; whoever waits for one has it begun again."""
        async with self._control, trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.loads.spread.tend)
            self.changed.ring()  # for those who have been waiting for it to run again
            try:
                task_status.started()
                while True:
                    self.see(await self.mailbox.receive())
            finally:
                self._nursery = None

    def see(self, sight: Sight) -> None:
        """Change the state by one sighting."""
        before = self._activation(sight.node)
        happened = self.state.see(sight)
        for each in happened:
            self.tell(each)
        news = isinstance(sight, NodeUp) and self.loads.looked(sight.node, sight.asked_at)
        if happened or news or self._activation(sight.node) != before:
            self.changed.ring()

    def _activation(self, node: str) -> Activation | None:
        """How far a node's start-up loads have come: one that failed may be in no report of a model."""
        known = self.state.fleet.nodes.get(node)
        return known.sighting.activation if known is not None and known.sighting is not None else None

    def tell(self, happening: Happening) -> None:
        """Log what happened, and publish it."""
        log = _log.warning if happening.kind in ("node.down", "model.load_failed") else _log.info
        log(happening.kind, **happening.data)
        self._publish(happening)

    def on_poke(self, node: str, poke: Callable[[], None] | None) -> None:
        """Call ``poke`` when a request found something odd about the node; ``None``: no longer."""
        if poke is None:
            self._pokes.pop(node, None)
        else:
            self._pokes[node] = poke

    def fleet(self) -> Fleet:
        """The state now."""
        return self.state.fleet

    def wants_prefixes(self, name: str) -> bool:
        """Whether more than one node holds the model."""
        fleet = self.state.fleet
        return len(fleet.holders.get(fleet.resolve(name), ())) > 1

    async def acquire(self, wanted: Wanted) -> Grant | Refusal:
        """A place for one request; see ``ports.Routes``. Without a checkpoint where the model is loaded."""
        deadline = None
        while True:
            decision = self.state.decide(wanted)
            if isinstance(decision, Route):
                self.state.open(decision, wanted.prefixes)
                return Grant(decision)
            decision = self._act_on(decision)
            if not isinstance(decision, Wait):
                return decision
            now = trio.current_time()
            if deadline is None:
                deadline = now + self.state.fleet.topology.cortex.load_timeout
            if now >= deadline:
                return LoadingTooLong(decision.model, decision.reason)
            await self.changed.wait_until(min(deadline, decision.until or deadline))

    def _act_on(self, decision: ColdLoad | Wait | Refusal) -> Wait | Refusal:
        """Begin what is to be begun; do not refuse for a lack of memory that may be over."""
        if isinstance(decision, ColdLoad):
            return self.begin(decision)
        if isinstance(decision, NoFeasibleNeuron) and (until := self.loads.outdated()) is not None:
            return Wait(decision.model, "how much memory is free is being looked at", until)
        return decision

    def begin(self, plan: ColdLoad) -> Wait:
        """Start a load, unless something has to be waited for first."""
        if self._nursery is None:
            return Wait(plan.model, "the router is starting anew")
        for node in (plan.node, *(other for other, _ in plan.others)):
            if (until := self.loads.outdated(node)) is not None:
                return Wait(plan.model, f"how much memory is free on {node} is being looked at", until)
        self._nursery.start_soon(self.loads.run, plan, self.loads.begin(plan))
        return Wait(plan.model, f"it is being loaded on {plan.node}")

    def release(self, grant: Grant) -> None:
        """Give the place back."""
        at = (grant.route.node, grant.route.model)
        if self.state.close(grant.route) and at in self.state.fleet.draining:
            self.changed.ring()

    def unreachable(self, node: str, error: str) -> None:
        """A request could not connect: the node is down until the poller sees it again."""
        self.see(NodeDown(node, error))
        self.suspect(node)

    def suspect(self, node: str) -> None:
        """A request met the node in trouble: have it looked at now."""
        if (poke := self._pokes.get(node)) is not None:
            poke()

    def apply(self, topology: Topology) -> None:
        """Have another topology in force, from now on."""
        self.state.apply(topology, time())
        self.changed.ring()

    def reject(self, problems: tuple[str, ...]) -> None:
        """Remember what is wrong with the topology's latest edit."""
        self.state.reject(problems)
