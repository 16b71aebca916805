"""Weights in eight bits for processors that multiply bytes and add up the products in one instruction (VNNI).

torch's own kernel for such weights, ``_weight_int8pack_mm``, widens them to float32 once for every four rows of input:
from eight rows on it takes longer than bfloat16. The instruction multiplies four times as many numbers as that kernel
does, but bytes alone. Inputs in one byte each were tried: a row with an outlier a hundred times the others is off by
seven per cent. So each input is two digits of a byte, 16 bits in all, the product of a row is two products of bytes,
and what that rounds is less than what bfloat16 has rounded already.

All sums are of integers. So a row's product does not depend on how many rows are computed with it.
"""

from functools import cache

import torch
from torch import Tensor

from helexa.engine.quant.int8 import reduce, slices, with_rest

_ROWS = 128
"""Rows of input at a time, so that what is made of them stays in a processor's cache."""
_LARGEST = 32512.0
"""Of two signed digits to the base 256, each in -128..127, below what could overflow when it is rounded."""
_MIDDLE = 128
"""What is added to a digit, as the instruction takes inputs without a sign."""
_NONE = torch.zeros(1, dtype=torch.int64)
"""What is added to a weight."""
_OFFSET = torch.tensor(float((3 << 22) + _MIDDLE * 257))
"""Added to a number in float32, it leaves both digits in the lowest 16 bits: above 2**23 there are no fractions."""
_TINY = 1e-30
"""Instead of a largest number of zero, for rows of zeros."""


class Int8Vnni:
    """A linear layer of ``weight [outputs, inputs]`` bfloat16, held as int8 in oneDNN's order, a scale per row.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        codes, scales = reduce(weight)
        self._outputs, self._bias = len(codes), bias
        self._packed = _pack(codes)
        self._scales = scales.float() / _LARGEST
        sums = 4 * self._outputs  # of each row, which oneDNN keeps to take the middle off again
        self.nbytes = codes.nbytes + self._scales.nbytes + sums + (0 if bias is None else bias.nbytes)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` bfloat16 to ``[rows, outputs]``, with ``residual`` added."""
        out = x.new_empty(len(x), self._outputs)
        for rows in slices(len(x), _ROWS):
            out[rows] = self._product(x[rows])
        return with_rest(out, self._bias, residual)

    def _product(self, x: Tensor) -> Tensor:
        """``[rows, outputs]`` float32."""
        largest = x.abs().amax(dim=1, keepdim=True).float().clamp_min_(_TINY)
        low, high = _multiply(_digits(x / largest), self._packed, self._scales).chunk(2)
        return low.add_(high, alpha=256).mul_(largest)


def can_multiply(weight: Tensor) -> bool:
    """Whether this device multiplies bytes as is done here, for inputs of this dtype."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _is_exact()


@cache
def _is_exact() -> bool:
    """Tried with the largest numbers: older instructions add pairs of products up in 16 bits, and cut them off."""
    mkldnn, vnni = torch.backends.mkldnn, getattr(torch.cpu, "_is_vnni_supported", bool)
    if not (vnni() and mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):  # type: ignore[no-untyped-call]
        return False
    codes = torch.full((64, 64), 127, dtype=torch.int8)
    inputs = torch.full((2, 64), 255, dtype=torch.uint8)
    found = _multiply(inputs, _pack(codes), torch.ones(64))
    return bool((found == 64 * 127 * (255 - _MIDDLE)).all())


def _digits(x: Tensor) -> Tensor:
    """``[rows, inputs]`` float32 in -1..1 as ``[2 rows, inputs]`` uint8: the lower digits, then the upper ones."""
    numbers = torch.add(_OFFSET, x, alpha=_LARGEST).view(torch.int32)
    digits = torch.empty(2 * len(x), x.shape[1], dtype=torch.uint8)
    digits[: len(x)] = numbers  # the lowest byte is what is left of them
    digits[len(x) :] = numbers.bitwise_right_shift_(8)
    return digits


def _pack(codes: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(codes, None)
    return packed


def _multiply(digits: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """``[rows, outputs]`` float32; the operators that torch's own compiler calls for weights in eight bits."""
    multiply = torch.ops.onednn.qlinear_pointwise
    out: Tensor = multiply(digits, 1.0, _MIDDLE, packed, scales, _NONE, None, 1.0, 0, torch.float32, "none", [], "")
    return out
