"""The shapes of the neuron API, as cortex and other clients read them.

Reading is lenient on unknown keys: a neuron of a newer build may say more than this cortex knows.
"""

from typing import Any, Literal, TypeVar

from attrs import field, frozen
from cattrs.preconf.orjson import make_converter

from config import Quant
from helexa.wire.progress import Progress
from helexa.wire.rank_reports import RankReport
from helexa.wire.ranks import Elsewhere, Share

ModelStatus = Literal["loaded", "unloaded", "loading", "recovering", "failed"]
ActivationState = Literal["pre_warming", "ready"]

_T = TypeVar("_T")
_converter = make_converter(detailed_validation=False)


def to_json(value: Any) -> bytes:
    """Any shape of this module as JSON."""
    return bytes(_converter.dumps(value))


def to_dict(value: Any) -> Any:
    """Any shape of this module as plain containers."""
    return _converter.unstructure(value)


def from_json(data: bytes, kind: type[_T]) -> _T:
    """Read a shape.

    Raises:
        ValueError: the data does not have the shape.
    """
    try:
        return _converter.loads(data, kind)
    except Exception as error:
        raise ValueError(f"not a {kind.__name__}: {type(error).__name__}: {error}") from error


@frozen
class Limit:
    """Tokens a model takes on a node: its context, and the most of it that input and output may use."""

    context: int
    input: int
    output: int


@frozen
class DeviceInfo:
    """A device as found at start.

    Attributes:
        index: the driver's number of it; 0 for the CPU.
        name: torch's name of it, e.g. ``cuda:0``.
        kind: what it is, in its maker's words.
        memory_total_mb: MiB.
        compute_capability: of an NVIDIA GPU, e.g. ``8.9``.
        uuid: of an NVIDIA GPU, the same in every process and after every start.
        bus_id: where an NVIDIA GPU is plugged in, e.g. ``00000000:65:00.0``.
        pcie_generation: the fastest that GPU and slot agree on.
        pcie_width: lanes, likewise.
        bandwidth: GB/s (10^9 bytes) at which its memory can be read: of a GPU computed from clock and bus width, of a
            CPU measured. ``None``: unknown.
    """

    index: int
    name: str
    kind: str
    memory_total_mb: int
    compute_capability: str | None = None
    uuid: str | None = None
    bus_id: str | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    bandwidth: float | None = None


@frozen
class DeviceLink:
    """How two GPUs of a host reach each other.

    Attributes:
        first: torch's name of one.
        second: torch's name of the other, which comes later in the list of devices.
        path: the PCIe way between them: within one ``board``, over one ``switch``, over ``switches``, over the
            processor's ``host_bridge``, over several within a NUMA ``node``, or through the whole ``system``.
        nvlinks: NVLink connections from one to the other, directly or through a switch; 0: none.
        peer_access: whether one can read the other's memory, without the host's in between; ``None``: unknown.
    """

    first: str
    second: str
    path: str
    nvlinks: int = 0
    peer_access: bool | None = None


@frozen
class Processor:
    """A host's CPU.

    Attributes:
        name: in its maker's words.
        cores: physical cores; ``None``: unknown.
        threads: hardware threads that helexa may use of them.
        instructions: the vector and matrix instructions that inference is quick with, as Linux calls them.
    """

    name: str
    cores: int | None
    threads: int
    instructions: tuple[str, ...] = ()


@frozen
class Discovery:
    """What a host is.

    Attributes:
        hostname: its name.
        os: kernel and release.
        driver: version of NVIDIA's driver; ``None``: there is none that works.
        devices: what models can be loaded on; without a GPU, the CPU.
        unavailable_reason: what keeps GPUs of this host from being used, and how to mend it, or that it has none.
            ``None``: nothing does. A host that has none is a healthy one.
        cuda: the newest version of CUDA that the driver is made for, e.g. ``12.8``.
        links: every pair of GPUs.
        processor: the CPU, which has work to do beside GPUs too.
    """

    hostname: str
    os: str
    driver: str | None
    devices: tuple[DeviceInfo, ...]
    unavailable_reason: str | None = None
    cuda: str | None = None
    links: tuple[DeviceLink, ...] = ()
    processor: Processor | None = None


@frozen
class KvCache:
    """How a model's KV cache is used.

    Attributes:
        blocks_total: blocks in the pool; each is in use, free, or cached.
        blocks_free: blocks whose content nobody wants.
        blocks_cached: blocks that no sequence uses and whose content may be found again.
        prefix_queries: prompt tokens looked up in the cache since the model was loaded.
        prefix_hits: of these, tokens that were found.
        preemptions: sequences that had to give their blocks up since then.
    """

    blocks_total: int
    blocks_free: int
    blocks_cached: int
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0


@frozen
class Steps:
    """What a model's engine has done since the model was loaded.

    Attributes:
        count: steps, each one forward pass over the tokens of all sequences that run.
        seconds: what they took, sampling included.
        tokens: tokens that they computed, of prompts and of answers.
        new_tokens: tokens that they picked.
    """

    count: int
    seconds: float
    tokens: int = 0
    new_tokens: int = 0


