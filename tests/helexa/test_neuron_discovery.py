"""What a host says of its devices, the sick ones included. The driver's library is played, as faults need."""

import platform
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from attrs import define, field
from structlog.testing import capture_logs

from config import Address
from helexa.neuron import discovery
from helexa.neuron.discovery import Host, discover
from helexa.neuron.guard import allowed_listen
from helexa.wire.fleet import DeviceHealth, DeviceInfo

GIB = 2**30


class NVMLError(Exception):
    """Any error of the library."""


class NotSupportedError(NVMLError):
    """The device has no such thing."""


@define(eq=False)
class Nvml:
    """Two devices; `faults` says which calls fail on which."""

    faults: dict[tuple[str, int], Exception] = field(factory=dict)
    NVMLError: Any = NVMLError
    NVMLError_NotSupported: Any = NotSupportedError
    NVML_TEMPERATURE_GPU: int = 0

    def _answer(self, call: str, device: int, value: Any) -> Any:
        if (fault := self.faults.get((call, device))) is not None:
            raise fault
        return value

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's names, here and below
        return 2

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.1"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self._answer("handle", index, index)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> Any:  # noqa: N802
        return self._answer("capability", handle, (8, 9))

    def nvmlDeviceGetName(self, handle: int) -> Any:  # noqa: N802
        return self._answer("name", handle, "NVIDIA GeForce RTX 4090")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return self._answer("memory", handle, SimpleNamespace(total=24 * GIB, used=2 * GIB))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return self._answer("utilization", handle, SimpleNamespace(gpu=40))

    def nvmlDeviceGetTemperature(self, handle: int, _kind: int) -> Any:  # noqa: N802
        return self._answer("temperature", handle, 61)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> Any:  # noqa: N802
        return self._answer("power", handle, 123_400)


@pytest.fixture
def nvml() -> Nvml:
    return Nvml()


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch, nvml: Nvml) -> Callable[[], Host]:
    monkeypatch.setattr(discovery, "_nvml", lambda: (nvml, None))
    return discover


def gpu(index: int) -> DeviceInfo:
    return DeviceInfo(index, f"cuda:{index}", "NVIDIA GeForce RTX 4090", 24 * 1024, "8.9")


def test_devices_and_how_they_are(find: Callable[[], Host]) -> None:
    host = find()
    assert host.discovery.devices == (gpu(0), gpu(1))
    assert (host.discovery.driver, host.discovery.unavailable_reason) == ("550.1", None)
    assert host.health()[1] == DeviceHealth("cuda:1", 24 * 1024, 2 * 1024, 40.0, 61.0, 123.4)


@pytest.mark.parametrize("call", ["handle", "capability", "name", "memory"])
def test_a_broken_device_does_not_hide_the_others(find: Callable[[], Host], nvml: Nvml, call: str) -> None:
    nvml.faults[call, 0] = NVMLError("GPU is lost")
    with capture_logs() as logs:
        assert find().discovery.devices == (gpu(1),)
    assert (logs[0]["device"], logs[0]["error"]) == ("cuda:0", "GPU is lost")


def test_only_broken_devices_leave_the_cpu(find: Callable[[], Host], nvml: Nvml) -> None:
    nvml.faults = {("handle", 0): NVMLError("lost"), ("handle", 1): NVMLError("lost")}
    with capture_logs():
        host = find()
    assert host.discovery.devices[0].name == "cpu"
    assert host.discovery.unavailable_reason


@pytest.mark.parametrize("call", ["handle", "memory"])
def test_a_device_lost_while_running_is_still_listed(find: Callable[[], Host], nvml: Nvml, call: str) -> None:
    host = find()
    nvml.faults[call, 1] = NVMLError("GPU is lost")
    fine, lost = host.health()
    assert fine.memory_used_mb == 2 * 1024
    assert lost == DeviceHealth("cuda:1", 24 * 1024, 0)


@pytest.mark.parametrize("call", ["utilization", "temperature", "power"])
def test_a_sensor_that_is_not_there_reads_none(find: Callable[[], Host], nvml: Nvml, call: str) -> None:
    nvml.faults[call, 0] = NotSupportedError("Not Supported")
    assert getattr(find().health()[0], call) is None


def test_a_device_without_memory_of_its_own_shares_the_host_s(find: Callable[[], Host], nvml: Nvml) -> None:
    nvml.faults[("memory", 0)] = NotSupportedError("Not Supported")
    host = find()
    total = psutil.virtual_memory().total // 2**20
    assert host.discovery.devices[0].memory_total_mb == total
    assert host.health()[0].memory_total_mb == total


def test_a_host_without_devices_says_why_and_serves_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_nvml", lambda: (None, "no NVIDIA device: driver not loaded"))
    host = discover()
    assert host.discovery.unavailable_reason == "no NVIDIA device: driver not loaded"
    (cpu,) = host.discovery.devices
    assert (cpu.name, cpu.kind) == ("cpu", platform.processor() or platform.machine())
    (health,) = host.health()
    assert 0 < health.memory_used_mb < health.memory_total_mb == cpu.memory_total_mb


def test_a_real_look_at_this_very_host() -> None:
    host = discover()
    assert host.discovery.devices
    assert len(host.health()) == len(host.discovery.devices)
    assert (host.nvml is None) == bool(host.discovery.unavailable_reason)


@pytest.mark.parametrize(
    ("wanted", "secret", "allowed"),
    [
        ("0.0.0.0", None, "127.0.0.1"),
        ("0.0.0.0", "", "127.0.0.1"),
        ("0.0.0.0", "s", "0.0.0.0"),
        ("192.168.1.7", None, "127.0.0.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("localhost", None, "localhost"),
        ("::1", None, "::1"),
        ("::", None, "127.0.0.1"),
    ],
)
def test_without_a_secret_a_neuron_listens_on_loopback_alone(wanted: str, secret: str | None, allowed: str) -> None:
    assert allowed_listen(Address(wanted, 13131), secret) == Address(allowed, 13131)
