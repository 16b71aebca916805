"""What this host has: its devices and how they are now.

NVIDIA devices are read through NVML, in this process and without a CUDA context: only engine workers touch the GPU. A
host without one is a valid host: its device is the CPU and its memory is the host's.
"""

import platform
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import structlog
from attrs import frozen

from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery

_MIB = 2**20
_log = structlog.get_logger()


@frozen
class Host:
    """The devices of this host, found once at start.

    Attributes:
        discovery: what ``/discovery`` says.
        nvml: the initialised NVML module, or ``None`` on a CPU host. Lives as long as the process.
    """

    discovery: Discovery
    nvml: Any | None

    def health(self) -> tuple[DeviceHealth, ...]:
        """Every device as it is now. Takes microseconds on a CPU host, some milliseconds with NVML."""
        if self.nvml is None:
            return (_cpu_health(),)
        return tuple(_gpu_health(self.nvml, device) for device in self.discovery.devices)


def discover() -> Host:
    """Look for accelerators; fall back to the CPU and say why."""
    nvml, reason = _nvml()
    devices = () if nvml is None else tuple(_gpus(nvml))
    if nvml is None or not devices:
        reason = reason or "NVML reports no device"
        return Host(_discovery((_cpu(),), None, reason), None)
    return Host(_discovery(devices, str(nvml.nvmlSystemGetDriverVersion()), None), nvml)


def _discovery(devices: tuple[DeviceInfo, ...], driver: str | None, reason: str | None) -> Discovery:
    return Discovery(socket.gethostname(), f"{platform.system()} {platform.release()}", driver, devices, reason)


def _nvml() -> tuple[Any | None, str | None]:
    try:
        import pynvml
    except ImportError:
        return None, "no NVIDIA support: the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"no NVIDIA device: {error}"
    return pynvml, None


def _gpus(nvml: Any) -> Iterator[DeviceInfo]:
    """Every device that can be asked; a broken one must not keep the others from serving."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            yield _gpu(nvml, index)
        except nvml.NVMLError as error:
            _log.error("device.unusable", device=f"cuda:{index}", error=str(error))


def _gpu(nvml: Any, index: int) -> DeviceInfo:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    total, _ = _memory(nvml, handle)
    return DeviceInfo(index, f"cuda:{index}", str(nvml.nvmlDeviceGetName(handle)), total, f"{major}.{minor}")


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """MiB in total and in use; the host's for a device that shares it and so has none to report."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_NotSupported:
        return _host_memory()
    return memory.total // _MIB, memory.used // _MIB


def _gpu_health(nvml: Any, device: DeviceInfo) -> DeviceHealth:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index)
        total, used = _memory(nvml, handle)
    except nvml.NVMLError:  # lost while we run; the host's other devices still have something to tell
        return DeviceHealth(device.name, device.memory_total_mb, 0)
    return DeviceHealth(
        name=device.name,
        memory_total_mb=total,
        memory_used_mb=used,
        utilization=_maybe(nvml, lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        temperature=_maybe(nvml, lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        power=_maybe(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
    )


def _maybe(nvml: Any, read: Any) -> float | None:
    """A reading, or ``None``: laptops and virtual GPUs lack some sensors."""
    try:
        return float(read())
    except nvml.NVMLError:
        return None


def _cpu() -> DeviceInfo:
    total, _ = _host_memory()
    return DeviceInfo(0, "cpu", platform.processor() or platform.machine(), total)


def _cpu_health() -> DeviceHealth:
    total, used = _host_memory()
    return DeviceHealth("cpu", total, used, utilization=psutil.cpu_percent(interval=None))


def _host_memory() -> tuple[int, int]:
    """MiB in total and in use."""
    memory = psutil.virtual_memory()
    return memory.total // _MIB, (memory.total - memory.available) // _MIB
