"""Decode steps replayed from CUDA graphs: one launch instead of some hundred, which a small model would wait for.

A graph is of a fixed batch, so there is one for each of a few sizes; a step takes the next larger one and pads. What
pads writes to a block of its own and is thrown away. Source: PyTorch's documentation of CUDA graphs.
"""

from bisect import bisect_left
from typing import Any

import structlog
import torch
from attrs import define
from torch import Tensor

from helexa.engine.networks.flash import FlashCache, Tables
from helexa.engine.networks.ports import Network
from helexa.engine.scheduling.batch import Batch
from helexa.engine.scheduling.plan import Chunk, StepPlan

_log = structlog.get_logger()
_WARM_UPS = 2


def buckets(most: int) -> list[int]:
    """Batch sizes to capture: powers of two, then steps of 32, up to ``most`` itself."""
    small = [size for size in (1, 2, 4, 8, 16) if size < most]
    return [*small, *range(32, most, 32), most]


@define(eq=False)
class _Captured:
    """One graph, the tensors that it reads, and the logits ``[size, vocabulary]`` that it writes."""

    size: int
    graph: torch.cuda.CUDAGraph
    batch: Batch
    tables: Tables
    logits: Tensor


class DecodeGraphs:
    """Replays decode-only steps of one model.

    Args:
        network: the model, on its GPU.
        cache: its KV cache, with one block more than the scheduler knows of: ``spare``.
        most: sequences of the largest batch.
        longest: tokens of the longest context.
        spare: the block that padding writes to.
    """

    def __init__(self, network: Network, cache: FlashCache, most: int, longest: int, spare: int) -> None:
        self._network = network
        self._cache = cache
        self._longest = longest
        self._spare = spare
        self._captured: list[_Captured] = []
        self._sizes = buckets(most)

    def capture(self) -> None:
        """Record the graphs, the largest first so that the others fit into its memory.

        A model that cannot be captured, since it looks at its tensors' values, runs without graphs.
        """
        pool = None
        try:
            for size in reversed(self._sizes):
                captured = self._capture(size, pool)
                pool = captured.graph.pool()
                self._captured.insert(0, captured)
        except RuntimeError as error:
            self._captured = []
            _log.warning("model.no_cuda_graphs", reason=str(error).splitlines()[0])

    def run(self, plan: StepPlan) -> Tensor | None:
        """``[due, vocabulary]``; ``None`` for a step that no graph is of. The tensor is valid until the next step."""
        if any(len(chunk.ids) > 1 or not chunk.due for chunk in plan.chunks):
            return None
        place = bisect_left(self._captured, len(plan.chunks), key=lambda each: each.size)
        if place == len(self._captured):
            return None
        captured = self._captured[place]
        self._fill(captured, plan)
        captured.graph.replay()
        return captured.logits[: len(plan.chunks)]

    def _capture(self, size: int, pool: Any) -> _Captured:
        plan = StepPlan(tuple(self._padding() for _ in range(size)))
        batch = Batch.of(plan, self._cache.block_size, self._cache.device)
        tables = Tables.of(batch, self._cache.block_size, self._longest)
        stream = torch.cuda.Stream(self._cache.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._cache.device))
        with torch.cuda.stream(stream):  # kernels choose their forms and reserve memory before they are recorded
            for _ in range(_WARM_UPS):
                self._forward(batch, tables)
        torch.cuda.current_stream(self._cache.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = self._forward(batch, tables)
        return _Captured(size, graph, batch, tables, logits)

    def _forward(self, batch: Batch, tables: Tables) -> Tensor:
        self._cache.use(batch, tables)
        return self._network.logits(batch, self._cache.attend)

    def _padding(self) -> Chunk:
        return Chunk(-1, (0,), 0, (self._spare,), due=True)

    def _fill(self, captured: _Captured, plan: StepPlan) -> None:
        """Write a step into the tensors that a graph reads."""
        missing = captured.size - len(plan.chunks)
        padded = StepPlan((*plan.chunks, *(self._padding() for _ in range(missing))))
        batch = Batch.of(padded, self._cache.block_size, torch.device("cpu"))
        tables = Tables.of(batch, self._cache.block_size, self._longest)
        for theirs, ours in (
            (captured.batch.ids, batch.ids),
            (captured.batch.positions, batch.positions),
            (captured.batch.slots, batch.slots),
            (captured.tables.lengths, tables.lengths),
            (captured.tables.blocks, tables.blocks),
        ):
            theirs.copy_(ours, non_blocking=True)
