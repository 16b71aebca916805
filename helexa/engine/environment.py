"""What the process of an engine asks of the libraries below it, before they are first used."""

import os

ASKED = {
    # CUDA counts the fastest GPU as 0 unless told otherwise; NVML, which named the devices, counts by slot.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # Weights and KV cache in huge pages, where the system gives them to those who ask (Linux's "madvise"). A token
    # reads all weights once: in pages of 4 KiB the processor spends a tenth of that time on finding them.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Environment variables of CUDA and of torch, which reads its own at its first allocation."""


def prepare() -> None:
    """Set them; for the first lines of a process, before torch allocates."""
    os.environ.update(ASKED)
