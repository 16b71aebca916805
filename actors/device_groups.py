"""Which devices of a host share a model: as asked for, or picked here. Pure."""

from collections.abc import Mapping, Sequence

from helexa.wire import errors
from helexa.wire.ranks import devices_of, group_of


def check(group: str, known: Sequence[str]) -> tuple[str, ...]:
    """The devices that a request names.

    Args:
        group: as in ``LoadRequest.device``.
        known: the devices of this host.

    Raises:
        ApiError: ``invalid_value``: one is not here, or named twice, or they cannot work together.
    """
    devices = devices_of(group)
    if not set(devices) <= set(known):
        raise errors.invalid_value("device", f"this host has {', '.join(known)}")
    if len(set(devices)) < len(devices):
        raise errors.invalid_value("device", "each of several devices is to be named once")
    if len({_type(device) for device in devices}) > 1:
        raise errors.invalid_value("device", "devices that share a model are all GPUs, or all CPUs")
    return devices


def pick(held: Mapping[str, int], ranks: int) -> str | None:
    """The devices for a model for which nobody has named any: of one type, those that hold the fewest.

    Args:
        held: how many models each device has, in the host's order; of one that nothing will load on, very many.
        ranks: how many devices are to share the model.

    Returns:
        Their group; ``None``: there are not so many of one type.
    """
    types: dict[str, list[str]] = {}
    for device in held:
        types.setdefault(_type(device), []).append(device)
    order = list(held)
    groups = [sorted(each, key=lambda device: held[device])[:ranks] for each in types.values() if len(each) >= ranks]
    if not groups:
        return None
    best = min(groups, key=lambda group: sum(held[device] for device in group))
    return group_of(tuple(sorted(best, key=order.index)))


def _type(device: str) -> str:
    return device.partition(":")[0]
