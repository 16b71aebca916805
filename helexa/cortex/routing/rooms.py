"""Whether a device has room for a model, or for one rank's part of it, and what it would cost. Pure."""

from typing import Literal, TypeAlias

from attrs import evolve, frozen

from config import Model
from helexa.cortex.routing.eviction import Candidate, is_busy, smallest
from helexa.cortex.routing.fleet import Fleet, Node, memory_of, ranks_by_memory
from helexa.cortex.routing.sightings import held_mb, is_fetched
from helexa.wire.fleet import DeviceInfo, ModelReport
from helexa.wire.ranks import devices_of

MIB = 2**20
_CHANGING = ("loading", "recovering")
_HOLDING = ("loaded", *_CHANGING)

Verdict: TypeAlias = Literal["fits", "later", "failed", "never"]


@frozen
class Site:
    """A device, several that share a model, or a node without one, as a place for a model.

    Attributes:
        node: its name.
        device: torch's name of it, or of several, as in ``cuda:0+cuda:1``; "" where the whole node is ruled out.
        need_mb: MiB that the model needs, of each of several; 0 if that is not known.
        free_mb: MiB that it could have now; of several, on the fullest.
        total_mb: MiB of the device, or of what its models may have of it; of several, of the smallest.
        evicts: models that would have to make room.
        verdict: ``later``: not while something else goes on there; ``failed``: it was tried a moment ago.
        reason: why not, half a sentence; ``None`` if it fits.
        until: when to look again, seconds of a monotonic clock; ``None`` if only an event can tell.
        others: node and device of each of the last ranks, where several nodes share the model; rank 0's node is
            ``node``.
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
    others: tuple[tuple[str, str], ...] = ()


@frozen
class Want:
    """What is to be placed on a device of a node: a model, or one rank's part of it.

    Attributes:
        need_mb: MiB; 0 if that is not known.
        sharing: how many ranks take that from the same memory, as those on CPUs of one host do.
    """

    fleet: Fleet
    node: Node
    model: Model
    now: float
    need_mb: int
    sharing: int = 1


def site_of(want: Want, device: DeviceInfo) -> Site:
    """A device as a place for it."""
    node, need = want.node, want.need_mb
    total, free = limit_mb(node, device, want.sharing), _free(want, device)
    there = node.model(want.model.id)
    if there is not None and there.status in _HOLDING:
        free = min(total, free + _frees(want, there, device))  # as it is there already
    site = Site(node.name, device.name, need, free, total)
    if (reason := _too_small(site, device, want.model)) is not None:
        return evolve(site, verdict="never", reason=reason)
    if (reason := _elsewhere(device, there) or _occupied(want.fleet, node, device)) is not None:
        return evolve(site, verdict="later", reason=reason)
    if (promised := _promised(want)) and need > free - promised:
        return evolve(site, verdict="later", reason=f"it is still to load {', '.join(node.coming)}")
    return site if need <= free else _with_evictions(want, site, device)


def limit_mb(node: Node, device: DeviceInfo, sharing: int = 1) -> int:
    """MiB of a device, or of what the node's models may have of it; of a memory that ranks share, each one's part."""
    limit, total = node.settings.memory, device.memory_total_mb // sharing
    return total if limit is None else min(total, limit // MIB)


def minimum_mb(model: Model) -> int:
    """MiB that a device must have to be considered."""
    return (model.min_device_memory or 0) // MIB


def need_mb(node: Node, model: str, ranks: int = 1) -> int | None:
    """MiB that each of so many devices needs for a model, by the node's estimate; 0 if that is not known.

    ``None``: the model cannot be shared by so many.
    """
    estimate = node.sighting.estimates.get(model) if node.sighting is not None else None
    if estimate is None or estimate.error or not (estimate.weights_mb or estimate.shares):
        return 0
    share = estimate.share(ranks)
    if share is None or node.settings.memory is None:
        return None if share is None else share.need_mb
    return share.weights_mb + share.kv_mb  # a node's limit is for these; a step takes what it takes beside them


def _too_small(site: Site, device: DeviceInfo, model: Model) -> str | None:
    minimum = minimum_mb(model)
    if minimum > device.memory_total_mb:
        return f"it has {device.memory_total_mb} MiB, and the model asks for {minimum}"
    if site.need_mb > site.total_mb:
        return f"the model needs {site.need_mb} MiB, and its models may have {site.total_mb}"
    return None


def _elsewhere(device: DeviceInfo, there: ModelReport | None) -> str | None:
    """Why a device has to wait for another one of its node: a node has a model once at most."""
    if there is None or there.status not in _HOLDING or there.device is None or device.name in devices_of(there.device):
        return None
    return f"the model is {there.status} on its {there.device}"


def _with_evictions(want: Want, site: Site, device: DeviceInfo) -> Site:
    """The same site once others have made room, if they can."""
    fleet, node = want.fleet, want.node
    missing, strategy = site.need_mb - site.free_mb, fleet.topology.cortex.eviction.strategy
    there = [each for each in node.models if each.id != want.model.id and _is_on(want, each, device)]
    free_to_go = [report for report in there if _may_go(fleet, node, report)]
    settled = [report for report in free_to_go if _settles_at(fleet, node, report) <= want.now]
    if (chosen := smallest((_candidate(want, each, device) for each in settled), missing, strategy)) is not None:
        return evolve(site, evicts=chosen)
    if smallest((_candidate(want, each, device) for each in free_to_go), missing, strategy) is not None:
        until = min(at for each in free_to_go if (at := _settles_at(fleet, node, each)) > want.now)
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


def _candidate(want: Want, report: ModelReport, device: DeviceInfo) -> Candidate:
    fleet, node = want.fleet, want.node
    entry, use = fleet.catalogue.get(report.id), fleet.uses[node.name, report.id]
    priority = entry.priority if entry else 0
    return Candidate(report.id, _frees(want, report, device), is_busy(fleet, node, report), priority, use.used_at)


def _is_on(want: Want, report: ModelReport, device: DeviceInfo) -> bool:
    """Whether a model has a part of the memory that counts: of a device for itself where the node has a limit."""
    if want.node.settings.memory is not None:
        return device.name in devices_of(report.device)
    return memory_of(device.name) in ranks_by_memory(report.device)


def _frees(want: Want, report: ModelReport, device: DeviceInfo) -> int:
    """MiB of a device that a model has; of a memory that ranks share, each one's part."""
    limited = want.node.settings.memory is not None
    if not _is_on(want, report, device):
        return 0
    held = held_mb(report, limited=limited)
    return held if limited else held * ranks_by_memory(report.device)[memory_of(device.name)] // want.sharing


