"""Products of bytes: as exact as bfloat16 whatever the inputs are, used where the processor does not cut sums off."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helexa.engine.quant.int8 import Int8, reduce
from helexa.engine.quant.packing import make_linear
from helexa.engine.quant.vnni import Int8Vnni, _digits, can_multiply

BF16 = torch.bfloat16
pytestmark = pytest.mark.skipif(
    not can_multiply(torch.empty(0, dtype=BF16)), reason="this processor does not multiply bytes (AVX-512 VNNI)"
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(BF16)


def held(weight: Tensor) -> Tensor:
    """The weights that the codes stand for."""
    codes, scales = reduce(weight)
    return codes.double() * scales.double()[:, None]


@given(st.integers(0, 2**32), st.integers(1, 9), st.floats(-30, 30), st.floats(0, 4))
def test_inputs_lose_no_more_than_bfloat16_does(seed: int, rows: int, size: float, outlier: float) -> None:
    """Of any size, and with one that is up to ten thousand times the others."""
    x, weight = random(rows, 96, seed=seed) * 2.0**size, random(48, 96, seed=seed + 1)
    x[:, seed % 96] *= 10**outlier
    expected = x.double() @ held(weight).T
    off = (Int8Vnni(weight)(x).double() - expected).norm(dim=1) / expected.norm(dim=1)
    assert (off < 2**-8).all()


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_two_digits_are_the_number_to_16_bits(numbers: list[float]) -> None:
    x = torch.tensor([[*numbers, 1.0, -1.0, 0.0]])
    low, high = _digits(x).double() - 128
    assert ((256 * high + low) / 32512 - x[0].double()).abs().max() <= 0.502 / 32512


def test_a_row_s_product_does_not_depend_on_the_others() -> None:
    layer, x = Int8Vnni(random(576, 1024)), random(300, 1024, seed=1)
    whole = layer(x)
    assert torch.equal(torch.cat([layer(x[:1]), layer(x[1:7]), layer(x[7:200]), layer(x[200:])]), whole)


def test_rows_of_zeros_are_zeros_and_what_is_no_number_stays_none() -> None:
    x = random(4, 64)
    x[1], x[2, 5], x[3, 7] = 0, float("nan"), float("inf")
    found = Int8Vnni(random(32, 64, seed=1))(x)
    assert found[0].isfinite().all()
    assert (found[1] == 0).all()
    assert not found[2:].isfinite().any()


def test_the_largest_sums_are_exact() -> None:
    """Pairs of products beyond 16 bits, and sums near the end of 32."""
    weight, x = torch.ones(64, 8192, dtype=BF16), torch.ones(3, 8192, dtype=BF16)
    x[1] = -1
    x[2, ::2] = -1
    assert torch.equal(Int8Vnni(weight)(x)[:, 0], torch.tensor([8192, -8192, 0], dtype=BF16))


def test_weights_in_float32_are_left_to_the_other_kernel() -> None:
    assert isinstance(make_linear(random(64, 64).float(), None, "int8"), Int8)
    assert isinstance(make_linear(random(64, 64), None, "int8"), Int8Vnni)


_OLDER = """
import torch
from helexa.engine.quant import check as quant_check
from helexa.engine.quant import vnni as quant_vnni
quant_check.check("int8", torch.device("cpu"))
print(quant_vnni.can_multiply(torch.empty(0, dtype=torch.bfloat16)))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_processors_whose_instructions_cut_sums_off_are_found_out(instructions: str) -> None:
    command, limit = [sys.executable, "-c", _OLDER], {"ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run(command, env=limit, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
