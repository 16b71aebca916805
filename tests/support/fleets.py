"""Fleet states for tests."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from actors.router import Router
from config import Cortex, Duration, Eviction, Model, Neuron, Topology
from helexa.cortex.routing.fleet import Fleet, Sighting
from helexa.cortex.routing.state import NodeUp, State
from helexa.wire.fleet import Activation, DeviceHealth, DeviceInfo, Discovery, Estimate, ModelReport, Version

DISCOVERY = Discovery("box", "Linux 6", None, (DeviceInfo(0, "cpu", "x86", 1000),))
VERSION = Version("0.1.0", None, None, None, "3.11", "2.13", "5.0", None, 0.0)


def model(name: str = "m", **settings: Any) -> Model:
    return Model(name, **{"source": "helexa", **settings})


def neuron(name: str, **settings: Any) -> Neuron:
    return Neuron(name, **{"endpoint": f"http://{name}:1", **settings})


def topology_of(*names: str, models: tuple[Model, ...] | None = None, **settings: Any) -> Topology:
    """Neurons of these names, and the model `m`."""
    catalogue = (model(),) if models is None else models
    return Topology(neurons=tuple(map(neuron, names)), models=catalogue, **settings)


def sighting(
    *reports: ModelReport,
    activation: Activation | None = None,
    used_mb: int = 0,
    estimates: tuple[Estimate, ...] = (),
    devices: tuple[str, ...] = ("cpu",),
    started_at: float = 0.0,
) -> Sighting:
    """What a node with devices of 1,000 MiB, one unless told otherwise, says."""
    health = tuple(DeviceHealth(device, 1000, used_mb) for device in devices)
    found = tuple(DeviceInfo(index, device, "x86", 1000) for index, device in enumerate(devices))
    estimated = {estimate.model: estimate for estimate in estimates}
    discovery, version = evolve(DISCOVERY, devices=found), evolve(VERSION, started_at=started_at)
    return Sighting(discovery, version, 1.0, health, reports, activation or Activation("ready"), estimates=estimated)


def loaded(name: str = "m", memory_mb: int = 0, device: str = "cpu", **settings: Any) -> ModelReport:
    """What a node says of a model that it has loaded."""
    return ModelReport(name, "loaded", device, memory_mb, **settings)


def needs(name: str = "m", weights_mb: int = 0, **settings: Any) -> Estimate:
    """What a node says that a model would need there."""
    return Estimate(name, weights_mb, **settings)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def eviction(**settings: Any) -> Cortex:
    """A gateway with these settings of eviction; nothing that was loaded has to settle first unless they say so."""
    return Cortex(eviction=Eviction(**{"residency": Duration(0.0), **settings}))


def state_of(topology: Topology, seen: Mapping[str, Sighting], clock: Clock | None = None) -> State:
    """A state whose nodes said this."""
    state = State(topology, clock or Clock())
    for name, said in seen.items():
        state.see(NodeUp(name, said, state.fleet.clock()))
    return state


def fleet_of(seen: Mapping[str, Sighting | None], **settings: Any) -> Fleet:
    """A fleet whose nodes said this; ``None`` for one that was never seen."""
    return state_of(topology_of(*seen, **settings), {name: said for name, said in seen.items() if said}).fleet


def router_of(endpoints: Mapping[str, str], name: str = "m", aliases: Mapping[str, str] | None = None) -> Router:
    """A router whose every node is up and has the model loaded."""
    neurons = tuple(neuron(each, endpoint=url) for each, url in endpoints.items())
    router = Router(Topology(neurons=neurons, models=(model(name),), aliases=aliases or {}), clock=Clock())
    for each in endpoints:
        router.see(NodeUp(each, sighting(ModelReport(name, "loaded")), 100.0))
    return router


def in_flight(router: Router) -> int:
    """Requests open at any node."""
    return sum(router.fleet().in_flight.values())