def _free(want: Want, device: DeviceInfo) -> int:
    """MiB of a device that nobody has; of a memory that ranks share, each one's part."""
    node, memory = want.node, memory_of(device.name)
    assert node.sighting is not None
    health = next((each for each in node.sighting.devices if each.name == memory), None)
    free = max(0, device.memory_total_mb - (health.memory_used_mb if health else 0)) // want.sharing
    if node.settings.memory is None:
        return free
    held = sum(_frees(want, each, device) for each in node.models if each.status in _HOLDING)
    return min(free, max(0, limit_mb(node, device) - held))


def _promised(want: Want) -> int:
    """MiB of models that the node's start-up is still to load, on whichever device."""
    node = want.node
    reported = {report.id for report in node.models if not is_fetched(report)} if node.coming else set()
    coming = (each for each in node.coming if each != want.model.id and each not in reported)
    return sum(need_mb(node, each, _ranks(want.fleet, each)) or 0 for each in coming)


def _ranks(fleet: Fleet, model: str) -> int:
    """How many devices a start-up loads a model on."""
    entry = fleet.catalogue.get(model)
    return 1 if entry is None else entry.tensor_parallel or 1


def _occupied(fleet: Fleet, node: Node, device: DeviceInfo) -> str | None:
    """What the device is busy with: until that is done nobody knows how much memory is left."""
    for load in fleet.loads.values():
        if load.takes_from(node.name, device.name):
            return f"it is loading {load.model}"
    for report in node.models:
        leaving = (node.name, report.id) in fleet.draining
        changing = report.status in _CHANGING and not is_fetched(report)
        there = report.device is None or memory_of(device.name) in ranks_by_memory(report.device)
        if there and (changing or leaving):
            return f"{report.id} is {'about to be unloaded' if leaving else report.status} there"
    return None
