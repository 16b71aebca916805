"""What the doctor makes of facts: every finding an operator can meet, with its remedy."""

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from config import parse
from helexa.cli.doctor.command import examine, summary
from helexa.cli.doctor.devices import has_kernels
from helexa.cli.doctor.facts import Cache, Facts, Interpreter, Package, Port, Torch
from helexa.cli.doctor.finding import Finding, can_serve
from helexa.neuron.discovery import Host
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery, Processor

GIB = 2**30
CHIP = Processor("Xeon", 2, 2, ("avx2", "amx_bf16"))
CPU = Discovery("box", "Linux 6", None, (DeviceInfo(0, "cpu", "Xeon", 8192, bandwidth=28.0),), "no GPU", processor=CHIP)
GPUS = Discovery(
    "box",
    "Linux 6",
    "560.35",
    (DeviceInfo(0, "cuda:0", "RTX 3060", 12288, "8.6", bandwidth=360.0), DeviceInfo(1, "cuda:1", "H100", 81559, "9.0")),
    cuda="12.6",
)
ONE_BOX = '[[neurons]]\nname = "local"\n'
TWO_HOSTS = '[cortex]\nhost = "gate"\n[[neurons]]\nname = "n"\nhost = "beast"\nlisten = "0.0.0.0:13131"\nendpoint = "http://beast:13131"\n'
CUDA_TORCH = Torch("2.13.0", "12.6", ("sm_80", "sm_86", "sm_90"), 2)


def facts(topology: str | None = ONE_BOX, **changes: Any) -> Facts:
    """A host that is fine."""
    fine = Facts(
        interpreter=Interpreter((3, 11, 9), is_64_bit=True, system="posix"),
        torch=Torch("2.13.0+cpu"),
        host=Host(CPU),
        memory_available=8 * GIB,
        cache=Cache("/models", 100 * GIB, writable=True),
        file="fleet.toml",
        topology=None if topology is None else parse(topology),
        here="gate",
        open_files=65_536,
    )
    return evolve(fine, **changes)


def on_gpus(topology: str | None = ONE_BOX, **changes: Any) -> Facts:
    return facts(topology, **{"host": Host(GPUS), "torch": CUDA_TORCH} | changes)


def bad(found: Facts) -> Iterator[Finding]:
    return (finding for finding in examine(found) if finding.level in {"warning", "problem"})


def only(found: Facts, level: str) -> tuple[str, str]:
    """Message and remedy of the one bad finding, which has this level."""
    (finding,) = bad(found)
    assert finding.level == level
    assert finding.remedy
    assert can_serve(examine(found)) == (level == "warning")
    return finding.message, finding.remedy


@pytest.mark.parametrize(
    "found", [facts(), on_gpus(), facts(None), facts(TWO_HOSTS, environment={"HELEXA_SECRET": "s"})]
)
def test_a_host_that_is_fine_can_serve(found: Facts) -> None:
    assert list(bad(found)) == []
    assert summary(examine(found)) == "This host can serve."


def test_a_cpu_host_is_described_and_healthy() -> None:
    lines = [finding for finding in examine(facts()) if finding.check == "devices"]
    assert lines == [
        Finding("devices", "ok", "cpu is Xeon, 8 GiB, 2 threads, avx2 amx_bf16, 28 GB/s"),
        Finding("devices", "note", "no GPU: models run on the CPU"),
    ]


def test_gpus_are_described() -> None:
    lines = [finding.message for finding in examine(on_gpus()) if finding.check == "devices"]
    assert lines == [
        "cuda:0 is RTX 3060, 12 GiB, compute capability 8.6, 360 GB/s",
        "cuda:1 is H100, 80 GiB, compute capability 9.0",
    ]


@pytest.mark.parametrize(
    ("interpreter", "message"),
    [
        (Interpreter((3, 10, 1), is_64_bit=True, system="posix"), "this is Python 3.10.1"),
        (Interpreter((3, 12, 1), is_64_bit=False, system="posix"), "this is a 32-bit Python 3.12.1"),
        (Interpreter((3, 12, 1), is_64_bit=True, system="nt"), "this is Windows"),
    ],
)
def test_a_python_that_will_not_do(interpreter: Interpreter, message: str) -> None:
    assert only(facts(interpreter=interpreter), "problem")[0] == message


