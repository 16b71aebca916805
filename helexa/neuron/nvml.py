"""The port to NVML, the library that comes with NVIDIA's driver and tells of its GPUs, and the way to the real one.

NVML makes no CUDA context and takes no memory of a device: only engine workers touch the GPU. What ``nvidia-smi``
prints is made from the same library, in a form that has changed between its versions.

Source: NVIDIA Management Library (NVML) API Reference Manual; names and units below are its.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from attrs import frozen

NOT_SUPPORTED = 3
NO_PERMISSION = 4
INSUFFICIENT_POWER = 8
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
VERSION_MISMATCH = 18
NOT_INSTALLED = -1
"""Codes of ``nvmlReturn_t``; the last one is ours: the Python package is missing."""

SWITCH = "switch"
"""What is at the other end of an NVLink that does not lead to another GPU directly."""
_FAR_ENDS = {0: "gpu", 2: SWITCH}
"""``nvmlIntNvLinkDeviceType_t``, as far as they concern us."""
_P = ParamSpec("_P")
_T = TypeVar("_T")
_MOST_LINKS = 18
"""A GPU's NVLinks: ``NVML_NVLINK_MAX_LINKS`` before that counted links of switches as well."""


class NvmlError(Exception):
    """A call failed. ``code`` is its ``nvmlReturn_t``; the text is the library's own for it."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class Nvml(Protocol):
    """What helexa asks NVML. Devices go by its index, which follows their slots; every method raises ``NvmlError``."""

    def renew(self) -> None:
        """Initialise the library anew: it sees neither that a driver was loaded again nor that a GPU came back.

        Devices may have other indices afterwards. If it fails, it may be tried again.
        """

    def driver(self) -> str:
        """Version of the driver, e.g. ``560.35.03``."""

    def cuda(self) -> tuple[int, int]:
        """The newest version of CUDA that the driver is made for."""

    def count(self) -> int:
        """How many devices there are."""

    def name(self, index: int) -> str:
        """What it is."""

    def uuid(self, index: int) -> str:
        """``GPU-`` and a UUID."""

    def bus_id(self, index: int) -> str:
        """Its place on the PCI bus."""

    def capability(self, index: int) -> tuple[int, int]:
        """Its CUDA compute capability."""

    def memory(self, index: int) -> tuple[int, int]:
        """Bytes in all, and in use by whomever."""

    def is_split(self, index: int) -> bool:
        """Whether it is split into several (MIG)."""

    def pcie(self, index: int) -> tuple[int, int]:
        """Generation and lanes of its PCIe link, the most that it and its slot can do."""

    def bus_width(self, index: int) -> int:
        """Bits that its memory moves at a time."""

    def fastest_memory_clock(self, index: int) -> int:
        """MHz."""

    def utilization(self, index: int) -> float:
        """Percent of the last second or so in which it computed."""

    def temperature(self, index: int) -> float:
        """°C."""

    def power(self, index: int) -> float:
        """W."""

    def power_limit(self, index: int) -> float:
        """W."""

    def clock(self, index: int) -> float:
        """MHz of its multiprocessors."""

    def memory_clock(self, index: int) -> float:
        """MHz."""

    def throttle(self, index: int) -> int:
        """The bits of ``nvmlClocksEventReasons`` that slow it down now."""

    def common_ancestor(self, first: int, second: int) -> int:
        """``nvmlGpuTopologyLevel_t`` of the closest thing through which both are reached."""

    def peer_access(self, first: int, second: int) -> bool:
        """Whether one can read the other's memory."""

    def nvlinks(self, index: int) -> tuple[str, ...]:
        """The far end of each NVLink that is up: a GPU's ``bus_id``, or ``SWITCH``."""


def maybe(read: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs) -> _T | None:
    """A reading, or ``None``: laptops, virtual GPUs and older drivers lack some."""
    try:
        return read(*arguments, **keywords)
    except NvmlError:
        return None


def connect() -> Nvml:
    """The library of this host, initialised.

    Raises:
        NvmlError: there is none, or it does not work with this host's driver.
    """
    try:
        import pynvml
    except ImportError as error:
        raise NvmlError(NOT_INSTALLED, "the package nvidia-ml-py is not installed") from error
    found = _Pynvml(pynvml)
    found.ask("nvmlInit")
    return found


