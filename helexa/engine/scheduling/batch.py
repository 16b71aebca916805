"""A step plan as tensors: what a forward pass over the flattened batch needs to know."""

from collections.abc import Sequence
from itertools import chain

import torch
from attrs import frozen
from torch import Tensor

from helexa.engine.scheduling.plan import Chunk, StepPlan


@frozen(eq=False)
class Span:
    """One chunk's place in the flattened batch, and where its context lies in the cache.

    Attributes:
        first: row of its first token in the batch.
        rows: tokens computed.
        length: positions that its last token attends to, itself among them.
        runs: the slots ``[start, end)`` that hold these positions, in order; one run if its blocks are neighbours.
        table: its block table.
    """

    first: int
    rows: int
    length: int
    runs: tuple[tuple[int, int], ...]
    table: Sequence[int]


@frozen(eq=False)
class Batch:
    """A flattened batch of ``T`` tokens in ``N`` chunks.

    Attributes:
        ids: token ids ``[T]`` int64.
        positions: of each token in its sequence, ``[T]`` int64.
        slots: where each token's key and value go, ``[T]`` int64; slot = block * block size + offset.
        last: rows whose logits are wanted, ``[due]`` int64; of a chunk with several, those for its prompt first.
        spans: one per chunk.
    """

    ids: Tensor
    positions: Tensor
    slots: Tensor
    last: Tensor
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, plan: StepPlan, block_size: int, device: torch.device) -> "Batch":
        """Lay a plan out."""
        spans: list[Span] = []
        last: list[int] = []
        first = 0
        for chunk in plan.chunks:
            spans.append(Span(first, len(chunk.ids), chunk.end, _runs(chunk, block_size), chunk.blocks))
            first += len(chunk.ids)
            if chunk.scored:
                last += range(first - chunk.scored - chunk.due, first - chunk.due)
            if chunk.due:
                last.append(first - 1)

        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        positions = list(chain.from_iterable(range(chunk.start, chunk.end) for chunk in plan.chunks))
        slots = list(chain.from_iterable(_slots(chunk, block_size) for chunk in plan.chunks))
        ids = list(chain.from_iterable(chunk.ids for chunk in plan.chunks))
        return cls(tensor(ids), tensor(positions), tensor(slots), tensor(last), tuple(spans))


def _slots(chunk: Chunk, size: int) -> list[int]:
    return [chunk.blocks[position // size] * size + position % size for position in range(chunk.start, chunk.end)]


def _runs(chunk: Chunk, size: int) -> tuple[tuple[int, int], ...]:
    """The slots of positions ``0 … end``, neighbouring blocks joined."""
    table = chunk.blocks[: -(-chunk.end // size)]
    if table == list(range(table[0], table[0] + len(table))):  # the common case, at the speed of a list comparison
        return ((table[0] * size, table[0] * size + chunk.end),)
    runs = [[table[0], table[0] + 1]]
    for block in table[1:]:
        if block == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([block, block + 1])
    surplus = len(table) * size - chunk.end
    slots = [(start * size, end * size) for start, end in runs]
    return (*slots[:-1], (slots[-1][0], slots[-1][1] - surplus))