def test_a_package_that_is_missing_and_one_of_another_version() -> None:
    missing = facts(packages=(Package("trio", "<1,>=0.30", None, fits=False),))
    assert only(missing, "problem") == ("the package trio is not installed", "pip install 'trio<1,>=0.30'")
    other = facts(packages=(Package("torch", "==2.13.0", "2.11.0", fits=False),))
    assert only(other, "warning")[0] == "torch is 2.11.0, and helexa asks for ==2.13.0"


def test_little_memory() -> None:
    assert only(facts(memory_available=GIB), "warning")[0] == "only 1.0 GiB of memory are free"
    assert only(facts(memory_available=2 * GIB - 1), "warning")[0] == "only 2.0 GiB of memory are free"
    assert list(bad(facts(memory_available=2 * GIB))) == []


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (Cache("/models", 100 * GIB, writable=False), "models cannot be fetched into /models"),
        (Cache("/models", 3 * GIB // 2, writable=True), "only 1.5 GiB are free for models in /models"),
    ],
)
def test_no_room_for_models(cache: Cache, message: str) -> None:
    said, remedy = only(facts(cache=cache), "warning")
    assert said == message
    assert "HF_HOME" in remedy


def test_offline_is_told() -> None:
    found = examine(facts(cache=Cache("/models", None, writable=True, offline=True)))
    assert [each.message for each in found if each.level == "note" and each.check == "cache"] == [
        "HF_HUB_OFFLINE is set: only models that are there already can be used"
    ]


def test_few_open_files_for_many_requests() -> None:
    message, remedy = only(facts(open_files=1024), "warning")
    assert message == "a process may have only 1024 files and sockets open"
    assert "ulimit -n" in remedy
    assert "which is 1024" in remedy
    assert list(bad(facts("[cortex]\nmax_in_flight = 300", open_files=2 * 300 + 256))) == []
    assert len(list(bad(facts("[cortex]\nmax_in_flight = 300", open_files=2 * 300 + 255)))) == 1
    assert list(bad(facts(TWO_HOSTS, here="beast", environment={"HELEXA_SECRET": "s"}, open_files=64))) == []


def test_every_problem_of_a_topology_is_told() -> None:
    found = tuple(bad(facts(None, problems=("fleet.toml:1: a: is wrong", "fleet.toml:2: b: is wrong"))))
    assert [finding.message for finding in found] == ["fleet.toml:1: a: is wrong", "fleet.toml:2: b: is wrong"]
    assert summary(found) == "This host cannot serve: 2 problems."


def test_a_topology_without_anything_for_this_host() -> None:
    message, remedy = only(facts(TWO_HOSTS, here="nowhere", environment={"HELEXA_SECRET": "s"}), "problem")
    assert message == "fleet.toml has nothing for host 'nowhere'; it names gate, beast"
    assert "--host" in remedy


def test_an_address_that_another_program_holds() -> None:
    port = Port("cortex.listen", "127.0.0.1:31313", "taken", holder="77 (nginx)")
    message, remedy = only(facts(ports=(port,)), "problem")
    assert message == "127.0.0.1:31313, for cortex.listen, is taken by process 77 (nginx)"
    assert "give cortex.listen another port" in remedy
    unknown = facts(ports=(evolve(port, holder=None),))
    assert only(unknown, "problem")[0].endswith("is taken by another user's program")


def test_an_address_that_this_host_does_not_have() -> None:
    port = Port("neurons.n.listen", "10.9.9.9:13131", "wrong", "Cannot assign requested address")
    message, _ = only(facts(ports=(port,)), "problem")
    assert message == "10.9.9.9:13131, for neurons.n.listen, cannot be listened on: Cannot assign requested address"


def test_a_fleet_that_is_up_is_no_problem() -> None:
    ports = (Port("cortex.listen", "127.0.0.1:31313", "ours", holder="77 (helexa up)"),)
    found = on_gpus(ports=ports, health=(DeviceHealth("cuda:0", 12288, 11000),))
    assert list(bad(found)) == []
    assert Finding("ports", "note", "a fleet is up here") in examine(found)
    assert Finding("ports", "ok", "helexa serves at 127.0.0.1:31313, process 77 (helexa up)") in examine(found)


def test_a_secret_that_hosts_need_to_reach_each_other() -> None:
    message, remedy = only(facts(TWO_HOSTS), "problem")
    assert message.startswith("$HELEXA_SECRET is not set")
    assert remedy == "set $HELEXA_SECRET to the same secret on gate, beast"


