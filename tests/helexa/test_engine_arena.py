"""Memory for weights: nobody's twice, used again, and given back with the last tensor that lies in it."""

import random
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor

from helexa.engine import arena as arenas
from helexa.engine.arena import SEGMENT, Arena

LARGE = 1 << 20


def segments(arena: Arena) -> int:
    return len(arena._segments)


def anonymous() -> int:
    """Bytes of memory that this process has written to, without that of files."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


class Owners(RuleBasedStateMachine):
    """Each tensor is filled with a number of its own, which nobody else may overwrite."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(LARGE)
        self.held: dict[int, tuple[Tensor, int]] = {}
        self.count = 0

    @rule(size=st.sampled_from([0, 1, 4096, 65_535, 65_536, 65_537, 3 * 65_536 + 7, 3 * LARGE]))
    def take(self, size: int) -> None:
        self.count += 1
        tensor = self.arena.empty(size)
        assert (tensor.shape, tensor.dtype) == ((size,), torch.uint8)
        assert tensor.data_ptr() % 64 == 0 or size < 65_536
        self.held[self.count] = tensor.fill_(self.count % 251), size

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 1000), as_view=st.booleans())
    def let_go(self, number: int, *, as_view: bool) -> None:
        key = sorted(self.held)[number % len(self.held)]
        tensor, size = self.held.pop(key)
        if as_view and size:  # a view keeps it
            self.held[key] = tensor[: size // 2 + 1], size // 2 + 1

    @rule()
    def close(self) -> None:
        """Tensors that are still there keep what they have."""
        self.arena.close()
        assert segments(self.arena) == 0

    @invariant()
    def every_tensor_has_its_own(self) -> None:
        for key, (tensor, size) in self.held.items():
            assert tensor.numel() == size
            assert set(tensor[:: max(1, size // 50)].tolist()) <= {key % 251}
            assert set(tensor[-1:].tolist()) <= {key % 251}

    @invariant()
    def what_is_free_is_in_order_and_joined(self) -> None:
        for segment in self.arena._segments:
            segment.collect()
            assert all(start < end for start, end in segment.free)
            assert all(before[1] < after[0] for before, after in pairwise(segment.free))


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_memory_of_tensors_that_are_gone_is_used_again() -> None:
    arena = Arena()
    first = arena.empty(LARGE)
    place = first.data_ptr()
    del first
    assert arena.empty(LARGE).data_ptr() == place
    for _ in range(10 * SEGMENT // LARGE):
        arena.empty(LARGE)
    assert segments(arena) == 1


def test_a_view_of_another_dtype_and_shape_keeps_its_memory() -> None:
    arena = Arena()
    whole = arena.empty(LARGE)
    place, view = whole.data_ptr(), whole.view(torch.bfloat16).view(4, -1)[1:3].detach()
    del whole
    assert arena.empty(LARGE).data_ptr() != place
    del view
    assert arena.empty(LARGE).data_ptr() == place


def test_what_is_larger_than_a_segment_has_one_of_its_own() -> None:
    arena = Arena(4 * LARGE)
    assert len(arena.empty(5 * LARGE)) == 5 * LARGE
    assert segments(arena) == 1


def test_a_small_model_does_not_ask_for_a_large_segment() -> None:
    arena = Arena(LARGE)
    arena.empty(65_536)
    assert len(arena._segments[0].memory) == 2 * LARGE, "a huge page"


def test_like_another_tensor_but_for_its_rows() -> None:
    arena, model = Arena(), torch.zeros(300, 200, dtype=torch.bfloat16)
    assert (arena.like(model).shape, arena.like(model).dtype) == ((300, 200), torch.bfloat16)
    assert arena.like(model, 7).shape == (7, 200)
    assert arena.like(torch.zeros(3, 2, device="meta"), 5).device.type == "meta", "what is not on a CPU is torch's"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
def test_what_nothing_lies_in_is_given_back_and_the_rest_with_its_last_tensor() -> None:
    arena, before = Arena(), anonymous()
    kept, gone = arena.empty(64 * LARGE).fill_(1), arena.empty(128 * LARGE).fill_(1)
    assert anonymous() - before > 160 * LARGE
    del gone
    arena.close()
    assert 56 * LARGE < anonymous() - before < 112 * LARGE
    assert bool((kept == 1).all())
    del kept
    assert anonymous() - before < 32 * LARGE  # what else the process does shows, too


def test_without_huge_pages_there_is_memory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arenas.mmap, "MADV_HUGEPAGE", 12_345)
    assert bool((Arena().empty(LARGE).fill_(3) == 3).all())


def test_several_threads_take_and_let_go_at_once() -> None:
    arena, wrong = Arena(4 * LARGE), list[int]()

    def work(number: int) -> None:
        draw, held = random.Random(number), list[tuple[Tensor, int]]()
        for turn in range(150):
            value = (number * 31 + turn) % 251
            held.append((arena.empty(draw.randrange(65_536, LARGE)).fill_(value), value))
            if len(held) > 4:
                tensor, value = held.pop(draw.randrange(4))
                wrong.extend([value] if bool((tensor != value).any()) else [])

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
