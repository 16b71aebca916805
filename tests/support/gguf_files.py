"""GGUF files made from modules of transformers, with plain packers of the formats: no better than they have to be."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from helexa.engine.weights.gguf_model import gguf_name
from helexa.gguf import KINDS, Header

NUMBERS = {kind.name: number for number, kind in KINDS.items()}
Pack = Callable[[Tensor], Tensor]


def half(numbers: Tensor) -> Tensor:
    """``[blocks]`` to the two bytes that each is as a half."""
    return numbers.to(torch.float16)[:, None].view(torch.uint8)


def as_read(numbers: Tensor) -> Tensor:
    """What a reader will find."""
    return numbers.to(torch.float16).float()


def over(numbers: Tensor, by: Tensor) -> Tensor:
    """A quotient; nothing of nothing."""
    return torch.where(by == 0, torch.zeros(()), numbers / torch.where(by == 0, torch.ones(()), by))


def pack_q8_0(rows: Tensor) -> Tensor:
    """``[…, inputs]`` float32 to blocks."""
    blocks = rows.reshape(-1, 32)
    scale = blocks.abs().amax(1) / 127
    codes = over(blocks, as_read(scale)[:, None]).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([half(scale), codes.view(torch.uint8)], 1)


def _with_minima(rows: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """The first 16 bytes of blocks, and codes ``[blocks, 8, 32]``."""
    groups = rows.reshape(-1, 8, 32)
    minima = (-groups.amin(2)).clamp_min(0)
    scales = (groups.amax(2) + minima) / largest
    d, dmin = scales.amax(1) / 63, minima.amax(1) / 63
    sixes = [over(each, as_read(by)[:, None]).round().clamp(0, 63) for each, by in ((scales, d), (minima, dmin))]
    step, low = (six * as_read(by)[:, None] for six, by in zip(sixes, (d, dmin), strict=True))
    codes = over(groups + low[..., None], step[..., None]).round().clamp(0, largest).to(torch.uint8)
    s, m = (six.to(torch.uint8) for six in sixes)
    first, second = s[:, :4] | (s[:, 4:] >> 4) << 6, m[:, :4] | (m[:, 4:] >> 4) << 6
    return torch.cat([half(d), half(dmin), first, second, (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4], 1), codes


def _nibbles(codes: Tensor) -> Tensor:
    """``[blocks, 8, 32]`` to 128 bytes: of each two groups, one below the other."""
    pairs = (codes & 15).view(-1, 4, 2, 32)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)


def pack_q4_k(rows: Tensor) -> Tensor:
    """``[…, inputs]`` float32 to blocks."""
    head, codes = _with_minima(rows, 15)
    return torch.cat([head, _nibbles(codes)], 1)


def pack_q5_k(rows: Tensor) -> Tensor:
    """``[…, inputs]`` float32 to blocks."""
    head, codes = _with_minima(rows, 31)
    fifth = ((codes >> 4) << torch.arange(8, dtype=torch.uint8)[:, None]).sum(1, dtype=torch.uint8)
    return torch.cat([head, fifth, _nibbles(codes)], 1)


def pack_q6_k(rows: Tensor) -> Tensor:
    """``[…, inputs]`` float32 to blocks."""
    groups = rows.reshape(-1, 16, 16)
    scales = groups.abs().amax(2) / 31
    d = scales.amax(1) / 127
    small = over(scales, as_read(d)[:, None]).round().clamp(0, 127)
    codes = over(groups, (small * as_read(d)[:, None])[..., None]).round().clamp(-32, 31).add(32).to(torch.uint8)
    halves = codes.view(-1, 2, 4, 32)
    low = torch.cat([halves[:, :, one] & 15 | (halves[:, :, one + 2] & 15) << 4 for one in (0, 1)], 2)
    high = ((halves >> 4) << torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]).sum(2, dtype=torch.uint8)
    return torch.cat([low.flatten(1), high.flatten(1), small.to(torch.int8).view(torch.uint8), half(d)], 1)


PACK: dict[str, Pack] = {
    "F32": lambda rows: rows.float().view(torch.uint8),
    "F16": lambda rows: rows.to(torch.float16).view(torch.uint8),
    "BF16": lambda rows: rows.to(torch.bfloat16).view(torch.uint8),
    "Q8_0": pack_q8_0,
    "Q4_K": pack_q4_k,
    "Q5_K": pack_q5_k,
    "Q6_K": pack_q6_k,
}


def text(words: str) -> bytes:
    """A string of a file."""
    return struct.pack("<Q", len(words.encode())) + words.encode()


def value(found: Any) -> bytes:
    """A value with its type."""
    if isinstance(found, list):
        inner = [value(each) for each in found]
        return (
            struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(inner)) + b"".join(each[4:] for each in inner)
        )
    if isinstance(found, str):
        return struct.pack("<I", 8) + text(found)
    if isinstance(found, float):
        return struct.pack("<If", 6, found)
    return struct.pack("<II", 4, found)


def file_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[str, Tensor]], version: int = 3) -> bytes:
    """A whole file; of each tensor, its kind and its numbers."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(found) for key, found in metadata.items())
    body = b""
    for name, (kind, tensor) in tensors.items():
        sizes = tensor.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, NUMBERS[kind], len(body))
        packed = bytes(PACK[kind](tensor.detach().float()).flatten().tolist())
        body += packed + b"\0" * (-len(packed) % 32)
    return head + b"\0" * (-len(head) % 32) + body


def describe(config: Any) -> dict[str, Any]:
    """The metadata of a model's shape."""
    family = config.model_type
    numbers = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
    }
    if getattr(config, "head_dim", None):
        numbers["attention.key_length"] = config.head_dim
    found = {"general.architecture": family, "tokenizer.ggml.eos_token_id": 7}
    return found | {f"{family}.{key}": number for key, number in numbers.items()}


def turned(rows: Tensor, heads: int) -> Tensor:
    """The rows of a Llama's queries or keys as its files have them."""
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def write_model(module: Any, path: Path, kind_of: Callable[[str], str], **metadata: Any) -> Path:
    """A module as a file: norms and biases in float32, as everybody has them, matrices as ``kind_of`` says by name."""
    tensors = {}
    for name, tensor in module.state_dict().items():
        if module.config.tie_word_embeddings and name == "lm_head.weight":
            continue
        plain = tensor
        if module.config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
            config = module.config
            plain = turned(tensor, config.num_attention_heads if ".q_" in name else config.num_key_value_heads)
        tensors[gguf_name(name)] = ("F32" if tensor.dim() == 1 else kind_of(gguf_name(name)), plain)
    path.write_bytes(file_bytes(describe(module.config) | metadata, tensors))
    return path


def header_of(tokenizer: Any, **more: Any) -> Header:
    """What a converter would have written of a tokenizer of transformers."""
    backend = tokenizer.backend_tokenizer
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])
    added = tokenizer.added_tokens_decoder
    kinds = [(3 if added[number].special else 4) if number in added else 1 for _, number in vocabulary]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in _merges(backend)]
    return Header(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": [token for token, _ in vocabulary],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": pairs,
            "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
            "tokenizer.chat_template": tokenizer.chat_template,
        }
        | {f"tokenizer.ggml.{key}": found for key, found in more.items()},
        {},
    )


def _merges(backend: Tokenizer) -> list[Any]:
    merges: list[Any] = json.loads(backend.to_str())["model"]["merges"]
    return merges
