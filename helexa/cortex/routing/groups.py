"""Which devices of a node share a model best. Pure."""

from collections.abc import Mapping, Sequence

from helexa.wire.fleet import DeviceInfo, DeviceLink

_PATHS = ("system", "node", "host_bridge", "switches", "switch", "board")
"""The ways between two GPUs, the slowest first."""

_Quality = tuple[int, bool, int]
_UNKNOWN: _Quality = (0, False, -1)


def types(devices: Sequence[DeviceInfo]) -> list[list[DeviceInfo]]:
    """The devices that could share a model at all: GPUs with GPUs, by NCCL; CPUs with CPUs, by Gloo."""
    found: dict[str, list[DeviceInfo]] = {}
    for device in devices:
        found.setdefault(device.name.partition(":")[0], []).append(device)
    return list(found.values())


def choose(
    devices: Sequence[DeviceInfo], ranks: int, free_mb: Mapping[str, int], links: Sequence[DeviceLink]
) -> tuple[DeviceInfo, ...]:
    """The best so many of devices of which any would do, in their order.

    Devices that are alike come first, since a group is as fast as its slowest; then those whose slowest link is the
    quickest; then those with the most memory free. Each device in turn is the first of a group that the best linked
    ones join: to try all groups would take seconds at sixteen devices.

    Args:
        devices: at least so many.
        ranks: how many are to share the model.
        free_mb: MiB that each could have, by name.
        links: how they reach each other, as far as that is known.
    """
    quality = {frozenset((each.first, each.second)): _quality(each) for each in links}
    pools = [pool for pool in _alike(devices) if len(pool) >= ranks] or [list(devices)]
    groups = [_grown(seed, pool, ranks, free_mb, quality) for pool in pools for seed in pool]
    best = max(groups, key=lambda group: (_slowest(group, quality), sum(free_mb[each.name] for each in group)))
    return tuple(sorted(best, key=devices.index))


def _alike(devices: Sequence[DeviceInfo]) -> list[list[DeviceInfo]]:
    found: dict[tuple[str, str | None], list[DeviceInfo]] = {}
    for device in devices:
        found.setdefault((device.kind, device.compute_capability), []).append(device)
    return list(found.values())


def _grown(
    seed: DeviceInfo,
    pool: Sequence[DeviceInfo],
    ranks: int,
    free_mb: Mapping[str, int],
    quality: Mapping[frozenset[str], _Quality],
) -> list[DeviceInfo]:
    group, left = [seed], [each for each in pool if each is not seed]
    while len(group) < ranks:
        joins = max(left, key=lambda each: (_slowest([*group, each], quality), free_mb[each.name]))
        group.append(joins)
        left.remove(joins)
    return group


def _slowest(group: Sequence[DeviceInfo], quality: Mapping[frozenset[str], _Quality]) -> _Quality:
    """The worst link of a group; of a single device, and where none is known, all are the same."""
    pairs = (frozenset((one.name, other.name)) for at, one in enumerate(group) for other in group[at + 1 :])
    return min((quality.get(pair, _UNKNOWN) for pair in pairs), default=_UNKNOWN)


def _quality(link: DeviceLink) -> _Quality:
    return link.nvlinks, bool(link.peer_access), _PATHS.index(link.path) if link.path in _PATHS else -1
