"""The checkpoints of ``shapes.py`` as GGUF files; kept in the directory of the checkpoint.

llama.cpp's own tools need a C++ compiler; these are the packers that the tests read their files with.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

FILES: Final = ("Q8_0", "Q4_K_M")
PART: Final = 1 << 23
"""Weights packed at a time: packing takes several times the memory of what is packed."""


def chosen(quant: str, layers: int) -> Callable[[str], str]:
    """What a file of this format, of a model with tied embeddings, has each of its matrices as, by its name."""
    return lambda name: _medium(name, layers) if quant == "Q4_K_M" else quant


def _medium(name: str, layers: int) -> str:
    """As llama.cpp mixes: half of the values and of the second MLP layers in more bits."""
    if name == "token_embd.weight":
        return "Q6_K"
    layer, eighth = int(name.split(".")[1]), layers // 8
    many = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "Q6_K" if many and ("attn_v" in name or "ffn_down" in name) else "Q4_K"


def gguf_file(quant: str, directory: Path) -> Path:
    """The checkpoint in ``directory`` in a format; written when it is first asked for."""
    file = directory / f"{quant}.gguf"
    if not file.is_file():
        print(f"writing {file}", file=sys.stderr)
        unfinished = file.with_suffix(".part")
        with unfinished.open("wb") as opened:
            _write(quant, directory, opened)
        unfinished.rename(file)
    return file


def _write(quant: str, directory: Path, opened: BinaryIO) -> None:
    from transformers import AutoModelForCausalLM

    from helexa.engine.weights.gguf_model import gguf_name

    module = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    choose = chosen(quant, module.config.num_hidden_layers)
    tensors = {gguf_name(name): parameter.detach() for name, parameter in module.named_parameters()}
    kinds = {name: "F32" if tensor.dim() == 1 else choose(name) for name, tensor in tensors.items()}
    _pad(opened, _head(module.config, tensors, kinds))
    for name, tensor in tensors.items():
        _pad(opened, *_packed(kinds[name], tensor))


def _head(config: Any, tensors: dict[str, Tensor], kinds: dict[str, str]) -> bytes:
    from gguf_files import NUMBERS, describe, text, value

    metadata = describe(config)
    head = b"GGUF" + _number(3, 4) + _number(len(tensors)) + _number(len(metadata))
    head += b"".join(text(key) + value(found) for key, found in metadata.items())
    start = 0
    for name, tensor in tensors.items():
        sizes = b"".join(_number(size) for size in tensor.shape[::-1])
        head += text(name) + _number(tensor.dim(), 4) + sizes + _number(NUMBERS[kinds[name]], 4) + _number(start)
        start += -(-_size(kinds[name], tensor.numel()) // 32) * 32
    return head


def _number(number: int, size: int = 8) -> bytes:
    return number.to_bytes(size, "little")


def _size(name: str, weights: int) -> int:
    from helexa.gguf import KINDS

    kind = next(each for each in KINDS.values() if each.name == name)
    return weights // kind.weights * kind.size


def _packed(kind: str, tensor: Tensor) -> Iterator[bytes]:
    from gguf_files import PACK

    return (PACK[kind](part.float()).numpy().tobytes() for part in tensor.flatten().split(PART))


def _pad(opened: BinaryIO, *parts: bytes) -> None:
    size = sum(opened.write(part) for part in parts)
    opened.write(b"\0" * (-size % 32))
