"""Attention over the paged cache, held against the textbook's formula written out position by position."""

from collections.abc import Sequence
from itertools import accumulate

import pytest
import torch
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helexa.engine.networks.attention import HeadMajorCache, Heads, Variant, _after, _gather, attend_alone
from helexa.engine.networks.flash import Tables, can_flash
from helexa.engine.scheduling.batch import Batch
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.shapes import LayerShape

CPU = torch.device("cpu")
SIZE = 4
BLOCKS = 24
HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 4, 2, 8, 6
SHAPE = LayerShape(KV_HEADS, WIDTH, VALUE_WIDTH)
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])
VARIANTS = {
    "plain": Variant(0.3),
    "window of one": Variant(0.3, window=1),
    "window": Variant(0.3, window=5),
    "window over a block's end": Variant(0.3, window=SIZE + 1),
    "window longer than all": Variant(0.3, window=1000),
    "soft cap": Variant(0.3, softcap=1.5),
    "sinks": Variant(0.3, sinks=SINKS),
    "all at once": Variant(0.3, window=6, softcap=2.0, sinks=SINKS),
}


def naive(heads: Heads, variant: Variant) -> Tensor:
    """One whole sequence: every token to itself and those before it, in float64. ``[T, heads, value_dim]``."""
    groups = heads.query.shape[1] // heads.key.shape[1]
    query, key, value = (each.double() for each in heads)
    rows = []
    for position in range(len(query)):
        seen = slice(0 if variant.window is None else max(0, position + 1 - variant.window), position + 1)
        scores = torch.einsum("hd,thd->ht", query[position], key[seen].repeat_interleave(groups, 1)) * variant.scale
        if variant.softcap is not None:
            scores = variant.softcap * torch.tanh(scores / variant.softcap)
        total = scores.exp().sum(1, keepdim=True)
        if variant.sinks is not None:
            total += variant.sinks.double().exp()[:, None]
        rows.append(torch.einsum("ht,thd->hd", scores.exp() / total, value[seen].repeat_interleave(groups, 1)))
    return torch.stack(rows)


def random_heads(length: int, seed: int) -> Heads:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((HEADS, WIDTH), (KV_HEADS, WIDTH), (KV_HEADS, VALUE_WIDTH))
    return Heads(*(torch.randn(length, *shape, generator=generator) * 2 for shape in shapes))


def part(heads: Heads, start: int, end: int) -> Heads:
    return Heads(*(each[start:end] for each in heads))


def joined(parts: Sequence[Heads]) -> Heads:
    return Heads(*(torch.cat(each) for each in zip(*parts, strict=True)))


@define
class Story:
    """A sequence: its block table, and the lengths of the pieces that it is computed in."""

    table: list[int]
    pieces: list[int]

    @property
    def length(self) -> int:
        return sum(self.pieces)

    def chunk(self, number: int, piece: int) -> Chunk:
        start = sum(self.pieces[:piece])
        return Chunk(number, [0] * self.pieces[piece], start, self.table, due=True)


