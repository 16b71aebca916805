"""What this host has: its devices and how they are now.

NVIDIA devices are read through NVML, in this process. A host without one is a valid host: its device is the CPU and its
memory is the host's.
"""

import math
import os
import platform
import socket
from collections.abc import Callable, Mapping
from time import monotonic

import structlog
import trio
from attrs import define, evolve, field, frozen

from helexa.neuron import ailments, bandwidth, gpus, hosts
from helexa.neuron.ailments import Surroundings
from helexa.neuron.gpus import Gpus
from helexa.neuron.nvml import Nvml, NvmlError, connect, maybe
from helexa.neuron.visible import VARIABLE
from helexa.wire.fleet import DeviceHealth, DeviceInfo, Discovery, Processor

LOOK_SECONDS = 2.0
"""Longer than the driver takes to answer unless it hangs."""
FIRST_RENEWAL, LAST_RENEWAL = 10.0, 600.0
"""Seconds between two attempts to initialise NVML anew, doubled each time: it may take seconds, and a GPU that is lost
for good would have it done for ever."""
_log = structlog.get_logger()


@define(eq=False)
class Renewal:
    """When NVML is initialised anew, and what came of that. For one thread at a time.

    Attributes:
        clock: seconds, monotonic.
        failure: why it does not work since; a sentence.
    """

    clock: Callable[[], float] = monotonic
    failure: str | None = None
    _pause: float = FIRST_RENEWAL
    _due: float = -math.inf

    def is_due(self) -> bool:
        """Whether it may be tried, which is as good as done."""
        if self.clock() < self._due:
            return False
        self._due, self._pause = self.clock() + self._pause, min(2 * self._pause, LAST_RENEWAL)
        return True

    def is_not_needed(self) -> None:
        """All is well: the next trouble is another one."""
        self._pause = FIRST_RENEWAL

    def renew(self, nvml: Nvml) -> None:
        """Try it."""
        try:
            nvml.renew()
        except NvmlError as error:
            why = ailments.of_driver(error, evolve(hosts.surroundings(), has_gpu=True))
            self.failure = f"{why}."
        else:
            self.failure = None
        _log.warning("nvml.renewed", error=self.failure)


@frozen
class Host:
    """The devices of this host, found once at start.

    Attributes:
        discovery: what ``/discovery`` says.
        nvml: the initialised library, or ``None`` on a CPU host. Initialised anew when a device is in trouble.
        ailing: what keeps GPUs that are there from being used, a sentence each.
    """

    discovery: Discovery
    nvml: Nvml | None = None
    ailing: tuple[str, ...] = ()
    _renewal: Renewal = field(factory=Renewal, eq=False, repr=False)
    _one: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), eq=False, repr=False)

    def health(self) -> tuple[DeviceHealth, ...]:
        """Every device as it is now. Takes less than a millisecond on a CPU host, some with NVML.

        Blocks for as long as the driver does, which may be for ever: see ``look``.
        """
        if self.nvml is None:
            return (hosts.cpu_health(),)
        looks = self._look_at_each(self.nvml)
        if not any(look.error for look in looks):
            self._renewal.is_not_needed()
        elif self._renewal.is_due():
            self._renewal.renew(self.nvml)
            return self._look_at_each(self.nvml)
        return looks

    def _look_at_each(self, nvml: Nvml) -> tuple[DeviceHealth, ...]:
        devices = self.discovery.devices
        if (failure := self._renewal.failure) is not None:
            return tuple(gpus.sick(device, failure) for device in devices)
        return tuple(gpus.health(nvml, device) for device in devices)

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
