"""Weights in eight bits, one scale per row: half of bfloat16's memory, and of the time of a step of few tokens.

By torch's own kernel, for GPUs and for processors that do not multiply bytes; for those that do see ``quant_vnni``.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

FEW = 32
"""Rows of input from which it is faster to widen the weights first: the kernel widens them once for every four."""
_SLICE = 512
"""Rows of weights widened at a time: they fit into a processor's cache, and never a second copy of a layer is made."""
_LARGEST = 127


class Int8:
    """A linear layer with ``weight [outputs, inputs]`` int8 and ``scales [outputs]`` in the dtype of its input.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._scales, self._bias = weight.contiguous(), scales, bias
        self.nbytes = weight.nbytes + scales.nbytes + (0 if bias is None else bias.nbytes)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "Int8":
        """Reduce ``weight [outputs, inputs]``, by the largest of each row."""
        return cls(*reduce(weight), bias)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, outputs]``, with ``residual`` added."""
        if len(x) < FEW:
            out: Tensor = torch.ops.aten._weight_int8pack_mm(x.contiguous(), self._weight, self._scales)  # noqa: SLF001
        else:
            out = self._widened(x)
        return with_rest(out, self._bias, residual)

    def _widened(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), len(self._weight))
        for rows in slices(len(self._weight), _SLICE):
            torch.mul(linear(x, self._weight[rows].to(x.dtype)), self._scales[rows], out=out[:, rows])
        return out


def reduce(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes ``[outputs, inputs]`` int8 and scales ``[outputs]`` of ``weight``, by the largest of each row."""
    scales = (weight.abs().amax(dim=1).float() / _LARGEST).to(weight.dtype)
    scales[scales == 0] = 1
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for rows in slices(len(weight), _SLICE):
        codes[rows] = (weight[rows].float() / scales[rows, None].float()).round_().clamp_(-_LARGEST, _LARGEST)
    return codes, scales


def slices(length: int, step: int) -> list[slice]:
    """``range(length)`` in pieces of at most ``step``."""
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def with_rest(out: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    """A product with what is added to it, in place."""
    if bias is not None:
        out.add_(bias)
    return out if residual is None else out.add_(residual)
