"""Attention over the paged KV cache with FlashAttention, on NVIDIA GPUs: one kernel per layer for the whole batch.

Keys and values of a layer lie block by block, ``[blocks, block_size, kv_heads, head_dim]``, as the kernel's block table
wants them. Source: documentation of ``torch.nn.attention.varlen``.
"""

from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor

from helexa.engine.networks.attention import Heads, Variant
from helexa.engine.scheduling.batch import Batch
from helexa.engine.shapes import LayerShape

_OLDEST = (8, 0)  # Ampere
_WIDEST = 256  # elements of a head


def can_flash(device: torch.device, dtype: torch.dtype, layers: Sequence[LayerShape]) -> bool:
    """Whether the kernel takes these heads on this device."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(device) >= _OLDEST
        and all(each.key == each.value and each.key % 8 == 0 and each.key <= _WIDEST for each in layers)
    )


@define(eq=False)
class Tables:
    """A batch as the kernel takes it, for ``N`` sequences.

    Attributes:
        starts: where each sequence's queries begin in the batch, and the batch's end: ``[N + 1]`` int32.
        lengths: of each context, ``[N]`` int32.
        blocks: block tables, padded with 0: ``[N, widest]`` int32.
        rows: most queries of one sequence.
        longest: the longest context.
    """

    starts: Tensor
    lengths: Tensor
    blocks: Tensor
    rows: int
    longest: int

    @classmethod
    def of(cls, batch: Batch, block_size: int, longest: int = 0) -> "Tables":
        """Lay the spans of a batch out, for contexts of ``longest`` tokens at least."""
        spans, device = batch.spans, batch.ids.device
        longest = max(longest, *(span.length for span in spans))
        widest = -(-longest // block_size)
        tables = [[*span.table[:widest], *[0] * (widest - len(span.table[:widest]))] for span in spans]

        def tensor(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.int32, device=device)

        return cls(
            tensor([*(span.first for span in spans), spans[-1].first + spans[-1].rows]),
            tensor([span.length for span in spans]),
            tensor(tables),
            max(span.rows for span in spans),
            longest,
        )


class FlashCache:
    """Keys and values of all layers of a model on one GPU.

    Args:
        layers: shape of each layer.
        blocks: KV blocks.
        block_size: tokens per block, a multiple of 256.
        dtype: of the elements, bfloat16 or float16.
        device: the GPU.
    """

    def __init__(
        self, layers: Sequence[LayerShape], blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.block_size = block_size
        self.device = device
        self._pools = [
            torch.empty(2, blocks, block_size, each.heads, each.key, dtype=dtype, device=device) for each in layers
        ]
        self._tables: tuple[Batch, Tables] | None = None

    def attend(self, layer: int, heads: Heads, batch: Batch, variant: Variant) -> Tensor:
        """Write the step's keys and values, then let every token see its sequence up to itself.

        Shapes as in ``HeadMajorCache.attend``; the variant has to be a plain one.
        """
        from torch.nn.attention.varlen import varlen_attn

        keys, values = self._pools[layer]
        keys.flatten(0, 1).index_copy_(0, batch.slots, heads.key)
        values.flatten(0, 1).index_copy_(0, batch.slots, heads.value)
        tables = self._tables_of(batch)
        out = varlen_attn(
            heads.query.contiguous(),
            keys,
            values,
            tables.starts,
            None,
            tables.rows,
            tables.longest,
            scale=variant.scale,
            window_size=(-1 if variant.window is None else variant.window - 1, 0),
            enable_gqa=heads.query.shape[1] != heads.key.shape[1],
            seqused_k=tables.lengths,
            block_table=tables.blocks,
        )
        assert isinstance(out, Tensor)  # a pair only if asked for
        return out

    def use(self, batch: Batch, tables: Tables) -> None:
        """Take these tables for this batch, instead of making them when its first layer asks."""
        self._tables = batch, tables

    def _tables_of(self, batch: Batch) -> Tables:
        """Made once per step, not once per layer."""
        if self._tables is None or self._tables[0] is not batch:
            self.use(batch, Tables.of(batch, self.block_size))
        assert self._tables is not None
        return self._tables[1]
