"""Models in GGUF files, as the modules of transformers that they were made of.

The Llama, Mistral, Qwen2 and Qwen3 families, which helexa runs itself: their weights are read part by part, while the
parts before are reduced already, so that a model is never in memory as a whole in bfloat16. Each layer is held in the
format of ours that is nearest to the file's: the same number of bits or, between ours, more.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from attrs import frozen
from torch import Tensor

from helexa.engine.quant.formats import NEAREST, Quant, gguf_bytes
from helexa.engine.quant.gguf import open_file, read
from helexa.engine.weights.checkpoints import filler, remake_rotary
from helexa.gguf import GgufError, Header, TensorInfo, read_header

_CLASSES: Final = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}
_OUTSIDE: Final = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_INSIDE: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER: Final = re.compile(r"model\.layers\.(\d+)\.(.+)")
_TURNED: Final = re.compile(r"blk\.\d+\.attn_([qk])\.(weight|bias)")
_FREQUENCIES: Final = "rope_freqs.weight"
_STRANGE: Final = {"expert_count": "is a mixture of experts", "attention.sliding_window": "has a sliding window"}
_ENDS: Final = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"


@frozen(eq=False)
class GgufModel:
    """A model whose weights are still in its file.

    Attributes:
        module: the ``…ForCausalLM``, its weights on the device ``meta``.
        fill: reads the weights of a part of it.
        held: what its linear layers will be held as.
        nbytes: bytes that it will hold, but for layers held wider because they are one with others.
    """

    module: Any
    fill: Callable[[torch.nn.Module], None]
    held: frozenset[Quant]
    nbytes: int


def open_model(path: Path, quant: Quant | None = None) -> GgufModel:
    """Look at a file, and hold all that its model needs against what it has. No weight is read.

    Args:
        path: the file.
        quant: what all linear layers are to be reduced to; ``None``: each to what is nearest to what the file has.

    Raises:
        GgufError: it is no such file, or none of a model that is read here.
    """
    header = read_header(path)
    module = _make_module(header)
    wanted = {name: gguf_name(name) for name, _ in module.named_parameters()}
    _check(header, module, wanted)
    held = frozenset([quant]) if quant else frozenset(_tag(header, module))
    return GgufModel(module, _filler(header, open_file(path), module), held, gguf_bytes(header, quant))


def _tag(header: Header, module: torch.nn.Module) -> Iterator[Quant]:
    """Say of each linear layer what it is to be held as; see ``packing.asked_of``."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Linear):
            held: Any = NEAREST[_stored(header, f"{name}.weight").kind.name]
            part.helexa_quant = held
            yield held


def gguf_name(name: str) -> str:
    """What a file calls a parameter of transformers' module."""
    stem, _, kind = name.rpartition(".")
    if (layer := _LAYER.fullmatch(stem)) is not None:
        return f"blk.{layer[1]}.{_INSIDE.get(layer[2], layer[2])}.{kind}"
    return f"{_OUTSIDE.get(stem, stem)}.{kind}"


def _stored(header: Header, name: str) -> TensorInfo:
    """Where a parameter is; a tied output layer is the embedding."""
    found = header.tensors.get(gguf_name(name))
    return found or header.tensors[gguf_name("model.embed_tokens.weight")]


def _filler(header: Header, data: Tensor, module: Any) -> Callable[[torch.nn.Module], None]:
    """What reads the weights of parts of a module from the file ``data``."""

    def take(name: str) -> Tensor:
        info = header.tensors[gguf_name(name)]
        weight = read(data, info)
        if header.architecture == "llama" and (turned := _TURNED.fullmatch(info.name)):
            config = module.config
            return _in_halves(weight, config.num_attention_heads if turned[1] == "q" else config.num_key_value_heads)
        return weight

    def remake(part: Any) -> None:
        """Some Llamas have their frequencies divided by numbers in the file."""
        remake_rotary(part, module.config)
        if (factors := header.tensors.get(_FREQUENCIES)) is not None:
            part.inv_freq = part.inv_freq / read(data, factors, torch.float32)

    return filler(module, take, remake)


