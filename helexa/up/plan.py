"""What one host runs of a topology."""

import os
from pathlib import Path

from attrs import field, frozen

from config import Neuron, Topology


@frozen
class Plan:
    """What one host runs of a topology.

    Attributes:
        topology: the fleet.
        path: its file.
        host: which host this is.
        secret: the fleet secret, if the environment has one.
    """

    topology: Topology
    path: Path
    host: str
    secret: str | None = field(repr=False)

    @classmethod
    def of(cls, topology: Topology, path: Path, host: str) -> "Plan":
        """The part of ``topology`` that is ``host``'s."""
        secret = os.environ.get(topology.cortex.secret_env) or None
        # not resolve(): an edit may put another file behind a symbolic link
        return cls(topology, path.absolute(), host, secret)

    @property
    def cortex(self) -> bool:
        """Whether the gateway runs here."""
        return self.topology.cortex_on(self.host)

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """Which neurons run here."""
        return self.topology.neurons_on(self.host)
