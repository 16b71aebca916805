"""What cortex knows of its fleet: plain values, written by ``state.State`` alone, read by everyone else."""

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from attrs import Factory, evolve, field, frozen

from config import Model, Neuron, Topology
from helexa.wire.fleet import (
    Activation,
    ActorReport,
    DeviceHealth,
    DeviceInfo,
    Discovery,
    Estimate,
    ModelReport,
    Version,
)
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import devices_of

_HOST = "cpu"

At = tuple[str, str]
"""A node and a model."""


def memory_of(device: str) -> str:
    """Whose memory a device has: ``cpu`` and ``cpu:1`` are workers of their own, and share what the host has."""
    return _HOST if device.partition(":")[0] == _HOST else device


def ranks_by_memory(device: str | None) -> Counter[str]:
    """How many times a model takes what it holds, by whose memory it takes that from.

    Args:
        device: as in a report of a model: torch's name of one, or of several that share it.
    """
    return Counter(map(memory_of, devices_of(device)))


@frozen
class Sighting:
    """What a neuron said when it was last asked.

    ``discovery``, ``version`` and ``estimates`` (by model id) do not change while a neuron runs; they are asked for
    once per start of it.
    """

    discovery: Discovery
    version: Version
    uptime_seconds: float
    devices: tuple[DeviceHealth, ...] = ()
    models: tuple[ModelReport, ...] = ()
    activation: Activation = field(factory=Activation)
    actors: tuple[ActorReport, ...] = ()
    estimates: Mapping[str, Estimate] = field(factory=dict)
    ranks: tuple[RankReport, ...] = ()


@frozen
class Node:
    """One neuron as cortex sees it.

    Attributes:
        settings: its entry of the topology.
        up: whether it answered when it was last asked.
        sighting: the last answer, kept while it is down; ``None`` before the first.
        error: why it is down, or what is wrong although it is up, one sentence.
    """

    settings: Neuron
    up: bool = False
    sighting: Sighting | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """Its name in the topology."""
        return self.settings.name

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return self.settings.endpoint

    @property
    def devices(self) -> tuple[DeviceInfo, ...]:
        """The devices that it uses, of those it has; a CPU as often as the topology names it."""
        found = self.sighting.discovery.devices if self.sighting else ()
        if (wanted := self.settings.devices) is None:
            return found
        known = {device.name: device for device in found}
        again = [name for name in wanted if name not in known and memory_of(name) in known]
        there = [device for device in found if device.name in wanted]
        return (*there, *(evolve(known[memory_of(name)], name=name) for name in again))

    def model(self, model: str) -> ModelReport | None:
        """What it last said of a model, as ``models`` has it."""
        for report in self.models:
            if report.id == model:
                return report
        return None

    @property
    def coming(self) -> tuple[str, ...]:
        """The models that its start-up is still to load."""
        if self.sighting is None:
            return ()
        activation = self.sighting.activation
        return activation.pending if activation.in_progress is None else (*activation.pending, activation.in_progress)

    @property
    def models(self) -> tuple[ModelReport, ...]:
        """Every model it last told of. Of a node that is down, what was loaded or loading reads ``recovering``."""
        if self.sighting is None:
            return ()
        if self.up:
            return self.sighting.models
        return tuple(_when_down(report) for report in self.sighting.models)


def _when_down(report: ModelReport) -> ModelReport:
    return evolve(report, status="recovering") if report.status in ("loaded", "loading") else report


@frozen
class Use:
    """What cortex itself knows of a model that is loaded on a node. Times in seconds of a monotonic clock.

    Attributes:
        loaded_at: when it was first seen loaded.
        used_at: when its last request began or ended, or the node told of requests that may be others'; else
            ``loaded_at``.
        pinned: an operator wants it kept.
    """

    loaded_at: float
    used_at: float
    pinned: bool = False


