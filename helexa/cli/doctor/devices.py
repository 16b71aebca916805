"""Judges the facts of a host's devices, and of the torch that is to compute on them. Pure.

Source: CUDA Compatibility, "Minor Version Compatibility" and "Application Compatibility"; torch.cuda.get_arch_list.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from config import Neuron
from helexa.cli.doctor.checks import Check
from helexa.cli.doctor.facts import Facts, Torch
from helexa.cli.doctor.finding import Finding, Level
from helexa.neuron.discovery import Host
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery

_MIB = 2**20
_COMPUTES: Final = ("slowdown", "thermal", "thermal_slowdown", "power_brake")
"""What slows a GPU down that somebody can mend."""
_CROWDED: Final = 0.5
"""Of a GPU's memory, in use before helexa has started."""
_GET_TORCH: Final = "install the build of torch for CUDA that pytorch.org names under 'Get Started'"


def devices(facts: Facts) -> Iterator[Finding]:
    """What was found, and what was not."""
    found = facts.host.discovery
    for device in found.devices:
        yield Finding("devices", "ok", described(device, found))
    for sentence in facts.host.ailing:
        what, _, remedy = sentence.partition(". ")
        yield Finding("devices", "warning", what, remedy or None)
    if not facts.host.ailing and found.unavailable_reason:
        yield Finding("devices", "note", f"{found.unavailable_reason}: models run on the CPU")
    for neuron in facts.neurons:
        yield from _missing(neuron, found)


def described(device: DeviceInfo, found: Discovery) -> str:
    """A device in one line."""
    parts = [f"{device.name} is {device.kind}, {device.memory_total_mb / 1024:.0f} GiB"]
    if device.compute_capability is not None:
        parts.append(f"compute capability {device.compute_capability}")
    if device.name == "cpu" and found.processor is not None:
        parts.append(f"{found.processor.threads} threads, {' '.join(found.processor.instructions) or 'no AVX2'}")
    if device.bandwidth is not None:
        parts.append(f"{device.bandwidth:.0f} GB/s")
    return ", ".join(parts)


def _missing(neuron: Neuron, found: Discovery) -> Iterator[Finding]:
    here = [device.name for device in found.devices]
    for name in neuron.devices or ():
        if name not in here and not name.startswith("cpu"):
            message = f"neurons.{neuron.name}.devices names {name}, and this host has {', '.join(here)}"
            yield Finding("devices", "problem", message, "name devices that are here, or leave 'devices' out")


def sensors(facts: Facts) -> Iterator[Finding]:
    """How the devices are."""
    for health in facts.health:
        if health.error is not None:
            what, _, remedy = health.error.rstrip(".").partition(". ")
            level: Level = "problem" if health.name in facts.wanted_devices else "warning"
            yield Finding("devices", level, what, remedy or None)
        else:
            yield from _sensors(facts, health)


def _sensors(facts: Facts, health: DeviceHealth) -> Iterator[Finding]:
    if reasons := [each for each in health.throttled if each in _COMPUTES]:
        heat = "" if health.temperature is None else f" at {health.temperature:.0f} °C"
        remedy = "look at its fans, its power cables and the air that gets to it"
        message = f"{health.name} slows itself down{heat}: {', '.join(reasons).replace('_', ' ')}"
        yield Finding("devices", "warning", message, remedy)
    used, total = health.memory_used_mb, health.memory_total_mb
    if health.name != "cpu" and not facts.is_up and used > _CROWDED * total:
        message = f"{used / 1024:.1f} of {total / 1024:.1f} GiB of {health.name} are in use before helexa has started"
        yield Finding("devices", "warning", message, "end what uses it; nvidia-smi lists it")