@frozen
class ModelReport:
    """One model on one node.

    Attributes:
        device: torch's name of the device that has it, or of several that share it, as in ``cuda:0+cuda:1``.
        memory_mb: what its weights hold, on each device.
        kv_mb: what its KV cache may hold, on each device.
        capacity: sequences that can run at once.
        running: sequences that take part in steps.
        waiting: sequences that do not yet.
        error: why it ``failed``.
        kv: its KV cache, as its worker last told; ``None`` before that.
        steps: its engine's steps, likewise.
        progress: how far it has come while it is ``loading`` or ``recovering``.
    """

    id: str
    status: ModelStatus
    device: str | None = None
    memory_mb: int = 0
    limit: Limit | None = None
    capabilities: tuple[str, ...] = ()
    running: int = 0
    waiting: int = 0
    error: str | None = None
    kv: KvCache | None = None
    kv_mb: int = 0
    capacity: int = 0
    steps: Steps | None = None
    progress: Progress | None = None


@frozen
class ModelList:
    """``GET /models``."""

    models: tuple[ModelReport, ...] = ()


@frozen
class ActivationFailure:
    """A model that could not be loaded at start, and why."""

    model: str
    error: str


@frozen
class Activation:
    """How far the start-up loads have come."""

    state: ActivationState = "pre_warming"
    pending: tuple[str, ...] = ()
    in_progress: str | None = None
    completed: tuple[str, ...] = ()
    failed: tuple[ActivationFailure, ...] = ()


@frozen
class DeviceHealth:
    """A device now; ``None`` where unknown.

    Attributes:
        name: torch's name of it.
        memory_total_mb: MiB.
        memory_used_mb: MiB in use, by whomever.
        utilization: percent.
        temperature: °C.
        power: W that it draws.
        power_limit: W that it may draw.
        clock: MHz of its cores.
        memory_clock: MHz of its memory.
        throttled: what slows it down: the ``clock_setting`` somebody made, the ``power_cap``, a hardware ``slowdown``,
            ``sync_boost`` (the slowest of a group), ``thermal`` (the driver, to stay below its limit),
            ``thermal_slowdown`` (the hardware, for it is too hot), the power supply's ``power_brake``, a ``display``.
        error: why it tells no more than its name, and how to mend that; its models are in trouble.
    """

    name: str
    memory_total_mb: int
    memory_used_mb: int
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: float | None = None
    memory_clock: float | None = None
    throttled: tuple[str, ...] = ()
    error: str | None = None


@frozen
class Health:
    """``GET /health`` of a neuron; ``ranks`` are those that it runs for models of other neurons."""

    status: str
    uptime_seconds: float
    devices: tuple[DeviceHealth, ...] = ()
    models: tuple[ModelReport, ...] = ()
    activation: Activation = field(factory=Activation)
    ranks: tuple[RankReport, ...] = ()


@frozen
class Version:
    """``GET /version``: enough to tell two builds apart."""

    version: str
    git_sha: str | None
    dirty: bool | None
    build_time: str | None
    python: str
    torch: str
    transformers: str
    cuda: str | None
    started_at: float


@frozen
class LoadRequest:
    """``POST /models/load``. ``source`` and ``quant`` as in the topology; for the former see `config.source`.

    A request without a source is for a model of the neuron's catalogue, and is loaded as that says.

    Attributes:
        device: torch's name of one, or of several that share the model, as in ``cuda:0+cuda:1``.
        elsewhere: ranks that other hosts run; ``None``: there are none.
    """

    model: str
    source: str | None = None
    device: str | None = None
    quant: Quant | None = None
    elsewhere: Elsewhere | None = None


@frozen
class Estimate:
    """What a model would need on a host, read from its files without loading it. ``POST /models/estimate``.

    Attributes:
        model: its id.
        weights_mb: MiB of its weights.
        kv_mb: MiB of KV cache for the shortest context worth serving.
        error: why it cannot be loaded there at all; ``None`` if it can.
        workspace_mb: MiB that a step takes beside that, at most.
        shares: the same for each of several ranks, by how many there are: those that the model can be spread over.
    """

    model: str
    weights_mb: int = 0
    kv_mb: int = 0
    error: str | None = None
    workspace_mb: int = 0
    shares: tuple[Share, ...] = ()

    def share(self, ranks: int) -> Share | None:
        """What each of so many ranks needs; ``None``: the model cannot be spread over so many."""
        if ranks == 1:
            return Share(1, self.weights_mb, self.kv_mb, self.workspace_mb)
        return next((each for each in self.shares if each.ranks == ranks), None)


@frozen
class EstimateRequest:
    """``POST /models/estimate``: models and their sources, as in the topology."""

    models: tuple[LoadRequest, ...] = ()


@frozen
class EstimateList:
    """What ``POST /models/estimate`` answers."""

    models: tuple[Estimate, ...] = ()


@frozen
class ActorReport:
    """One actor of ``/fleet/actors``; ``since_seconds`` is the time spent in this state."""

    name: str
    state: str
    restarts: int
    mailbox_depth: int
    last_error: str | None
    since_seconds: float
