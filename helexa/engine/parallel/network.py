"""A model over several ranks: each holds a share of every layer, and two sums per layer bring them together.

As in Megatron-LM (Shoeybi et al., 2019, section 3): queries, keys, values, gate and up are split by rows, so that each
rank has heads and neurons of its own and the KV cache of its heads alone; the products after them are split by columns,
so that each rank has a part of every output, and the sum of all parts is the output. The output layer is split by
tokens of the vocabulary. Embedding and norms are whole on each rank.

This is helexa's own network and not transformers' tensor parallelism: that one splits modules which this network takes
apart, joins (queries, keys and values in one product) and lays out anew, and hangs DTensor hooks on each of them, which
cost more time per layer than a decode's products take.
"""

from collections.abc import Callable
from copy import copy
from types import SimpleNamespace
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.nn.functional import pad

from helexa.engine.networks.native import NativeNetwork, is_native
from helexa.engine.parallel.group import Collectives
from helexa.engine.quant.formats import Quant
from helexa.engine.quant.packing import Linear


class ShareError(ValueError):
    """A model that cannot be split over so many ranks; the message is for the operator."""


@frozen(eq=False)
class Reduced:
    """A product whose inputs are split over the ranks."""

    own: Linear
    collectives: Collectives

    @property
    def nbytes(self) -> int:
        """Bytes of this rank's share."""
        return self.own.nbytes

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, this rank's inputs]`` to ``[rows, outputs]``, with ``residual`` added.

        The residual is added after the sum: inside one rank's product its rounding would swallow the other parts' last
        bits, which are much smaller.
        """
        out = self.collectives.reduce(self.own(x))
        return out if residual is None else out.add_(residual)


@frozen(eq=False)
class Gathered:
    """An output layer whose outputs are split over the ranks. ``width``: outputs of the whole."""

    own: Linear
    collectives: Collectives
    width: int

    @property
    def nbytes(self) -> int:
        """Bytes of this rank's share."""
        return self.own.nbytes

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x [rows, inputs]`` to ``[rows, width]`` on rank 0; what the others get is of no use to anybody."""
        del residual  # an output layer has none
        if not len(x):  # a step of prompts that go on: nobody's logits are wanted, on any rank
            return x.new_empty(0, self.width)
        return self.collectives.gather(self.own(x))[:, : self.width].contiguous()


class ParallelNetwork(NativeNetwork):
    """One rank's share of a model of the family; arguments and attributes as of ``NativeNetwork``.

    Args:
        module: the whole ``…ForCausalLM``, whose weights may be freed afterwards.
        collectives: of the group.
        quant: what the weights of its linear layers are reduced to.
        device: where its share is to be.
        fill: called with each part before it is looked at, to read its weights; what other ranks have of it is let go
            of at once.

    Raises:
        ShareError: it cannot be split over so many ranks.
    """

    def __init__(
        self,
        module: Any,
        collectives: Collectives,
        quant: Quant | None = None,
        device: torch.device | None = None,
        fill: Callable[[torch.nn.Module], None] = lambda _: None,
    ) -> None:
        refuse_odd(module, collectives.ranks)
        vocabulary = int(module.config.vocab_size)
        super().__init__(_share(module, collectives.ranks), quant, device, _cutting(module, collectives, fill))
        self._layers = [
            evolve(layer, output=Reduced(layer.output, collectives), down=Reduced(layer.down, collectives))
            for layer in self._layers
        ]
        self._head = Gathered(self._head, collectives, vocabulary)
        self.vocabulary = vocabulary


def refuse_odd(module: Any, ranks: int) -> None:
    """Refuse what cannot be split evenly.

    Raises:
        ShareError: it is not of the family, or its heads or neurons do not come out even.
    """
    if not is_native(module):
        raise ShareError(f"a {type(module).__name__} cannot be spread over several devices")
    config = module.config
    counts = {
        "attention heads": config.num_attention_heads,
        "key and value heads": config.num_key_value_heads,
        "neurons per layer": config.intermediate_size,
    }
    for name, count in counts.items():
        if count % ranks:
            raise ShareError(f"its {count} {name} cannot be shared evenly by {ranks} devices")


def _share(module: Any, ranks: int) -> Any:
    """The module as a model with a share of the heads."""
    config = copy(module.config)
    config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    config.num_attention_heads //= ranks
    config.num_key_value_heads //= ranks
    return SimpleNamespace(config=config, model=module.model, lm_head=module.lm_head)


def _cutting(
    module: Any, collectives: Collectives, fill: Callable[[torch.nn.Module], None]
) -> Callable[[torch.nn.Module], None]:
    """``fill``, and then only this rank's share is left."""
    layers, head = {id(layer) for layer in module.model.layers}, module.lm_head

    def filled(part: torch.nn.Module) -> None:
        fill(part)
        if id(part) in layers:
            _cut_layer(part, collectives.rank, collectives.ranks)
        elif part is head:
            _cut_rows(part, collectives.rank, collectives.ranks)

    return filled


def _cut_layer(layer: Any, rank: int, ranks: int) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    for each in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
        _cut_rows(each, rank, ranks)
    for each in (attention.o_proj, mlp.down_proj):
        _cut_columns(each, rank, ranks)


def _cut_rows(layer: Any, rank: int, ranks: int) -> None:
    """Keep a share of the outputs; the last share is filled up with zeros."""
    share = -(-len(layer.weight) // ranks)
    _replace(layer, _rows(layer.weight, rank, share), None if layer.bias is None else _rows(layer.bias, rank, share))


def _cut_columns(layer: Any, rank: int, ranks: int) -> None:
    """Keep a share of the inputs. The bias is one rank's: a sum would have it once per rank."""
    share = layer.weight.shape[1] // ranks
    weight = layer.weight.detach()[:, rank * share : (rank + 1) * share].clone(memory_format=torch.contiguous_format)
    _replace(layer, weight, None if rank or layer.bias is None else layer.bias.detach())


def _rows(whole: Tensor, rank: int, share: int) -> Tensor:
    own = whole.detach()[rank * share : (rank + 1) * share].clone()  # a view would keep the whole in memory
    missing = share - len(own)
    return pad(own, (0, 0) * (own.dim() - 1) + (0, missing)) if missing else own


def _replace(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    """As new parameters: the old one may be shared, an output layer's with the embedding."""
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
