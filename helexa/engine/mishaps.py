"""What goes wrong on a device: what an exception of torch says of it, and memory that has to come back.

torch's own classes do not suffice: allocators of CPUs raise plain ``RuntimeError``, and libraries beneath torch report
through it, too.
"""

import torch

from helexa.engine.weights.loading import release

_NO_MEMORY = (
    "out of memory",  # CUDA's driver and torch's caching allocator
    "can't allocate memory",  # torch's allocator of host memory
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_BROKEN = ("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "NCCL error")
_ACCELERATOR_ERRORS: tuple[type[Exception], ...] = tuple(
    filter(None, [getattr(torch, "AcceleratorError", None)])  # not in every torch that helexa runs on
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether there was too little memory for one thing: the device, and what lies on it, are as they were."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def is_broken(error: BaseException | None) -> bool:
    """Whether the device's context is of no more use.

    Such errors are sticky (CUDA C++ Programming Guide, "Error Checking"): each later call in the process returns the
    same one, and memory that was written meanwhile is not to be trusted. Some that are not sticky look alike; to take
    one for the worst costs a restart, and the opposite costs wrong answers.
    """
    if is_out_of_memory(error):
        return False
    return isinstance(error, _ACCELERATOR_ERRORS) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _BROKEN)
    )


def describe(error: BaseException) -> str:
    """An exception in half a sentence of one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def collect() -> None:
    """Give memory back now: a module that refers to itself would keep it for as long as the collector pleased."""
    release()
