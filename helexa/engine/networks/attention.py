"""Attention over the paged KV cache with torch's general kernels: on CPUs, and wherever the paged one does not run.

Keys and values of a layer lie head by head, ``[kv_heads, slots, head_dim]``, so that the context of a sequence whose
blocks are neighbours is one strided view and is read in place. Otherwise its runs are put together first: a copy, but
the same numbers, whatever blocks a sequence was given.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from helexa.engine.scheduling.batch import Batch, Span
from helexa.engine.shapes import LayerShape

_TILE = 128
"""Rows of a prefill attended at once on a CPU: fewer hide less behind the mask, more make larger products."""


class Heads(NamedTuple):
    """What a layer's projections make of ``T`` tokens.

    Attributes:
        query: ``[T, heads, dim]``.
        key: ``[T, kv_heads, dim]``.
        value: ``[T, kv_heads, value_dim]``.
    """

    query: Tensor
    key: Tensor
    value: Tensor


@frozen
class Variant:
    """What a model's attention adds to the textbook's.

    Attributes:
        scale: of the scores.
        window: positions that a token sees, itself among them; ``None`` sees all before it.
        softcap: scores are squashed into ``±softcap`` by a tanh; ``None`` leaves them.
        sinks: ``[heads]``, a score per head that takes part in the softmax and has no value; ``None`` without.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the fused kernels know it."""
        return self.softcap is None and self.sinks is None


class Attend(Protocol):
    """Where a network's layers send their queries, keys and values."""

    def __call__(self, layer: int, heads: Heads, batch: Batch, variant: Variant, /) -> Tensor:
        """``[T, heads, value_dim]``; see ``HeadMajorCache.attend``."""


class HeadMajorCache:
    """Keys and values of all layers. On a CPU the system commits the memory as it is first written.

    Args:
        layers: shape of each layer.
        slots: token positions.
        dtype: of the elements.
        device: where they live.
    """

    def __init__(self, layers: Sequence[LayerShape], slots: int, dtype: torch.dtype, device: torch.device) -> None:
        self._keys = [torch.empty(each.heads, slots, each.key, dtype=dtype, device=device) for each in layers]
        self._values = [torch.empty(each.heads, slots, each.value, dtype=dtype, device=device) for each in layers]

    def attend(self, layer: int, heads: Heads, batch: Batch, variant: Variant) -> Tensor:
        """Write the step's keys and values, then let every token see its sequence up to itself.

        Args:
            layer: which.
            heads: of the batch's ``T`` tokens.
            batch: whose tokens these are.
            variant: what this model's attention adds.

        Returns:
            ``[T, heads, value_dim]``.
        """
        keys, values = self._keys[layer], self._values[layer]
        keys.index_copy_(1, batch.slots, heads.key.transpose(0, 1))
        values.index_copy_(1, batch.slots, heads.value.transpose(0, 1))
        found = []
        for span in batch.spans:
            seen = _seen(span, variant.window)
            query = heads.query[span.first : span.first + span.rows]
            found.append(_attend(query, _gather(keys, seen), _gather(values, seen), variant))
        return torch.cat(found) if len(found) > 1 else found[0]


def attend_alone(heads: Heads, variant: Variant) -> Tensor:
    """Causal attention of one whole sequence to itself, without a cache; shapes as in ``HeadMajorCache.attend``."""
    return _attend(heads.query, heads.key.transpose(0, 1), heads.value.transpose(0, 1), variant)


def _seen(span: Span, window: int | None) -> Sequence[tuple[int, int]]:
    """The slots of the positions that any of the span's tokens sees."""
    first = 0 if window is None else span.length - span.rows + 1 - window
    return span.runs if first <= 0 else _after(span.runs, first)


