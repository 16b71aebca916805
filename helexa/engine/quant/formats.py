"""What a model's weights may be reduced to, and what that makes of their size. Imports no torch: a neuron asks as well.

Only the weights of linear layers are reduced, which is nearly all of a model. Embeddings stay as they are: rows are
looked up in them, so that no time would be saved; so do norms, which are a few numbers. The output layer is held in
eight bits where the others have four: in four it raises the bundled model's perplexity from 1.0002 of what it was
to 1.0008, and in eight no difference to bfloat16 can be measured. Activations, keys and values stay in bfloat16.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from config import topology
from helexa.gguf import Header, TensorInfo

Quant = topology.Quant
"""As the topology has it. ``bf16`` is bfloat16, whatever the files hold."""

GROUP: Final = 32
"""Weights of a row that share a scale and a zero point in ``int4``: 5 bits per weight with those."""
_INT8_INPUTS: Final = 32
"""A multiple of the 16 columns that torch's kernel for CPUs reads at a time: of others it reads beyond the end."""
_INT8_ROW: Final = 8
"""Bytes of a row's scale and its sum, where a processor needs both; others need two."""
_INT4_OUTPUTS: Final = 16
_FP8_STEP: Final = 16
_MATRIX: Final = 2
_HEAD: Final = "lm_head"

NEAREST: Final[dict[str, Quant]] = {
    "Q4_0": "int4",
    "Q4_1": "int4",
    "Q4_K": "int4",
    "Q5_0": "int8",
    "Q5_1": "int8",
    "Q5_K": "int8",
    "Q6_K": "int8",
    "Q8_0": "int8",
    "F16": "bf16",
    "BF16": "bf16",
    "F32": "bf16",
}
"""What each of the formats of GGUF files is held as, if nothing else is asked for."""
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"


class QuantError(ValueError):
    """Weights that cannot be reduced as asked; the message is for the operator."""


def held_as(quant: Quant | None, outputs: int, inputs: int) -> Quant:
    """What a linear layer is held as: as asked, or where a kernel cannot take its shape, in the next wider format."""
    if quant == "int4" and outputs % _INT4_OUTPUTS == 0 and inputs % GROUP == 0:
        return "int4"
    if quant in ("int8", "int4") and inputs % _INT8_INPUTS == 0:
        return "int8"
    if quant == "fp8" and outputs % _FP8_STEP == 0 and inputs % _FP8_STEP == 0:
        return "fp8"
    return "bf16"


def of_head(quant: Quant | None) -> Quant | None:
    """What the output layer is asked to be held as where the others are asked to be ``quant``."""
    return "int8" if quant == "int4" else quant


def linear_bytes(quant: Quant | None, outputs: int, inputs: int, element: int = 2) -> int:
    """Bytes of a linear layer's weight with its scales.

    Args:
        quant: what was asked for.
        outputs: rows.
        inputs: columns.
        element: bytes of a weight that is not reduced.
    """
    weights = outputs * inputs
    sizes = {
        "bf16": weights * element,
        "int8": weights + outputs * _INT8_ROW,
        "int4": weights // 2 + weights // GROUP * 4,
        "fp8": weights + outputs * 4,
    }
    return sizes[held_as(quant, outputs, inputs)]


def reduced_bytes(quant: Quant, shapes: Mapping[str, Sequence[int]]) -> int:
    """Bytes of a checkpoint's tensors once they are loaded; in bfloat16 where they are not reduced.

    Args:
        quant: what is asked for.
        shapes: of every tensor, by its name.
    """
    size = sum(_tensor_bytes(quant, name, shape) for name, shape in shapes.items())
    if quant == "bf16" or any(_HEAD in name for name in shapes):
        return size
    # the output layer is the embedding once more, reduced
    tied = (shape for name, shape in shapes.items() if name.endswith("embed_tokens.weight") and len(shape) == _MATRIX)
    return size + sum(linear_bytes(of_head(quant), *shape) for shape in tied)


def _tensor_bytes(quant: Quant, name: str, shape: Sequence[int]) -> int:
    if len(shape) != _MATRIX or "embed" in name:
        return math.prod(shape) * 2
    return linear_bytes(of_head(quant) if _HEAD in name else quant, *shape)


def rough_bytes(quant: Quant | None, published: int) -> int:
    """Bytes of a model whose files are known by their size alone, and taken for bfloat16."""
    shares = {"int8": Fraction(53, 100), "fp8": Fraction(53, 100), "int4": Fraction(38, 100)}
    return math.ceil(published * shares.get(quant or "bf16", Fraction(1)))


def gguf_bytes(header: Header, quant: Quant | None = None) -> int:
    """Bytes of the model in a GGUF file once it is loaded: reduced as asked, or else to what is nearest."""
    size = sum(_gguf_tensor_bytes(info, quant) for info in header.tensors.values())
    embedding = header.tensors.get(_EMBEDDING)
    if embedding is None or _OUTPUT in header.tensors:
        return size
    asked = of_head(quant or NEAREST[embedding.kind.name])  # it is the output layer as well
    return size if asked == "bf16" else size + linear_bytes(asked, *embedding.shape)


def _gguf_tensor_bytes(info: TensorInfo, quant: Quant | None) -> int:
    if len(info.shape) != _MATRIX or info.name == _EMBEDDING:
        return math.prod(info.shape) * 2
    asked = quant or NEAREST[info.kind.name]
    return linear_bytes(of_head(asked) if info.name == _OUTPUT else asked, *info.shape)


def gguf_token_bytes(header: Header) -> int:
    """Bytes of keys and values of one token, in bfloat16; 0 if the file does not say what it takes to know."""
    layers, width, heads = (header.setting(key) for key in ("block_count", "embedding_length", "attention.head_count"))
    if not all(type(each) is int and each > 0 for each in (layers, width, heads)):
        return 0
    key, kv_heads = (
        header.setting("attention.key_length", width // heads),
        header.setting("attention.head_count_kv", heads),
    )
    return layers * kv_heads * key * 2 * 2 if type(key) is type(kv_heads) is int else 0


def context_of(header: Header) -> int | None:
    """Most tokens of prompt and output together, if a GGUF file says."""
    found = header.setting("context_length")
    return found if type(found) is int and found > 0 else None
