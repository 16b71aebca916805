"""What keeps a GPU from being used, as sentences that say how to mend it. Pure.

Source: NVML API Reference Manual, nvmlReturn_t; NVIDIA's Xid documentation.
"""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from helexa.neuron import nvml
from helexa.neuron.nvml import NvmlError

NO_GPU: Final = "this host has no NVIDIA GPU"
SPLIT: Final = (
    "is split into several (MIG), and helexa uses whole GPUs. Give it back in one piece: nvidia-smi -i {index} -mig 0"
)
SILENT: Final = "NVIDIA's driver does not answer. See what it has logged with 'dmesg', and restart the host"

_DRIVER: Final[Mapping[int, str]] = {
    nvml.NOT_INSTALLED: "helexa cannot ask NVIDIA's driver, as {said}. Install it: pip install nvidia-ml-py",
    nvml.LIBRARY_NOT_FOUND: (
        "this host has an NVIDIA GPU, and libnvidia-ml.so.1, which comes with its driver, is not found. Install "
        "NVIDIA's driver; a container has to be started with its GPUs (docker run --gpus all)"
    ),
    nvml.DRIVER_NOT_LOADED: (
        "NVIDIA's driver is installed and not loaded. Load it with 'modprobe nvidia'; if that fails, the kernel was "
        "updated and the driver was not built for it: install it again, or restart with the kernel from before"
    ),
    nvml.VERSION_MISMATCH: (
        "NVIDIA's driver was updated while an older one was loaded{loaded}, and the two do not fit. Restart the host"
    ),
    nvml.NO_PERMISSION: (
        "this user may not use NVIDIA's devices. See who may with 'ls -l /dev/nvidia*', and add the user to that "
        "group; a container has to be given the devices"
    ),
}
_DEVICE: Final[Mapping[int, str]] = {
    nvml.GPU_IS_LOST: (
        "has fallen off the bus: the driver no longer reaches it. Restart the host; if it happens again, look at its "
        "power cables, its slot and its temperature"
    ),
    nvml.RESET_REQUIRED: "has to be reset. End what uses it, then: nvidia-smi -i {index} --gpu-reset",
    nvml.INSUFFICIENT_POWER: "lacks power. Plug all of its power cables in, and restart the host",
    nvml.NO_PERMISSION: "may not be used by this user. A container or a service has to be given this device as well",
}


@frozen
class Surroundings:
    """What tells one cause from another.

    Attributes:
        has_gpu: whether an NVIDIA GPU is on the PCI bus, with or without a driver.
        loaded: version of the driver that the kernel has loaded; ``None``: none, or unknown.
    """

    has_gpu: bool = False
    loaded: str | None = None


def of_driver(error: NvmlError, around: Surroundings) -> str | None:
    """Why no GPU of a host can be used; ``None`` where nothing is wrong, as there is none."""
    if not around.has_gpu and error.code in {nvml.LIBRARY_NOT_FOUND, nvml.DRIVER_NOT_LOADED, nvml.NOT_INSTALLED}:
        return None
    loaded = f" ({around.loaded} is)" if around.loaded else ""
    template = _DRIVER.get(error.code, "NVIDIA's driver does not work: {said}. See what it has logged with 'dmesg'")
    return template.format(said=_said(error), loaded=loaded)


def of_device(error: NvmlError, index: int) -> str:
    """Why one GPU cannot be used: the end of a sentence that begins with it."""
    template = _DEVICE.get(error.code, "does not work: {said}. See what the driver has logged with 'dmesg'")
    return template.format(said=_said(error), index=index)


def _said(error: NvmlError) -> str:
    """The library's words on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or f"error {error.code}"
