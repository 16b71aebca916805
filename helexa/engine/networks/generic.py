"""Any decoder of transformers whose layers attend to a plain KV cache, run over helexa's paged one.

transformers looks attention functions up by name; ours is registered as ``helexa_paged`` and gets the step's batch as a
keyword argument that models hand down to it. Source: transformers' documentation of ``AttentionInterface``.
"""

from itertools import accumulate
from typing import Any, cast

import torch
from attrs import define, field, frozen
from torch import Tensor

from helexa.engine.networks.attention import Attend, Heads, Variant, attend_alone
from helexa.engine.quant.packing import pack_in_place
from helexa.engine.scheduling.batch import Batch, Span
from helexa.engine.shapes import LayerShape

NAME = "helexa_paged"
_PROBE_TOKENS = (8, 5)
"""Two sequences: a model that mixes neighbouring tokens other than by attention would mix these."""
_CLOSE = 0.99


@frozen(eq=False)
class _Step:
    """What the attention function needs beyond what the model gives it."""

    batch: Batch
    attend: Attend


def _paged_attention(  # noqa: PLR0913 - transformers' signature
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    helexa_step: _Step,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for attention: ``[1, heads, T, dim]`` each; returns ``[1, T, heads, value_dim]``."""
    if attention_mask is not None:
        raise NotImplementedError("an attention mask of the model's own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    variant = Variant(scale, sliding_window, softcap, s_aux)
    heads = Heads(*(each[0].transpose(0, 1) for each in (query, key, value)))
    out = helexa_step.attend(cast("int", module.layer_idx), heads, helexa_step.batch, variant)
    return out[None], None


class TransformersNetwork:
    """A causal language model of transformers over the paged cache.

    Args:
        module: the model, in evaluation mode. It is changed: its attention, and on CPUs its linear layers.

    Raises:
        NotPagedError: its layers do not all go through transformers' attention interface, or what comes out differs
            from what transformers computes.

    Attributes:
        vocabulary: width of the logits.
        layers: what each layer keeps per token.
        dtype: of keys and values.
        plain: whether every kernel knows its attention.
    """

    def __init__(self, module: Any) -> None:
        config = module.config.get_text_config()
        _refuse_state(config)
        self._module = module
        expected = _reference(module)
        _register()
        module.set_attn_implementation(NAME)
        recorder = _Recorder()
        found = self._probe(recorder)
        self.layers = recorder.shapes(config.num_hidden_layers)
        _compare(found, expected)
        self.dtype = recorder.dtype
        self.plain = recorder.plain
        self.vocabulary = int(found.shape[-1])
        pack_in_place(module)

    def logits(self, batch: Batch, attend: Attend) -> Tensor:
        """``[rows, vocabulary]``: the logits after the batch's ``last`` rows."""
        return self._forward(batch, attend)

    def _probe(self, recorder: "_Recorder") -> Tensor:
        try:
            return self._forward(_probe_batch(self._module.device), recorder)
        except NotPagedError:
            raise
        except Exception as error:
            raise NotPagedError(f"its attention cannot be paged: {type(error).__name__}: {error}") from error

    def _forward(self, batch: Batch, attend: Attend) -> Tensor:
        output = self._module(
            input_ids=batch.ids[None],
            position_ids=batch.positions[None],
            use_cache=False,
            logits_to_keep=batch.last,
            helexa_step=_Step(batch, attend),
        )
        logits: Tensor = output.logits[0]
        return logits


class NotPagedError(Exception):
    """This model keeps more per sequence than keys and values, or computes attention in a way of its own."""


@define(eq=False)
class _Recorder:
    """Attends without a cache, and notes what each layer would have kept."""

    dtype: torch.dtype = torch.float32
    plain: bool = True
    _seen: dict[int, LayerShape] = field(factory=dict)

    def __call__(self, layer: int, heads: Heads, batch: Batch, variant: Variant, /) -> Tensor:
        if layer in self._seen:  # its second keys and values would take the place of the first
            raise NotPagedError(f"its layer {layer} attends more than once")
        self.dtype = heads.key.dtype
        self.plain &= variant.is_plain
        self._seen[layer] = LayerShape(heads.key.shape[1], heads.key.shape[2], heads.value.shape[2])
        parts = [Heads(*(each[span.first : span.first + span.rows] for each in heads)) for span in batch.spans]
        return torch.cat([attend_alone(part, variant) for part in parts])

    def shapes(self, layers: int) -> list[LayerShape]:
        """Of all layers; one that is missing here attends in some other way, and has its keys elsewhere or nowhere."""
        if sorted(self._seen) != list(range(layers)):
            raise NotPagedError(f"of its {layers} layers, {len(self._seen)} attend by transformers' interface")
        return [self._seen[layer] for layer in range(layers)]


def _register() -> None:
    from transformers import AttentionInterface

    # No mask function of this name is registered, so transformers makes no mask: ours follows from the spans.
    AttentionInterface.register(NAME, _paged_attention)


def _refuse_state(config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ())
    if odd := kinds - {"full_attention", "sliding_attention"}:
        raise NotPagedError(f"it has layers of the kind '{min(odd)}'")
    if turns_by_length(config):
        raise NotPagedError("its rotary embedding depends on the length of the whole batch")


def turns_by_length(config: Any) -> bool:
    """Whether a token's rotary embedding depends on how far the batch goes that it is computed in.

    The kind "dynamic" does too, but only beyond the context that a model is served with.
    """
    scaling = getattr(config, "rope_parameters", None) or {}
    kinds = (scaling, *(value for value in scaling.values() if isinstance(value, dict)))
    return any(each.get("rope_type") == "longrope" for each in kinds)


def _probe_batch(device: torch.device) -> Batch:
    positions = torch.cat([torch.arange(length, device=device) for length in _PROBE_TOKENS])
    rows = torch.arange(len(positions), device=device)
    ends = accumulate(_PROBE_TOKENS)
    spans = [Span(end - length, length, length, (), ()) for end, length in zip(ends, _PROBE_TOKENS, strict=True)]
    return Batch(positions, positions, rows, rows, tuple(spans))


def _reference(module: Any) -> Tensor:
    """The logits of each probe by itself, ``[tokens, vocabulary]``; ids are positions."""
    ids = [torch.arange(length, device=module.device) for length in _PROBE_TOKENS]
    return torch.cat([module(input_ids=each[None], use_cache=False).logits[0] for each in ids])


def _compare(found: Tensor, expected: Tensor) -> None:
    """A model whose attention ignores part of what it is given would answer with nonsense, and nobody know why."""
    likeness = torch.cosine_similarity(found.float(), expected.float(), dim=-1).min().item()
    if not likeness > _CLOSE:  # NaN is not close either
        raise NotPagedError(f"its paged logits are unlike its own (cosine {likeness:.3f})")
