"""Tensors of GGUF files as numbers. Source of the layouts: ggml's ``ggml-common.h`` and its ``dequantize_row_*``.

A block is a few numbers in half precision and codes of some bits. Every function takes ``[blocks, bytes]`` uint8 and
returns ``[blocks, weights]`` float32, in the order of the row.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from helexa.engine.quant.int8 import slices
from helexa.gguf import TensorInfo

_BLOCKS: Final = 1 << 16
"""Blocks at a time, so that no tensor is ever held in float32 as a whole."""


def open_file(path: Path) -> Tensor:
    """A file's bytes, mapped: what is not looked at is not read."""
    return torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)


def read(data: Tensor, info: TensorInfo, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """A tensor's numbers, as ``dtype``.

    Args:
        data: the file, as ``open_file`` gives it.
        info: the tensor; it has been held against the file's length.
        dtype: of what is returned.
    """
    blocks = data[info.start : info.end].view(-1, info.kind.size)
    out = torch.empty(len(blocks), info.kind.weights, dtype=dtype)
    for rows in slices(len(blocks), _BLOCKS):
        out[rows] = _WIDEN[info.kind.name](blocks[rows])
    return out.view(info.shape)


def _as(blocks: Tensor, dtype: torch.dtype) -> Tensor:
    return blocks.contiguous().view(dtype).float()


def _half(blocks: Tensor, at: int) -> Tensor:
    """The half-precision number at a byte of each block, ``[blocks, 1]``."""
    return _as(blocks[:, at : at + 2], torch.float16)


def _nibbles(packed: Tensor) -> Tensor:
    """``[…, n]`` bytes to ``[…, 2 n]`` codes: the lower half of each first."""
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def _bits(packed: Tensor, count: int) -> Tensor:
    """``[blocks, n]`` bytes to ``[blocks, count, n]``: the lowest ``count`` bits of each, one after the other."""
    return (packed[:, None] >> torch.arange(count, dtype=torch.uint8)[:, None]) & 1


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:]).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:]).float() * _half(blocks, 0) + _half(blocks, 2)


def _q5(low: Tensor, high: Tensor) -> Tensor:
    """Codes of 32 weights: four bits of each, and 32 bits with the fifth of each."""
    fifth = _bits(high, 8).transpose(1, 2).flatten(1)
    return (_nibbles(low) | fifth << 4).float()


def _q5_0(blocks: Tensor) -> Tensor:
    return (_q5(blocks[:, 6:], blocks[:, 2:6]) - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    return _q5(blocks[:, 8:], blocks[:, 4:8]) * _half(blocks, 0) + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks, 0)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of six bits each from ``[blocks, 12]``.

    Of the last four, the upper two bits are above the six of the first four.
    """
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, (low & 15) | (first >> 6) << 4], dim=1)
    minima = torch.cat([second & 63, (low >> 4) | (second >> 6) << 4], dim=1)
    return scales.float(), minima.float()


def _with_minima(blocks: Tensor, codes: Tensor) -> Tensor:
    """Of ``codes [blocks, 8, 32]`` and the scales that Q4_K and Q5_K have alike."""
    scales, minima = _six_bits(blocks[:, 4:16])
    scales, minima = scales * _half(blocks, 0), minima * _half(blocks, 2)
    return (codes.float() * scales[..., None] - minima[..., None]).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    return _with_minima(blocks, _nibbles(blocks[:, 16:].view(-1, 4, 32)).view(-1, 8, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, 48:].view(-1, 4, 32)).view(-1, 8, 32)
    return _with_minima(blocks, low | _bits(blocks[:, 16:48], 8) << 4)


def _q6_k(blocks: Tensor) -> Tensor:
    """Two halves of 128: four bits of each in 64 bytes, the other two of four weights in one byte."""
    low = _nibbles(blocks[:, :128].view(-1, 2, 64)).view(-1, 2, 4, 32)
    pairs = torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]
    high = (blocks[:, 128:192].view(-1, 2, 1, 32) >> pairs) & 3
    scales = blocks[:, 192:208].view(torch.int8).float() * _half(blocks, 208)
    return (((low | high << 4).float() - 32).view(-1, 16, 16) * scales[..., None]).flatten(1)


_WIDEN: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "F32": lambda blocks: _as(blocks, torch.float32),
    "F16": lambda blocks: _as(blocks, torch.float16),
    "BF16": lambda blocks: _as(blocks, torch.bfloat16),
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
