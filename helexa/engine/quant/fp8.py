"""Weights in eight-bit floating point (e4m3), a scale per row, inputs reduced likewise while they are multiplied.

For NVIDIA GPUs that multiply such numbers (compute capability 8.9 and later). Source: Micikevicius et al., "FP8 Formats
for Deep Learning", 2022: e4m3 is for weights and activations, its largest number is 448.
"""

import torch
from torch import Tensor

from helexa.engine.quant.int8 import with_rest

TYPE = torch.float8_e4m3fn
_LARGEST = 448.0
_TINY = 1e-12
"""Instead of a scale of zero, for rows of zeros."""


class Fp8:
    """A linear layer of ``weight [outputs, inputs]`` float8 and ``scales [outputs, 1]`` float32.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._scales = _reduce(weight)
        self._bias = bias
        self.nbytes = self._weight.nbytes + self._scales.nbytes + (0 if bias is None else bias.nbytes)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` bfloat16 to ``[rows, outputs]``, with ``residual`` added."""
        if len(x) == 0:
            return x.new_empty(0, len(self._weight))
        codes, scales = _reduce(x)
        out = torch._scaled_mm(codes, self._weight.t(), scales, self._scales.t(), out_dtype=x.dtype)  # noqa: SLF001
        return with_rest(out, self._bias, residual)


def _reduce(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as float8, and what each was divided by."""
    scales = (rows.abs().amax(dim=1, keepdim=True).float() / _LARGEST).clamp_min_(_TINY)
    return (rows.float() / scales).to(TYPE), scales
