"""Where a model could be loaded: every device of every node, what it would cost there, or why not. Pure."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from attrs import evolve, frozen

from config import Model
from helexa.cortex.routing import groups, rooms, spread
from helexa.cortex.routing.fleet import Fleet, Node, memory_of
from helexa.cortex.routing.rooms import Site, Verdict, Want
from helexa.wire.fleet import DeviceInfo
from helexa.wire.ranks import group_of

__all__ = ["Host", "Site", "Verdict", "hosts", "survey"]

_DEGREES = (1, 2, 4, 8)
_VERDICTS = ("fits", "later", "failed", "never")
"""The best first."""


def survey(fleet: Fleet, model: Model, now: float = 0.0, avoid: AbstractSet[str] = frozenset()) -> tuple[Site, ...]:
    """Every place for a model, the best first: pinned nodes, then those that evict nothing, then the fewest; by name.

    Where a model is pinned at all, no other node comes into question. A place is a device, or as many of one node as
    are to share the model: the fewest that could have it, where the model does not say how many. Only where no single
    node could, several may share it.

    Args:
        fleet: as it is now.
        model: an entry of its catalogue, or of one that is to be.
        now: seconds of a monotonic clock.
        avoid: nodes that do not come into question.
    """
    sites = [site for node in fleet.nodes.values() for site in _sites(fleet, node, model, now, avoid)]
    if all(site.verdict == "never" for site in sites):
        sites += _over_several(fleet, model, now, avoid)
    return tuple(sorted(sites, key=lambda site: (site.verdict != "fits", len(site.evicts), site.node)))


def _over_several(fleet: Fleet, model: Model, now: float, avoid: AbstractSet[str]) -> Iterator[Site]:
    """The devices of as few nodes as could have it together, as few as these can be."""
    for ranks in _degrees(model):
        site = spread.across(fleet, model, ranks, now) if ranks > 1 else None
        if site is not None and avoid.isdisjoint({site.node, *(node for node, _ in site.others)}):
            yield site
            return


def _degrees(model: Model) -> tuple[int, ...]:
    """How many devices may share a model, the fewest first."""
    return _DEGREES if model.tensor_parallel is None else (model.tensor_parallel,)


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
        if self.total_mb < rooms.minimum_mb(model) or _unsuitable(self.node, model) is not None:
            return False
        return any(self._holds(model, ranks) for ranks in _degrees(model))

    def _holds(self, model: Model, ranks: int) -> bool:
        need = rooms.need_mb(self.node, model.id, ranks)
        if need is None or ranks == 1:
            return need is not None and need <= self.limit_mb
        return any(_nth_limit(self.node, alike, ranks) >= need for alike in groups.types(self.node.devices))


def _nth_limit(node: Node, devices: Sequence[DeviceInfo], ranks: int) -> int:
    """MiB that models may have of each of the so many largest; -1: there are not so many."""
    sharing = _sharing(devices, ranks)
    limits = sorted((rooms.limit_mb(node, device, sharing) for device in devices), reverse=True)
    return limits[ranks - 1] if len(limits) >= ranks else -1


def hosts(fleet: Fleet) -> list[Host]:
    """Every node; those that are down have nothing to offer."""
    return [_host(node) for node in fleet.nodes.values()]


def _host(node: Node) -> Host:
    devices = node.devices if node.up else ()
    totals = max((device.memory_total_mb for device in devices), default=-1)
    limit = max((rooms.limit_mb(node, device) for device in devices), default=-1)
    return Host(node, totals, limit)


def _sites(fleet: Fleet, node: Node, model: Model, now: float, avoid: AbstractSet[str]) -> Iterator[Site]:
    reason = "a request has just failed there" if node.name in avoid else _ruled_out(node, model)
    if reason is not None:
        yield Site(node.name, verdict="never", reason=reason)
        return
    failure = fleet.failures.get((node.name, model.id))
    for site in _of_fewest(fleet, node, model, now):
        if failure is not None and failure.until > now and site.verdict != "never":
            yield evolve(site, evicts=(), verdict="failed", reason=failure.error, until=failure.until)
        else:
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
    estimate = node.sighting.estimates.get(model.id) if node.sighting is not None else None
    return None if estimate is None else estimate.error


def _of_fewest(fleet: Fleet, node: Node, model: Model, now: float) -> list[Site]:
    """Places of as few devices as could ever have the model. Where none could, why the first ones tried cannot."""
    found: list[Site] = []
    for ranks in _degrees(model):
        sites = _single(fleet, node, model, now) if ranks == 1 else _joint(fleet, node, model, now, ranks)
        if any(site.verdict != "never" for site in sites):
            return sites
        found = found or sites
    return found


def _single(fleet: Fleet, node: Node, model: Model, now: float) -> list[Site]:
    want = Want(fleet, node, model, now, rooms.need_mb(node, model.id) or 0)
    return [rooms.site_of(want, device) for device in node.devices]


def _joint(fleet: Fleet, node: Node, model: Model, now: float, ranks: int) -> list[Site]:
    """The best group of so many devices, of each type."""
    types = groups.types(node.devices)
    if (most := max(map(len, types))) < ranks:
        reason = f"the model is to be spread over {ranks} devices, and it has {most} that could share it"
        return [Site(node.name, verdict="never", reason=reason)]
    if (need := rooms.need_mb(node, model.id, ranks)) is None:
        return [Site(node.name, verdict="never", reason=f"the model cannot be spread over {ranks} devices")]
    want = Want(fleet, node, model, now, need)
    return [_best(want, alike, ranks) for alike in types if len(alike) >= ranks]


def _best(want: Want, devices: Sequence[DeviceInfo], ranks: int) -> Site:
    """The best group of so many of these, at least as many, which all could share a model."""
    want = evolve(want, sharing=_sharing(devices, ranks))
    sites = {device.name: rooms.site_of(want, device) for device in devices}
    usable = next(tier for tier in _tiers(list(sites.values())) if len(tier) >= ranks)
    free = {site.device: site.free_mb for site in usable}
    links = () if want.node.sighting is None else want.node.sighting.discovery.links
    chosen = groups.choose([device for device in devices if device.name in free], ranks, free, links)
    return _together([sites[device.name] for device in chosen])


def _sharing(devices: Sequence[DeviceInfo], ranks: int) -> int:
    """How many ranks on devices of one type take from the same memory."""
    return 1 if len({memory_of(device.name) for device in devices}) == len(devices) else ranks


def _tiers(sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Which places to make a group of, the best first: those that fit, the fewest evictions first; then any."""
    for most in sorted({len(site.evicts) for site in sites}):
        yield [site for site in sites if site.verdict == "fits" and len(site.evicts) <= most]
    yield [site for site in sites if site.verdict != "never"]
    yield list(sites)


def _together(sites: Sequence[Site]) -> Site:
    """One place of several; the worst of them decides."""
    worst = max(sites, key=lambda site: _VERDICTS.index(site.verdict))
    evicts = dict.fromkeys(model for site in sites for model in site.evicts)
    return evolve(
        worst,
        device=group_of(tuple(site.device for site in sites)),
        free_mb=min(site.free_mb for site in sites),
        total_mb=min(site.total_mb for site in sites),
        evicts=tuple(evicts) if worst.verdict == "fits" else (),
        until=min((site.until for site in sites if site.until is not None), default=None),
    )
