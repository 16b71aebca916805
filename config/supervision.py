"""How the actors of a fleet are paced and restarted."""

from attrs import field, frozen

from config import validators as v
from config.units import Duration


@frozen
class RestartPolicy:
    """When a crashed actor is started again, and when its supervisor gives up.

    Attributes:
        max: Restarts allowed within `window`; one more and the supervisor escalates. 0: never restart.
        window: The span the restarts are counted over, in seconds.
        backoff: The delay before the first restart, in seconds; later ones wait longer.
    """

    max: int = field(default=5, validator=v.between(0, 1_000_000))
    window: Duration = field(default=Duration(600.0), validator=[v.positive("10m"), v.finite])
    backoff: Duration = field(default=Duration(1.0), validator=[v.positive("1s"), v.finite])


@frozen
class ActorSection:
    """Settings every actor has."""

    restart: RestartPolicy = RestartPolicy()


@frozen
class DeviceWorkerSection:
    """Settings of the actor that owns a device's engine worker.

    Attributes:
        restart: Its restart policy; the delay is short by default, as a new process takes seconds to start by itself.
        recovery: Seconds a request in progress waits, after its worker's death, until its model serves again.
        load_stall: Seconds a load may read nothing, before its worker is replaced and the load has failed.
    """

    restart: RestartPolicy = RestartPolicy(backoff=Duration(0.25))
    recovery: Duration = field(default=Duration(600.0), validator=[v.positive("10m"), v.finite])
    load_stall: Duration = field(default=Duration(300.0), validator=[v.positive("5m"), v.finite])


@frozen
class PollerSection:
    """Settings of the actor that watches the neurons.

    Attributes:
        interval: Seconds between two looks at a neuron.
        restart: Its restart policy.
    """

    interval: Duration = field(default=Duration(2.0), validator=[v.positive("2s"), v.finite])
    restart: RestartPolicy = RestartPolicy()


@frozen
class ActorSettings:
    """One section per actor."""

    poller: PollerSection = PollerSection()
    router: ActorSection = ActorSection()
    evictor: ActorSection = ActorSection()
    ledger: ActorSection = ActorSection()
    reconciler: ActorSection = ActorSection()
    device_worker: DeviceWorkerSection = DeviceWorkerSection()
    tp_leader: ActorSection = ActorSection()
    sweeper: ActorSection = ActorSection()
