"""What runs on a GPU, held against the same on a CPU; and what can be seen of it without one."""

import pytest
import torch
from architectures import CONTEXT, make_module

from helexa.engine.memory import FLASH_BLOCK_SIZE, block_size
from helexa.engine.networks.flash import Tables
from helexa.engine.networks.graphs import buckets
from helexa.engine.networks.runner import PagedRunner, make_network
from helexa.engine.scheduling.batch import Batch
from helexa.engine.scheduling.plan import Chunk, StepPlan

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (8, [1, 2, 4, 8]), (64, [1, 2, 4, 8, 16, 32, 64]), (70, [1, 2, 4, 8, 16, 32, 64, 70])]
)
def test_captured_sizes_end_with_the_largest_batch(most: int, sizes: list[int]) -> None:
    assert buckets(most) == sizes


def test_tables_are_as_wide_as_the_longest_context_and_padded() -> None:
    plan = StepPlan((Chunk(1, (7,), 300, (4, 9), due=True), Chunk(2, (1, 2, 3), 0, (5,), due=True)))
    batch = Batch.of(plan, 256, torch.device("cpu"))
    tables = Tables.of(batch, 256, longest=600)
    assert tables.blocks.tolist() == [[4, 9, 0], [5, 0, 0]]
    assert tables.starts.tolist() == [0, 1, 4]
    assert tables.lengths.tolist() == [301, 3]
    assert (tables.rows, tables.longest) == (3, 600)


def test_a_table_longer_than_the_context_is_cut() -> None:
    batch = Batch.of(StepPlan((Chunk(1, (7,), 0, (4, 9, 2), due=True),)), 256, torch.device("cpu"))
    assert Tables.of(batch, 256).blocks.tolist() == [[4]]


def test_blocks_on_a_gpu_are_multiples_of_what_its_kernel_takes() -> None:
    assert block_size("cuda") % 256 == 0
    assert block_size("cpu") < FLASH_BLOCK_SIZE


@needs_gpu
@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "captured"])
def test_a_gpu_computes_what_a_cpu_computes(*, graphs: bool) -> None:
    plans = [
        StepPlan((Chunk(1, tuple(range(40)), 0, (3,), due=True), Chunk(2, tuple(range(9)), 0, (1,), due=True))),
        *(
            StepPlan((Chunk(1, (5,), 40 + at, (3,), due=True), Chunk(2, (6,), 9 + at, (1,), due=True)))
            for at in range(3)
        ),
    ]
    found = [_logits(plans, device, graphs=graphs) for device in ("cpu", "cuda")]
    assert torch.cosine_similarity(found[0], found[1], dim=-1).min() > 0.995


def _logits(plans: list[StepPlan], device: str, *, graphs: bool) -> torch.Tensor:
    network = make_network(make_module("qwen3", torch.bfloat16).to(device))
    assert network is not None
    runner = PagedRunner(network, torch.device(device), 8, FLASH_BLOCK_SIZE)
    if graphs:
        runner.capture(4, CONTEXT)
    return torch.cat([runner.forward(plan).float().cpu() for plan in plans])
