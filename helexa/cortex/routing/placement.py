"""Where a model could be loaded: every device of every node, what it would cost there, or why not. Pure."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Literal, TypeAlias

from attrs import evolve, frozen

from config import Model
from helexa.cortex.routing.eviction import Candidate, is_busy, smallest
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.cortex.routing.sightings import held_mb, is_fetched
from helexa.wire.fleet import DeviceInfo, ModelReport

_MIB = 2**20
_CHANGING = ("loading", "recovering")
_HOLDING = ("loaded", *_CHANGING)

Verdict: TypeAlias = Literal["fits", "later", "failed", "never"]


@frozen
class Site:
    """A device, or a node without one, as a place for a model.

    Attributes:
        node: its name.
        device: torch's name; "" where the whole node is ruled out.
        need_mb: MiB that the model needs; 0 if that is not known.
        free_mb: MiB that it could have now.
        total_mb: MiB of the device, or of what its models may have of it.
        evicts: models that would have to make room.
        verdict: ``later``: not while something else goes on there; ``failed``: it was tried a moment ago.
        reason: why not, half a sentence; ``None`` if it fits.
        until: when to look again, seconds of a monotonic clock; ``None`` if only an event can tell.
    """

    node: str
    device: str = ""
    need_mb: int = 0
    free_mb: int = 0
    total_mb: int = 0
    evicts: tuple[str, ...] = ()
    verdict: Verdict = "fits"
    reason: str | None = None
    until: float | None = None


def survey(fleet: Fleet, model: Model, now: float = 0.0, avoid: AbstractSet[str] = frozenset()) -> tuple[Site, ...]:
    """Every place for a model, the best first: pinned nodes, then those that evict nothing, then the fewest; by name.

    Where a model is pinned at all, no other node comes into question.

    Args:
        fleet: as it is now.
        model: an entry of its catalogue, or of one that is to be.
        now: seconds of a monotonic clock.
        avoid: nodes that do not come into question.
    """
    sites = [site for node in fleet.nodes.values() for site in _sites(fleet, node, model, now, avoid)]
    return tuple(sorted(sites, key=lambda site: (site.verdict != "fits", len(site.evicts), site.node)))


@frozen
class Host:
    """A node as a place for any model whatsoever, others having made room; quick to ask about many.

    Attributes:
        total_mb: MiB of its largest device; -1 if it has nothing to offer.
        limit_mb: MiB that models may have of it.
    """

    node: Node
    total_mb: int
    limit_mb: int

    def could_hold(self, model: Model) -> bool:
        """Whether the node could have the model loaded at all."""
        if self.total_mb < _minimum_mb(model) or self.limit_mb < _need(self.node, model.id):
            return False
        return _unsuitable(self.node, model) is None


def hosts(fleet: Fleet) -> list[Host]:
    """Every node; those that are down have nothing to offer."""
    return [_host(node) for node in fleet.nodes.values()]


def _host(node: Node) -> Host:
    devices = node.devices if node.up else ()
    totals = max((device.memory_total_mb for device in devices), default=-1)
    return Host(node, totals, max((_limit(node, device) for device in devices), default=-1))


def _sites(fleet: Fleet, node: Node, model: Model, now: float, avoid: AbstractSet[str]) -> Iterator[Site]:
    reason = "a request has just failed there" if node.name in avoid else _ruled_out(node, model)
    if reason is not None:
        yield Site(node.name, verdict="never", reason=reason)
        return
    failure = fleet.failures.get((node.name, model.id))
    for device in node.devices:
        site = _site(fleet, node, device, model, now)
        if failure is not None and failure.until > now and site.verdict != "never":
            site = evolve(site, evicts=(), verdict="failed", reason=failure.error, until=failure.until)
        yield site


def _ruled_out(node: Node, model: Model) -> str | None:
    """Why a node does not come into question at all."""
    if (reason := _unsuitable(node, model)) is not None:
        return reason
    if not node.up or node.sighting is None:
        return f"it is down: {node.error or 'it was not seen yet'}"
    return None if node.devices else "it has none of its devices"


def _unsuitable(node: Node, model: Model) -> str | None:
    """Why a node cannot have a model, however much memory there is."""
    if model.pinned_on and node.name not in model.pinned_on:
        return f"the model is pinned on {', '.join(model.pinned_on)}"
    if (model.tensor_parallel or 1) > 1:
        return f"the model is to be spread over {model.tensor_parallel} devices, which this build cannot do"
    estimate = node.sighting.estimates.get(model.id) if node.sighting is not None else None
    return None if estimate is None else estimate.error


def _site(fleet: Fleet, node: Node, device: DeviceInfo, model: Model, now: float) -> Site:
    total, free, need = _limit(node, device), _free(node, device), _need(node, model.id)
    there = node.model(model.id)
    if there is not None and there.device == device.name and there.status in _HOLDING:
        free = min(total, free + _held(node, there))  # as it is there already
    site = Site(node.name, device.name, need, free, total)
    if (reason := _too_small(site, device, model)) is not None:
        return evolve(site, verdict="never", reason=reason)
    if (reason := _elsewhere(device, there) or _occupied(fleet, node, device)) is not None:
        return evolve(site, verdict="later", reason=reason)
    if (promised := _promised(node, model)) and need > free - promised:
        return evolve(site, verdict="later", reason=f"it is still to load {', '.join(node.coming)}")
    return site if need <= free else _with_evictions(fleet, node, site, model, now)


def _too_small(site: Site, device: DeviceInfo, model: Model) -> str | None:
    minimum = _minimum_mb(model)
    if minimum > device.memory_total_mb:
        return f"it has {device.memory_total_mb} MiB, and the model asks for {minimum}"
    if site.need_mb > site.total_mb:
        return f"the model needs {site.need_mb} MiB, and its models may have {site.total_mb}"
    return None


def _elsewhere(device: DeviceInfo, there: ModelReport | None) -> str | None:
    """Why a device has to wait for another one of its node: a node has a model once at most."""
    if there is None or there.status not in _HOLDING or there.device in (None, device.name):
        return None
    return f"the model is {there.status} on its {there.device}"


def _with_evictions(fleet: Fleet, node: Node, site: Site, model: Model, now: float) -> Site:
    """The same site once others have made room, if they can."""
    missing, strategy = site.need_mb - site.free_mb, fleet.topology.cortex.eviction.strategy
    there = [report for report in node.models if report.device == site.device and report.id != model.id]
    free_to_go = [report for report in there if _may_go(fleet, node, report)]
    settled = [report for report in free_to_go if _settles_at(fleet, node, report) <= now]
    if (chosen := smallest((_candidate(fleet, node, each) for each in settled), missing, strategy)) is not None:
        return evolve(site, evicts=chosen)
    if smallest((_candidate(fleet, node, each) for each in free_to_go), missing, strategy) is not None:
        until = min(at for each in free_to_go if (at := _settles_at(fleet, node, each)) > now)
        return evolve(site, verdict="later", reason="what is loaded there has only just been loaded", until=until)
    kept = ", ".join(report.id for report in there if report.status in _HOLDING and report not in free_to_go)
    stays = f", and {kept} is to stay" if kept else ""
    reason = f"the model needs {site.need_mb} MiB, and {site.free_mb} are free{stays}"
    return evolve(site, verdict="never", reason=reason)


def _may_go(fleet: Fleet, node: Node, report: ModelReport) -> bool:
    seen = (node.name, report.id) in fleet.uses
    return seen and report.status == "loaded" and not fleet.is_kept(node.name, report.id)


def _settles_at(fleet: Fleet, node: Node, report: ModelReport) -> float:
    """Until when a model that was just loaded stays: two that take turns would otherwise do nothing but load."""
    return fleet.uses[node.name, report.id].loaded_at + fleet.topology.cortex.eviction.residency


def _candidate(fleet: Fleet, node: Node, report: ModelReport) -> Candidate:
    entry, use = fleet.catalogue.get(report.id), fleet.uses[node.name, report.id]
    busy = is_busy(fleet, node, report)
    return Candidate(report.id, _held(node, report), busy, entry.priority if entry else 0, use.used_at)


def _held(node: Node, report: ModelReport) -> int:
    return held_mb(report, limited=node.settings.memory is not None)


def _limit(node: Node, device: DeviceInfo) -> int:
    """MiB of the device, or of what the node's models may have of it."""
    limit, total = node.settings.memory, device.memory_total_mb
    return total if limit is None else min(total, limit // _MIB)


def _free(node: Node, device: DeviceInfo) -> int:
    """MiB of that which nobody has."""
    assert node.sighting is not None
    health = next((each for each in node.sighting.devices if each.name == device.name), None)
    free = max(0, device.memory_total_mb - (health.memory_used_mb if health else 0))
    if node.settings.memory is None:
        return free
    held = sum(_held(node, each) for each in node.models if each.device == device.name and each.status in _HOLDING)
    return min(free, max(0, _limit(node, device) - held))


def _minimum_mb(model: Model) -> int:
    return (model.min_device_memory or 0) // _MIB


def _need(node: Node, model: str) -> int:
    """MiB that a model needs by the node's estimate; 0 if that is not known."""
    estimate = node.sighting.estimates.get(model) if node.sighting is not None else None
    return estimate.weights_mb + estimate.kv_mb if estimate is not None and not estimate.error else 0


def _promised(node: Node, model: Model) -> int:
    """MiB of models that the node's start-up is still to load, on whichever device."""
    reported = {report.id for report in node.models if not is_fetched(report)} if node.coming else set()
    return sum(_need(node, each) for each in node.coming if each != model.id and each not in reported)


def _occupied(fleet: Fleet, node: Node, device: DeviceInfo) -> str | None:
    """What the device is busy with: until that is done nobody knows how much memory is left."""
    for load in fleet.loads.values():
        if (load.node, load.device) == (node.name, device.name):
            return f"it is loading {load.model}"
    for report in node.models:
        leaving = (node.name, report.id) in fleet.draining
        changing = report.status in _CHANGING and not is_fetched(report)
        if report.device in (None, device.name) and (changing or leaving):
            return f"{report.id} is {'about to be unloaded' if leaving else report.status} there"
    return None
