"""helexa's own forward pass for the Llama family: Llama, Mistral, Qwen2, Qwen3.

The same mathematics as transformers' modules with fewer, larger operations: one product for queries, keys and values,
one for gate and up, residuals added inside the product that makes them, rotary embedding as one complex product. A
decode step of a small model on a CPU is a few hundred operations of a few microseconds each, and these are what it
waits for.
"""

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import embedding, silu

from helexa.engine.arena import Arena
from helexa.engine.networks.arranging import Turns, at_once
from helexa.engine.networks.attention import Attend, Heads, Variant
from helexa.engine.networks.generic import turns_by_length
from helexa.engine.quant.formats import Quant, of_head
from helexa.engine.quant.packing import Dense, Linear, asked_of, make_linear
from helexa.engine.scheduling.batch import Batch
from helexa.engine.shapes import LayerShape

FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@frozen(eq=False)
class _Norm:
    """RMSNorm (Zhang and Sennrich, 2019). ``weight [width]`` float32."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return _unit(x.to(torch.float32, copy=True), self.epsilon).mul_(self.weight).to(x.dtype)


@frozen(eq=False)
class _Layer:
    """One decoder layer. ``scales [heads + kv_heads, head_dim]`` float32: weights of query and key norms, if any."""

    input_norm: _Norm
    qkv: Linear
    scales: Tensor | None
    output: Linear
    mlp_norm: _Norm
    gate_up: Linear
    down: Linear
    variant: Variant

    @property
    def nbytes(self) -> int:
        """Bytes of its products, next to which its norms are nothing."""
        return self.qkv.nbytes + self.output.nbytes + self.gate_up.nbytes + self.down.nbytes


class NativeNetwork:
    """A model of the family, built from its transformers module, whose weights may be freed afterwards.

    Args:
        module: the ``…ForCausalLM``.
        quant: what the weights of its linear layers are reduced to.
        device: where it is to be, if not where the module is. It gets there layer by layer, so that a device never
            holds more of it than one layer that is not reduced yet.
        fill: called with each part before it is looked at, to read its weights if they are not there yet.

    Attributes:
        vocabulary: width of the logits.
        layers: what each layer keeps per token.
        plain: whether every kernel knows its attention.
        nbytes: bytes of its weights.
    """

    plain = True

    def __init__(
        self,
        module: Any,
        quant: Quant | None = None,
        device: torch.device | None = None,
        fill: Callable[[torch.nn.Module], None] = lambda _: None,
    ) -> None:
        config, body = module.config, module.model
        for part in (body.embed_tokens, body.rotary_emb, body.norm, module.lm_head):
            fill(part)
            part.to(device)
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = _head_dim(config)
        self._embedding: Tensor = body.embed_tokens.weight.detach()
        self._rotary = body.rotary_emb
        self._layers = self._arrange(module, quant, device, fill)
        self._norm = _norm(body.norm)
        head = of_head(asked_of(module.lm_head, quant=quant))
        self._head = make_linear(module.lm_head.weight, module.lm_head.bias, head)
        self.vocabulary = int(module.lm_head.weight.shape[0])
        if module.lm_head.weight is not body.embed_tokens.weight:
            _free(module.lm_head)  # a module refers to itself: it stays until Python's collector looks, by chance
        self.layers = [LayerShape(self._kv_heads, self._width, self._width)] * len(self._layers)
        self.nbytes = self._outer_bytes() + sum(layer.nbytes for layer in self._layers)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, keys and values."""
        return self._embedding.dtype

    def _outer_bytes(self) -> int:
        """Of embedding and output layer, which may be one."""
        shared = isinstance(self._head, Dense) and self._head.weight.data_ptr() == self._embedding.data_ptr()
        return self._embedding.nbytes + (0 if shared else self._head.nbytes)

    def logits(self, batch: Batch, attend: Attend) -> Tensor:
        """``[rows, vocabulary]``: the logits after the batch's ``last`` rows."""
        x = embedding(batch.ids, self._embedding)
        turn = self._turn(batch.positions)
        for index, layer in enumerate(self._layers):
            attended = attend(index, self._project(layer, x, turn), batch, layer.variant)
            x = layer.output(attended.view(len(x), -1), x)
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = layer.down(silu(gate).mul_(up), x)
        return self._head(self._norm(x[batch.last]))

    def _turn(self, positions: Tensor) -> Tensor:
        """The rotary embedding of each position as complex numbers, ``[T, 1, head_dim / 2]`` complex64."""
        float32 = self._embedding.new_empty(0, dtype=torch.float32)
        cos, sin = self._rotary(float32, positions[None])
        half = self._width // 2
        return torch.complex(cos[0, :, None, :half], sin[0, :, None, :half])

    def _project(self, layer: _Layer, x: Tensor, turn: Tensor) -> Heads:
        """Queries, keys and values; the first two rotated."""
        turned = self._heads + self._kv_heads
        qkv = layer.qkv(layer.input_norm(x)).view(len(x), -1, self._width)
        qk = qkv[:, :turned].to(torch.float32, copy=True)
        if layer.scales is not None:
            qk = _unit(qk, layer.input_norm.epsilon).mul_(layer.scales)
        pairs = torch.view_as_complex(qk.view(len(x), turned, -1, 2))
        qk = torch.view_as_real(pairs * turn).flatten(2).to(qkv.dtype)
        return Heads(qk[:, : self._heads], qk[:, self._heads :], qkv[:, turned:])

    def _arrange(
        self,
        module: Any,
        quant: Quant | None,
        device: torch.device | None,
        fill: Callable[[torch.nn.Module], None],
    ) -> list[_Layer]:
        layers, arena = module.model.layers, Arena()

        def arrange(layer: Any) -> _Layer:
            found = self._read(layer.to(device), module.config, quant, arena)
            _free(layer)  # so that never two copies of all weights are in memory
            return found

        begun = []
        with Turns(at_once(layers, device or self._embedding.device)) as turns:
            for layer in layers:
                fill(layer)
                begun.append(turns.ask(arrange, layer))
            found = [each.result() for each in begun]
        arena.close()
        return found

    def _read(self, layer: Any, config: Any, quant: Quant | None, arena: Arena) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query, key = (_interleave(each, self._width, arena) for each in (attention.q_proj, attention.k_proj))
        first = asked_of(attention.q_proj, attention.k_proj, attention.v_proj, quant=quant)
        wide = asked_of(mlp.gate_proj, mlp.up_proj, quant=quant)
        variant = Variant(attention.scaling, _window(attention, config))
        return _Layer(
            _norm(layer.input_layernorm),
            _join(query, key, (attention.v_proj.weight, attention.v_proj.bias), quant=first, arena=arena),
            self._scales(attention),
            _alone(attention.o_proj, quant),
            _norm(layer.post_attention_layernorm),
            _join(*((each.weight, each.bias) for each in (mlp.gate_proj, mlp.up_proj)), quant=wide, arena=arena),
            _alone(mlp.down_proj, quant),
            variant,
        )

    def _scales(self, attention: Any) -> Tensor | None:
        if not hasattr(attention, "q_norm"):
            return None
        order = _pairs(self._width)
        query, key = attention.q_norm.weight.detach()[order], attention.k_norm.weight.detach()[order]
        return torch.cat([query.expand(self._heads, -1), key.expand(self._kv_heads, -1)]).float()


