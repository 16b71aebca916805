"""What a host says of its devices, and why some cannot be used. NVIDIA's library is played, as faults need."""

import threading
from collections.abc import Callable

import pynvml
import pytest
import trio
from attrs import evolve
from nvml_library import Gpu, Library, install, without_library
from structlog.testing import capture_logs

from config import Address
from helexa.neuron import nvml
from helexa.neuron.ailments import Surroundings
from helexa.neuron.discovery import FIRST_RENEWAL, LOOK_SECONDS, Host, Renewal, discover
from helexa.neuron.guard import allowed_listen
from helexa.neuron.nvml import Nvml, NvmlError
from helexa.wire import fleet

Find = Callable[..., Host]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return install(monkeypatch, Library([Gpu(), Gpu()]))


def find(around: Surroundings | None = None, connect: Callable[[], Nvml] = nvml.connect, **environment: str) -> Host:
    """A look at a host with a GPU in its slot, unless told otherwise."""
    with capture_logs():
        return discover(connect, environment, lambda: around or Surroundings(has_gpu=True), lambda _threads: 28.5)


def test_a_host_with_gpus_says_what_it_has(library: Library) -> None:
    host = find()
    found = host.discovery
    assert [device.name for device in found.devices] == ["cuda:0", "cuda:1"]
    assert (found.driver, found.cuda, found.unavailable_reason) == ("560.35.03", "12.8", None)
    assert [(link.first, link.second) for link in found.links] == [("cuda:0", "cuda:1")]
    assert found.processor is not None
    assert [health.name for health in host.health()] == ["cuda:0", "cuda:1"]
    assert fleet.from_json(fleet.to_json(found), fleet.Discovery) == found
    assert fleet.from_json(fleet.to_json(host.health()), tuple[fleet.DeviceHealth, ...]) == host.health()


def test_a_host_without_a_gpu_is_healthy_and_serves_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    host = find(Surroundings())
    (cpu,) = host.discovery.devices
    assert (cpu.name, cpu.bandwidth) == ("cpu", 28.5)
    assert (host.discovery.unavailable_reason, host.ailing) == ("this host has no NVIDIA GPU", ())
    (health,) = host.health()
    assert 0 < health.memory_used_mb < health.memory_total_mb == cpu.memory_total_mb


DRIVERS = [
    (12, "libnvidia-ml.so.1, which comes with its driver, is not found", "docker run --gpus all"),
    (9, "NVIDIA's driver is installed and not loaded", "modprobe nvidia"),
    (18, "was updated while an older one was loaded (550.54.14 is)", "Restart the host"),
    (4, "this user may not use NVIDIA's devices", "ls -l /dev/nvidia*"),
    (999, "NVIDIA's driver does not work: Unknown Error", "dmesg"),
]


@pytest.mark.parametrize(("code", "what", "remedy"), DRIVERS)
def test_a_driver_that_does_not_work_leaves_the_cpu_and_says_how_to_mend(
    library: Library, code: int, what: str, remedy: str
) -> None:
    library.faults["InitWithFlags", None] = code
    host = find(Surroundings(has_gpu=True, loaded="550.54.14"))
    reason = host.discovery.unavailable_reason
    assert reason is not None
    assert what in reason
    assert remedy in reason
    assert host.ailing == (reason,)
    assert ([device.name for device in host.discovery.devices], host.nvml) == (["cpu"], None)


def test_a_missing_library_is_told_from_a_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    assert "libnvidia-ml.so.1" in (find().discovery.unavailable_reason or "")


def test_a_missing_package_is_told_only_where_it_is_missed() -> None:
    def connect() -> Nvml:
        raise NvmlError(nvml.NOT_INSTALLED, "the package nvidia-ml-py is not installed")

    assert "pip install nvidia-ml-py" in (find(connect=connect).discovery.unavailable_reason or "")
    assert find(Surroundings(), connect=connect).ailing == ()


def test_a_package_that_is_not_installed_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(NvmlError, match="nvidia-ml-py is not installed") as caught:
        nvml.connect()
    assert caught.value.code == nvml.NOT_INSTALLED


def test_a_broken_device_does_not_hide_the_others_and_is_told(library: Library) -> None:
    library.faults["DeviceGetHandleByIndex", 0] = pynvml.NVML_ERROR_GPU_IS_LOST
    host = find()
    assert [device.name for device in host.discovery.devices] == ["cuda:1"]
    assert (host.discovery.unavailable_reason or "").startswith("cuda:0 has fallen off the bus")
    assert [health.name for health in host.health()] == ["cuda:1"]


def test_only_broken_devices_leave_the_cpu_and_tell_of_each(library: Library) -> None:
    library.faults = {("DeviceGetHandleByIndex", 0): 15, ("DeviceGetHandleByIndex", 1): 16}
    host = find()
    assert [device.name for device in host.discovery.devices] == ["cpu"]
    assert [sentence.partition(" ")[0] for sentence in host.ailing] == ["cuda:0", "cuda:1"]
    assert host.discovery.unavailable_reason == ". ".join(host.ailing)
    assert (host.discovery.driver, len(host.health())) == ("560.35.03", 1)