@frozen
class _Pynvml:
    """NVML through ``nvidia-ml-py``."""

    module: Any

    def ask(self, function: str, *arguments: Any) -> Any:
        """Call a function of the module; whatever the installed version of it raises comes as an ``NvmlError``."""
        call = getattr(self.module, function, None)
        if call is None:
            raise NvmlError(FUNCTION_NOT_FOUND, f"{function} is not in this version of nvidia-ml-py")
        try:
            return call(*arguments)
        except self.module.NVMLError as error:
            raise NvmlError(int(error.value), str(error)) from error

    def _of(self, function: str, index: int, *arguments: Any) -> Any:
        """Ask about a device. Its handle is looked up each time: it is what tells first that a device is lost."""
        return self.ask(f"nvmlDeviceGet{function}", self.ask("nvmlDeviceGetHandleByIndex", index), *arguments)

    def _of_two(self, function: str, first: int, second: int, *arguments: Any) -> Any:
        return self._of(function, first, self.ask("nvmlDeviceGetHandleByIndex", second), *arguments)

    def renew(self) -> None:
        maybe(self.ask, "nvmlShutdown")  # it may not be initialised, if this was tried before
        self.ask("nvmlInit")

    def driver(self) -> str:
        return str(self.ask("nvmlSystemGetDriverVersion"))

    def cuda(self) -> tuple[int, int]:
        version = int(self.ask("nvmlSystemGetCudaDriverVersion_v2"))  # major * 1000 + minor * 10
        return version // 1000, version % 1000 // 10

    def count(self) -> int:
        return int(self.ask("nvmlDeviceGetCount"))

    def name(self, index: int) -> str:
        return str(self._of("Name", index))

    def uuid(self, index: int) -> str:
        return str(self._of("UUID", index))

    def bus_id(self, index: int) -> str:
        return _bus_id(self._of("PciInfo", index))

    def capability(self, index: int) -> tuple[int, int]:
        major, minor = self._of("CudaComputeCapability", index)
        return int(major), int(minor)

    def memory(self, index: int) -> tuple[int, int]:
        found = self._of("MemoryInfo", index)
        return int(found.total), int(found.used)

    def is_split(self, index: int) -> bool:
        try:
            now, _after_a_reset = self._of("MigMode", index)
        except NvmlError as error:
            if error.code in {NOT_SUPPORTED, FUNCTION_NOT_FOUND}:
                return False
            raise
        return bool(now)

    def pcie(self, index: int) -> tuple[int, int]:
        return int(self._of("MaxPcieLinkGeneration", index)), int(self._of("MaxPcieLinkWidth", index))

    def bus_width(self, index: int) -> int:
        return int(self._of("MemoryBusWidth", index))

    def fastest_memory_clock(self, index: int) -> int:
        return int(self._of("MaxClockInfo", index, self.module.NVML_CLOCK_MEM))

    def utilization(self, index: int) -> float:
        return float(self._of("UtilizationRates", index).gpu)

    def temperature(self, index: int) -> float:
        return float(self._of("Temperature", index, self.module.NVML_TEMPERATURE_GPU))

    def power(self, index: int) -> float:
        return float(self._of("PowerUsage", index)) / 1000

    def power_limit(self, index: int) -> float:
        return float(self._of("EnforcedPowerLimit", index)) / 1000

    def clock(self, index: int) -> float:
        return float(self._of("ClockInfo", index, self.module.NVML_CLOCK_SM))

    def memory_clock(self, index: int) -> float:
        return float(self._of("ClockInfo", index, self.module.NVML_CLOCK_MEM))

    def throttle(self, index: int) -> int:
        # not by its newer name, ...EventReasons: drivers before 535 have only this one, and later ones both
        return int(self._of("CurrentClocksThrottleReasons", index))

    def common_ancestor(self, first: int, second: int) -> int:
        return int(self._of_two("TopologyCommonAncestor", first, second))

    def peer_access(self, first: int, second: int) -> bool:
        found = self._of_two("P2PStatus", first, second, 0)  # NVML_P2P_CAPS_INDEX_READ, a tuple by mistake there
        return int(found) == int(self.module.NVML_P2P_STATUS_OK)

    def nvlinks(self, index: int) -> tuple[str, ...]:
        found = (self._far_end(index, link) for link in range(_MOST_LINKS))
        return tuple(end for end in found if end is not None)

    def _far_end(self, index: int, link: int) -> str | None:
        """Where a link leads; ``None`` if it is down, or the device has no such link."""
        try:
            if not self._of("NvLinkState", index, link):
                return None
            kind = _FAR_ENDS.get(int(self._of("NvLinkRemoteDeviceType", index, link)))
            return _bus_id(self._of("NvLinkRemotePciInfo", index, link)) if kind == "gpu" else kind
        except NvmlError as error:
            if error.code == GPU_IS_LOST:
                raise
            return None


def _bus_id(info: Any) -> str:
    found = info.busId
    return (found.decode() if isinstance(found, bytes) else str(found)).upper()
