"""Layers of reduced weights: what they compute, what they hold, which shapes and devices are refused."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helexa.engine.quant import check as quant_check
from helexa.engine.quant import int4 as quant_int4
from helexa.engine.quant import int8 as quant_int8
from helexa.engine.quant import packing
from helexa.engine.quant.formats import (
    GROUP,
    Quant,
    QuantError,
    held_as,
    linear_bytes,
    of_head,
    reduced_bytes,
    rough_bytes,
)
from helexa.engine.quant.fp8 import Fp8
from helexa.engine.quant.int4 import Int4
from helexa.engine.quant.int8 import Int8
from helexa.engine.quant.packing import Linear, make_linear, module_bytes, pack_in_place
from helexa.engine.quant.vnni import Int8Vnni, can_multiply

BF16 = torch.bfloat16
CPU = torch.device("cpu")
REDUCED: tuple[Quant, ...] = ("int8", "int4")
BYTES = can_multiply(torch.empty(0, dtype=BF16))
"""Whether this processor multiplies bytes."""
MAKERS: dict[str, Callable[[Tensor, Tensor | None], Linear]] = {
    "int8": Int8.of,
    **({"vnni": Int8Vnni} if BYTES else {}),
    "int4": Int4.of,
    "fp8": Fp8,
}
OFF = {"int8": 0.012, "vnni": 0.012, "int4": 0.1, "fp8": 0.05}
"""What random weights are off by, of the length of the product."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(BF16)