def test_hidden_devices_leave_the_cpu_and_nothing_is_ailing(library: Library) -> None:
    host = find(CUDA_VISIBLE_DEVICES="")
    assert [device.name for device in host.discovery.devices] == ["cpu"]
    assert "CUDA_VISIBLE_DEVICES is ''" in (host.discovery.unavailable_reason or "")
    assert host.ailing == ()


def test_a_driver_for_no_gpu_at_all_is_a_cpu_host(library: Library) -> None:
    library.gpus.clear()
    host = find(Surroundings())
    assert (host.discovery.unavailable_reason, host.ailing) == ("this host has no NVIDIA GPU", ())


def test_a_driver_that_does_not_tell_its_version_is_used(library: Library) -> None:
    library.faults[("SystemGetDriverVersion", None)] = 999
    library.faults[("SystemGetCudaDriverVersion", None)] = 999
    found = find().discovery
    assert (found.driver, found.cuda, len(found.devices)) == (None, None, 2)


async def test_a_look_at_a_host_is_its_health(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    host = find()
    assert await host.look() == host.health()
    without_library(monkeypatch)
    assert [health.name for health in await find(Surroundings()).look()] == ["cpu"]


async def test_a_driver_that_hangs_is_told_and_only_one_thread_waits_for_it(
    library: Library, autojump_clock: trio.testing.MockClock
) -> None:
    host, free, hangs, asked = find(), threading.Event(), threading.Event(), 0

    def hang(_function: str) -> None:
        nonlocal asked
        asked += 1
        hangs.set()
        free.wait(10)

    library.before = hang
    try:
        began = trio.current_time()
        for _ in range(3):
            looks = await host.look()
            assert {"NVIDIA's driver does not answer" in (health.error or "") for health in looks} == {True}
            assert all(health.memory_used_mb == health.memory_total_mb for health in looks)
        assert trio.current_time() - began == 3 * LOOK_SECONDS
        assert hangs.wait(10)  # the clock may have run faster than the thread came to it
        assert asked == 1
    finally:
        free.set()


@pytest.fixture
def hours() -> list[float]:
    """The time, for tests to change."""
    return [0.0]


@pytest.fixture
def watched(library: Library, hours: list[float]) -> Host:
    """Two GPUs, on a clock of the test's own."""
    return evolve(find(), renewal=Renewal(lambda: hours[0]))


def troubles(host: Host) -> list[str | None]:
    with capture_logs():
        return [look.error for look in host.health()]


def test_a_driver_that_was_loaded_again_is_asked_again(library: Library, watched: Host) -> None:
    healthy = watched.health()
    library.stale = True
    assert troubles(watched) == [None, None]
    assert (watched.health(), library.begun) == (healthy, 2)


def test_a_driver_that_is_away_for_a_while_says_so_and_is_asked_again(
    library: Library, watched: Host, hours: list[float]
) -> None:
    library.stale = True
    library.faults["InitWithFlags", None] = nvml.DRIVER_NOT_LOADED
    for hours[0] in (0.0, FIRST_RENEWAL - 1):  # also between two attempts
        assert {"modprobe nvidia" in (error or "") for error in troubles(watched)} == {True}
    assert all(look.memory_used_mb == look.memory_total_mb for look in watched.health())
    library.faults.clear()
    assert None not in troubles(watched)
    hours[0] = FIRST_RENEWAL
    assert troubles(watched) == [None, None]


def test_a_gpu_that_fell_off_and_came_back_serves_again(library: Library, watched: Host, hours: list[float]) -> None:
    library.faults["DeviceGetHandleByIndex", 1] = nvml.GPU_IS_LOST
    first, second = troubles(watched)
    assert first is None
    assert "cuda:1 has fallen off the bus" in (second or "")
    library.faults.clear()
    library.stale = True  # what it had to tell of that device, it tells of another run of the driver
    hours[0] = FIRST_RENEWAL
    assert troubles(watched) == [None, None]


def test_a_gpu_is_known_by_its_uuid_where_one_before_it_is_gone(library: Library, watched: Host) -> None:
    """The library counts anew when it is initialised: what was the second device is the first one now."""
    library.gpus[1].memory = (24 * 2**30, 7 * 2**30)
    library.gpus.pop(0)
    lost, there = watched.health()
    assert "cuda:0 has fallen off the bus" in (lost.error or "")
    assert (there.name, there.error, there.memory_used_mb) == ("cuda:1", None, 7 * 1024)


def test_a_gpu_that_is_lost_for_good_has_nvml_initialised_ever_more_seldom(
    library: Library, watched: Host, hours: list[float]
) -> None:
    library.faults["DeviceGetHandleByIndex", 1] = nvml.GPU_IS_LOST
    for second in range(0, 3600, 2):
        hours[0] = float(second)
        troubles(watched)
    assert library.begun - 1 == len([0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030])


def test_trouble_after_good_times_is_looked_into_at_once(library: Library, watched: Host, hours: list[float]) -> None:
    for hours[0] in (0.0, 100.0, 200.0):
        library.stale = True
        assert troubles(watched) == [None, None]
        assert troubles(watched) == [None, None]


def test_a_real_look_at_this_very_host() -> None:
    host = discover()
    assert host.discovery.devices
    assert len(host.health()) == len(host.discovery.devices)
    assert host.discovery.processor is not None
    if host.nvml is None:
        assert host.discovery.unavailable_reason
        assert (host.discovery.devices[0].bandwidth or 0) > 0


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
