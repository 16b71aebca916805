"""What this host has: its devices and how they are now.

NVIDIA devices are read through NVML, in this process and without a CUDA context: only engine workers touch the GPU. A
host without one is a valid host: its device is the CPU and its memory is the host's.
"""

import platform
import socket
from typing import Any

import psutil
from attrs import frozen

from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery

_MIB = 2**20


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
        return tuple(_gpu_health(self.nvml, device.index) for device in self.discovery.devices)


def discover() -> Host:
    """Look for accelerators; fall back to the CPU and say why."""
    nvml, reason = _nvml()
    devices = () if nvml is None else tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
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


def _gpu(nvml: Any, index: int) -> DeviceInfo:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    total = nvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB
    return DeviceInfo(index, f"cuda:{index}", str(nvml.nvmlDeviceGetName(handle)), total, f"{major}.{minor}")


def _gpu_health(nvml: Any, index: int) -> DeviceHealth:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return DeviceHealth(
        name=f"cuda:{index}",
        memory_total_mb=memory.total // _MIB,
        memory_used_mb=memory.used // _MIB,
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
    name = platform.processor() or platform.machine()
    return DeviceInfo(0, "cpu", name, psutil.virtual_memory().total // _MIB)


def _cpu_health() -> DeviceHealth:
    memory = psutil.virtual_memory()
    used = (memory.total - memory.available) // _MIB
    return DeviceHealth("cpu", memory.total // _MIB, used, utilization=psutil.cpu_percent(interval=None))