@frozen
class Load:
    """A load under way that cortex began.

    Attributes:
        evicts: models that have to make room for it on that node.
        began_at: seconds of a monotonic clock.
        used_mb: MiB in use without it of each memory it is to have a part of, once those have gone; 0 if left out.
        others: node and device of the ranks on other nodes.
    """

    model: str
    node: str
    device: str
    evicts: tuple[str, ...]
    began_at: float
    used_mb: Mapping[str, int] = field(factory=dict)
    others: tuple[tuple[str, str], ...] = ()

    def takes_from(self, node: str, device: str) -> bool:
        """Whether it is to have a part of that device's memory."""
        there = [other for name, other in self.others if name == node]
        there += devices_of(self.device) if self.node == node else ()
        return memory_of(device) in map(memory_of, there)


@frozen
class Failure:
    """A model that did not load on a node; it is not tried there again before ``until``."""

    error: str
    until: float
    count: int = 1


@frozen
class Holder:
    """A node that has a model loaded; ``capacity`` is how many of its sequences run at once."""

    node: str
    endpoint: str
    capacity: int


@frozen
class Fleet:
    """The fleet as it is now.

    A value, but for the mappings marked as live: those are the owner's own and change under a reader who awaits.

    Attributes:
        topology: what is to be.
        nodes: by name, in the topology's order.
        catalogue: the topology's models by id.
        holders: for each model, the nodes that are up and have it loaded.
        placed: for each model, the names of all nodes that told of it, in whatever state.
        in_flight: requests that cortex has open; live.
        uses: of the models loaded; live.
        draining: what is about to be unloaded and gets no further requests; live.
        loads: under way, by model; live.
        failures: remembered; live.
        cycles: models unloaded from each node's device, or group of devices, since its worker began; live.
        clock: seconds of the monotonic clock that all times here are of.
        problems: what is wrong with the topology file's latest edit, which therefore is not in force.
        applied_at: Unix time since when the topology is in force.
        aliases: alias to model id; flat, an alias never names an alias. The topology's, and an operator's.
    """

    topology: Topology
    nodes: Mapping[str, Node]
    catalogue: Mapping[str, Model]
    holders: Mapping[str, tuple[Holder, ...]] = field(factory=dict)
    placed: Mapping[str, tuple[str, ...]] = field(factory=dict)
    in_flight: Mapping[At, int] = field(factory=dict)
    uses: Mapping[At, Use] = field(factory=dict)
    draining: AbstractSet[At] = frozenset()
    loads: Mapping[str, Load] = field(factory=dict)
    failures: Mapping[At, Failure] = field(factory=dict)
    cycles: Mapping[tuple[str, str], int] = field(factory=dict)
    clock: Callable[[], float] = field(default=lambda: 0.0, eq=False, repr=False)
    problems: tuple[str, ...] = ()
    applied_at: float = 0.0
    aliases: Mapping[str, str] = Factory(lambda fleet: fleet.topology.aliases, takes_self=True)

    def resolve(self, name: str) -> str:
        """The model id that a name stands for."""
        return self.aliases.get(name, name)

    def known(self) -> tuple[str, ...]:
        """Every model of the catalogue, in its order, then by name what nodes have besides."""
        return (*self.catalogue, *sorted(model for model in self.placed if model not in self.catalogue))

    def status(self, node: Node, model: str) -> str | None:
        """A model's status on a node; one that start-up, or cortex, is still to load counts as loading."""
        if (report := node.model(model)) is not None:
            return report.status
        if model in node.coming:
            return "loading" if node.up else "recovering"
        load = self.loads.get(model)
        return "loading" if load is not None and load.node == node.name else None

    def is_kept(self, node: str, model: str) -> bool:
        """Whether a model is to stay on a node: the topology or an operator has pinned it there."""
        entry, use = self.catalogue.get(model), self.uses.get((node, model))
        return (entry is not None and node in entry.pinned_on) or (use is not None and use.pinned)
