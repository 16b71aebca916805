"""A host beside its GPUs: its processor, its memory, what is plugged into it.

All read from what the kernel tells: the process that asks never imports torch.

Source: proc(5) for /proc/cpuinfo; "Control Group v2" for cpu.max, and "CFS Bandwidth Control" for the same of v1;
sysfs-bus-pci of the kernel's ABI documentation.
"""

import math
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from helexa import cgroups, hostmemory
from helexa.cgroups import Group
from helexa.neuron.ailments import Surroundings
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Processor

_MIB = 2**20
_CPUINFO = Path("/proc/cpuinfo")
_PCI = Path("/sys/bus/pci/devices")
_DRIVER = Path("/proc/driver/nvidia/version")
_NVIDIA = "0x10de"
_DISPLAY = "0x03"
"""PCI's vendor, and the class that graphics cards and accelerators of that vendor have."""

_TELLING: Final = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)
"""What matrix products are quick with, on x86 and on Arm."""


def processor(cpuinfo: Path = _CPUINFO, listed: Path = cgroups.LISTED, mounted: Path = cgroups.MOUNTED) -> Processor:
    """The CPU, as far as this process may use it.

    Args:
        cpuinfo: where the kernel describes it; elsewhere than on Linux there is no such file.
        listed: where the kernel lists the control groups of this process.
        mounted: where they are mounted.
    """
    name, flags = described(_text(cpuinfo))
    return Processor(
        name or platform.processor() or platform.machine(),
        psutil.cpu_count(logical=False),
        usable_threads(listed, mounted),
        flags,
    )


def usable_threads(listed: Path = cgroups.LISTED, mounted: Path = cgroups.MOUNTED) -> int:
    """How many threads of this process can run at a time, as its affinity and its control groups have it.

    Beside `processor`, as the kernel asks every core for its clock to describe them, and that takes its time.

    Args:
        listed: where the kernel lists the control groups of this process.
        mounted: where they are mounted.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = [_allowed(group) for group in cgroups.groups("cpu", listed, mounted)]
    return min([threads, *(each for each in allowed if each is not None)])


def _allowed(group: Group) -> int | None:
    """Threads that a group has processor time for, at least one; ``None``: as many as there are."""
    if group.is_v2:
        quota, _, period = group.text("cpu.max").strip().partition(" ")
    else:
        quota, period = (group.text(f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not (quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit() and int(period)):
        return None  # "max", "-1", or no such file
    return max(1, math.ceil(int(quota) / int(period)))


def described(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Name and telling instructions in a text as of /proc/cpuinfo; those that every one of its cores has."""
    found = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())]
    name = next((value for key, value in found if key in {"model name", "Model"}), "")
    cores = [set(value.split()) for key, value in found if key in {"flags", "Features"}]
    common = set.intersection(*cores) if cores else set()
    return name, tuple(each for each in _TELLING if each in common)


def cpu(bandwidth: float | None, name: str) -> DeviceInfo:
    """The CPU as a device that models are loaded on."""
    return DeviceInfo(0, "cpu", name, hostmemory.read().total // _MIB, bandwidth=bandwidth)


def cpu_health() -> DeviceHealth:
    """That device now. Takes some tenths of a millisecond."""
    memory = hostmemory.read()
    # interval=None: since it was last asked, at once. A CPU's clocks and temperatures are not read: on a host with many
    # cores or slow sensors that takes longer than all the rest of this process's work between two looks.
    used = psutil.cpu_percent(interval=None)
    return DeviceHealth("cpu", memory.total // _MIB, memory.used // _MIB, utilization=used)


def surroundings(pci: Path = _PCI, driver: Path = _DRIVER) -> Surroundings:
    """What tells why NVIDIA's driver does not work.

    Args:
        pci: where the kernel lists what is plugged in.
        driver: where NVIDIA's kernel module says which one it is.
    """
    match = re.search(r"Kernel Module\b.*?(\d+\.\d+(?:\.\d+)?)", _text(driver))
    return Surroundings(_has_gpu(pci), match[1] if match else None)


def _has_gpu(pci: Path) -> bool:
    try:
        slots: Iterable[Path] = list(pci.iterdir())
    except OSError:
        return False
    return any(_starts(slot / "vendor", _NVIDIA) and _starts(slot / "class", _DISPLAY) for slot in slots)


def _starts(path: Path, with_: str) -> bool:
    return _text(path).startswith(with_)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
