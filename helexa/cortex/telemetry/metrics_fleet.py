"""What others know already, as Prometheus metrics at the moment they are asked for: nodes, models, devices, actors.

Of a node that is down only that is told: its last numbers would look like present ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar, get_args

import trio
from attrs import field, frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config import Provider
from helexa.cortex.routing.fleet import At, Fleet, Node
from helexa.cortex.telemetry.metrics import PREFIX, build_version
from helexa.wire.fleet import ActorReport, DeviceHealth, KvCache, ModelReport, ModelStatus, Steps

_BREAKER_STATES = ("closed", "open", "half-open")
_Labels = TypeVar("_Labels", bound=tuple[str, ...])
_T = TypeVar("_T")


class Breakers(Protocol):
    """The circuit breakers of the providers."""

    def states(self, providers: Iterable[Provider], now: float) -> Mapping[str, str]:
        """The state of each one's, by its name: ``closed``, ``open`` or ``half-open``."""


@frozen(eq=False)
class FleetCollector(Collector):
    """Registered with ``Metrics.registry``.

    Attributes:
        fleet: the state now.
        actors: the actors of this process.
        breakers: the providers' health.
        clock: the one that the breakers are told.
    """

    fleet: Callable[[], Fleet]
    actors: Callable[[], Iterable[ActorReport]]
    breakers: Breakers
    clock: Callable[[], float] = field(default=trio.current_time)

    def collect(self) -> list[Metric]:
        """Everything, as of one moment."""
        fleet = self.fleet()
        up = [node for node in fleet.nodes.values() if node.up]
        reports = {(node.name, report.id): report for node in up for report in node.models}
        devices = {(node.name, each.name): each for node in up for each in _devices(node)}
        return [
            *_gateway(fleet),
            *_models(reports),
            *_caches({at: report.kv for at, report in reports.items() if report.kv is not None}),
            *_steps({at: report.steps for at, report in reports.items() if report.steps is not None}),
            *_hardware(devices),
            *_actors(self._all_actors(up)),
            self._breakers(fleet),
        ]

    def _all_actors(self, up: Iterable[Node]) -> dict[tuple[str, str], ActorReport]:
        """By node and name; of this process by an empty node, which no neuron can be called."""
        there = {(node.name, each.name): each for node in up if node.sighting for each in node.sighting.actors}
        return {("", each.name): each for each in self.actors()} | there

    def _breakers(self, fleet: Fleet) -> Metric:
        found = self.breakers.states(fleet.topology.providers, self.clock())
        values = {(name, state): state == present for name, present in found.items() for state in _BREAKER_STATES}
        return _gauge(
            "provider_breaker_state", "1 for the state a breaker is in.", ("provider", "state"), values, float
        )


def _gateway(fleet: Fleet) -> Iterator[Metric]:
    yield _gauge("build_info", "1; the version is a label.", ("version",), {(build_version(),): 1}, float)
    up = {(node.name,): node.up for node in fleet.nodes.values()}
    yield _gauge("node_up", "Whether a node answered when it was last asked.", ("node",), up, float)
    yield _gauge("requests_placed", "Requests of this gateway at a node.", _MODEL, fleet.in_flight, float)


_MODEL = ("node", "model")
_MODEL_GAUGES: tuple[tuple[str, str, Callable[[ModelReport], float]], ...] = (
    ("num_requests_running", "Sequences that take part in steps.", lambda report: report.running),
    ("num_requests_waiting", "Sequences that do not yet take part in steps.", lambda report: report.waiting),
    ("model_max_sequences", "Sequences that can run at once.", lambda report: report.capacity),
)


def _models(reports: Mapping[At, ModelReport]) -> Iterator[Metric]:
    statuses = get_args(ModelStatus)
    status = {(*at, each): report.status == each for at, report in reports.items() for each in statuses}
    yield _gauge("model_status", "1 for the status a model is in.", (*_MODEL, "status"), status, float)
    served = {at: report for at, report in reports.items() if report.status == "loaded"}
    for name, text, read in _MODEL_GAUGES:
        yield _gauge(name, text, _MODEL, served, read)
    memory = {(*at, "weights"): report.memory_mb for at, report in served.items()}
    memory |= {(*at, "kv"): report.kv_mb for at, report in served.items()}
    yield _gauge("model_memory_bytes", "Memory of a model, by what it is for.", (*_MODEL, "kind"), memory, _bytes)


_CACHE_COUNTERS: tuple[tuple[str, str, Callable[[KvCache], float]], ...] = (
    ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", lambda kv: kv.prefix_queries),
    ("prefix_cache_hits", "Of these, tokens that were found.", lambda kv: kv.prefix_hits),
    ("num_preemptions", "Sequences that had to give their blocks up.", lambda kv: kv.preemptions),
)