def test_a_secret_that_a_neuron_needs_to_listen_as_it_is_told() -> None:
    topology = '[[neurons]]\nname = "n"\nlisten = "0.0.0.0:13131"\nendpoint = "http://x:13131"\n'
    assert only(facts(topology), "warning")[0].endswith("neurons listen on loopback only, whatever the file says")
    assert list(bad(facts(topology, environment={"HELEXA_SECRET": "s"}))) == []


def test_a_key_that_is_not_in_the_environment() -> None:
    topology = '[[entitlements.keys]]\nname = "ci"\nkey_env = "CI_KEY"\n'
    message, remedy = only(facts(topology), "problem")
    assert message == "the key 'ci' is to be read from $CI_KEY, which is not set"
    assert remedy.startswith("set $CI_KEY")
    assert list(bad(facts(topology, environment={"CI_KEY": "hx-1"}))) == []


def test_a_provider_whose_key_is_not_in_the_environment() -> None:
    topology = '[[providers]]\nname = "cloud"\napi_key_env = "CLOUD_KEY"\n'
    assert "$CLOUD_KEY, which is not set" in only(facts(topology), "warning")[0]
    assert "cannot be a key" in only(facts(topology, environment={"CLOUD_KEY": "a b"}), "warning")[0]


def test_keys_are_the_gateway_s_concern_alone() -> None:
    topology = TWO_HOSTS + '[[entitlements.keys]]\nname = "ci"\nkey_env = "CI_KEY"\n'
    environment = {"HELEXA_SECRET": "s"}
    assert list(bad(facts(topology, here="beast", environment=environment, database="away"))) == []
    assert len(list(bad(facts(topology, environment=environment)))) == 1


def test_a_secret_itself_is_never_shown() -> None:
    topology = '[[providers]]\nname = "c"\napi_key_env = "C"\n[[entitlements.keys]]\nname = "k"\nkey_env = "K"\n'
    environment = {"C": "hush hush", "K": "hush", "HELEXA_SECRET": "hush"}
    found = facts(topology, environment=environment)
    assert "hush" not in str(examine(found)) + repr(found)


def test_a_database_that_cannot_be_used() -> None:
    assert only(facts(database="cortex.database: /x is no directory"), "problem")[0] == (
        "cortex.database: /x is no directory"
    )


def test_certificates_that_cannot_be_used() -> None:
    found = facts(certificates=("a.pem, which cortex.tls.certificate names, holds a certificate that has expired.",))
    assert only(found, "problem")[0].endswith("has expired")


def test_torch_that_does_not_run() -> None:
    message, _ = only(facts(torch=Torch(error="it was ended by SIGILL")), "problem")
    assert message == "torch does not run here: it was ended by SIGILL"


def test_a_torch_for_cpus_on_a_host_with_gpus() -> None:
    found = on_gpus(torch=Torch("2.13.0+cpu"))
    message, remedy = only(found, "problem")
    assert message == "torch 2.13.0+cpu is a build for CPUs, and this host has GPUs to serve from"
    assert "Get Started" in remedy
    assert list(bad(on_gpus(ONE_BOX + 'devices = ["cpu"]', torch=Torch("2.13.0+cpu")))) == []


def test_a_driver_that_is_too_old_for_torch() -> None:
    message, remedy = only(on_gpus(torch=evolve(CUDA_TORCH, cuda="13.0")), "problem")
    assert message == "torch is built for CUDA 13.0, and driver 560.35 is made for CUDA 12.6 at most"
    assert remedy == "install a newer driver, or a build of torch for CUDA 12"


@pytest.mark.parametrize("cuda", ["12.9", "12.6", "11.8"])
def test_a_driver_of_the_same_major_version_or_a_newer_one_will_do(cuda: str) -> None:
    assert list(bad(on_gpus(torch=evolve(CUDA_TORCH, cuda=cuda)))) == []


def test_a_gpu_that_torch_has_no_kernels_for() -> None:
    found = on_gpus(torch=Torch("2.13.0", "12.6", ("sm_90",), 2))
    assert only(found, "problem")[0] == "torch has no kernels for cuda:0, whose compute capability is 8.6"
    assert list(bad(on_gpus(ONE_BOX + 'devices = ["cuda:1"]', torch=found.torch))) == []


