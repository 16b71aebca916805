"""Weights in four bits, with a scale and a zero point for every ``GROUP`` of a row.

A weight is ``(code - 8) * scale + zero``, as torch's kernels have it. They want the codes in an order of their own,
which on CPUs depends on the processor. Where it is the one known here, products of many rows are computed from weights
widened piece by piece; the kernel widens them once for every four rows.

Scales come from the span of each group. Fitting them to its codes by least squares was tried: at a multiple of the time
it changes the bundled model's divergence by a tenth, and its perplexity not for the better.
"""

from functools import cache

import torch
from torch import Tensor

from helexa.engine.quant.formats import GROUP
from helexa.engine.quant.int8 import slices, with_rest

FEW = 72
"""Rows of input from which it is faster to widen the weights first."""
_CODES = 15
_MIDDLE = 8
_ROWS = 1024
"""Rows of weights reduced and packed at a time: a multiple of every kernel's block."""
_WIDENED = 512
"""Rows of weights widened at a time, so that they fit into a processor's cache."""


class Int4:
    """A linear layer of four-bit weights.

    Args:
        codes: ``[outputs, inputs]`` uint8 below 16.
        scales: ``[inputs / GROUP, outputs, 2]``: each group's scale and zero point, in the dtype of its input.
        bias: ``[outputs]``.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None = None) -> None:
        self._packed, self._scales, self._bias = _pack(codes), scales.contiguous(), bias
        self._outputs, self._block = len(codes), _block() if codes.device.type == "cpu" else 0
        self.nbytes = self._packed.nbytes + scales.nbytes + (0 if bias is None else bias.nbytes)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Int4":
        """Reduce ``weight [outputs, inputs]``."""
        return cls(*reduce(weight), bias)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, outputs]``, with ``residual`` added."""
        if len(x) >= FEW and self._block and self._outputs % self._block == 0:
            out = self._widened(x)
        else:
            out = _product(x.contiguous(), self._packed, self._scales)
        return with_rest(out, self._bias, residual)

    def _widened(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), self._outputs)
        for rows in slices(self._outputs, _WIDENED):
            out[:, rows] = x @ widen(self._packed[rows], self._scales[:, rows], self._block)
        return out


def reduce(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of ``weight [outputs, inputs]``, as ``Int4`` takes them: by the span of each group."""
    parts = [_reduce(weight[rows]) for rows in slices(len(weight), _ROWS)]
    return torch.cat([codes for codes, _ in parts]), torch.cat([scales for _, scales in parts], dim=1)


def _reduce(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.float().view(len(weight), -1, GROUP)
    # both at once, by aminmax, takes five times as long
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    scale = ((high - low) / _CODES).to(weight.dtype)
    scale[scale == 0] = 1
    zero = (low + _MIDDLE * scale.float()).to(weight.dtype)
    codes = groups.sub_(zero.float()).div_(scale.float()).add_(_MIDDLE).round_().clamp_(0, _CODES)
    return codes.to(torch.uint8).flatten(1), torch.cat([scale, zero], dim=-1).transpose(0, 1).contiguous()


def _pack(codes: Tensor) -> Tensor:
    """Codes in the kernel's order; on CPUs ``[outputs, inputs / 2]`` uint8."""
    if codes.device.type == "cuda":
        tiles = next(tiles for tiles in (8, 4, 2) if codes.shape[1] % (tiles * 16) == 0)
        pairs = codes[:, ::2] << 4 | codes[:, 1::2]
        packed: Tensor = torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)  # noqa: SLF001 - no public one
        return packed
    pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu  # noqa: SLF001 - torch has no public one
    return torch.cat([pack(codes[rows].to(torch.int32), 1) for rows in slices(len(codes), _ROWS)])


def _product(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """The kernel's ``[rows, outputs]``."""
    aten = torch.ops.aten
    name = aten._weight_int4pack_mm if x.device.type == "cuda" else aten._weight_int4pack_mm_for_cpu  # noqa: SLF001
    out: Tensor = name(x, packed, GROUP, scales) if len(x) else x.new_empty(0, scales.shape[1])
    return out


def widen(packed: Tensor, scales: Tensor, block: int) -> Tensor:
    """Weights as ``[inputs, outputs]``, of packed ``[outputs, inputs / 2]`` and their scales.

    Outputs lie side by side, for one product of all: one per block took up to three times as long.
    """
    outputs, inputs = packed.shape[0], packed.shape[1] * 2
    codes = packed.view(-1, inputs, block // 2).transpose(0, 1).contiguous()
    weight = scales.new_empty(*codes.shape[:2], 2, block // 2)
    weight[:, :, 0] = (codes & _CODES).view(torch.int8).sub_(_MIDDLE)
    weight[:, :, 1] = (codes >> 4).view(torch.int8).sub_(_MIDDLE)
    # scales side by side as well: the operation below takes many at once only if these are
    scale, zero = scales.permute(2, 0, 1)[:, :, None].contiguous()
    groups = weight.view(-1, GROUP, outputs)
    return torch.addcmul(zero, groups, scale, out=groups).flatten(0, 1)


@cache
def _block() -> int:
    """Rows that this processor's kernel has in a block whose order ``widen`` knows; 0 if it is another order.

    For every column of a block there are so many half bytes, those of the first half of the rows below those of the
    second. Found out by a look at what the kernel makes of known codes.
    """
    # random ones: of a pattern, two orders may look alike
    codes = torch.randint(_CODES + 1, (64, GROUP), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    packed, scales = _pack(codes), torch.tensor([1.0, 0.0]).expand(1, 64, 2)
    for block in (64, 32):
        if torch.equal(widen(packed, scales, block), codes.T.float() - _MIDDLE):
            return block
    return 0
