"""What errors of torch are taken for."""

import pytest
import torch

from helexa.engine import mishaps

SCARCE = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: device-side assert triggered", 710),
    RuntimeError("CUDA error: an illegal memory access was encountered\nand more"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("NCCL error in: somewhere"),
]
NEITHER = [None, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error"), KeyError("x")]


@pytest.mark.parametrize("error", SCARCE, ids=str)
def test_too_little_memory_for_one_thing_breaks_nothing(error: Exception) -> None:
    assert mishaps.is_out_of_memory(error)
    assert not mishaps.is_broken(error)


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_errors_that_every_later_call_repeats_break_the_device(error: Exception) -> None:
    assert mishaps.is_broken(error)
    assert not mishaps.is_out_of_memory(error)


@pytest.mark.parametrize("error", NEITHER, ids=str)
def test_faults_of_a_program_are_neither(error: Exception | None) -> None:
    assert not mishaps.is_broken(error)
    assert not mishaps.is_out_of_memory(error)


def test_a_real_allocation_that_fails_is_known_for_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert mishaps.is_out_of_memory(caught.value)


def test_errors_are_told_in_half_a_line() -> None:
    assert mishaps.describe(RuntimeError("\nCUDA error: sticky\nhint\n")) == "RuntimeError: CUDA error: sticky"
    assert mishaps.describe(MemoryError()) == "MemoryError"
