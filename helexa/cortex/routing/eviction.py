"""Which models make room, and which have been idle for too long. Pure."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from config.topology import EvictionStrategy
from helexa.cortex.routing.fleet import Fleet, Node
from helexa.wire.fleet import ModelReport

_SETTLED = ("loaded", "failed", "unloaded")


@frozen
class Candidate:
    """A model that could make room.

    Attributes:
        frees_mb: MiB that its device has more without it.
        busy: it has requests, which would be waited for.
        priority: of its entry in the catalogue.
        used_at: seconds of a monotonic clock.
    """

    model: str
    frees_mb: int
    busy: bool
    priority: int
    used_at: float


def smallest(candidates: Iterable[Candidate], missing_mb: int, strategy: EvictionStrategy) -> tuple[str, ...] | None:
    """The fewest models that free ``missing_mb``; ``None`` if all of them do not.

    A busy one is among them only where idle ones would not do. Of equally many, it is the set whose least dispensable
    model is the most dispensable: for ``lru`` the longest unused; for ``priority`` the one of the lowest priority, and
    the longest unused among equals.
    """
    ordered = sorted(candidates, key=lambda each: _rank(each, strategy))
    chosen = _fewest([each for each in ordered if not each.busy], missing_mb)
    if chosen is None:
        chosen = _fewest(ordered, missing_mb)
    return None if chosen is None else tuple(each.model for each in chosen)


def _rank(candidate: Candidate, strategy: EvictionStrategy) -> tuple[bool, int, float, str]:
    priority = candidate.priority if strategy == "priority" else 0
    return candidate.busy, priority, candidate.used_at, candidate.model


def _fewest(ordered: Sequence[Candidate], missing_mb: int) -> list[Candidate] | None:
    """The fewest that do, chosen from the last one on: each as far to the front as the others, all before it, allow.

    Trying all sets would come to the same, and take seconds where a device has many small models.
    """
    count = _count(ordered, missing_mb)
    if count is None:
        return None
    chosen: list[Candidate] = []
    for left in range(count, 0, -1):
        end = next(end for end in range(left, len(ordered) + 1) if _most(ordered[:end], left) >= missing_mb)
        chosen.append(ordered[end - 1])
        missing_mb -= ordered[end - 1].frees_mb
        ordered = ordered[: end - 1]
    return chosen[::-1]


def _count(candidates: Sequence[Candidate], missing_mb: int) -> int | None:
    """How few can do: as many of the largest as it takes."""
    freed, largest = 0, sorted((each.frees_mb for each in candidates), reverse=True)
    for count, size in enumerate(largest):
        if freed >= missing_mb:
            return count
        freed += size
    return len(largest) if freed >= missing_mb else None


def _most(candidates: Sequence[Candidate], count: int) -> int:
    """MiB that so many of them free at most."""
    return sum(sorted((each.frees_mb for each in candidates), reverse=True)[:count])


def idle(fleet: Fleet, now: float) -> list[tuple[str, str]]:
    """Node and model of whatever is loaded, not kept, and unused for longer than its ``idle_ttl``."""
    return [
        (name, report.id)
        for name, node in fleet.nodes.items()
        if node.up
        for report in node.models
        if report.status == "loaded" and _is_expired(fleet, node, report, now)
    ]


def _is_expired(fleet: Fleet, node: Node, report: ModelReport, now: float) -> bool:
    entry, use = fleet.catalogue.get(report.id), fleet.uses.get((node.name, report.id))
    at = (node.name, report.id)
    if entry is None or use is None or at in fleet.draining or fleet.is_kept(*at):
        return False
    return not is_busy(fleet, node, report) and now - use.used_at >= fleet.topology.idle_ttl(entry)


def worn(fleet: Fleet) -> list[tuple[str, str]]:
    """Node and device of whatever has seen so many unloads that its memory may be in pieces, and is idle now."""
    after = fleet.topology.cortex.eviction.defrag_after_cycles
    if not after:
        return []
    return [at for at, count in fleet.cycles.items() if count >= after and _is_quiet(fleet, *at)]


def _is_quiet(fleet: Fleet, node: str, device: str) -> bool:
    known = fleet.nodes.get(node)
    if known is None or not known.up or any(load.node == node for load in fleet.loads.values()):
        return False
    there = [report for report in known.models if report.device == device]
    return all(_is_settled(fleet, known, report) for report in there)


def _is_settled(fleet: Fleet, node: Node, report: ModelReport) -> bool:
    leaving = (node.name, report.id) in fleet.draining
    return report.status in _SETTLED and not leaving and not is_busy(fleet, node, report)


def is_busy(fleet: Fleet, node: Node, report: ModelReport) -> bool:
    """Whether a model has requests: ours, or by its own last word anybody's."""
    return bool(fleet.in_flight.get((node.name, report.id))) or report.running + report.waiting > 0
