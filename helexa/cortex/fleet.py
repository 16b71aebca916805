"""What cortex knows of its fleet: plain values, owned by the router, read by everyone else."""

from collections.abc import Mapping

from attrs import evolve, field, frozen

from helexa.wire.fleet import Activation, ActorReport, DeviceHealth, Discovery, ModelReport, Version


@frozen
class Sighting:
    """What a neuron said when it was last asked.

    ``discovery`` and ``version`` do not change while a neuron runs; they are asked for once per start of it.
    """

    discovery: Discovery
    version: Version
    uptime_seconds: float
    devices: tuple[DeviceHealth, ...] = ()
    models: tuple[ModelReport, ...] = ()
    activation: Activation = field(factory=Activation)
    actors: tuple[ActorReport, ...] = ()


@frozen
class Node:
    """One neuron as cortex sees it.

    Attributes:
        name: its name in the topology.
        endpoint: base URL.
        up: whether it answered when it was last asked.
        sighting: the last answer, kept while it is down; ``None`` before the first.
        error: why it is down, one sentence.
        in_flight: requests cortex has open there, by model.
    """

    name: str
    endpoint: str
    up: bool = False
    sighting: Sighting | None = None
    error: str | None = None
    in_flight: Mapping[str, int] = field(factory=dict)

    def model(self, model: str) -> ModelReport | None:
        """What it last said of a model, as ``models`` has it."""
        for report in self.models:
            if report.id == model:
                return report
        return None

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
class Fleet:
    """The nodes, and what the topology says that they may serve.

    Attributes:
        nodes: by name, in the topology's order.
        catalogue: model ids of the topology.
        aliases: alias to model id; flat, an alias never names an alias.
    """

    nodes: Mapping[str, Node]
    catalogue: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(factory=dict)

    def known(self) -> tuple[str, ...]:
        """Every model of the catalogue and of the nodes, in that order, each once."""
        reported = (report.id for node in self.nodes.values() for report in node.models)
        return tuple(dict.fromkeys([*self.catalogue, *reported]))
