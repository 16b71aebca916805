"""The benchmark loop's process: what measures, what serves what was measured, and what checks keys for that."""

import os
import sys
from collections.abc import Callable, Mapping
from socket import socket

import structlog
import trio

from actors.keyring import Keyring
from actors.supervisor import Supervisor
from actors.sweeper import Place, Sweeper
from config import Bench, BenchTarget, Topology
from helexa.bench.api.app import make_app
from helexa.bench.measuring.targets import neurons_of, server_at
from helexa.bench.scenarios import suite
from helexa.bench.storage.store import Store
from helexa.cortex.access.auth import PUBLIC, Gate, declared_keys, presented_by
from helexa.cortex.access.keystore import KeyStore
from helexa.up.gateway import trust_of
from helexa.up.stop import watch_signals
from helexa.web.server import App, Drain, Scope, bind, serve
from helexa.web.tls import server_context

SWITCH_SECONDS = 1e-4
"""After which a thread lets others run: reports and rank tests take seconds of threads, and what comes from a target
meanwhile has its time of arrival taken by another one."""
_log = structlog.get_logger()


async def run_bench(topology: Topology, ready: Callable[[], None]) -> None:
    """Measure and serve until a signal comes.

    Args:
        topology: the fleet; without a table of its own the loop has its defaults.
        ready: told once it serves.

    Raises:
        CertificateError: nothing has been started.
        MissingKeyError: likewise.
        PortInUseError: likewise.
        StoreSettingError: likewise.
        EscalationError: an actor crashed more often than its policy allows; everything was stopped.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    bench = topology.bench or Bench()
    store = Store(bench.database)
    try:
        process = _Process(topology, bench, store)
        await process.run(bind(bench.listen.host, bench.listen.port, "bench.listen"), ready)
    finally:
        store.close()


class _Process:
    """The parts, made before anything runs."""

    def __init__(self, topology: Topology, bench: Bench, store: Store) -> None:
        cortex = topology.cortex
        self._certificate = None if cortex.tls is None else server_context(cortex.tls, "cortex.tls")
        self._keyring = Keyring(KeyStore(cortex.database), settings=lambda: cortex)
        self._gate = _gate(topology, self._keyring)
        self._settings = topology.actors
        self._sweeper = Sweeper(store, bench, places_of(topology, os.environ), suite(bench.suite))
        self._app = self._make_app(store, local_only=bench.listen.is_loopback and not self._gate.required)

    def _make_app(self, store: Store, *, local_only: bool) -> App:
        status, keyed = self._sweeper.status, self._gate.required
        return make_app(store, lambda scope: admit(self._gate, scope), status, keyed=keyed, local_only=local_only)

    async def run(self, sock: socket, ready: Callable[[], None]) -> None:
        """Run until a signal comes. The nesting is the order of the stop: requests first, then the actors."""
        stop, drain, supervisor = trio.Event(), Drain(), Supervisor("bench")
        async with trio.open_nursery() as process:
            await process.start(watch_signals, stop, process.cancel_scope)
            async with trio.open_nursery() as actors:
                await actors.start(supervisor.run)
                await self._start(supervisor)
                async with trio.open_nursery() as serving:
                    await serving.start(serve, self._app, sock, drain, self._certificate)
                    ready()
                    await stop.wait()
                    drain.stopping.set()
                actors.cancel_scope.cancel()
            process.cancel_scope.cancel()

    async def _start(self, supervisor: Supervisor) -> None:
        """Start the actors. One that is beyond help leaves what was measured to be read."""
        if self._gate.required:
            await supervisor.start(self._keyring, self._settings.ledger.restart, escalate=False)
        await supervisor.start(self._sweeper, self._settings.sweeper.restart, escalate=False)


def places_of(topology: Topology, env: Mapping[str, str]) -> list[Place]:
    """What is measured: the neurons, then the servers outside.

    Args:
        topology: the fleet.
        env: where the fleet secret and the servers' keys are.

    Raises:
        CertificateError: whose certificates neurons may show is not to be found out.
    """
    trusted, bench = trust_of(topology.cortex), topology.bench or Bench()
    secret = env.get(topology.cortex.secret_env) or None
    inside = [Place(access) for access in neurons_of(topology, secret, trusted)]
    return [*inside, *(_outside(target, env) for target in bench.targets)]


def _outside(target: BenchTarget, env: Mapping[str, str]) -> Place:
    """A key that is not set keeps nothing from running: its server's answer says what is missing."""
    key = env.get(target.api_key_env or "") or None
    if target.api_key_env is not None and key is None:
        _log.warning("bench.key_missing", target=target.name, variable=target.api_key_env)
    return Place(server_at(target.name, target.base_url, key), target.models)


def _gate(topology: Topology, keyring: Keyring) -> Gate:
    declared = declared_keys(topology.entitlements, os.environ) if topology.auth_required else {}
    keyring.declare(declared.values(), topology.entitlements.accounts)
    return Gate(topology.auth_required, declared, keyring.find)


def admit(gate: Gate, scope: Scope) -> None:
    """Let a request in whose key may read what the fleet is: figures of it are no more than that.

    Raises:
        ApiError: it is not let in.
    """
    path = scope["path"]
    gate.admit("GET", path if path in PUBLIC else "/fleet", presented_by(scope))


def check(topology: Topology) -> None:
    """Find out, before anything is started, that the loop could not be.

    Raises:
        PortInUseError: its address cannot be had.
        StoreSettingError: its database is none that can be used.
    """
    if (bench := topology.bench) is not None:
        Store(bench.database).close()
        bind(bench.listen.host, bench.listen.port, "bench.listen").close()