def off(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("shape", [(1, 64, 32), (3, 96, 48), (31, 64, 128), (33, 1024, 64), (130, 128, 576)])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_reduced_layer_is_nearly_the_product(
    kind: str, shape: tuple[int, int, int], *, biased: bool, residual: bool
) -> None:
    rows, inputs, outputs = shape
    x, weight = random(rows, inputs), random(outputs, inputs, seed=1)
    bias, more = random(outputs, seed=2), random(rows, outputs, seed=3)
    expected = x.double() @ weight.double().T + bias.double() * biased + more.double() * residual
    kept = more.clone()
    found = MAKERS[kind](weight, bias if biased else None)(x, more if residual else None)
    assert (found.dtype, found.shape) == (BF16, (rows, outputs))
    assert off(found, expected) < OFF[kind]
    assert torch.equal(more, kept), "the residual is the caller's"


@pytest.mark.parametrize("kind", MAKERS)
def test_no_rows_give_no_rows(kind: str) -> None:
    assert MAKERS[kind](random(64, 32), random(64))(random(0, 32)).shape == (0, 64)


@pytest.mark.parametrize("kind", MAKERS)
def test_rows_that_are_not_side_by_side_are_taken(kind: str) -> None:
    layer, x = MAKERS[kind](random(64, 32), None), random(5, 64, seed=1)[:, ::2]
    assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("few", [0, 10**9], ids=["widened", "kernel"])
@pytest.mark.parametrize("kind", REDUCED)
def test_few_and_many_rows_are_the_same_product(kind: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways are held against the weights that the codes stand for, so that only rounding is between them."""
    monkeypatch.setattr(quant_int8, "FEW", few)
    monkeypatch.setattr(quant_int4, "FEW", few)
    weight, x = random(640, 64), random(7, 64, seed=1)
    layer = MAKERS[kind](weight, None)
    held = layer(torch.eye(64, dtype=BF16)).T
    assert off(layer(x), x.double() @ held.double().T) < 0.006


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind in ("int8", "vnni")])
def test_weights_of_eight_bits_come_back_within_half_a_step(kind: str) -> None:
    weight = random(48, 64)
    held = MAKERS[kind](weight, None)(torch.eye(64, dtype=BF16)).T.float()
    step = weight.abs().amax(dim=1, keepdim=True).float() / 127
    assert ((held - weight.float()).abs() <= step * 0.5 + weight.float().abs() * 2**-7).all()


@given(st.integers(0, 2**32), st.floats(-50, 50), st.floats(1e-3, 10))
def test_weights_of_four_bits_come_back_within_half_a_step(seed: int, middle: float, width: float) -> None:
    """Also of groups far from zero, for which the zero points are."""
    weight = (random(16, 2 * GROUP, seed=seed).float() * width + middle).to(BF16)
    codes, scales = quant_int4.reduce(weight)
    scale, zero = (each.float().T.repeat_interleave(GROUP, dim=1) for each in scales.unbind(-1))
    held = (codes.float() - 8) * scale + zero
    assert codes.max() <= 15
    assert ((held - weight.float()).abs() <= scale * 0.5 + weight.float().abs() * 2**-6 + scale * 2**-4).all()


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("kind", MAKERS)
def test_weights_that_are_all_alike_stay_so(kind: str, value: float) -> None:
    weight = torch.full((64, 64), value, dtype=BF16)
    found = MAKERS[kind](weight, None)(torch.eye(64, dtype=BF16))
    torch.testing.assert_close(found, torch.full_like(found, value), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind", [*REDUCED, "fp8"])
@pytest.mark.parametrize("shape", [(64, 64), (576, 1024)])
def test_a_layer_holds_what_is_told_before_it_is_made(kind: Quant, shape: tuple[int, int]) -> None:
    weight = random(*shape)
    assert make_linear(weight, None, kind).nbytes == linear_bytes(kind, *shape)


@pytest.mark.parametrize("shape", [(64, 64), (576, 1024)])
def test_a_layer_on_processors_that_cannot_multiply_bytes_holds_a_little_less(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "can_multiply", lambda _: False)
    layer = make_linear(random(*shape), None, "int8")
    assert isinstance(layer, Int8)
    assert 0.9 * linear_bytes("int8", *shape) < layer.nbytes < linear_bytes("int8", *shape)


@pytest.mark.parametrize(
    ("quant", "outputs", "inputs", "held"),
    [
        (None, 64, 64, "bf16"),
        ("bf16", 64, 64, "bf16"),
        ("int8", 3, 32, "int8"),
        ("int8", 64, 40, "bf16"),
        ("int4", 16, 32, "int4"),
        ("int4", 24, 32, "int8"),
        ("int4", 16, 48, "bf16"),
        ("fp8", 16, 16, "fp8"),
        ("fp8", 16, 24, "bf16"),
        ("fp8", 24, 16, "bf16"),
    ],
)
def test_a_shape_that_no_kernel_takes_stays_wider(quant: Quant | None, outputs: int, inputs: int, held: Quant) -> None:
    """A kernel that is given one reads beyond its weights, and may end the process."""
    assert held_as(quant, outputs, inputs) == held


def test_the_output_layer_keeps_eight_bits() -> None:
    assert [of_head(quant) for quant in (None, "bf16", "int8", "int4", "fp8")] == [None, "bf16", "int8", "int8", "fp8"]


@pytest.mark.parametrize("kind", REDUCED)
def test_a_layer_keeps_nothing_of_the_weight_it_was_made_of(kind: Quant) -> None:
    weight, x = random(64, 64), random(3, 64, seed=1)
    layer = make_linear(weight, None, kind)
    before = layer(x)
    weight.fill_(float("nan"))
    assert torch.equal(layer(x), before)


class Tiny(nn.Module):
    """An embedding tied to the output layer, and a layer of another shape."""

    def __init__(self, rest: int = 0) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(64, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight
        self.experts = nn.Parameter(torch.zeros(rest, 32))

    def get_output_embeddings(self) -> nn.Module:
        """As models of transformers have it."""
        return self.head


def test_a_module_is_reduced_in_place_and_its_bytes_are_counted() -> None:
    module = Tiny().to(BF16).requires_grad_(requires_grad=False)
    pack_in_place(module, "int4")
    embedding = 64 * 32 * 2
    assert module_bytes(module) == embedding + linear_bytes("int4", 32, 32) + 32 * 2 + linear_bytes("int8", 64, 32)
    assert module.embed.weight.dtype == BF16


def test_a_model_whose_weights_are_elsewhere_is_refused() -> None:
    module = Tiny(rest=1000).to(BF16).requires_grad_(requires_grad=False)
    with pytest.raises(QuantError, match="int8 is for linear layers, and most of this model's weights are elsewhere"):
        pack_in_place(module, "int8")


@pytest.mark.parametrize("quant", [None, "bf16", *REDUCED])
def test_a_processor_takes_what_torch_has_kernels_for(quant: Quant | None) -> None:
    quant_check.check(quant, CPU)


def test_a_processor_takes_no_eight_bit_floats() -> None:
    with pytest.raises(QuantError, match=r"fp8 needs an NVIDIA GPU of compute capability 8\.9, and 'cpu' is none"):
        quant_check.check("fp8", CPU)


@pytest.mark.parametrize(
    ("quant", "found", "problem"),
    [
        ("int4", (7, 5), "int4 needs a GPU of compute capability 8.0, and cuda:1 has 7.5"),
        ("fp8", (8, 6), "fp8 needs a GPU of compute capability 8.9, and cuda:1 has 8.6"),
    ],
)
def test_a_gpu_without_the_kernel_is_refused(
    quant: Quant, found: tuple[int, int], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: found)
    with pytest.raises(QuantError, match=problem):
        quant_check.check(quant, torch.device("cuda:1"))


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (lambda x: x.new_zeros(len(x), 256), "multiplies int8 weights on cpu wrongly"),
        (lambda x: x.new_full((len(x), 256), float("nan")), "multiplies int8 weights on cpu wrongly"),
        (lambda x: x @ x, "cannot multiply int8 weights on cpu: mat1 and mat2"),
    ],
)
def test_a_kernel_that_is_broken_is_refused(
    layer: Callable[[Tensor], Tensor], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quant_check, "make_linear", lambda *_: layer)
    with pytest.raises(QuantError, match=problem):
        quant_check.check("int8", CPU)


_SMALLER = """
import torch
from helexa.engine.quant import check as quant_check
from helexa.engine.quant import int4 as quant_int4
print(torch.backends.cpu.get_cpu_capability(), quant_int4._block())
for quant in ("int8", "int4"):
    quant_check.check(quant, torch.device("cpu"))
"""


@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_processors_with_fewer_instructions_compute_the_same(capability: str) -> None:
    """Their kernels have other orders of the codes."""
    command = [sys.executable, "-c", _SMALLER]
    done = subprocess.run(command, env={"ATEN_CPU_CAPABILITY": capability}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0].lower() == capability or sys.platform != "linux"


def shapes_of(layers: int, width: int, inner: int, vocabulary: int, *, tied: bool) -> dict[str, list[int]]:
    """Of a checkpoint whose heads are as wide as its layers."""
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [vocabulary, width], "model.norm.weight": [width]}
    for layer in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = [width, width]
        shapes |= {f"model.layers.{layer}.mlp.{name}_proj.weight": [inner, width] for name in ("gate", "up", "down")}
    return shapes if tied else shapes | {"lm_head.weight": [vocabulary, width]}


def test_a_checkpoint_s_size_is_that_of_its_parts() -> None:
    plain = 100 * 32 * 2 + 32 * 2
    linear = 2 * (4 * linear_bytes("int4", 32, 32) + 3 * linear_bytes("int4", 64, 32))
    for tied in (False, True):
        found = reduced_bytes("int4", shapes_of(2, 32, 64, 100, tied=tied))
        assert found == plain + linear + linear_bytes("int8", 100, 32)
    assert reduced_bytes("bf16", {"model.embed_tokens.weight": [100, 32]}) == 100 * 32 * 2
    assert reduced_bytes("int8", {"model.layers.0.mlp.experts.gate_up_proj": [4, 32, 64]}) == 4 * 32 * 64 * 2


@pytest.mark.parametrize("quant", [None, "bf16", "int8", "int4"])
def test_a_large_model_s_size_is_roughly_told_by_its_files_alone(quant: Quant | None) -> None:
    shapes = shapes_of(36, 4096, 12_288, 151_936, tied=False)
    published = reduced_bytes("bf16", shapes)
    assert rough_bytes(quant, published) == pytest.approx(reduced_bytes(quant or "bf16", shapes), rel=0.1)
