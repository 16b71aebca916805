"""What the doctor looks at: everything that is known of a host before anything is judged."""

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from config import Neuron, Topology
from helexa.neuron.discovery import Host
from helexa.wire.fleet import DeviceHealth

PortState = Literal["free", "ours", "taken", "wrong"]


@frozen
class Interpreter:
    """The Python that runs this: its version, whether it is a 64-bit one, and the kind of system it runs on."""

    version: tuple[int, int, int]
    is_64_bit: bool
    system: str


@frozen
class Package:
    """A package that helexa needs.

    Attributes:
        name: as it is installed.
        wanted: the versions that will do.
        installed: the version that is here; ``None``: none.
        fits: whether that will do.
    """

    name: str
    wanted: str
    installed: str | None
    fits: bool


@frozen
class Torch:
    """What torch tells of itself, in a process of its own.

    Attributes:
        version: of it; ``None`` where it could not be imported.
        cuda: the version of CUDA that it is built for; ``None``: none.
        architectures: the GPUs that it has kernels for, e.g. ``sm_90``, ``compute_120``; empty: unknown.
        gpus: how many GPUs it sees.
        said: what it had to say about them.
        error: why it does not run here.
    """

    version: str | None = None
    cuda: str | None = None
    architectures: tuple[str, ...] = ()
    gpus: int = 0
    said: str = ""
    error: str | None = None


@frozen
class Cache:
    """Where models from Hugging Face are kept.

    Attributes:
        path: the directory.
        free: bytes left on its disk; ``None``: unknown.
        writable: whether models can be added.
        offline: whether the environment forbids to fetch any.
    """

    path: str
    free: int | None
    writable: bool
    offline: bool = False


@frozen
class Port:
    """A listener of the topology on this host.

    Attributes:
        asked_by: the topology's key.
        address: what it asks for, or what it gets without a secret.
        state: whether it can be had; ``ours``: a helexa serves there; ``wrong``: this host has no such address.
        error: why it cannot be had.
        holder: who holds it, if that is known: number and command line of a process.
    """

    asked_by: str
    address: str
    state: PortState = "free"
    error: str = ""
    holder: str | None = None


@frozen
class Facts:
    """All there is to know.

    Attributes:
        interpreter: Python.
        packages: those that are missing or of another version.
        torch: what computes.
        host: devices.
        health: these now.
        memory_available: bytes of the host's memory that can be had.
        cache: of models.
        open_files: how many files and sockets a process may have open.
        file: name of the topology.
        problems: what is wrong with it; it is ``None`` then.
        topology: the fleet.
        here: which host of it this is.
        environment: the variables of this process.
        ports: the listeners of this host.
        database: why the gateway's database cannot be used; ``None``: it can, or is not needed here.
        certificates: what is wrong with certificate files, a sentence each.
    """

    interpreter: Interpreter
    torch: Torch
    host: Host
    memory_available: int
    cache: Cache
    packages: tuple[Package, ...] = ()
    health: tuple[DeviceHealth, ...] = ()
    open_files: int | None = None
    file: str = ""
    problems: tuple[str, ...] = ()
    topology: Topology | None = None
    here: str = ""
    environment: Mapping[str, str] = field(factory=dict, repr=False)
    ports: tuple[Port, ...] = ()
    database: str | None = None
    certificates: tuple[str, ...] = ()

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """The topology's neurons that are to run here."""
        return () if self.topology is None else self.topology.neurons_on(self.here)

    @property
    def is_gateway(self) -> bool:
        """Whether the gateway is to run here."""
        return self.topology is not None and self.topology.cortex_on(self.here)

    @property
    def is_up(self) -> bool:
        """Whether a fleet serves here already."""
        return any(port.state == "ours" for port in self.ports)

    @property
    def wanted_devices(self) -> frozenset[str]:
        """Torch's names of the devices that neurons here are to use; all there are where one does not say."""
        found = frozenset(device.name for device in self.host.discovery.devices)
        asked = [found if neuron.devices is None else frozenset(neuron.devices) for neuron in self.neurons]
        return found if self.topology is None else frozenset().union(*asked)