def is_native(module: Any) -> bool:
    """Whether this module computes what ``NativeNetwork`` does: by its class, and nothing unusual in its config."""
    config = module.config
    return (
        type(module).__name__ in FAMILY
        and config.hidden_act == "silu"
        and not turns_by_length(config)
        and module.model.rotary_emb.inv_freq.shape[0] * 2 == _head_dim(config)
        and all(hasattr(layer.self_attn, "scaling") for layer in module.model.layers)
    )


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _window(attention: Any, config: Any) -> int | None:
    """Mistral's window is the config's alone; in models with kinds of layers, each layer knows its own."""
    found: int | None = getattr(attention if hasattr(config, "layer_types") else config, "sliding_window", None)
    return found


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach().float(), float(module.variance_epsilon))


def _unit(x: Tensor, epsilon: float) -> Tensor:
    """Rows of ``x`` brought to a root mean square of 1; float32, may be done in place.

    By the norm, not the mean of squares: on CPUs torch's mean over a last dimension is up to twenty times slower, and
    ``torch.nn.functional.rms_norm`` is made of it.
    """
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    return x.mul_(square.div_(x.shape[-1]).add_(epsilon).rsqrt_())


def _pairs(width: int) -> list[int]:
    """The order 0, w/2, 1, w/2 + 1, …: it brings the two halves that rotate together side by side.

    Scores are products of queries and keys, so the order of a head's elements does not matter to them.
    """
    return [index for pair in zip(range(width // 2), range(width // 2, width), strict=True) for index in pair]


def _interleave(layer: Any, width: int, arena: Arena) -> tuple[Tensor, Tensor | None]:
    order = torch.tensor(_pairs(width), device=layer.weight.device)

    def reorder(rows: Tensor) -> Tensor:
        heads = rows.detach().view(-1, width, *rows.shape[1:])
        return torch.index_select(heads, 1, order, out=arena.like(heads)).flatten(0, 1)

    return reorder(layer.weight), None if layer.bias is None else reorder(layer.bias)


def _join(*parts: tuple[Tensor, Tensor | None], quant: Quant | None, arena: Arena) -> Linear:
    """Layers of one input as one. Those without a bias get a bias of zeros if another has one."""
    weights = [weight.detach() for weight, _ in parts]
    weight = torch.cat(weights, out=arena.like(weights[0], sum(map(len, weights))))
    if all(bias is None for _, bias in parts):
        return make_linear(weight, quant=quant)
    filled = [weight.new_zeros(len(weight)) if bias is None else bias.detach() for weight, bias in parts]
    return make_linear(weight, torch.cat(filled), quant)


def _alone(layer: Any, quant: Quant | None) -> Linear:
    return make_linear(layer.weight, layer.bias, asked_of(layer, quant=quant))


def _free(module: torch.nn.Module) -> None:
    """Let go of a module's weights; what was taken over keeps its own."""
    for parameter in module.parameters():
        parameter.data = parameter.new_empty(0)
