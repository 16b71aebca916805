"""The root process: cortex and its actors, and a child process for every neuron of this host."""

import os
from collections.abc import Callable
from pathlib import Path
from socket import socket

import trio
from attrs import frozen

from actors.neuron_process import NeuronProcess
from actors.poller import Poller
from actors.reports import actor_report
from actors.router import Router
from actors.supervisor import Supervisor
from config import Neuron, RestartPolicy, Topology
from helexa.cortex.app import make_app
from helexa.cortex.auth import Gate, declared_keys
from helexa.cortex.proxy import Proxy
from helexa.cortex.upstream import Pool
from helexa.neuron.guard import allowed_listen
from helexa.up.announce import announce
from helexa.up.stop import watch_signals
from helexa.web.server import App, Drain, bind, serve
from helexa.wire.fleet import ActorReport


@frozen
class Plan:
    """What one host runs of a topology.

    Attributes:
        topology: the fleet.
        path: its file, which the neurons' processes read again.
        cortex: whether the gateway runs here.
        neurons: which neurons run here.
        secret: the fleet secret, if the environment has one.
    """

    topology: Topology
    path: Path
    cortex: bool
    neurons: tuple[Neuron, ...]
    secret: str | None

    @classmethod
    def of(cls, topology: Topology, path: Path, host: str) -> "Plan":
        """The part of ``topology`` that is ``host``'s."""
        secret = os.environ.get(topology.cortex.secret_env) or None
        return cls(topology, path.resolve(), topology.cortex_on(host), topology.neurons_on(host), secret)


async def run_root(plan: Plan, say: Callable[[str], None]) -> None:
    """Run until a signal comes or an actor is beyond help.

    The nesting is the order of the stop: requests first, then the actors, the neurons' processes among them.

    Args:
        plan: what to run.
        say: shows a line of progress to whoever started this.

    Raises:
        PortInUseError: nothing was started.
        MissingKeyError: likewise.
        EscalationError: an actor crashed more often than its policy allows; everything was stopped.
    """
    stop = trio.Event()
    root = _Root(plan)
    app = root.app()
    sock = _listen(plan)
    async with trio.open_nursery() as process:
        await process.start(watch_signals, stop, process.cancel_scope)
        async with trio.open_nursery() as actors:
            await root.start(actors)
            async with trio.open_nursery() as serving:
                if sock is not None:
                    await serving.start(serve, app, sock, root.drain)
                actors.start_soon(announce, plan.topology, plan.neurons, root.router, say, plan.cortex)
                await stop.wait()
                say("stopping …")
                root.drain.stopping.set()
            actors.cancel_scope.cancel()
        await root.pool.aclose()
        process.cancel_scope.cancel()


class _Root:
    """The parts of a root process, made before anything runs."""

    def __init__(self, plan: Plan) -> None:
        topology = plan.topology
        endpoints = {neuron.name: neuron.endpoint for neuron in topology.neurons}
        self.drain = Drain()
        self.pool = Pool()
        self.router = Router(endpoints, [model.id for model in topology.models], topology.aliases)
        self._plan = plan
        self._poller = Poller(self.router, endpoints, topology.actors.poller.interval, plan.secret)
        self._neurons = [
            NeuronProcess(neuron.name, str(plan.path), os.environ, lambda name=neuron.name: self.router.suspect(name))  # type: ignore[misc]
            for neuron in plan.neurons
        ]
        self._supervisor = Supervisor("root")

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the actors; the neurons' processes without waiting for them."""
        await nursery.start(self._supervisor.run)
        settings = self._plan.topology.actors
        if self._plan.cortex:
            await self._supervisor.start(self.router, settings.router.restart)
        for neuron in self._neurons:
            # A neuron that dies again and again stays down; what other nodes serve goes on.
            self._supervisor.spawn(neuron, RestartPolicy(), escalate=False)
        if self._plan.cortex:  # last, so that it is stopped first and takes no neuron's stop for a fault
            await self._supervisor.start(self._poller, settings.poller.restart)

    def app(self) -> App:
        """The gateway's ASGI application."""
        topology = self._plan.topology
        gate = Gate(topology.auth_required, declared_keys(topology.entitlements, os.environ))
        proxy = Proxy(self.router, self.pool, self.drain, self._plan.secret)
        local_only = topology.cortex.listen.is_loopback and not topology.auth_required
        return make_app(proxy, self, gate, local_only=local_only)

    def actors(self) -> tuple[ActorReport, ...]:
        """The actors of this process."""
        return tuple(actor_report(status) for status in self._supervisor.status())


def _listen(plan: Plan) -> socket | None:
    """Bind cortex's address, and make sure that every neuron of this host will get its own."""
    for neuron in plan.neurons:
        address = allowed_listen(neuron.listen, plan.secret)
        bind(address.host, address.port, f"neurons.{neuron.name}.listen").close()
    if not plan.cortex:
        return None
    address = plan.topology.cortex.listen
    return bind(address.host, address.port, "cortex.listen")
