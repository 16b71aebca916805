"""Linear layers in the form that the device multiplies fastest."""

from typing import Any, Final, Protocol

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import linear

from helexa.engine.quant.formats import Quant, QuantError, held_as, of_head
from helexa.engine.quant.fp8 import Fp8
from helexa.engine.quant.int4 import Int4
from helexa.engine.quant.int8 import Int8
from helexa.engine.quant.vnni import Int8Vnni, can_multiply

_WIDTH: Final[dict[Quant, int]] = {"bf16": 16, "int8": 8, "fp8": 8, "int4": 4}
"""Bits of a weight."""


class Linear(Protocol):
    """A matrix product with what belongs to it."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, outputs]``, with ``residual`` of that shape added."""


@frozen(eq=False)
class Dense:
    """As torch has it. ``weight [outputs, inputs]``, ``bias [outputs]``."""

    weight: Tensor
    bias: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return _nbytes(self.weight, self.bias)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, outputs]``, with ``residual`` added."""
        out = linear(x, self.weight, self.bias)
        return out if residual is None else out.add_(residual)


class Packed:
    """Reordered once into oneDNN's blocked layout: one row reads the weights at the speed of memory.

    ``torch.nn.functional.linear`` keeps them in rows and reaches about two thirds of it. These are the operators that
    torch's own compiler calls for frozen weights; the compiler itself would need a C++ compiler on the user's machine.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)  # noqa: SLF001 - see above
        self._bias = bias
        self.nbytes = _nbytes(weight, bias)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, outputs]``, with ``residual`` added before rounding."""
        product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - see above
        if residual is None:
            out: Tensor = product(x, self._weight, self._bias, "none", [], "")
        else:
            out = product.binary(x, residual, self._weight, self._bias, "add")
        return out


def can_pack(weight: Tensor) -> bool:
    """Whether this device multiplies packed weights of this dtype."""
    mkldnn = torch.ops.mkldnn
    return bool(
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(mkldnn, "_reorder_linear_weight")
        and mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - torch has no public way to ask
    )


def make_linear(weight: Tensor, bias: Tensor | None = None, quant: Quant | None = None) -> Linear:
    """The fastest form of a layer on the device that its weight is on. ``weight [outputs, inputs]`` may be freed.

    Args:
        weight: what it multiplies by.
        bias: ``[outputs]``.
        quant: what the weight is to be reduced to; a shape that no kernel takes stays in a wider format.
    """
    weight = weight.detach()
    bias = None if bias is None else bias.detach()
    match held_as(quant, *weight.shape):
        case "int8":
            return Int8Vnni(weight, bias) if can_multiply(weight) else Int8.of(weight, bias)
        case "int4":
            return Int4.of(weight, bias)
        case "fp8":
            return Fp8(weight, bias)
    return Packed(weight, bias) if can_pack(weight) else Dense(weight, bias)


class PackedModule(torch.nn.Module):
    """Stands in for a ``torch.nn.Linear`` inside a model of transformers.

    Attributes:
        nbytes: bytes that it holds.
    """

    def __init__(self, layer: torch.nn.Linear, quant: Quant | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._packed = make_linear(layer.weight, layer.bias, quant)
        self.nbytes = self._packed.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """``[…, inputs]`` to ``[…, outputs]``."""
        return self._packed(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)


def pack_in_place(module: torch.nn.Module, quant: Quant | None = None, device: torch.device | None = None) -> None:
    """Replace every linear layer that can be packed, one after the other: never two copies of all weights at once.

    A layer whose weight another one shares (a tied output layer) is packed as a copy, and the shared weight stays.

    Args:
        module: a model.
        quant: what the weights of linear layers are to be reduced to.
        device: where the model is to be, if not where it is; it gets there layer by layer.

    Raises:
        QuantError: most of its weights would stay as they are.
    """
    head = getattr(module, "get_output_embeddings", lambda: None)()
    reduced = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            # exactly Linear: a subclass may compute something else with its weight
            if type(child) is torch.nn.Linear:
                asked = asked_of(child, quant=quant)
                asked = of_head(asked) if child is head else asked
                reduced += child.weight.numel() if is_reduced(child.weight, asked) else 0
                if can_pack(child.to(device).weight) or is_reduced(child.weight, asked):
                    setattr(parent, name, PackedModule(child, asked))
    module.to(device)
    if quant not in (None, "bf16"):
        _refuse_rest(module, reduced, str(quant))


def asked_of(*layers: Any, quant: Quant | None) -> Quant | None:
    """What layers that are held as one are to be: ``quant``, or the widest of those that they themselves name.

    A model whose files have formats of their own says so in ``helexa_quant`` of each layer.
    """
    own: list[Quant] = [layer.helexa_quant for layer in layers if hasattr(layer, "helexa_quant")]
    if not own:
        return quant
    widest: Quant = max(own, key=_WIDTH.__getitem__)
    return widest


def is_reduced(weight: Tensor, quant: Quant | None) -> bool:
    """Whether a layer of this weight is held in less than it has."""
    return held_as(quant, *weight.shape) != "bf16"


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's tensors, those of its packed layers among them."""
    packed = sum(each.nbytes for each in module.modules() if isinstance(each, PackedModule))
    return packed + sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _refuse_rest(module: torch.nn.Module, reduced: int, quant: str) -> None:
    """Refuse a model most of which is elsewhere, as the experts of a mixture are: it would not get smaller."""
    looked_up = {id(each.weight) for each in module.modules() if isinstance(each, torch.nn.Embedding)}
    rest = sum(each.numel() for each in module.parameters() if id(each) not in looked_up)
    if rest > reduced:
        raise QuantError(f"{quant} is for linear layers, and most of this model's weights are elsewhere")


def _nbytes(weight: Tensor, bias: Tensor | None) -> int:
    return weight.nbytes + (0 if bias is None else bias.nbytes)
