"""The shapes of the neuron API, as cortex and other clients read them.

Reading is lenient on unknown keys: a neuron of a newer build may say more than this cortex knows.
"""

from typing import Any, Literal, TypeVar

from attrs import field, frozen
from cattrs.preconf.orjson import make_converter

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
    """A device as found at start. ``name`` is torch's, e.g. ``cuda:0``; memory in MiB."""

    index: int
    name: str
    kind: str
    memory_total_mb: int
    compute_capability: str | None = None


@frozen
class Discovery:
    """What a host is. ``unavailable_reason`` says why no accelerator was found; a CPU host is a valid host."""

    hostname: str
    os: str
    driver: str | None
    devices: tuple[DeviceInfo, ...]
    unavailable_reason: str | None = None


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
class ModelReport:
    """One model on one node.

    Attributes:
        memory_mb: what its weights hold.
        kv_mb: what its KV cache may hold.
        capacity: sequences that can run at once.
        running: sequences that take part in steps.
        waiting: sequences that do not yet.
        error: why it ``failed``.
        kv: its KV cache, as its worker last told; ``None`` before that.
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
    """A device now. Memory in MiB, utilization in percent, temperature in °C, power in W; ``None`` where unknown."""

    name: str
    memory_total_mb: int
    memory_used_mb: int
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None


@frozen
class Health:
    """``GET /health`` of a neuron."""

    status: str
    uptime_seconds: float
    devices: tuple[DeviceHealth, ...] = ()
    models: tuple[ModelReport, ...] = ()
    activation: Activation = field(factory=Activation)


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
    """``POST /models/load``. ``source`` as in the topology: ``helexa``, ``huggingface`` or ``path:/…``."""

    model: str
    source: str | None = None
    device: str | None = None


@frozen
class Estimate:
    """What a model would need on a host, read from its files without loading it. ``POST /models/estimate``.

    Attributes:
        model: its id.
        weights_mb: MiB of its weights.
        kv_mb: MiB of KV cache for the shortest context worth serving.
        error: why it cannot be loaded there at all; ``None`` if it can.
    """

    model: str
    weights_mb: int = 0
    kv_mb: int = 0
    error: str | None = None


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