def test_a_cuda_that_does_not_work_where_nvml_does() -> None:
    found = on_gpus(torch=evolve(CUDA_TORCH, gpus=0, said="CUDA initialization: Error 802: system not yet initialized"))
    message, remedy = only(found, "problem")
    assert message.startswith("torch sees no GPU, and the driver tells of 2: CUDA initialization: Error 802")
    assert "nvidia_uvm" in remedy
    assert only(on_gpus(torch=evolve(CUDA_TORCH, gpus=0)), "problem")[0].endswith("the driver tells of 2")


def test_gpus_that_torch_and_the_driver_count_differently() -> None:
    message, _ = only(on_gpus(torch=evolve(CUDA_TORCH, gpus=1)), "warning")
    assert message == "torch sees 1 GPUs and 2 can be used, so their numbers may not mean the same ones"


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ("8.9", ["sm_80", "sm_86"], True),
        ("8.0", ["sm_86"], False),
        ("9.0", ["sm_80"], False),
        ("9.0", ["sm_80", "compute_80"], True),
        ("7.0", ["compute_80"], False),
        ("12.0", ["sm_100"], False),
        ("12.0", ["sm_120"], True),
        ("10.3", ["sm_100"], True),
        ("9.0", ["sm_90a"], True),
        ("10.0", ["sm_90a"], False),
        ("12.1", ["sm_120a"], False),
        ("6.1", [], True),
    ],
)
def test_kernels_run_on_their_major_version_and_later_minors(
    capability: str,
    architectures: list[str],
    runs: bool,  # noqa: FBT001
) -> None:
    assert has_kernels(capability, architectures) == runs


@given(st.lists(st.text(alphabet="smcopute_0129a ")))
def test_any_architectures_are_judged(architectures: list[str]) -> None:
    has_kernels("8.6", architectures)


def test_a_device_that_the_topology_names_and_the_host_does_not_have() -> None:
    topology = ONE_BOX + 'devices = ["cuda:1", "cuda:2"]'
    message, _ = only(on_gpus(topology), "problem")
    assert message == "neurons.local.devices names cuda:2, and this host has cuda:0, cuda:1"
    on_cpu = [finding.message for finding in bad(facts(topology))]
    assert on_cpu == [f"neurons.local.devices names cuda:{index}, and this host has cpu" for index in (1, 2)]


def test_a_gpu_that_cannot_be_used_is_a_warning_while_others_serve() -> None:
    host = Host(GPUS, None, ("cuda:2 has fallen off the bus: gone. Restart the host; look at its cables",))
    message, remedy = only(on_gpus(host=host), "warning")
    assert message == "cuda:2 has fallen off the bus: gone"
    assert remedy == "Restart the host; look at its cables"


def test_a_gpu_that_is_lost_now() -> None:
    lost = DeviceHealth("cuda:1", 1, 1, error="cuda:1 has fallen off the bus. Restart the host.")
    assert only(on_gpus(health=(lost,)), "problem") == ("cuda:1 has fallen off the bus", "Restart the host")
    unused = on_gpus(ONE_BOX + 'devices = ["cuda:0"]', health=(lost,))
    assert only(unused, "warning")[0] == "cuda:1 has fallen off the bus"


def test_a_gpu_that_slows_itself_down() -> None:
    hot = DeviceHealth("cuda:0", 12288, 10, temperature=91.0, throttled=("power_cap", "thermal_slowdown", "thermal"))
    assert only(on_gpus(health=(hot,)), "warning")[0] == "cuda:0 slows itself down at 91 °C: thermal slowdown, thermal"
    assert list(bad(on_gpus(health=(evolve(hot, throttled=("power_cap", "clock_setting")),)))) == []


def test_a_gpu_that_others_fill() -> None:
    health = (DeviceHealth("cuda:0", 12288, 9216), DeviceHealth("cuda:1", 81559, 10))
    message, _ = only(on_gpus(health=health), "warning")
    assert message == "9.0 of 12.0 GiB of cuda:0 are in use before helexa has started"


def test_a_limit_that_a_device_does_not_have() -> None:
    message, _ = only(on_gpus(ONE_BOX + 'memory = "24GiB"'), "warning")
    assert message == "neurons.local.memory is 24 GiB, and cuda:0 has 12"
    assert list(bad(on_gpus(ONE_BOX + 'memory = "24GiB"\ndevices = ["cuda:1"]'))) == []


def test_warnings_are_counted() -> None:
    findings = examine(facts(memory_available=GIB))
    assert summary(findings) == "This host can serve, with 1 warning."
    assert summary(findings[:0]) == "This host can serve."