def limits(facts: Facts) -> Iterator[Finding]:
    """What neurons may have of a device, beside what it has."""
    for neuron in facts.neurons:
        for device in facts.host.discovery.devices:
            if neuron.memory is None or (neuron.devices is not None and device.name not in neuron.devices):
                continue
            if neuron.memory > device.memory_total_mb * _MIB:
                has = f"{device.name} has {device.memory_total_mb / 1024:.0f}"
                message = f"neurons.{neuron.name}.memory is {neuron.memory / 2**30:.0f} GiB, and {has}"
                yield Finding("devices", "warning", message, "lower it, or leave it out to use all that is free")


def torch(facts: Facts) -> Iterator[Finding]:
    """Torch by itself, and against the driver and each GPU."""
    found = facts.torch
    if found.error is not None:
        message = f"torch does not run here: {found.error}"
        yield Finding("torch", "problem", message, "install it again, as a build for this kind of processor")
        return
    yield Finding("torch", "ok", f"torch {found.version} computes, built for {_built_for(found)}")
    gpus = [device for device in facts.host.discovery.devices if device.name in facts.wanted_devices - {"cpu"}]
    if gpus:
        against = list(_against_driver(found, facts.host.discovery)) or list(_seen(found, facts.host))
        yield from against
        yield from (finding for device in gpus for finding in _against_gpu(found, device))


def _built_for(found: Torch) -> str:
    return f"CUDA {found.cuda}" if found.cuda else "CPUs"


def _against_driver(found: Torch, host: Discovery) -> Iterator[Finding]:
    """Within one major version of CUDA every driver will do; an older major version will not."""
    if found.cuda is None:
        message = f"torch {found.version} is a build for CPUs, and this host has GPUs to serve from"
        yield Finding("torch", "problem", message, _GET_TORCH)
    elif host.cuda is not None and _major(found.cuda) > _major(host.cuda):
        message = f"torch is built for CUDA {found.cuda}, and driver {host.driver} is made for CUDA {host.cuda} at most"
        remedy = f"install a newer driver, or a build of torch for CUDA {_major(host.cuda)}"
        yield Finding("torch", "problem", message, remedy)


def _seen(found: Torch, host: Host) -> Iterator[Finding]:
    """NVML works without much of what CUDA needs, and counts GPUs that CUDA leaves out."""
    there = len(host.discovery.devices)
    if not found.gpus:
        why = f": {found.said}" if found.said else ""
        remedy = (
            "see that the module nvidia_uvm is loaded and that, on boards with NVSwitch, nvidia-fabricmanager runs; a "
            "container has to be given CUDA as well (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
        yield Finding("torch", "problem", f"torch sees no GPU, and the driver tells of {there}{why}", remedy)
    elif found.gpus != there:
        message = f"torch sees {found.gpus} GPUs and {there} can be used, so their numbers may not mean the same ones"
        remedy = "mend the GPU that is left out, or hide it with CUDA_VISIBLE_DEVICES"
        yield Finding("torch", "warning", message, remedy)


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


def _against_gpu(found: Torch, device: DeviceInfo) -> Iterator[Finding]:
    if device.compute_capability is None or has_kernels(device.compute_capability, found.architectures):
        return
    message = f"torch has no kernels for {device.name}, whose compute capability is {device.compute_capability}"
    remedy = f"install a build of torch that has (this one: {', '.join(found.architectures)}), or leave the GPU out"
    yield Finding("torch", "problem", message, remedy)


def has_kernels(capability: str, architectures: Sequence[str]) -> bool:
    """Whether one of them runs on a GPU: compiled for its major version and not a later minor, or still to compile.

    Args:
        capability: the GPU's, e.g. ``8.9``.
        architectures: ``sm_`` for compiled kernels, ``compute_`` for such as the driver compiles; none: unknown.
    """
    major, minor = map(int, capability.split("."))
    for kind, number, only in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(architectures)):
        theirs = divmod(int(number), 10)
        if only:  # for that very GPU
            runs = theirs == (major, minor)
        else:
            runs = theirs <= (major, minor) and (kind == "compute" or theirs[0] == major)
        if runs:
            return True
    return not architectures


CHECKS: Final[tuple[Check, ...]] = (torch, devices, sensors, limits)
