"""The host beside its GPUs: its processor in the kernel's words, what is plugged in, how fast its memory is read."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa import hostmemory
from helexa.neuron import hosts
from helexa.neuron.ailments import Surroundings
from helexa.neuron.bandwidth import read_bandwidth
from helexa.neuron.hosts import described

X86 = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse avx avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8 avx512_vnni

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse avx avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8 avx512_vnni
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd crc32 asimdhp asimddp sve i8mm bf16\nCPU part\t: 0xd40\n"
HYBRID = "model name : a\nflags : avx2 fma avx512f\nmodel name : b\nflags : avx2 fma\n"
INTEL = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (X86, ("Intel(R) Xeon(R) Platinum 8488C", INTEL)),
        (ARM, ("", ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"))),
        (HYBRID, ("a", ("avx2", "fma"))),
        ("", ("", ())),
        ("flags\n:\nmodel name", ("", ())),
    ],
    ids=["x86", "arm", "cores that differ", "nothing", "nonsense"],
)
def test_a_processor_tells_its_name_and_what_all_its_cores_can(
    cpuinfo: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    assert described(cpuinfo) == expected


@given(st.text())
def test_any_text_describes_some_processor(text: str) -> None:
    name, flags = described(text)
    assert name == name.strip()
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"box/cpu.max": "max 100000\n"}, None),
        ({"box/cpu.max": "150000 100000\n", "cpu.max": "max 100000"}, 2),
        ({"box/cpu.max": "300000 100000\n", "cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "1000 100000"}, 1),
        ({"cpu.max": "0 100000"}, 1),
        ({"cpu.max": "5 0"}, None),
        ({"cpu.max": "²00 100"}, None),
        ({}, None),
        ({"cpu/job/cpu.cfs_quota_us": "100000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_a_share_of_processor_time_is_worth_so_many_threads(
    tmp_path: Path, files: dict[str, str], threads: int | None
) -> None:
    listed = tmp_path / "cgroup"
    listed.write_text("3:cpu,cpuacct:/job\n0::/box\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cpuinfo").write_text(X86)
    found = hosts.processor(tmp_path / "cpuinfo", listed, tmp_path)
    assert hosts.usable_threads(listed, tmp_path) == found.threads
    everything = len(os.sched_getaffinity(0))
    assert found.threads == (everything if threads is None else min(everything, threads))
    assert (found.name, found.instructions) == ("Intel(R) Xeon(R) Platinum 8488C", INTEL)


def test_a_host_without_proc_still_has_a_processor(tmp_path: Path) -> None:
    found = hosts.processor(tmp_path / "none", tmp_path / "none", tmp_path)
    assert found.name
    assert found.threads >= 1
    assert found.instructions == ()


def test_the_cpu_is_a_device_with_the_host_s_memory() -> None:
    device, health = hosts.cpu(28.5, "Xeon"), hosts.cpu_health()
    total = hostmemory.read().total // 2**20
    assert (device.index, device.name, device.kind, device.bandwidth) == (0, "cpu", "Xeon", 28.5)
    assert device.memory_total_mb == health.memory_total_mb == total
    assert 0 < health.memory_used_mb < total
    assert health.error is None


@pytest.mark.parametrize(
    ("vendor", "kind", "has_gpu"),
    [
        ("0x10de\n", "0x030000\n", True),
        ("0x10de\n", "0x030200\n", True),
        ("0x10de\n", "0x040300\n", False),
        ("0x8086\n", "0x030000\n", False),
        ("", "", False),
    ],
    ids=["graphics card", "accelerator", "its sound", "another maker's", "empty"],
)
def test_a_gpu_is_seen_in_its_slot(tmp_path: Path, vendor: str, kind: str, has_gpu: bool) -> None:  # noqa: FBT001
    slot = tmp_path / "0000:01:00.0"
    slot.mkdir()
    (tmp_path / "0000:00:1f.0").mkdir()
    (slot / "vendor").write_text(vendor)
    (slot / "class").write_text(kind)
    assert hosts.surroundings(tmp_path, tmp_path / "none") == Surroundings(has_gpu)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC version: 12.3.0", "550.54.14"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)",
            "570.86.15",
        ),
        ("", None),
        ("nothing of the kind", None),
    ],
)
def test_the_loaded_driver_is_known(tmp_path: Path, text: str, version: str | None) -> None:
    (tmp_path / "version").write_text(text)
    assert hosts.surroundings(tmp_path / "none", tmp_path / "version").loaded == version


def test_memory_is_read_at_some_speed_and_measured_once() -> None:
    speed = read_bandwidth(1)
    assert speed is not None
    assert 0.1 < speed < 10_000
    assert read_bandwidth(1) is speed
