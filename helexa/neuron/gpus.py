"""A host's NVIDIA GPUs: what they are, how they reach each other, and how they are now.

One that is lost, split or hidden is left out, with the reason; the others serve.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Final

import structlog
from attrs import evolve, frozen

from helexa import hostmemory
from helexa.neuron import ailments
from helexa.neuron.nvml import GPU_IS_LOST, NOT_SUPPORTED, SWITCH, Nvml, NvmlError, maybe
from helexa.neuron.visible import VARIABLE, visible
from helexa.wire.fleet import DeviceHealth, DeviceInfo, DeviceLink

_MIB = 2**20
_log = structlog.get_logger()

_PATHS: Final[Mapping[int, str]] = {
    0: "board",
    10: "switch",
    20: "switches",
    30: "host_bridge",
    40: "node",
    50: "system",
}
"""``nvmlGpuTopologyLevel_t``."""
_THROTTLES: Final[Mapping[int, str]] = {
    0x2: "clock_setting",
    0x4: "power_cap",
    0x8: "slowdown",
    0x10: "sync_boost",
    0x20: "thermal",
    0x40: "thermal_slowdown",
    0x80: "power_brake",
    0x100: "display",
}
"""``nvmlClocksEventReasons``, without the bit for a device that is idle, which nothing slows down."""


@frozen
class Gpus:
    """What was found.

    Attributes:
        devices: those that can be used, named as torch names them.
        links: every pair of these.
        ailing: why others cannot be used, and how to mend it; a sentence each.
        hidden: how many ``CUDA_VISIBLE_DEVICES`` hides.
    """

    devices: tuple[DeviceInfo, ...] = ()
    links: tuple[DeviceLink, ...] = ()
    ailing: tuple[str, ...] = ()
    hidden: int = 0


def find(nvml: Nvml, environment: Mapping[str, str]) -> Gpus:
    """Look at every GPU.

    Raises:
        NvmlError: the library does not even tell how many there are.
    """
    count = nvml.count()
    uuids = [maybe(nvml.uuid, index) for index in range(count)]
    shown = visible(environment.get(VARIABLE), uuids)
    devices, ailing = [], []
    for position, index in enumerate(shown):
        name = f"cuda:{position}"
        try:
            devices.append(_device(nvml, index, name))
        except NvmlError as error:
            _log.error("device.unusable", device=name, error=str(error))
            ailing.append(f"{name} {ailments.of_device(error, index)}")
        except _SplitError:
            ailing.append(f"{name} {ailments.SPLIT.format(index=index)}")
    return Gpus(tuple(devices), tuple(_links(nvml, devices)), tuple(ailing), count - len(shown))


class _SplitError(Exception):
    """The device is in MIG mode: CUDA shows its parts instead, if there are any."""


def _device(nvml: Nvml, index: int, name: str) -> DeviceInfo:
    kind, (major, minor), (total, _) = nvml.name(index), nvml.capability(index), _memory(nvml, index)
    if nvml.is_split(index):
        raise _SplitError
    generation, width = maybe(nvml.pcie, index) or (None, None)
    return DeviceInfo(
        index,
        name,
        kind,
        total,
        f"{major}.{minor}",
        uuid=maybe(nvml.uuid, index),
        bus_id=maybe(nvml.bus_id, index),
        pcie_generation=generation,
        pcie_width=width,
        bandwidth=maybe(_bandwidth, nvml, index),
    )


def _bandwidth(nvml: Nvml, index: int) -> float | None:
    """GB/s: two transfers per clock over the whole bus."""
    found = 2 * nvml.fastest_memory_clock(index) * nvml.bus_width(index) / 8 / 1000
    return round(found, 1) or None


def _memory(nvml: Nvml, index: int) -> tuple[int, int]:
    """MiB in total and in use; the host's for a device that shares it and so has none to report."""
    try:
        total, used = nvml.memory(index)
    except NvmlError as error:
        if error.code != NOT_SUPPORTED:
            raise
        memory = hostmemory.read()
        total, used = memory.total, memory.used
    return total // _MIB, used // _MIB


def _links(nvml: Nvml, devices: list[DeviceInfo]) -> Iterator[DeviceLink]:
    ends = {device.name: maybe(nvml.nvlinks, device.index) or () for device in devices}
    for first, second in combinations(devices, 2):
        level = maybe(nvml.common_ancestor, first.index, second.index)
        peer = maybe(nvml.peer_access, first.index, second.index)
        nvlinks = nvlinks_between(second.bus_id, ends[first.name], ends[second.name])
        yield DeviceLink(first.name, second.name, _PATHS.get(-1 if level is None else level, "system"), nvlinks, peer)


def nvlinks_between(bus_id: str | None, ends: tuple[str, ...], far_ends: tuple[str, ...]) -> int:
    """NVLinks from one GPU to another: the direct ones, or as many as both have to switches, which join them all.

    Args:
        bus_id: of the other one.
        ends: where the links of the one lead.
        far_ends: where those of the other lead.
    """
    return ends.count(bus_id) if bus_id in ends else min(ends.count(SWITCH), far_ends.count(SWITCH))


def health(nvml: Nvml, device: DeviceInfo) -> DeviceHealth:
    """A device as it is now. One that is lost has no memory to give away, lest models be placed on it."""
    try:
        index = _index_now(nvml, device)
        total, used = _memory(nvml, index)
    except NvmlError as error:
        return sick(device, f"{device.name} {ailments.of_device(error, device.index)}.")
    bits = maybe(nvml.throttle, index) or 0
    return evolve(
        _sensors(nvml, index, DeviceHealth(device.name, total, used)),
        throttled=tuple(word for bit, word in _THROTTLES.items() if bits & bit),
    )


def _index_now(nvml: Nvml, device: DeviceInfo) -> int:
    """A device's index, which was another one if the library was initialised anew without one of those before it."""
    there = maybe(nvml.uuid, device.index)
    if device.uuid in (None, there):
        return device.index
    count = nvml.count()
    found = next((index for index in range(count) if maybe(nvml.uuid, index) == device.uuid), None)
    if found is not None:
        return found
    if there is None and device.index < count:
        return device.index  # which tells itself what is wrong with it
    raise NvmlError(GPU_IS_LOST, "GPU is lost")


def _sensors(nvml: Nvml, index: int, found: DeviceHealth) -> DeviceHealth:
    return evolve(
        found,
        utilization=maybe(nvml.utilization, index),
        temperature=maybe(nvml.temperature, index),
        power=maybe(nvml.power, index),
        power_limit=maybe(nvml.power_limit, index),
        clock=maybe(nvml.clock, index),
        memory_clock=maybe(nvml.memory_clock, index),
    )


def sick(device: DeviceInfo, error: str) -> DeviceHealth:
    """A device that tells nothing but that something is wrong with it."""
    return DeviceHealth(device.name, device.memory_total_mb, device.memory_total_mb, error=error)
