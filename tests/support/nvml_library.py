"""A stand-in for libnvidia-ml.so.1, under the real `nvidia-ml-py`: it is called as ctypes calls the real one.

So the tests see that package's own functions and errors; only what needs a driver and GPUs is played.
"""

import re
from collections.abc import Callable
from ctypes import addressof
from functools import partial
from typing import Any

import pynvml
import pytest
from attrs import define, field

GIB = 2**30


@define(eq=False)
class Gpu:
    """One GPU, by default a healthy RTX 4090."""

    name: str = "NVIDIA GeForce RTX 4090"
    capability: tuple[int, int] = (8, 9)
    memory: tuple[int, int] = (24 * GIB, 2 * GIB)
    uuid: str = ""
    bus_id: str = ""
    split: bool = False
    throttle: int = 0
    links: tuple[str, ...] = ()
    """Where its NVLinks lead: a `bus_id`, "switch", or "down"."""
    handle: Any = field(factory=pynvml.struct_c_nvmlDevice_t)


@define(eq=False)
class Library:
    """The library of a host.

    Attributes:
        gpus: its devices.
        faults: which code a function answers, by its name without "nvml", and by device; "*" is any function.
        levels: how close two devices are.
        peers: which pairs can read each other's memory; `None`: the driver does not tell.
        missing: functions that this version does not have.
        stale: its driver was loaded again; nothing works until it is initialised anew.
        begun: how often it was initialised.
        said: its words for an error that the package has none for.
    """

    gpus: list[Gpu]
    faults: dict[tuple[str, int | None], int] = field(factory=dict)
    levels: dict[tuple[int, int], int] = field(factory=dict)
    peers: set[tuple[int, int]] | None = field(factory=set)
    missing: set[str] = field(factory=set)
    cuda: int = 12080
    stale: bool = False
    begun: int = 0
    before: Callable[[str], None] = lambda _function: None

    def __attrs_post_init__(self) -> None:
        for index, gpu in enumerate(self.gpus):
            gpu.uuid = gpu.uuid or f"GPU-{index:08x}-1111-2222-3333-444444444444"
            gpu.bus_id = gpu.bus_id or f"00000000:{index + 1:02X}:00.0"

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("nvml") or name in self.missing:
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *arguments: Any) -> Any:
        self.before(name)
        if name == "nvmlErrorString":
            return b"said by the library."
        function = name.removeprefix("nvml").removesuffix("_v2").removesuffix("_v3").removesuffix("_v1")
        if self.stale and function not in {"InitWithFlags", "Shutdown"}:
            return 1
        device, rest = self._device(function, arguments)
        for key in ((function, device), ("*", device)):
            if (code := self.faults.get(key)) is not None:
                return code
        return int(getattr(self, f"_{_snake(function)}")(*(() if device is None else (device,)), *rest) or 0)

    def _device(self, function: str, arguments: tuple[Any, ...]) -> tuple[int | None, tuple[Any, ...]]:
        if function == "DeviceGetHandleByIndex":
            return arguments[0].value, arguments[1:]
        if function.startswith("DeviceGet") and function != "DeviceGetCount":
            return self._index(arguments[0]), arguments[1:]
        return None, arguments

    def _index(self, handle: Any) -> int:
        return next(i for i, gpu in enumerate(self.gpus) if addressof(gpu.handle) == addressof(handle.contents))

    def _init_with_flags(self, _flags: int) -> None:
        self.stale = False
        self.begun += 1

    def _shutdown(self) -> None:
        self.stale = True

    def _system_get_driver_version(self, buffer: Any, _size: Any) -> None:
        buffer.value = b"560.35.03"

    def _system_get_cuda_driver_version(self, version: Any) -> None:
        version._obj.value = self.cuda

    def _device_get_count(self, count: Any) -> None:
        count._obj.value = len(self.gpus)

    def _device_get_handle_by_index(self, index: int, handle: Any) -> int:
        if index >= len(self.gpus):
            return 2
        handle._obj.contents = self.gpus[index].handle
        return 0

    def _device_get_name(self, index: int, buffer: Any, _size: Any) -> None:
        buffer.value = self.gpus[index].name.encode()

    def _device_get_uuid(self, index: int, buffer: Any, _size: Any) -> None:
        buffer.value = self.gpus[index].uuid.encode()

    def _device_get_pci_info(self, index: int, info: Any) -> None:
        info._obj.busId = self.gpus[index].bus_id.encode()

    def _device_get_cuda_compute_capability(self, index: int, major: Any, minor: Any) -> None:
        major._obj.value, minor._obj.value = self.gpus[index].capability

    def _device_get_memory_info(self, index: int, info: Any) -> None:
        info._obj.total, info._obj.used = self.gpus[index].memory

    def _device_get_mig_mode(self, index: int, now: Any, _pending: Any) -> int:
        now._obj.value = int(self.gpus[index].split)
        return 0 if self.gpus[index].split else 3

    def _device_get_max_pcie_link_generation(self, _index: int, found: Any) -> None:
        found._obj.value = 4

    def _device_get_max_pcie_link_width(self, _index: int, found: Any) -> None:
        found._obj.value = 16

    def _device_get_memory_bus_width(self, _index: int, found: Any) -> None:
        found._obj.value = 384

    def _device_get_max_clock_info(self, _index: int, kind: Any, found: Any) -> None:
        assert kind.value == pynvml.NVML_CLOCK_MEM
        found._obj.value = 10_501

    def _device_get_utilization_rates(self, _index: int, found: Any) -> None:
        found._obj.gpu = 40

    def _device_get_temperature(self, _index: int, kind: Any, found: Any) -> None:
        assert kind.value == pynvml.NVML_TEMPERATURE_GPU
        found._obj.value = 61

    def _device_get_power_usage(self, _index: int, found: Any) -> None:
        found._obj.value = 123_400

    def _device_get_enforced_power_limit(self, _index: int, found: Any) -> None:
        found._obj.value = 450_000

    def _device_get_clock_info(self, _index: int, kind: Any, found: Any) -> None:
        found._obj.value = {pynvml.NVML_CLOCK_SM: 2520, pynvml.NVML_CLOCK_MEM: 10_251}[kind.value]

    def _device_get_current_clocks_throttle_reasons(self, index: int, found: Any) -> None:
        found._obj.value = self.gpus[index].throttle

    def _device_get_topology_common_ancestor(self, index: int, other: Any, level: Any) -> None:
        level._obj.value = self.levels.get((index, self._index(other)), 50)

    def _device_get_p2pstatus(self, index: int, other: Any, kind: int, status: Any) -> int:
        assert kind == 0
        status._obj.value = 0 if (index, self._index(other)) in (self.peers or ()) else 5
        return 0 if self.peers is not None else 3

    def _device_get_nv_link_state(self, index: int, link: int, state: Any) -> int:
        links = self.gpus[index].links
        if link >= len(links):
            return 2
        state._obj.value = int(links[link] != "down")
        return 0

    def _device_get_nv_link_remote_device_type(self, index: int, link: int, kind: Any) -> None:
        kind._obj.value = 2 if self.gpus[index].links[link] == "switch" else 0

    def _device_get_nv_link_remote_pci_info(self, index: int, link: int, info: Any) -> None:
        info._obj.busId = self.gpus[index].links[link].lower().encode()


def _snake(function: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", function).lower()


def install(monkeypatch: pytest.MonkeyPatch, library: Library) -> Library:
    """Have the package find this library, as if it had been loaded."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package find none, also on a host that has one."""

    def nothing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", nothing)
