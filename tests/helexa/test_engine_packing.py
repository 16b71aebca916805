"""Linear layers in packed form do what torch's do."""

import pytest
import torch
from torch import Tensor, nn

from helexa.engine.quant.packing import Dense, Packed, PackedModule, can_pack, make_linear, pack_in_place

BF16 = torch.bfloat16
packs = pytest.mark.skipif(not can_pack(torch.empty(1, 1, dtype=BF16)), reason="this processor multiplies no bfloat16")


def random(*shape: int, dtype: torch.dtype = BF16, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def exact(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    out = x.double() @ weight.double().T
    for more in (bias, residual):
        out = out if more is None else out + more.double()
    return out


def check(layer: Dense | Packed, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    kept = None if residual is None else residual.clone()
    found = layer(x, residual)
    assert (found.dtype, found.shape) == (x.dtype, (len(x), len(weight)))
    tolerance = 1e-5 if x.dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.double(), exact(x, weight, bias, kept), rtol=tolerance, atol=tolerance * 4)
    assert residual is None or torch.equal(residual, kept), "the residual is the caller's"


SHAPES = pytest.mark.parametrize("shape", [(0, 16, 8), (1, 16, 8), (3, 40, 33), (65, 128, 64)])
BIASED = pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
RESIDUAL = pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])


@RESIDUAL
@BIASED
@SHAPES
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_dense_layer_is_a_product_with_what_belongs_to_it(
    dtype: torch.dtype, shape: tuple[int, int, int], *, biased: bool, residual: bool
) -> None:
    rows, inputs, outputs = shape
    weight = random(outputs, inputs, dtype=dtype)
    bias = random(outputs, dtype=dtype, seed=1) if biased else None
    more = random(rows, outputs, dtype=dtype, seed=2) if residual else None
    check(Dense(weight, bias), random(rows, inputs, dtype=dtype, seed=3), weight, bias, more)


@packs
@RESIDUAL
@BIASED
@SHAPES
def test_a_packed_layer_is_the_same_product(shape: tuple[int, int, int], *, biased: bool, residual: bool) -> None:
    """Also of no rows at all, which a step without a token due has at its output layer."""
    rows, inputs, outputs = shape
    weight = random(outputs, inputs)
    bias = random(outputs, seed=1) if biased else None
    more = random(rows, outputs, seed=2) if residual else None
    check(Packed(weight, bias), random(rows, inputs, seed=3), weight, bias, more)


@packs
def test_what_a_packed_layer_gives_a_row_does_not_depend_on_its_neighbours() -> None:
    weight, x = random(64, 128), random(9, 128, seed=1)
    layer = Packed(weight, None)
    whole = layer(x)
    for row in range(9):
        torch.testing.assert_close(layer(x[row : row + 1])[0], whole[row], rtol=0.02, atol=0.02)


@packs
def test_a_packed_layer_takes_rows_that_are_not_side_by_side() -> None:
    weight, x = random(8, 16), random(5, 32, seed=1)[:, ::2]
    check(Packed(weight, None), x, weight, None, None)


@packs
def test_a_packed_layer_keeps_nothing_of_the_weight_it_was_made_of() -> None:
    weight, x = random(8, 16), random(3, 16, seed=1)
    layer = make_linear(weight)
    before = layer(x)
    weight.fill_(float("nan"))
    assert isinstance(layer, Packed)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_types_stay_dense(dtype: torch.dtype) -> None:
    assert isinstance(make_linear(random(8, 16, dtype=dtype)), Dense)


def test_a_layer_needs_no_gradients() -> None:
    weight = nn.Parameter(random(8, 16, dtype=torch.float32))
    assert not make_linear(weight, nn.Parameter(torch.zeros(8)))(random(2, 16, dtype=torch.float32)).requires_grad


class Doubled(nn.Linear):
    """Not what its parent is."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return super().forward(input) * 2


def network() -> nn.Module:
    """An embedding tied to the output layer, a layer of another kind, and a nested one with a bias."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"embed": nn.Embedding(20, 16), "odd": Doubled(16, 16), "head": nn.Linear(16, 20, bias=False)}
        module = nn.ModuleDict({**parts, "block": nn.Sequential(nn.Linear(16, 16), nn.SiLU())}).to(BF16)
    module["head"].weight = module["embed"].weight
    return module.requires_grad_(False)


def through(module: nn.Module, ids: Tensor) -> Tensor:
    parts = dict(module.named_children())
    out: Tensor = parts["head"](parts["block"](parts["odd"](parts["embed"](ids))))
    return out


@packs
def test_a_network_packed_in_place_computes_what_it_did() -> None:
    module, ids = network(), torch.arange(12).view(2, 6)
    before = through(module, ids)
    pack_in_place(module)
    after = through(module, ids)
    assert after.shape == before.shape
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05)
    kinds = {name: type(child) for name, child in module.named_modules() if name in ("embed", "odd", "head", "block.0")}
    assert kinds == {"embed": nn.Embedding, "odd": Doubled, "head": PackedModule, "block.0": PackedModule}


def test_a_network_of_another_type_is_left_alone() -> None:
    module = network().to(torch.float32)
    before = [type(each) for each in module.modules()]
    pack_in_place(module)
    assert [type(each) for each in module.modules()] == before