@st.composite
def stories(draw: st.DrawFn) -> list[Story]:
    """Up to three sequences that share no block, whose blocks lie anywhere."""
    order = draw(st.one_of(st.just(list(range(BLOCKS))), st.permutations(range(BLOCKS))))
    found, used = [], 0
    for pieces in draw(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3)):
        needed = -(-sum(pieces) // SIZE)
        if used + needed > BLOCKS:
            break
        found.append(Story(list(order[used : used + needed + draw(st.integers(0, 1))]), pieces))
        used += needed + 1
    return found


def computed(cache: HeadMajorCache, told: Sequence[Story], heads: Sequence[Heads], variant: Variant) -> list[Tensor]:
    """What each sequence gets, all pieces together; each step takes the next piece of every sequence that has one."""
    out: list[list[Tensor]] = [[] for _ in told]
    for piece in range(max(len(each.pieces) for each in told)):
        numbers = [number for number, each in enumerate(told) if piece < len(each.pieces)]
        chunks = [told[number].chunk(number, piece) for number in numbers]
        batch = Batch.of(StepPlan(tuple(chunks)), SIZE, CPU)
        own = [part(heads[chunk.number], chunk.start, chunk.end) for chunk in chunks]
        attended = cache.attend(0, joined(own), batch, variant)
        for number, rows in zip(numbers, attended.split([len(chunk.ids) for chunk in chunks]), strict=True):
            out[number].append(rows)
    return [torch.cat(each) for each in out]


def garbage() -> HeadMajorCache:
    """A cache of one layer in which everything that was not written would spoil the result."""
    cache = HeadMajorCache([SHAPE], BLOCKS * SIZE, torch.float32, CPU)
    for pool in (*cache._keys, *cache._values):
        pool.fill_(float("nan"))
    return cache


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@settings(max_examples=8)
@given(told=stories())
def test_pieces_of_sequences_anywhere_in_the_cache_see_what_the_formula_says(
    told: list[Story], variant: Variant
) -> None:
    heads = [random_heads(each.length, seed) for seed, each in enumerate(told)]
    for found, own in zip(computed(garbage(), told, heads, variant), heads, strict=True):
        torch.testing.assert_close(found.double(), naive(own, variant), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("length", [1, 2, 13])
def test_a_sequence_without_a_cache_sees_the_same(variant: Variant, length: int) -> None:
    heads = random_heads(length, 1)
    found = attend_alone(heads, variant)
    torch.testing.assert_close(found.double(), naive(heads, variant), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_layout_that_transformers_hands_over_is_taken_as_it_is(variant: Variant) -> None:
    """Heads first in memory, tokens first in shape."""
    heads = random_heads(9, 2)
    other = Heads(*(each.transpose(0, 1).contiguous().transpose(0, 1) for each in heads))
    table = Story([3, 1, 7], [4, 1, 4])
    expected = computed(garbage(), [table], [heads], variant)[0]
    assert torch.equal(computed(garbage(), [table], [other], variant)[0], expected)


def test_a_chunk_reads_what_another_one_of_the_same_step_writes() -> None:
    """Two choices of one prompt are planned into one step: the second finds its beginning in the first one's blocks."""
    heads, cache = random_heads(2 * SIZE + 1, 3), garbage()
    first = Chunk(1, [0] * (2 * SIZE), 0, [5, 2], due=True)
    second = Chunk(2, [0], 2 * SIZE, [5, 2, 9], due=True)
    batch = Batch.of(StepPlan((second, first)), SIZE, CPU)
    own = joined([part(heads, 2 * SIZE, 2 * SIZE + 1), part(heads, 0, 2 * SIZE)])
    found = cache.attend(0, own, batch, VARIANTS["plain"])
    expected = naive(heads, VARIANTS["plain"])
    torch.testing.assert_close(found[0].double(), expected[-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1:].double(), expected[:-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("table", [[3, 4, 5], [5, 3, 9], [8, 9, 1]], ids=["a row", "scattered", "two runs"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_where_the_blocks_lie_changes_no_bit(table: list[int], variant: Variant) -> None:
    heads = random_heads(11, 4)
    row = computed(garbage(), [Story([0, 1, 2], [7, 1, 3])], [heads], variant)[0]
    assert torch.equal(computed(garbage(), [Story(table, [7, 1, 3])], [heads], variant)[0], row)


def test_layers_have_caches_of_their_own() -> None:
    cache = HeadMajorCache([SHAPE, SHAPE], BLOCKS * SIZE, torch.float32, CPU)
    batch = Batch.of(StepPlan((Story([2], [3]).chunk(1, 0),)), SIZE, CPU)
    heads = [random_heads(3, seed) for seed in (1, 2)]
    for layer, own in enumerate(heads):
        found = cache.attend(layer, own, batch, VARIANTS["plain"])
        torch.testing.assert_close(found.double(), naive(own, VARIANTS["plain"]), rtol=1e-4, atol=1e-4)


# How a plan is laid out


@settings(max_examples=60)
@given(told=stories(), data=st.data())
def test_a_batch_says_where_every_token_and_its_context_lie(told: list[Story], data: st.DataObject) -> None:
    pieces = [data.draw(st.integers(0, len(each.pieces) - 1)) for each in told]
    chunks = [
        evolve(each.chunk(number, piece), ids=range(number, number + each.pieces[piece]), due=data.draw(st.booleans()))
        for number, (each, piece) in enumerate(zip(told, pieces, strict=True))
    ]
    batch = Batch.of(StepPlan(tuple(chunks)), SIZE, CPU)
    slots = {c.number: [c.blocks[p // SIZE] * SIZE + p % SIZE for p in range(c.end)] for c in chunks}
    assert batch.ids.tolist() == [token for c in chunks for token in c.ids]
    assert batch.positions.tolist() == [p for c in chunks for p in range(c.start, c.end)]
    assert batch.slots.tolist() == [slot for c in chunks for slot in slots[c.number][c.start :]]
    ends = list(accumulate(len(c.ids) for c in chunks))
    assert batch.last.tolist() == [end - 1 for c, end in zip(chunks, ends, strict=True) if c.due]
    for c, span, end in zip(chunks, batch.spans, ends, strict=True):
        assert (span.first, span.rows, span.length) == (end - len(c.ids), len(c.ids), c.end)
        assert [slot for start, stop in span.runs for slot in range(start, stop)] == slots[c.number]
        assert all(before[1] != after[0] for before, after in zip(span.runs, span.runs[1:], strict=False))


Runs = tuple[tuple[int, int], ...]
RUNS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 7)), min_size=1, max_size=5).map(
    lambda pairs: tuple((start, start + count) for start, count in pairs)
)


@given(runs=RUNS, data=st.data())
def test_runs_after_a_number_of_slots_are_the_rest_of_them(runs: Runs, data: st.DataObject) -> None:
    slots = [slot for start, end in runs for slot in range(start, end)]
    skip = data.draw(st.integers(0, len(slots) - 1))
    kept = _after(runs, skip)
    assert [slot for start, end in kept for slot in range(start, end)] == slots[skip:]
    assert all(start < end for start, end in kept)


@given(runs=RUNS)
def test_runs_are_gathered_in_order_and_one_run_is_not_copied(runs: Runs) -> None:
    pool = torch.arange(2 * 60 * 3).view(2, 60, 3)
    slots = [slot for start, end in runs for slot in range(start, end)]
    found = _gather(pool, list(runs))
    assert torch.equal(found, pool[:, slots])
    assert (found.untyped_storage().data_ptr() == pool.untyped_storage().data_ptr()) == (len(runs) == 1)


# What the kernel of NVIDIA's devices is told; the kernel itself needs one


@settings(max_examples=40)
@given(told=stories())
def test_tables_for_the_kernel_say_the_same_as_the_batch(told: list[Story]) -> None:
    chunks = [each.chunk(number, len(each.pieces) - 1) for number, each in enumerate(told)]
    tables = Tables.of(Batch.of(StepPlan(tuple(chunks)), SIZE, CPU), SIZE)
    assert tables.starts.tolist() == [0, *accumulate(len(c.ids) for c in chunks)]
    assert tables.lengths.tolist() == [c.end for c in chunks]
    assert (tables.rows, tables.longest) == (max(len(c.ids) for c in chunks), max(c.end for c in chunks))
    assert {each.dtype for each in (tables.starts, tables.lengths, tables.blocks)} == {torch.int32}
    for c, row in zip(chunks, tables.blocks.tolist(), strict=True):
        needed = -(-c.end // SIZE)
        assert row[:needed] == list(c.blocks[:needed])
        assert len(row) == -(-tables.longest // SIZE)
        assert all(0 <= block < BLOCKS for block in row), "padding that the kernel may look up"


def test_no_cpu_has_the_kernel() -> None:
    assert not can_flash(CPU, torch.bfloat16, [LayerShape(2, 64, 64)])
