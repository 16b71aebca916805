"""Which devices of several nodes could share a model that no single node can have. Pure.

Ranks on several nodes meet at the ``interconnect`` address of the first one's. They evict nothing: what makes room on
one node is of no use unless it makes room on all of them, and each has its own clients to serve.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from attrs import evolve, frozen

from config import Model
from helexa.cortex.routing import groups
from helexa.cortex.routing.fleet import Failure, Fleet, Node, memory_of
from helexa.cortex.routing.rooms import Site, Want, need_mb, site_of
from helexa.wire.fleet import DeviceInfo
from helexa.wire.ranks import group_of

_GONE = ("failed", "unloaded")


def name_of(leader: str, model: str) -> str:
    """What the ranks of a model are called that a node leads; a node has a model once at most."""
    return f"{leader}/{model}"


def is_over(fleet: Fleet, group: str) -> bool:
    """Whether a group's leader is seen not to have its model, nor to be about to have it.

    One that does not answer may well have it: its ranks end by themselves if it does not come back.
    """
    leader, _, model = group.partition("/")
    node, load = fleet.nodes.get(leader), fleet.loads.get(model)
    if node is None:
        return True
    if not node.up or (load is not None and load.node == leader):
        return False
    report = node.model(model)
    return report is None or report.status in _GONE


def can_share(fleet: Fleet) -> tuple[Node, ...]:
    """The nodes that answer and whose ranks could meet others': none, where there is only one such node."""
    found = tuple(node for node in fleet.nodes.values() if node.up and node.settings.interconnect is not None)
    return found if len(found) > 1 else ()


def across(fleet: Fleet, model: Model, ranks: int, now: float) -> Site | None:
    """The devices of as few nodes as possible that together could have a model, or what to wait for.

    Args:
        fleet: as it is now.
        model: an entry of its catalogue.
        ranks: how many devices are to share it.
        now: seconds of a monotonic clock.

    Returns:
        ``fits``; ``later`` while something else goes on there; ``failed`` if it was tried a moment ago; ``None`` if
        there are not enough devices of one type with the memory for it.
    """
    rooms = [room for node in can_share(fleet) for room in _rooms(fleet, node, model, ranks, now)]
    failures = {node: each for (node, name), each in fleet.failures.items() if name == model.id and each.until > now}
    idle = [room for room in rooms if room.site.verdict == "fits"]
    if (chosen := _choose(idle, ranks, failures)) is not None:
        return _together(chosen)
    if (chosen := _choose(idle, ranks, {})) is not None:
        failure = failures[chosen[0].site.node]
        return evolve(_together(chosen), verdict="failed", reason=failure.error, until=failure.until)
    if (chosen := _choose(rooms, ranks, {})) is not None:
        busy = next(room.site for room in chosen if room.site.verdict != "fits")
        return evolve(_together(chosen), verdict="later", reason=f"on {busy.node}, {busy.reason}", until=busy.until)
    return None


@frozen
class _Room:
    """A device that has the memory for a rank, if perhaps not now."""

    device: DeviceInfo
    site: Site

    @property
    def type(self) -> str:
        """What a group is of: by NCCL GPUs, by Gloo CPUs."""
        return self.device.name.partition(":")[0]

    @property
    def kind(self) -> tuple[str, str, str]:
        """Devices of which one is as fast as another."""
        return self.type, self.device.kind, self.device.compute_capability or ""


def _together(chosen: Sequence[_Room]) -> Site:
    sites = [room.site for room in chosen]
    leader = sites[0].node
    return Site(
        leader,
        group_of(tuple(site.device for site in sites if site.node == leader)),
        need_mb=max(site.need_mb for site in sites),
        free_mb=min(site.free_mb for site in sites),
        total_mb=min(site.total_mb for site in sites),
        others=tuple((site.node, site.device) for site in sites if site.node != leader),
    )


def _rooms(fleet: Fleet, node: Node, model: Model, ranks: int, now: float) -> Iterator[_Room]:
    need = _need(node, model, ranks)
    if need is None:
        return
    want = Want(fleet, node, model, now, need)
    for devices in groups.types(_without_rank(fleet, node)):
        yield from _of_type(want, devices)


def _need(node: Node, model: Model, ranks: int) -> int | None:
    """MiB that a rank on this node would need; ``None`` if it cannot run any."""
    if node.sighting is None or (model.pinned_on and node.name not in model.pinned_on):
        return None
    estimate = node.sighting.estimates.get(model.id)
    return None if estimate is not None and estimate.error else need_mb(node, model.id, ranks)


def _without_rank(fleet: Fleet, node: Node) -> list[DeviceInfo]:
    """The devices that could run one for another node: each runs one at a time.

    What a node last said of its ranks may be a moment old: those of a group that is over are about to end.
    """
    ranks = node.sighting.ranks if node.sighting is not None else ()
    taken = {rank.device for rank in ranks if rank.status != "failed" and not is_over(fleet, rank.group)}
    return [device for device in node.devices if device.name not in taken]


def _of_type(want: Want, devices: Sequence[DeviceInfo]) -> list[_Room]:
    """As many of a node's devices of a type as can have a rank at the same time: CPUs of a host share its memory."""
    shared = len(devices) > 1 and memory_of(devices[0].name) == memory_of(devices[1].name)
    for sharing in range(len(devices), 0, -1) if shared else (1,):
        rooms = [_Room(device, site_of(evolve(want, sharing=sharing), device)) for device in devices]
        usable = [room for room in rooms if _has_memory(room.site)]
        if not shared or len(usable) >= sharing:
            return usable[:sharing] if shared else usable
    return []


def _has_memory(site: Site) -> bool:
    return site.verdict in ("fits", "later") and site.need_mb <= site.free_mb


def _choose(rooms: Iterable[_Room], ranks: int, failures: Mapping[str, Failure]) -> list[_Room] | None:
    """So many devices of several nodes, rank 0's first: alike if possible, on few nodes, with the most memory left."""
    plans = [plan for pool in _pools(list(rooms)) if (plan := _fill(pool, ranks, failures)) is not None]
    return min(plans, key=_cost, default=None)


def _cost(plan: Sequence[_Room]) -> tuple[bool, int, int]:
    kinds, nodes = {room.kind for room in plan}, {room.site.node for room in plan}
    return len(kinds) > 1, len(nodes), -min(room.site.free_mb for room in plan)


def _pools(rooms: Sequence[_Room]) -> Iterator[list[_Room]]:
    """Devices that could share a model: those of a type that are alike, and all of a type."""
    for key in (lambda room: room.kind, lambda room: (room.type,)):
        for _, pool in groupby(sorted(rooms, key=key), key):
            yield list(pool)


def _fill(pool: Sequence[_Room], ranks: int, failures: Mapping[str, Failure]) -> list[_Room] | None:
    """The first so many of the nodes with the most devices, of equal ones in the topology's order.

    What has failed where one led is led by another.
    """
    by_node: dict[str, list[_Room]] = {}
    for room in pool:
        by_node.setdefault(room.site.node, []).append(room)
    order = sorted(by_node, key=lambda node: -len(by_node[node]))
    leader = next((node for node in order if node not in failures), None)
    if leader is None or len(by_node) == 1:
        return None
    first = by_node.pop(leader)[: ranks - 1]  # several nodes are asked for because none can alone
    others = [room for node in order if node != leader for room in by_node[node]]
    found = [*first, *others[: ranks - len(first)]]
    return found if len(found) == ranks else None