def _in_halves(rows: Tensor, heads: int) -> Tensor:
    """Files of Llamas have the two rows that rotate together side by side; transformers has them half a head apart."""
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _make_module(header: Header) -> Any:
    """Its shape alone, without memory for weights."""
    import transformers

    if (name := _CLASSES.get(header.architecture)) is None:
        raise GgufError(f"it is a '{header.architecture}'; of GGUF files, {', '.join(_CLASSES)} are run")
    settings = _config(header)
    try:
        config = getattr(transformers, name)(**settings)
        with torch.device("meta"):
            module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    except Exception as error:  # it checks what it is told, with errors of many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GgufError(f"what it says of its shape fits no model: {lines[-1].strip()}") from error
    ends = {header.metadata[key] for key in _ENDS if type(header.metadata.get(key)) is int}
    module.generation_config.eos_token_id = sorted(ends) or None
    return module.eval()


def _config(header: Header) -> dict[str, Any]:
    tensors = header.tensors
    for key, what in _STRANGE.items():
        if header.setting(key, 0):
            raise GgufError(f"it {what}, with which no GGUF file is run here")
    if (embedding := tensors.get("token_embd.weight")) is None:
        raise GgufError("it lacks the tensor 'token_embd.weight'")
    width, heads = _number(header, "embedding_length"), _number(header, "attention.head_count")
    head = _number(header, "attention.key_length", width // heads)
    if header.setting("rope.dimension_count", head) != head:
        raise GgufError("it rotates a part of each head alone, with which no GGUF file is run here")
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": width,
        "intermediate_size": _number(header, "feed_forward_length"),
        "num_hidden_layers": _number(header, "block_count", most=len(tensors)),
        "num_attention_heads": heads,
        "num_key_value_heads": _number(header, "attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": _number(header, "context_length"),
        "rms_norm_eps": _float(header, "attention.layer_norm_rms_epsilon", 1e-5),
        "rope_parameters": _rope(header),
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in tensors,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _rope(header: Header) -> dict[str, Any]:
    found = {"rope_type": "default", "rope_theta": _float(header, "rope.freq_base", 10_000.0)}
    kind = header.setting("rope.scaling.type", "none")
    if kind == "none":
        return found
    if kind not in ("linear", "yarn"):
        raise GgufError(f"it scales its positions by '{kind}', which is not known here")
    found |= {"rope_type": kind, "factor": _float(header, "rope.scaling.factor", 1.0)}
    if header.setting("rope.scaling.original_context_length") is not None:
        found["original_max_position_embeddings"] = _number(header, "rope.scaling.original_context_length")
    return found


def _number(header: Header, key: str, default: int | None = None, most: int = 1 << 31) -> int:
    found = header.setting(key, default)
    if type(found) is int and 0 < found <= most:
        return found
    raise GgufError(f"its '{header.architecture}.{key}' is {str(found)[:40]}; a number is expected")


def _float(header: Header, key: str, default: float) -> float:
    found = header.setting(key, default)
    if type(found) in (int, float) and 0 < found < math.inf:  # nan is not
        return float(found)
    raise GgufError(f"its '{header.architecture}.{key}' is {str(found)[:40]}; a number above 0 is expected")


def _check(header: Header, module: Any, wanted: dict[str, str]) -> None:
    """Hold the tensors of a file against those of the model that it says it is."""
    for name, parameter in module.named_parameters():
        if (found := header.tensors.get(wanted[name])) is None:
            raise GgufError(f"it lacks the tensor '{wanted[name]}'")
        if found.shape != tuple(parameter.shape):
            raise GgufError(f"its tensor '{found.name}' is {found.shape}, and its model needs {tuple(parameter.shape)}")
    if more := sorted(header.tensors.keys() - {*wanted.values(), _FREQUENCIES}):
        raise GgufError(f"it has the tensor '{more[0]}', which a {header.architecture} has not")
