"""The gateway of a root process: who gets in, what they may use, what is served, and the actors that see to it."""

import hashlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import trio

from actors.evictor import Evictor
from actors.keyring import Keyring, first_key
from actors.ledger import Ledger
from actors.lifecycle import Lifecycle
from actors.poller import Poller
from actors.router import Router
from actors.supervisor import Supervisor
from config import Cortex, Topology
from helexa.cortex.access.auth import Gate, declared_keys
from helexa.cortex.access.keystore import KeyStore
from helexa.cortex.app import make_app
from helexa.cortex.events import EventLog
from helexa.cortex.exchange.metering import Metering
from helexa.cortex.exchange.proxy import Proxy
from helexa.cortex.exchange.upstream import Pool
from helexa.cortex.ledger.store import UsageStore
from helexa.cortex.ports import Actors
from helexa.cortex.routing.state import Happening
from helexa.cortex.telemetry.exporting import make_tracing
from helexa.cortex.telemetry.lag import watch_lag
from helexa.cortex.telemetry.metrics_app import make_app as make_metrics_app
from helexa.cortex.telemetry.metrics_budgets import BudgetCollector
from helexa.cortex.telemetry.metrics_fleet import FleetCollector
from helexa.web.server import App, Drain
from helexa.web.tls import client_context, server_context

_SQLITE = "sqlite:///"


class Gateway:
    """Made before anything runs, kept to the topology while it changes.

    Args:
        topology: the fleet.
        secret: its secret, if there is one.
        router: owns its state.
        events: what happens in it.
        drain: the servers' shutdown.
        trusted: whose certificates neurons may show, see ``trust_of``.

    Raises:
        CertificateError: a file of certificates or keys cannot be used.
        MissingKeyError: the environment lacks a key that the topology names.
        StoreSettingError: the topology names no database that can be used.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what the root process has made for all its parts
        self,
        topology: Topology,
        secret: str | None,
        router: Router,
        events: EventLog,
        drain: Drain,
        trusted: ssl.SSLContext | None,
    ) -> None:
        cortex = topology.cortex
        self._topology = topology
        self._router, self._events = router, events
        self.certificate = None if cortex.tls is None else server_context(cortex.tls, "cortex.tls")
        self._pool = Pool(trusted)
        self.tracing = make_tracing()
        self._keyring = Keyring(KeyStore(cortex.database), settings=self._settings)
        self._ledger = Ledger(UsageStore(cortex.database), records_of(cortex.database), self._settings)
        metering = Metering(self._ledger, self._keyring.payer)
        self._proxy = Proxy(router, self._pool, drain, secret, metering=metering, tracing=self.tracing)
        self._poller = Poller(router, secret, trusted)
        self._keys_are_asked_for = trio.Event()
        self._gate = self._gate_of(topology)

    def _settings(self) -> Cortex:
        return self._topology.cortex

    async def start(self, supervisor: Supervisor, nursery: trio.Nursery) -> None:
        """Start the actors."""
        settings = self._topology.actors
        # escalate=False: a keyring or ledger that is beyond help still has what it knew
        await supervisor.start(self._keyring, settings.ledger.restart, escalate=False)
        await supervisor.start(self._ledger, settings.ledger.restart, escalate=False)
        await supervisor.start(self._router, settings.router.restart)
        await supervisor.start(self._poller, settings.poller.restart)
        await supervisor.start(Evictor(self._router), settings.evictor.restart)
        nursery.start_soon(watch_lag, self._proxy.observer.metrics.loop_lag.observe)

    async def aclose(self) -> None:
        """Close the connections to nodes and providers. Nothing is served any more."""
        await self._pool.aclose()

    def app(self, actors: Actors) -> App:
        """The API.

        Args:
            actors: those of this process.
        """
        return make_app(
            self._proxy,
            self._router,
            Lifecycle(self._router),
            actors,
            self._events,
            lambda: self._gate,
            self._keyring,
            self._ledger,
            loopback=self._topology.cortex.listen.is_loopback,
        )

    def metrics_app(self, actors: Actors) -> App:
        """The metrics' own application; see ``app``."""
        metrics = self._proxy.observer.metrics
        metrics.registry.register(FleetCollector(self._router.fleet, actors.actors, self._proxy.breakers))
        metrics.registry.register(BudgetCollector(self._proxy.admission.figures, self._ledger.figures, metrics.keys))
        return make_metrics_app(metrics.registry, local_only=self._topology.cortex.metrics_listen.is_loopback)

    def admit(self, topology: Topology) -> None:
        """Have the keys, accounts and limits of a topology in force.

        Raises:
            MissingKeyError: the environment lacks a key that it names; nothing is changed.
        """
        self._gate = self._gate_of(topology)
        self._topology = topology

    def follow(self, topology: Topology) -> None:
        """Have its neurons watched."""
        self._poller.follow(topology)

    def happened(self, happening: Happening) -> None:
        """Count what happens in the fleet."""
        self._proxy.observer.happened(happening)

    def _gate_of(self, topology: Topology) -> Gate:
        """Who gets in; the keyring learns which names are taken, and what the topology's accounts may use."""
        declared = declared_keys(topology.entitlements, os.environ)
        self._keyring.declare(declared.values(), topology.entitlements.accounts)
        if topology.auth_required:
            self._keys_are_asked_for.set()
        return Gate(topology.auth_required, declared, self._keyring.find)

    async def say_first_key(self, say: Callable[[str], None]) -> None:
        """Make a key for a fleet that asks for one and has none, which nobody could use, and show it this once.

        An edit of the topology may be what makes it ask for one.
        """
        await self._keys_are_asked_for.wait()
        if (key := await first_key(self._keyring)) is not None:
            say(f"this fleet asks for keys and has none yet; an admin's, which is not shown again: {key}")


def trust_of(cortex: Cortex) -> ssl.SSLContext | None:
    """Whose certificates neurons may show; ``None``: whom the system trusts.

    Raises:
        CertificateError: the file is missing, or holds no certificate.
    """
    return None if cortex.ca is None else client_context(cortex.ca)


def records_of(database: str) -> Path:
    """Where this host's gateways on a database keep what is not in it yet: beside a file, else with this user's state.

    Args:
        database: ``cortex.database``; it may hold a password, of which nothing is to be seen in a name.
    """
    if database.startswith(_SQLITE):
        path = Path(database.removeprefix(_SQLITE)).expanduser().absolute()
        return path.with_name(f"{path.name}.gateways")
    found = urlsplit(database)
    credentials, _, server = found.netloc.rpartition("@")
    where = f"{credentials.partition(':')[0]}@{server}{found.path}"  # the same under another password
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return state / "helexa" / f"gateways-{hashlib.sha256(where.encode()).hexdigest()[:16]}"