def _after(runs: Sequence[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """The runs without their first ``skip`` slots."""
    kept = []
    for start, end in runs:
        if skip < end - start:
            kept.append((start + skip, end))
        skip = max(0, skip - (end - start))
    return kept


def _gather(pool: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
    """``[kv_heads, length, dim]``: a view if there is one run."""
    if len(runs) == 1:
        start, end = runs[0]
        return pool.narrow(1, start, end - start)
    return torch.cat([pool[:, start:end] for start, end in runs], dim=1)


def _attend(query: Tensor, keys: Tensor, values: Tensor, variant: Variant) -> Tensor:
    """``[rows, heads, value_dim]`` for ``query [rows, heads, dim]`` at the end of ``keys [kv_heads, length, dim]``."""
    rows, heads, width = query.shape
    groups = heads // keys.shape[0]
    if not variant.is_plain:
        return _written_out(query, keys, values, variant)
    if rows == 1:
        # The query heads that share a key head become rows of one product: no key is repeated or read twice. Sequence
        # by sequence, so that none's numbers depend on the others.
        grouped = query.view(1, -1, groups, width)
        out = scaled_dot_product_attention(grouped, keys.unsqueeze(0), values.unsqueeze(0), scale=variant.scale)
        return out.reshape(1, heads, -1)
    if query.device.type == "cpu":
        return torch.cat([_tile(query, keys, values, first, variant) for first in range(0, rows, _TILE)])
    # Query heads of one key head become a batch over the same keys: expanded by a stride of 0, not copied.
    grouped = query.view(rows, -1, groups, width).permute(2, 1, 0, 3)
    keys, values = (each.expand(groups, -1, -1, -1) for each in (keys, values))
    length = keys.shape[2]
    plain = length == rows and (variant.window is None or variant.window >= rows)
    mask = None if plain else _mask(rows, length, variant.window, query)
    out = scaled_dot_product_attention(grouped, keys, values, mask, is_causal=plain, scale=variant.scale)
    return out.permute(2, 1, 0, 3).reshape(rows, heads, -1)


def _tile(query: Tensor, keys: Tensor, values: Tensor, first: int, variant: Variant) -> Tensor:
    """``[tile, heads, value_dim]`` for ``_TILE`` rows of a prefill, from ``first`` on, as two plain matrix products.

    On CPUs the fused kernel takes three times as long, since it computes what the mask hides as well.
    """
    tile = query[first : first + _TILE]
    (rows, heads, width), kv_heads = tile.shape, keys.shape[0]
    end = keys.shape[1] - len(query) + first + rows
    grouped = tile.view(rows, kv_heads, -1, width).permute(1, 2, 0, 3).reshape(kv_heads, -1, width)
    scores = torch.bmm(grouped, keys[:, :end].transpose(1, 2)).view(kv_heads, -1, rows, end)
    scores = scores.float().mul_(variant.scale)
    if variant.window is None:  # the triangle at the end is all there is to hide
        scores[..., end - rows :] += _mask(rows, rows, None, scores)
    else:
        scores += _mask(rows, end, variant.window, scores)
    weights = scores.softmax(dim=-1).to(values.dtype)
    out = torch.bmm(weights.view(kv_heads, -1, end), values[:, :end])
    return out.view(kv_heads, -1, rows, values.shape[2]).permute(2, 0, 1, 3).reshape(rows, heads, -1)


def _mask(rows: int, length: int, window: int | None, like: Tensor) -> Tensor:
    """Additive causal mask ``[rows, length]`` for tokens at the end of the context; dtype and device of ``like``."""
    seen = torch.ones(rows, length, dtype=torch.bool, device=like.device).tril(length - rows)
    if window is not None:
        seen = seen.triu(length - rows - window + 1)
    return like.new_zeros(rows, length).masked_fill_(~seen, float("-inf"))


def _written_out(query: Tensor, keys: Tensor, values: Tensor, variant: Variant) -> Tensor:
    """The textbook's formula in float32, for what the fused kernel does not know."""
    rows, heads, _ = query.shape
    groups, length = heads // keys.shape[0], keys.shape[1]
    wide_keys, wide_values = (each.float().repeat_interleave(groups, dim=0) for each in (keys, values))
    scores = query.float().transpose(0, 1) @ wide_keys.transpose(1, 2) * variant.scale  # [heads, rows, length]
    if variant.softcap is not None:
        scores = torch.tanh(scores / variant.softcap) * variant.softcap
    scores = scores + _mask(rows, length, variant.window, scores)
    if variant.sinks is not None:
        sinks = variant.sinks.float().view(heads, 1, 1).expand(heads, rows, 1)
        weights = torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]
    else:
        weights = torch.softmax(scores, dim=-1)
    return (weights @ wide_values).transpose(0, 1).to(query.dtype)
