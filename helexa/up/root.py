"""The root process: cortex and its actors, and a child process for every neuron of this host."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from socket import socket

import trio
from attrs import evolve

from actors.evictor import Evictor
from actors.keyring import Keyring, first_key
from actors.lifecycle import Lifecycle
from actors.poller import Poller
from actors.reconciler import Reconciler
from actors.reports import actor_report
from actors.router import Router
from actors.supervisor import Supervisor
from config import CORTEX_AT_START, Changes, Topology, dumps
from helexa.cortex.access.auth import Gate, declared_keys
from helexa.cortex.access.keystore import KeyStore
from helexa.cortex.app import make_app
from helexa.cortex.events import EventLog
from helexa.cortex.exchange.proxy import Proxy
from helexa.cortex.exchange.upstream import Pool
from helexa.cortex.routing.state import Happening
from helexa.cortex.telemetry.metrics_app import make_app as make_metrics_app
from helexa.cortex.telemetry.metrics_fleet import FleetCollector
from helexa.neuron.guard import allowed_listen
from helexa.up.announce import announce
from helexa.up.locals import LocalNeurons
from helexa.up.plan import Plan
from helexa.up.stop import watch_signals
from helexa.web.server import App, Drain, PortInUseError, bind, serve
from helexa.wire.fleet import ActorReport


async def run_root(plan: Plan, say: Callable[[str], None]) -> None:
    """Run until a signal comes or an actor is beyond help.

    The nesting is the order of the stop: requests first, then the actors, who would take a neuron's stop for a fault,
    then the neurons.

    Args:
        plan: what to run.
        say: shows a line of progress to whoever started this.

    Raises:
        PortInUseError: nothing was started.
        MissingKeyError: likewise.
        StoreSettingError: likewise.
        EscalationError: an actor crashed more often than its policy allows; everything was stopped.
    """
    stop = trio.Event()
    with tempfile.TemporaryDirectory(prefix="helexa-") as directory:
        root = _Root(plan, Path(directory))
        apps = (root.app(), root.metrics_app()) if plan.cortex else ()
        socks = _listen(plan)
        async with trio.open_nursery() as process:
            await process.start(watch_signals, stop, process.cancel_scope)
            async with trio.open_nursery() as neurons:
                await root.start_neurons(neurons)
                async with trio.open_nursery() as actors:
                    await root.start(actors)
                    async with trio.open_nursery() as serving:
                        for app, sock in zip(apps, socks, strict=True):
                            await serving.start(serve, app, sock, root.drain)
                        actors.start_soon(root.say_first_key, say)
                        actors.start_soon(announce, plan.topology, plan.neurons, root.router, say, plan.cortex)
                        await stop.wait()
                        say("stopping …")
                        root.events.close()
                        root.drain.stopping.set()
                    actors.cancel_scope.cancel()
                neurons.cancel_scope.cancel()
            await root.pool.aclose()
            process.cancel_scope.cancel()


class _Root:
    """The parts of a root process, made before anything runs, and kept to the topology while it changes."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.drain = Drain()
        self.pool = Pool()
        self.events = EventLog()
        self.router = Router(plan.topology, plan.secret, self._publish)
        self._proxy = Proxy(self.router, self.pool, self.drain, plan.secret)
        self._plan = plan
        self.keyring = Keyring(KeyStore(plan.topology.cortex.database)) if plan.cortex else None
        self._gate = self._gate_of(plan.topology)
        self._poller = Poller(self.router, plan.secret)
        self._supervisor = Supervisor("root")
        self._processes = Supervisor("neurons")
        self._neurons = LocalNeurons(directory, self._processes, self.router.suspect, self._idle)

    async def start_neurons(self, nursery: trio.Nursery) -> None:
        """Start the neurons' processes, without waiting for them to serve."""
        await nursery.start(self._processes.run)
        self._neurons.start(self._plan.topology, self._plan.neurons)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the actors."""
        await nursery.start(self._supervisor.run)
        plan, settings = self._plan, self._plan.topology.actors
        if self.keyring is not None:  # escalate=False: one that is beyond help still has the keys that it knew
            await self._supervisor.start(self.keyring, settings.ledger.restart, escalate=False)
        if plan.cortex:
            await self._supervisor.start(self.router, settings.router.restart)
            await self._supervisor.start(self._poller, settings.poller.restart)
            await self._supervisor.start(Evictor(self.router), settings.evictor.restart)
        reconciler = Reconciler(plan.path, plan.topology, os.environ, self._apply, self._reject)
        await self._supervisor.start(reconciler, settings.reconciler.restart)

    def app(self) -> App:
        """The gateway's ASGI application."""
        assert self.keyring is not None
        topology = self._plan.topology
        lifecycle = Lifecycle(self.router)
        return make_app(
            self._proxy,
            self.router,
            lifecycle,
            self,
            self.events,
            lambda: self._gate,
            self.keyring,
            loopback=topology.cortex.listen.is_loopback,
        )

    def metrics_app(self) -> App:
        """The ASGI application that serves the metrics."""
        registry = self._proxy.observer.metrics.registry
        registry.register(FleetCollector(self.router.fleet, self.actors, self._proxy.breakers))
        return make_metrics_app(registry, local_only=self._plan.topology.cortex.metrics_listen.is_loopback)

    def actors(self) -> tuple[ActorReport, ...]:
        """The actors of this process."""
        return tuple(map(actor_report, (*self._supervisor.status(), *self._processes.status())))

    async def _apply(self, wanted: Topology, changes: Changes) -> None:
        """Have another topology in force: routing first, then the processes, each once nobody uses it any more.

        Raises:
            TopologyError: what can take effect now contradicts what only a restart can change; nothing is changed.
            MissingKeyError: likewise, for a key that the environment does not have.
        """
        topology = _until_restart(wanted, self._plan.topology)
        dumps(topology)
        self._gate = self._gate_of(topology)
        self._plan = evolve(self._plan, topology=topology)
        leaving = self._neurons.leaving(self._plan.neurons)
        self._follow(_without(topology, leaving))
        await self._neurons.stop(leaving)
        self._neurons.complete(topology, self._plan.neurons)
        self._follow(topology)
        self._publish(Happening("topology.applied", {"changes": changes.lines()}))

    def _gate_of(self, topology: Topology) -> Gate:
        """Who gets in; the keyring learns which names are taken."""
        declared = declared_keys(topology.entitlements, os.environ)
        if self.keyring is None:
            return Gate(topology.auth_required, declared)
        self.keyring.declare(declared.values())
        return Gate(topology.auth_required, declared, self.keyring.find)

    async def say_first_key(self, say: Callable[[str], None]) -> None:
        """Make a key for a fleet that asks for one and has none, which nobody could use, and show it this once."""
        if self.keyring is None or not self._gate.required:
            return
        if (key := await first_key(self.keyring)) is not None:
            say(f"this fleet asks for keys and has none yet; an admin's, which is not shown again: {key}")

    def _follow(self, topology: Topology) -> None:
        self.router.apply(topology)
        self._poller.follow(topology)

    def _reject(self, problems: tuple[str, ...]) -> None:
        self.router.reject(problems)
        if problems:
            self._publish(Happening("topology.rejected", {"problems": list(problems)}))

    async def _idle(self, node: str) -> None:
        """Return when cortex has nothing in flight at a node, or after ``cortex.eviction.drain``."""
        with trio.move_on_after(self._plan.topology.cortex.eviction.drain):
            while any(at[0] == node for at in self.router.fleet().in_flight):
                with trio.move_on_after(1):
                    await self.router.changed.wait()

    def _publish(self, happening: Happening) -> None:
        self.events.publish(happening.kind, **happening.data)
        self._proxy.observer.happened(happening)


def _until_restart(wanted: Topology, now: Topology) -> Topology:
    """What of ``wanted`` can take effect while this process runs: not its own sockets, database and secret."""
    kept = {key: getattr(now.cortex, key) for key in CORTEX_AT_START}
    return evolve(wanted, cortex=evolve(wanted.cortex, **kept), actors=now.actors, bench=now.bench)


def _without(topology: Topology, neurons: tuple[str, ...]) -> Topology:
    return evolve(topology, neurons=tuple(each for each in topology.neurons if each.name not in neurons))


def _listen(plan: Plan) -> tuple[socket, ...]:
    """Bind the addresses of cortex, API first, and make sure that every neuron of this host will get its own."""
    for neuron in plan.neurons:
        address = allowed_listen(neuron.listen, plan.secret)
        bind(address.host, address.port, f"neurons.{neuron.name}.listen").close()
    if not plan.cortex:
        return ()
    cortex = plan.topology.cortex
    api = bind(cortex.listen.host, cortex.listen.port, "cortex.listen")
    try:
        return api, bind(cortex.metrics_listen.host, cortex.metrics_listen.port, "cortex.metrics_listen")
    except PortInUseError:
        api.close()
        raise
