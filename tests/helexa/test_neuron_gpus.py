"""GPUs through the real NVML package, above a library that is played as faults and shapes of hosts need."""

import re
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml_library import Gpu, Library, install
from structlog.testing import capture_logs

from helexa import hostmemory
from helexa.neuron import gpus, nvml
from helexa.neuron.gpus import Gpus, nvlinks_between
from helexa.neuron.nvml import Nvml, NvmlError
from helexa.neuron.visible import VARIABLE, visible
from helexa.wire.fleet import DeviceHealth, DeviceInfo, DeviceLink

UUID = "GPU-0000000{}-1111-2222-3333-444444444444"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Two healthy GPUs."""
    return install(monkeypatch, Library([Gpu(), Gpu()]))


@pytest.fixture
def port(library: Library) -> Nvml:
    return nvml.connect()


def found_in(port: Nvml, **environment: str) -> Gpus:
    with capture_logs():
        return gpus.find(port, environment)


def gpu(index: int, name: str | None = None) -> DeviceInfo:
    return DeviceInfo(
        index,
        name or f"cuda:{index}",
        "NVIDIA GeForce RTX 4090",
        24 * 1024,
        "8.9",
        UUID.format(index),
        f"00000000:0{index + 1}:00.0",
        4,
        16,
        1008.1,
    )


def test_a_device_tells_what_it_is(port: Nvml) -> None:
    assert found_in(port).devices == (gpu(0), gpu(1))
    assert (port.driver(), port.cuda()) == ("560.35.03", (12, 8))


def test_a_device_tells_how_it_is(library: Library, port: Nvml) -> None:
    library.gpus[1].throttle = 0x1 | 0x4 | 0x40
    expected = DeviceHealth(
        "cuda:1", 24 * 1024, 2 * 1024, 40.0, 61.0, 123.4, 450.0, 2520.0, 10_251.0, ("power_cap", "thermal_slowdown")
    )
    assert gpus.health(port, gpu(1)) == expected


def test_an_idle_device_is_not_throttled(library: Library, port: Nvml) -> None:
    library.gpus[0].throttle = 0x1
    assert gpus.health(port, gpu(0)).throttled == ()


def test_every_bit_that_nvidia_documents_has_a_word(library: Library, port: Nvml) -> None:
    library.gpus[0].throttle = pynvml.nvmlClocksEventReasonAll
    assert len(gpus.health(port, gpu(0)).throttled) == pynvml.nvmlClocksEventReasonAll.bit_count() - 1


@pytest.mark.parametrize(
    ("function", "reading"),
    [
        ("UtilizationRates", "utilization"),
        ("Temperature", "temperature"),
        ("PowerUsage", "power"),
        ("EnforcedPowerLimit", "power_limit"),
        ("ClockInfo", "clock"),
        ("ClockInfo", "memory_clock"),
    ],
)
def test_a_sensor_that_is_not_there_reads_none(library: Library, port: Nvml, function: str, reading: str) -> None:
    library.faults[f"DeviceGet{function}", 0] = pynvml.NVML_ERROR_NOT_SUPPORTED
    health = gpus.health(port, gpu(0))
    assert getattr(health, reading) is None
    assert (health.error, health.memory_used_mb) == (None, 2 * 1024)


@pytest.mark.parametrize("function", ["UUID", "PciInfo", "MaxPcieLinkWidth", "MemoryBusWidth", "MaxClockInfo"])
def test_a_fact_that_a_device_does_not_tell_does_not_keep_it_from_being_used(
    library: Library, port: Nvml, function: str
) -> None:
    library.faults[f"DeviceGet{function}", 1] = pynvml.NVML_ERROR_NOT_SUPPORTED
    found = found_in(port)
    assert [device.name for device in found.devices] == ["cuda:0", "cuda:1"]
    assert None in (
        found.devices[1].uuid,
        found.devices[1].bus_id,
        found.devices[1].pcie_width,
        found.devices[1].bandwidth,
    )
    assert found.ailing == ()


def test_a_function_that_an_older_driver_lacks_is_like_a_missing_sensor(library: Library, port: Nvml) -> None:
    library.missing = {"nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetMigMode"}
    assert [device.bandwidth for device in found_in(port).devices] == [None, None]


def test_a_function_that_an_older_package_lacks_is_too(port: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlDeviceGetMemoryBusWidth")
    assert [device.bandwidth for device in found_in(port).devices] == [None, None]


AILMENTS = [
    (pynvml.NVML_ERROR_GPU_IS_LOST, "has fallen off the bus", "Restart the host"),
    (pynvml.NVML_ERROR_RESET_REQUIRED, "has to be reset", "nvidia-smi -i 0 --gpu-reset"),
    (pynvml.NVML_ERROR_INSUFFICIENT_POWER, "lacks power", "power cables"),
    (pynvml.NVML_ERROR_NO_PERMISSION, "may not be used by this user", "given this device"),
    (pynvml.NVML_ERROR_CORRUPTED_INFOROM, "does not work: Corrupted infoROM", "dmesg"),
    (pynvml.NVML_ERROR_NOT_READY, "does not work: ", "dmesg"),
]


@pytest.mark.parametrize("ailment", AILMENTS)
@pytest.mark.parametrize("function", ["HandleByIndex", "Name", "MemoryInfo", "CudaComputeCapability", "MigMode"])
def test_a_broken_device_is_left_out_and_told_how_to_mend(
    library: Library, port: Nvml, function: str, ailment: tuple[int, str, str]
) -> None:
    code, what, remedy = ailment
    library.faults[f"DeviceGet{function}", 0] = code
    found = found_in(port)
    assert [device.name for device in found.devices] == ["cuda:1"]
    (sentence,) = found.ailing
    assert sentence.startswith(f"cuda:0 {what}")
    assert remedy in sentence


def test_a_split_device_is_left_out_and_told_how_to_put_together(library: Library, port: Nvml) -> None:
    library.gpus[1].split = True
    found = found_in(port)
    assert [device.name for device in found.devices] == ["cuda:0"]
    (sentence,) = found.ailing
    assert sentence.startswith("cuda:1 is split into several (MIG), and helexa uses whole GPUs.")
    assert sentence.endswith("nvidia-smi -i 1 -mig 0")


@pytest.mark.parametrize("function", ["HandleByIndex", "MemoryInfo"])
def test_a_device_lost_while_running_says_so_and_has_no_memory_to_give(
    library: Library, port: Nvml, function: str
) -> None:
    library.faults[f"DeviceGet{function}", 1] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert gpus.health(port, gpu(0)).error is None
    lost = gpus.health(port, gpu(1))
    assert lost.memory_used_mb == lost.memory_total_mb == 24 * 1024
    assert lost.error is not None
    assert lost.error.startswith("cuda:1 has fallen off the bus")
    assert lost.error.endswith(".")


def test_a_device_without_memory_of_its_own_shares_the_host_s(library: Library, port: Nvml) -> None:
    library.faults["DeviceGetMemoryInfo", 0] = pynvml.NVML_ERROR_NOT_SUPPORTED
    total = hostmemory.read().total // 2**20
    assert found_in(port).devices[0].memory_total_mb == gpus.health(port, gpu(0)).memory_total_mb == total


def test_pairs_tell_how_they_reach_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [Gpu(bus_id=f"00000000:{index:02X}:00.0") for index in (0xA1, 0xA2, 0xA3)]
    cards[0].links = (cards[1].bus_id, "down", cards[1].bus_id)
    cards[1].links = (cards[0].bus_id, cards[0].bus_id)
    library = install(monkeypatch, Library(cards, levels={(0, 1): 10, (0, 2): 40}, peers={(0, 1)}))
    expected = (
        DeviceLink("cuda:0", "cuda:1", "switch", 2, peer_access=True),
        DeviceLink("cuda:0", "cuda:2", "node", 0, peer_access=False),
        DeviceLink("cuda:1", "cuda:2", "system", 0, peer_access=False),
    )
    assert found_in(nvml.connect()).links == expected
    library.peers = None
    assert {link.peer_access for link in found_in(nvml.connect()).links} == {None}


def test_devices_at_a_switch_reach_each_other_over_all_their_links(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library([Gpu(links=("switch",) * 18), Gpu(links=("switch",) * 17 + ("down",))]))
    (link,) = found_in(nvml.connect()).links
    assert link.nvlinks == 17


def test_every_level_that_nvidia_documents_has_a_word(library: Library, port: Nvml) -> None:
    documented = {value for name, value in vars(pynvml).items() if name.startswith("NVML_TOPOLOGY_")}
    words = set()
    for level in documented:
        library.levels[0, 1] = level
        words.add(found_in(port).links[0].path)
    assert len(words) == len(documented) == 6


def test_links_are_only_of_devices_that_can_be_used(library: Library, port: Nvml) -> None:
    library.faults["DeviceGetHandleByIndex", 0] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert found_in(port).links == ()


def test_links_of_a_device_that_is_lost_meanwhile_are_none(library: Library, port: Nvml) -> None:
    library.faults["DeviceGetNvLinkState", 0] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert [link.nvlinks for link in found_in(port).links] == [0]


@given(st.lists(st.sampled_from(["a", "b", "switch"])), st.lists(st.sampled_from(["a", "b", "switch"])))
def test_links_between_two_are_never_more_than_either_has(ends: list[str], far: list[str]) -> None:
    assert 0 <= nvlinks_between("b", tuple(ends), tuple(far)) <= len(ends)


def test_cuda_s_own_numbers_are_those_that_torch_uses(port: Nvml) -> None:
    found = found_in(port, **{VARIABLE: "1,0"})
    assert found.devices == (gpu(1, "cuda:0"), gpu(0, "cuda:1"))
    assert gpus.health(port, found.devices[0]).name == "cuda:0"
    assert (found_in(port, **{VARIABLE: "1"}).devices, found_in(port, **{VARIABLE: "1"}).hidden) == (
        (gpu(1, "cuda:0"),),
        1,
    )


UUIDS = ["GPU-aaa1", "GPU-aab2", None, "GPU-ccc3"]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, (0, 1, 2, 3)),
        ("", ()),
        ("-1", ()),
        ("none", ()),
        ("2", (2,)),
        ("3, 0", (3, 0)),
        ("0,7,1", (0,)),
        ("1,x,0", (1,)),
        ("1,1", ()),
        ("0,GPU-aaa1", ()),
        ("GPU-ccc3,0", (3, 0)),
        ("gpu-CC", (3,)),
        ("GPU-aa", ()),
        ("0,,1", (0,)),
        ("0,²", (0,)),
        ("MIG-aaa1", ()),
    ],
)
def test_the_variable_leaves_what_cuda_would(wanted: str | None, left: tuple[int, ...]) -> None:
    assert visible(wanted, UUIDS) == left


@given(st.text(alphabet="0123,-GPUaMI "), st.lists(st.none() | st.text(max_size=4), max_size=4))
def test_any_value_of_the_variable_leaves_each_device_once_at_most(wanted: str, uuids: list[str | None]) -> None:
    left = visible(wanted, uuids)
    assert len(set(left)) == len(left)
    assert all(0 <= index < len(uuids) for index in left)


def test_what_the_library_says_comes_with_its_code(library: Library, port: Nvml) -> None:
    library.faults["DeviceGetCount", None] = pynvml.NVML_ERROR_UNKNOWN
    with pytest.raises(NvmlError, match=r"^Unknown Error$") as caught:
        port.count()
    assert caught.value.code == 999


def test_a_code_that_the_package_does_not_know_is_put_in_the_library_s_words(library: Library, port: Nvml) -> None:
    library.faults["DeviceGetName", 0] = pynvml.NVML_ERROR_IN_USE
    assert "does not work: said by the library. See" in found_in(port).ailing[0]


def test_the_codes_are_nvidia_s() -> None:
    codes = {
        name: value
        for name, value in vars(nvml).items()
        if re.fullmatch("[A-Z][A-Z_]+", name) and isinstance(value, int)
    }
    names = {"VERSION_MISMATCH": "LIB_RM_VERSION_MISMATCH"}
    theirs: dict[str, Any] = vars(pynvml)
    del codes["NOT_INSTALLED"]
    assert codes == {name: theirs[f"NVML_ERROR_{names.get(name, name)}"] for name in codes}


def test_what_is_asked_of_a_lost_device_is_not_a_matter_of_order(
    library: Library, port: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost between any two calls: left out, or used without what it did not tell; never an error."""
    calls: list[str] = []
    library.before = calls.append
    found_in(port)
    for moment in range(len(calls)):
        assert_survives(monkeypatch, moment)


def assert_survives(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    count = 0
    library = install(monkeypatch, Library([Gpu(), Gpu()]))
    port = nvml.connect()

    def lose(_function: str) -> None:
        nonlocal count
        count += 1
        if count == moment + 1:
            library.faults["*", 0] = pynvml.NVML_ERROR_GPU_IS_LOST

    library.before = lose
    found = found_in(port)
    assert "cuda:1" in [device.name for device in found.devices]
    assert len(found.devices) + len(found.ailing) == 2