def _caches(caches: Mapping[At, KvCache]) -> Iterator[Metric]:
    blocks = {(*at, "used"): _used(kv) for at, kv in caches.items()}
    blocks |= {(*at, "cached"): kv.blocks_cached for at, kv in caches.items()}
    blocks |= {(*at, "free"): kv.blocks_free for at, kv in caches.items()}
    yield _gauge("kv_cache_blocks", "Blocks of a KV cache.", (*_MODEL, "state"), blocks, float)
    yield _gauge("kv_cache_usage_ratio", "Part of a KV cache that sequences use, 0 to 1.", _MODEL, caches, _usage)
    for name, text, read in _CACHE_COUNTERS:
        yield _counter(name, text, _MODEL, caches, read)


def _used(kv: KvCache) -> int:
    return kv.blocks_total - kv.blocks_free - kv.blocks_cached


def _usage(kv: KvCache) -> float | None:
    return _used(kv) / kv.blocks_total if kv.blocks_total > 0 else None


_STEP_COUNTERS: tuple[tuple[str, str, Callable[[Steps], float]], ...] = (
    ("engine_steps", "Forward passes, each over all sequences that run.", lambda steps: steps.count),
    ("engine_step_seconds", "Time that these took, sampling included.", lambda steps: steps.seconds),
    ("engine_step_tokens", "Tokens that these computed, of prompts and answers.", lambda steps: steps.tokens),
    ("engine_new_tokens", "Tokens that these picked for answers.", lambda steps: steps.new_tokens),
)


def _steps(steps: Mapping[At, Steps]) -> Iterator[Metric]:
    for name, text, read in _STEP_COUNTERS:
        yield _counter(name, text, _MODEL, steps, read)


def _devices(node: Node) -> tuple[DeviceHealth, ...]:
    return node.sighting.devices if node.sighting else ()


_DEVICE_GAUGES: tuple[tuple[str, str, Callable[[DeviceHealth], float | None]], ...] = (
    ("device_memory_total_bytes", "Memory of a device.", lambda device: _bytes(device.memory_total_mb)),
    ("device_memory_used_bytes", "Memory in use, by whomever.", lambda device: _bytes(device.memory_used_mb)),
    ("device_utilization_ratio", "How busy a device is, 0 to 1.", lambda device: _ratio(device.utilization)),
    ("device_temperature_celsius", "Temperature of a device.", lambda device: device.temperature),
    ("device_power_watts", "Power that a device draws.", lambda device: device.power),
    ("device_power_limit_watts", "Power that a device may draw.", lambda device: device.power_limit),
    ("device_clock_hertz", "Clock of a device's cores.", lambda device: _hertz(device.clock)),
    ("device_memory_clock_hertz", "Clock of a device's memory.", lambda device: _hertz(device.memory_clock)),
    ("device_throttled", "Whether something slows a device down.", lambda device: bool(device.throttled)),
    ("device_up", "Whether a device tells how it is.", lambda device: device.error is None),
)


def _hardware(devices: Mapping[tuple[str, str], DeviceHealth]) -> Iterator[Metric]:
    for name, text, read in _DEVICE_GAUGES:
        yield _gauge(name, text, ("node", "device"), devices, read)


def _actors(reports: Mapping[tuple[str, str], ActorReport]) -> Iterator[Metric]:
    at = ("node", "actor")
    restarts = "How often an actor was started again; of the gateway's, the node is empty."
    yield _counter("actor_restarts", restarts, at, reports, lambda actor: actor.restarts)
    yield _gauge("actor_mailbox_depth", "Messages waiting to be read.", at, reports, lambda actor: actor.mailbox_depth)
    yield _gauge("actor_running", "Whether an actor runs.", at, reports, lambda actor: actor.state == "running")


def _bytes(mebibytes: float) -> float:
    return mebibytes * 2.0**20


def _hertz(megahertz: float | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100.0


def _gauge(
    name: str, text: str, labels: tuple[str, ...], found: Mapping[_Labels, _T], read: Callable[[_T], float | None]
) -> Metric:
    return _filled(GaugeMetricFamily(PREFIX + name, text, labels=labels), found, read)


def _counter(
    name: str, text: str, labels: tuple[str, ...], found: Mapping[_Labels, _T], read: Callable[[_T], float | None]
) -> Metric:
    return _filled(CounterMetricFamily(PREFIX + name, text, labels=labels), found, read)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, found: Mapping[_Labels, _T], read: Callable[[_T], float | None]
) -> Metric:
    """One sample for each that something is known of."""
    for labels, each in found.items():
        if (value := read(each)) is not None:
            family.add_metric(labels, value)
    return family
