"""Decoders by the numbers of their configurations: what there is to know of a model before any of it is made. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from helexa.engine.memory import context_length, layers_of
from helexa.engine.shapes import LayerShape
from helexa.gguf import Header

FAMILY: Final = ("llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of the models that helexa runs itself."""
_SIZES: Final = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_STORED: Final = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""What safetensors calls them."""
_USUAL_NEURONS: Final = 4
"""Times the width, where a configuration does not say."""


@frozen
class Decoder:
    """A decoder's shape.

    Attributes:
        width: elements of a token between layers.
        heads: of queries.
        kv_heads: of keys and values.
        head: elements of one.
        neurons: between the two products of a layer; of experts, all that one token goes through.
        vocabulary: rows of embedding and output layer.
        depth: layers.
        context: most tokens of prompt and output together.
        dtype: of weights that are not reduced, activations, keys and values; torch's name, without ``torch.``.
        tied: the output layer is the embedding.
        kept: what each layer keeps per token.
        biased: which of the products of a layer have a bias: ``qkv``, ``output``, ``gate_up``, ``down``.
        scaled: queries and keys are normed.
        native: helexa runs it by itself, and can spread it.
        written_out: its attention is computed by the textbook's formula, as no kernel knows it.
        window: positions that a token sees, in every layer; ``None``: all before it.
        stated: its configuration says what ``dtype`` is.
    """

    width: int
    heads: int
    kv_heads: int
    head: int
    neurons: int
    vocabulary: int
    depth: int
    context: int
    dtype: str
    tied: bool
    kept: Sequence[LayerShape]
    biased: frozenset[str] = frozenset()
    scaled: bool = False
    native: bool = False
    written_out: bool = False
    window: int | None = None
    stated: bool = True

    @property
    def element(self) -> int:
        """Bytes of an element of ``dtype``."""
        return _SIZES[self.dtype]

    def divides(self, ranks: int) -> bool:
        """Whether so many ranks can share it: what ``parallel.refuse_odd`` asks of a module."""
        return ranks == 1 or (self.native and not any(n % ranks for n in (self.heads, self.kv_heads, self.neurons)))


def of_config(config: Any, stored: str | None = None) -> Decoder:
    """Read a configuration of transformers.

    Args:
        config: of any decoder.
        stored: what its files have, as safetensors calls it; taken if the configuration does not say.

    Raises:
        Exception: of any kind: it is not one of a decoder, or has nonsense where a number should be.
    """
    text = config.get_text_config()
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    return Decoder(
        width=int(text.hidden_size),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        neurons=_neurons(text),
        vocabulary=int(text.vocab_size),
        depth=int(text.num_hidden_layers),
        context=context_length(config),
        dtype=_dtype(config, stored),
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        kept=layers_of(config),
        biased=_biased(text),
        scaled=text.model_type == "qwen3",
        native=_is_native(config),
        written_out=text.model_type == "gpt_oss" or bool(getattr(text, "attn_logit_softcapping", None)),
        window=None if getattr(text, "layer_types", None) else getattr(text, "sliding_window", None),
        stated=bool(text.dtype or config.dtype),
    )


def _neurons(text: Any) -> int:
    dense = int(getattr(text, "intermediate_size", None) or _USUAL_NEURONS * text.hidden_size)
    experts = int(getattr(text, "num_experts_per_tok", None) or 0)
    return max(dense, experts * int(getattr(text, "moe_intermediate_size", None) or dense))


def _dtype(config: Any, stored: str | None) -> str:
    said = config.get_text_config().dtype or config.dtype or _STORED.get(stored or "")
    found = str(said).removeprefix("torch.")
    return found if found in _SIZES else "bfloat16"


def _biased(text: Any) -> frozenset[str]:
    """As transformers makes the classes of the family; Mistral's have none."""
    kind = text.model_type
    attention = kind in ("llama", "qwen3") and bool(getattr(text, "attention_bias", False))
    mlp = kind == "llama" and bool(getattr(text, "mlp_bias", False))
    has = {"qkv": attention or kind == "qwen2", "output": attention, "gate_up": mlp, "down": mlp}
    return frozenset(name for name, is_so in has.items() if is_so)


def _is_native(config: Any) -> bool:
    """What ``native.is_native`` asks of a module, asked of its configuration."""
    turn = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILY
        and config.hidden_act == "silu"
        and turn.get("rope_type") != "longrope"
        and turn.get("partial_rotary_factor", 1.0) == 1.0
        and not getattr(config, "quantization_config", None)
    )


def of_gguf(header: Header) -> Decoder | None:
    """Read the header of a GGUF file; ``None`` if it does not say what it takes to know."""
    embedding, numbers = header.tensors.get("token_embd.weight"), _numbers(header)
    if embedding is None or numbers is None or header.architecture not in FAMILY:
        return None
    width, heads, neurons, depth, context, head, kv_heads = numbers
    if depth > len(header.tensors):
        return None
    return Decoder(
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        neurons=neurons,
        vocabulary=embedding.shape[0],
        depth=depth,
        context=context,
        dtype="bfloat16",
        tied="output.weight" not in header.tensors,
        kept=[LayerShape(kv_heads, head, head)] * depth,
        biased=_biased_gguf(header),
        scaled="blk.0.attn_q_norm.weight" in header.tensors,
        native=True,
    )


def _numbers(header: Header) -> list[int] | None:
    asked = ("embedding_length", "attention.head_count", "feed_forward_length", "block_count", "context_length")
    found = [header.setting(key) for key in asked]
    if not _are_counts(found):
        return None
    width, heads = found[:2]
    found += [header.setting("attention.key_length", width // heads), header.setting("attention.head_count_kv", heads)]
    return found if _are_counts(found) else None


def _are_counts(found: Sequence[Any]) -> bool:
    return all(type(each) is int and each > 0 for each in found)


def _biased_gguf(header: Header) -> frozenset[str]:
    called = {"attn_q": "qkv", "attn_output": "output", "ffn_gate": "gate_up", "ffn_down": "down"}
    return frozenset(name for tensor, name in called.items() if f"blk.0.{tensor}.bias" in header.tensors)
