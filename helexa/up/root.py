"""The root process: cortex and its actors, and a child process for every neuron of this host."""

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import socket

import trio
from attrs import evolve

from actors.reconciler import Reconciler
from actors.reports import actor_report
from actors.router import Router
from actors.supervisor import Supervisor
from config import CORTEX_AT_START, Changes, Topology, dumps
from helexa.cortex.events import EventLog
from helexa.cortex.routing.state import Happening
from helexa.neuron.guard import allowed_listen
from helexa.up.announce import announce
from helexa.up.bench import check as check_bench
from helexa.up.gateway import Gateway, trust_of
from helexa.up.local_bench import LocalBench
from helexa.up.locals import LocalNeurons
from helexa.up.plan import Plan
from helexa.up.stop import watch_signals
from helexa.web.server import App, Drain, PortInUseError, allow_connections, bind, serve
from helexa.web.tls import server_context
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
        CertificateError: likewise.
        MissingKeyError: likewise.
        StoreSettingError: likewise.
        EscalationError: an actor crashed more often than its policy allows; everything was stopped.
    """
    stop = trio.Event()
    allow_connections()
    with tempfile.TemporaryDirectory(prefix="helexa-") as directory:
        root = _Root(plan, Path(directory))
        servers, socks = tuple(root.servers()), _listen(plan)
        async with trio.open_nursery() as process:
            await process.start(watch_signals, stop, process.cancel_scope)
            async with trio.open_nursery() as neurons:
                await root.start_neurons(neurons)
                async with trio.open_nursery() as actors:
                    await root.start(actors)
                    async with trio.open_nursery() as serving:
                        for (app, certificate), sock in zip(servers, socks, strict=True):
                            await serving.start(serve, app, sock, root.drain, certificate)
                        if root.gateway is not None:
                            actors.start_soon(root.gateway.say_first_key, say)
                        actors.start_soon(announce, plan.topology, plan.neurons, root.router, say, plan.cortex)
                        await stop.wait()
                        say("stopping …")
                        root.events.close()
                        root.drain.stopping.set()
                    actors.cancel_scope.cancel()
                if root.gateway is not None:  # beside the neurons' stop; shielded, and bounded
                    neurons.start_soon(root.gateway.tracing.aclose)
                neurons.cancel_scope.cancel()
            await root.aclose()
            process.cancel_scope.cancel()


class _Root:
    """The parts of a root process, made before anything runs, and kept to the topology while it changes."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.drain = Drain()
        self.events = EventLog()
        trusted = trust_of(plan.topology.cortex) if plan.cortex else None
        self.router = Router(plan.topology, plan.secret, self._publish, trusted=trusted)
        self.gateway = self._gateway(plan, trusted) if plan.cortex else None
        self._plan = plan
        self._supervisor = Supervisor("root")
        self._processes = Supervisor("neurons")
        self._neurons = LocalNeurons(directory, self._processes, self.router.suspect, self._idle)
        self._bench = LocalBench(directory, self._processes) if plan.cortex else None

    def _gateway(self, plan: Plan, trusted: ssl.SSLContext | None) -> Gateway:
        return Gateway(plan.topology, plan.secret, self.router, self.events, self.drain, trusted)

    async def start_neurons(self, nursery: trio.Nursery) -> None:
        """Start the neurons' processes, and that of the benchmark loop, without waiting for them to serve."""
        await nursery.start(self._processes.run)
        self._neurons.start(self._plan.topology, self._plan.neurons)
        if self._bench is not None:
            await self._bench.follow(self._plan.topology)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the actors."""
        await nursery.start(self._supervisor.run)
        plan, settings = self._plan, self._plan.topology.actors
        if self.gateway is not None:
            await self.gateway.start(self._supervisor, nursery)
        reconciler = Reconciler(plan.path, plan.topology, os.environ, self._apply, self._reject)
        await self._supervisor.start(reconciler, settings.reconciler.restart)

    def servers(self) -> Iterator[tuple[App, ssl.SSLContext | None]]:
        """The gateway's applications, API first, and what they show to their clients."""
        if self.gateway is not None:
            yield self.gateway.app(self), self.gateway.certificate
            yield self.gateway.metrics_app(self), self.gateway.certificate

    async def aclose(self) -> None:
        """Close what is left when nothing is served any more."""
        if self.gateway is not None:
            await self.gateway.aclose()

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
        if self.gateway is not None:
            self.gateway.admit(topology)
        self._plan = evolve(self._plan, topology=topology)
        leaving = self._neurons.leaving(self._plan.neurons)
        self._follow(_without(topology, leaving))
        await self._neurons.stop(leaving)
        self._neurons.complete(topology, self._plan.neurons)
        self._follow(topology)
        if self._bench is not None:
            await self._bench.follow(topology)
        self._publish(Happening("topology.applied", {"changes": changes.lines()}))

    def _follow(self, topology: Topology) -> None:
        self.router.apply(topology)
        if self.gateway is not None:
            self.gateway.follow(topology)

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
        if self.gateway is not None:
            self.gateway.happened(happening)


def _until_restart(wanted: Topology, now: Topology) -> Topology:
    """What of ``wanted`` can take effect while this process runs: not its own sockets, database and secret."""
    kept = {key: getattr(now.cortex, key) for key in CORTEX_AT_START}
    return evolve(wanted, cortex=evolve(wanted.cortex, **kept), actors=now.actors)


def _without(topology: Topology, neurons: tuple[str, ...]) -> Topology:
    return evolve(topology, neurons=tuple(each for each in topology.neurons if each.name not in neurons))


def _listen(plan: Plan) -> tuple[socket, ...]:
    """Bind the addresses of cortex, API first, and make sure that every process of this host will get its own."""
    for neuron in plan.neurons:
        address = allowed_listen(neuron.listen, plan.secret)
        bind(address.host, address.port, f"neurons.{neuron.name}.listen").close()
        if neuron.tls is not None:  # its process would end for it again and again
            server_context(neuron.tls, f"neurons.{neuron.name}.tls")
    if not plan.cortex:
        return ()
    check_bench(plan.topology)
    cortex = plan.topology.cortex
    api = bind(cortex.listen.host, cortex.listen.port, "cortex.listen")
    try:
        return api, bind(cortex.metrics_listen.host, cortex.metrics_listen.port, "cortex.metrics_listen")
    except PortInUseError:
        api.close()
        raise
