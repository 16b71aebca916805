"""What this host has: its devices and how they are now.

NVIDIA devices are read through NVML, in this process. A host without one is a valid host: its device is the CPU and its
memory is the host's.
"""

import os
import platform
import socket
from collections.abc import Callable, Mapping

import trio
from attrs import evolve, field, frozen

from helexa.neuron import ailments, bandwidth, gpus, hosts
from helexa.neuron.ailments import Surroundings
from helexa.neuron.gpus import Gpus
from helexa.neuron.nvml import Nvml, NvmlError, connect, maybe
from helexa.neuron.visible import VARIABLE
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery, Processor

LOOK_SECONDS = 2.0
"""Longer than the driver takes to answer unless it hangs."""


@frozen
class Host:
    """The devices of this host, found once at start.

    Attributes:
        discovery: what ``/discovery`` says.
        nvml: the initialised library, or ``None`` on a CPU host. Lives as long as the process.
        ailing: what keeps GPUs that are there from being used, a sentence each.
    """

    discovery: Discovery
    nvml: Nvml | None = None
    ailing: tuple[str, ...] = ()
    _one: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), eq=False, repr=False)

    def health(self) -> tuple[DeviceHealth, ...]:
        """Every device as it is now. Takes less than a millisecond on a CPU host, some with NVML.

        Blocks for as long as the driver does, which may be for ever: see ``look``.
        """
        if self.nvml is None:
            return (hosts.cpu_health(),)
        nvml = self.nvml
        return tuple(gpus.health(nvml, device) for device in self.discovery.devices)

    async def look(self) -> tuple[DeviceHealth, ...]:
        """Every device as it is now, within two seconds also if the driver hangs: each then says so.

        A thread that hangs is left behind, and no second one is sent after it.
        """
        if self.nvml is None:
            return self.health()
        with trio.move_on_after(LOOK_SECONDS):
            return await trio.to_thread.run_sync(self.health, abandon_on_cancel=True, limiter=self._one)
        return tuple(gpus.sick(device, f"{ailments.SILENT}.") for device in self.discovery.devices)


def discover(
    connect: Callable[[], Nvml] = connect,
    environment: Mapping[str, str] = os.environ,
    surroundings: Callable[[], Surroundings] = hosts.surroundings,
    measure: Callable[[int], float | None] = bandwidth.read_bandwidth,
) -> Host:
    """Look for accelerators; fall back to the CPU and say why.

    Blocks for some tenths of a second where the CPU is to serve: its memory is measured.

    Args:
        connect: opens NVML.
        environment: hides devices from CUDA, and so from us.
        surroundings: tells a host without a GPU from one whose driver is missing.
        measure: told a number of threads, answers GB/s that they read.
    """
    chip = hosts.processor()
    try:
        nvml = connect()
        found = gpus.find(nvml, environment)
        driver, version = maybe(nvml.driver), maybe(nvml.cuda)
    except NvmlError as error:
        why = ailments.of_driver(error, surroundings())
        return _on_cpu(chip, measure, (why,) if why else (), ailments.NO_GPU)
    cuda = ".".join(map(str, version)) if version else None
    if not found.devices:
        host = _on_cpu(chip, measure, found.ailing, _nothing(found, environment))
        return evolve(host, discovery=evolve(host.discovery, driver=driver, cuda=cuda))
    discovery = _discovery(chip, found.devices, _sentences(found.ailing))
    return Host(evolve(discovery, driver=driver, cuda=cuda, links=found.links), nvml, found.ailing)


def _on_cpu(
    chip: Processor, measure: Callable[[int], float | None], ailing: tuple[str, ...], healthy_reason: str
) -> Host:
    device = hosts.cpu(measure(chip.threads), chip.name)
    return Host(_discovery(chip, (device,), _sentences(ailing) or healthy_reason), None, ailing)


def _nothing(found: Gpus, environment: Mapping[str, str]) -> str:
    """Why there is no device, where none is ailing."""
    if found.hidden:
        return f"{VARIABLE} is '{environment.get(VARIABLE, '')}', which hides every GPU of this host; unset it"
    return ailments.NO_GPU


def _sentences(ailing: tuple[str, ...]) -> str | None:
    return ". ".join(ailing) or None


def _discovery(chip: Processor, devices: tuple[DeviceInfo, ...], reason: str | None) -> Discovery:
    system = f"{platform.system()} {platform.release()}"
    return Discovery(socket.gethostname(), system, None, devices, reason, processor=chip)
