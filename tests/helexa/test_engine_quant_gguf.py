"""Tensors of GGUF files, number by number as the format's description has them, and the models that they make."""

import struct
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from architectures import BLOCK, make_module
from attrs import evolve
from gguf_files import PACK, describe, file_bytes, write_model
from hypothesis import given
from hypothesis import strategies as st
from quality import Distance, bundled, distance, logits_of
from torch import Tensor

from helexa.engine.networks.native import NativeNetwork
from helexa.engine.networks.runner import PagedRunner
from helexa.engine.quant.formats import NEAREST, Quant, gguf_bytes, gguf_token_bytes
from helexa.engine.quant.gguf import _WIDEN, open_file, read
from helexa.engine.quant.packing import pack_in_place
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.weights import gguf_model as quant_gguf_model
from helexa.engine.weights.gguf_model import GgufModel, open_model
from helexa.gguf import KINDS, GgufError, Header, read_header

# One block at a time, one weight at a time


def half(block: bytes, at: int) -> float:
    return float(struct.unpack_from("<e", block, at)[0])


def nibble(block: bytes, at: int, *, upper: bool) -> int:
    return block[at] >> 4 if upper else block[at] & 15


def plain_32(block: bytes, fifth: int | None, codes: int, middle: int, least: int | None) -> list[float]:
    """Q4_0, Q4_1, Q5_0, Q5_1: weight i and weight i + 16 share a byte."""
    found = []
    for i in range(32):
        code = nibble(block, codes + i % 16, upper=i >= 16)
        if fifth is not None:
            code |= (block[fifth + i // 8] >> (i % 8) & 1) << 4
        found.append(half(block, 0) * (code - middle) + (0 if least is None else half(block, least)))
    return found


def plain_k(block: bytes, fifth: int | None, codes: int) -> list[float]:
    """Q4_K, Q5_K: eight groups of 32, groups 2 i and 2 i + 1 share bytes."""
    found = []
    for i in range(256):
        group, at = i // 32, i % 32
        p = block[4:16]
        if group < 4:
            scale, least = p[group] & 63, p[group + 4] & 63
        else:
            scale = p[group + 4] & 15 | p[group - 4] >> 6 << 4
            least = p[group + 4] >> 4 | p[group] >> 6 << 4
        code = nibble(block, codes + group // 2 * 32 + at, upper=group % 2 == 1)
        if fifth is not None:
            code |= (block[fifth + at] >> group & 1) << 4
        found.append(half(block, 0) * scale * code - half(block, 2) * least)
    return found


def plain_q6_k(block: bytes) -> list[float]:
    """Two halves of four quarters of 32; quarters 0 and 2 share bytes, and 1 and 3; all four share their upper bits."""
    found = []
    for i in range(256):
        part, quarter, at = i // 128, i // 32 % 4, i % 32
        low = nibble(block, part * 64 + quarter % 2 * 32 + at, upper=quarter >= 2)
        high = block[128 + part * 32 + at] >> (2 * quarter) & 3
        scale = struct.unpack_from("<b", block, 192 + i // 16)[0]
        found.append(half(block, 208) * scale * ((low | high << 4) - 32))
    return found


PLAIN = {
    "Q4_0": lambda block: plain_32(block, None, 2, 8, None),
    "Q4_1": lambda block: plain_32(block, None, 4, 0, 2),
    "Q5_0": lambda block: plain_32(block, 2, 6, 16, None),
    "Q5_1": lambda block: plain_32(block, 4, 8, 0, 2),
    "Q8_0": lambda block: [half(block, 0) * struct.unpack_from("<b", block, 2 + i)[0] for i in range(32)],
    "Q4_K": lambda block: plain_k(block, None, 16),
    "Q5_K": lambda block: plain_k(block, 16, 48),
    "Q6_K": plain_q6_k,
    "F32": lambda block: list(struct.unpack("<f", block)),
    "F16": lambda block: list(struct.unpack("<e", block)),
    "BF16": lambda block: list(struct.unpack("<f", b"\0\0" + block)),
}
HALVES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q6_K": (208,)}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@given(data=st.data())
def test_a_block_is_what_the_format_says(kind: Any, data: st.DataObject) -> None:
    blocks = []
    for _ in range(2):
        block = bytearray(data.draw(st.binary(min_size=kind.size, max_size=kind.size)))
        for at in HALVES.get(kind.name, (0, 2) if kind.name.endswith("_K") else ()):
            block[at : at + 2] = struct.pack("<e", data.draw(st.floats(-2, 2, width=16)))
        blocks.append(bytes(block))
    found = _WIDEN[kind.name](torch.tensor([list(block) for block in blocks], dtype=torch.uint8))
    expected = torch.tensor([PLAIN[kind.name](block) for block in blocks])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


WORST_STEP = {"Q8_0": 1 / 127, "Q4_K": 0.4, "Q5_K": 0.2, "Q6_K": 0.08, "F32": 0.0, "F16": 1e-3, "BF16": 1e-2}


@pytest.mark.parametrize("kind", PACK)
def test_a_tensor_comes_back_from_a_file(kind: str, tmp_path: Path) -> None:
    """More blocks than are widened at a time, in rows of several."""
    tensor = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "m.gguf"
    file.write_bytes(file_bytes({}, {"before": ("F32", torch.zeros(7)), "t": (kind, tensor)}))
    found = read(open_file(file), read_header(file).tensors["t"], torch.float32)
    assert found.shape == tensor.shape
    assert (found - tensor).abs().max() <= WORST_STEP[kind] * tensor.abs().max() / 2


def test_every_kind_that_is_read_is_held_as_something() -> None:
    assert {kind.name for kind in KINDS.values()} == NEAREST.keys() == _WIDEN.keys()


# Models


def filled(model: GgufModel) -> Any:
    """As a module of transformers."""
    for part in (model.module.model.rotary_emb, model.module.model.embed_tokens, model.module):
        model.fill(part)
    pack_in_place(model.module)
    return model.module


def mixed(few: str, many: str) -> Any:
    """As llama.cpp's medium mixes: the second half of a few layers in more bits, and the embedding."""

    def kind_of(name: str) -> str:
        wide = name == "token_embd.weight" or (".2." in name and ("attn_v" in name or "ffn_down" in name))
        return many if wide else few

    return kind_of


FILES: dict[str, tuple[Any, Distance]] = {
    "Q8_0": (lambda _: "Q8_0", Distance(1.001, 0.003, 0.98, 0.03)),
    "Q6_K": (lambda _: "Q6_K", Distance(1.002, 0.006, 0.97, 0.05)),
    "Q5_K_M": (mixed("Q5_K", "Q6_K"), Distance(1.005, 0.02, 0.94, 0.09)),
    "Q4_K_M": (mixed("Q4_K", "Q6_K"), Distance(1.01, 0.08, 0.9, 0.18)),
}


@pytest.fixture(scope="module")
def whole() -> list[Tensor]:
    return logits_of(bundled())


@pytest.mark.parametrize("name", FILES)
def test_the_bundled_model_keeps_its_quality_in_a_file(name: str, whole: list[Tensor], tmp_path: Path) -> None:
    kind_of, worst = FILES[name]
    file = write_model(bundled(), tmp_path / "m.gguf", kind_of)
    found = distance(whole, logits_of(filled(open_model(file))))
    assert found.perplexity < worst.perplexity
    assert found.divergence < worst.divergence
    assert found.agreement > worst.agreement
    assert found.logits < worst.logits


def random_module(name: str) -> Any:
    """In bfloat16, but for its frequencies, as after a load."""
    module = make_module(name, torch.bfloat16)
    module.model.rotary_emb = type(module.model.rotary_emb)(module.config)
    return module


def last_logits(network: NativeNetwork) -> Tensor:
    runner = PagedRunner(network, torch.device("cpu"), 20, BLOCK)
    return runner.forward(StepPlan((Chunk(1, tuple(range(3, 40)), 0, list(range(10)), due=True),)))[0]


def native(model: GgufModel, quant: Quant | None = None) -> NativeNetwork:
    return NativeNetwork(model.module, quant, torch.device("cpu"), model.fill)


@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
@pytest.mark.parametrize("name", ["qwen3", "qwen2", "llama"])
def test_a_model_in_bfloat16_is_the_same_from_a_file(name: str, tmp_path: Path, *, tied: bool) -> None:
    module = random_module(name)
    if tied:
        module.config.tie_word_embeddings = True
        module.lm_head.weight = module.model.embed_tokens.weight
    file = write_model(module, tmp_path / "m.gguf", lambda _: "BF16")
    found = last_logits(native(open_model(file)))
    assert torch.equal(found, last_logits(NativeNetwork(module)))


def test_a_llama_with_stretched_frequencies(tmp_path: Path) -> None:
    module = random_module("llama")
    module.config.tie_word_embeddings = False
    file, factors = tmp_path / "m.gguf", torch.linspace(1, 8, 8)
    write_model(module, file, lambda _: "BF16")
    plain = read_header(file)
    tensors = {name: ("F32", read(open_file(file), info, torch.float32)) for name, info in plain.tensors.items()}
    file.unlink()  # it is mapped, so it must not be written over
    file.write_bytes(file_bytes(plain.metadata, {**tensors, "rope_freqs.weight": ("F32", factors)}))
    module.model.rotary_emb.inv_freq = module.model.rotary_emb.inv_freq / factors
    assert torch.equal(last_logits(native(open_model(file))), last_logits(NativeNetwork(module)))


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_a_file_is_reduced_further_if_that_is_asked_for(quant: Quant, tmp_path: Path) -> None:
    file = write_model(bundled(), tmp_path / "m.gguf", lambda _: "Q8_0")
    held, reduced = native(open_model(file)), native(open_model(file, quant), quant)
    assert (reduced.nbytes < held.nbytes) == (quant == "int4")


def test_a_file_is_held_in_about_its_own_size(tmp_path: Path) -> None:
    file = write_model(bundled(), tmp_path / "m.gguf", FILES["Q4_K_M"][0])
    embedding = 3072 * 256 * 2  # in bfloat16, and the output layer beside it in eight bits
    assert native(open_model(file)).nbytes < file.stat().st_size * 1.25 + embedding


@pytest.mark.parametrize("quant", [None, "int8", "int4"])
@pytest.mark.parametrize("name", FILES)
def test_what_a_file_will_need_is_known_before_it_is_read(name: str, quant: Quant | None, tmp_path: Path) -> None:
    file = write_model(bundled(), tmp_path / "m.gguf", FILES[name][0])
    opened = open_model(file, quant)
    assert opened.nbytes == gguf_bytes(read_header(file), quant)
    assert native(opened, quant).nbytes == pytest.approx(opened.nbytes, rel=0.02)
    assert gguf_token_bytes(read_header(file)) == 4 * 2 * 64 * 2 * 2


def test_what_the_layers_of_a_file_are_held_as(tmp_path: Path) -> None:
    file = write_model(bundled(), tmp_path / "m.gguf", FILES["Q4_K_M"][0])
    assert open_model(file).held == {"int4", "int8"}
    assert open_model(file, "int8").held == {"int8"}


@pytest.mark.parametrize(
    "metadata",
    [{}, {"x.block_count": 2}, {"x.block_count": "2", "x.embedding_length": 8, "x.attention.head_count": 2}],
)
def test_a_cache_of_a_file_that_does_not_tell_is_unknown(metadata: dict[str, Any]) -> None:
    assert gguf_token_bytes(Header({"general.architecture": "x", **metadata}, {})) == 0


def test_the_ends_that_a_file_names_are_the_model_s(tmp_path: Path) -> None:
    file = write_model(make_module("qwen3"), tmp_path / "m.gguf", lambda _: "F32", **{"tokenizer.ggml.eot_token_id": 9})
    module = open_model(file).module
    assert module.generation_config.eos_token_id == [7, 9]
    assert all(parameter.is_meta for parameter in module.parameters()), "no weight is read before it is asked for"


# What cannot be run


def spoilt(tmp_path: Path, drop: str = "", more: str = "", **metadata: Any) -> Path:
    """The file of a small Qwen3 with something wrong."""
    module = make_module("qwen3", torch.bfloat16)
    file = write_model(module, tmp_path / "good.gguf", lambda _: "BF16")
    header = read_header(file)
    tensors = {name: ("F32", read(open_file(file), each, torch.float32)) for name, each in header.tensors.items()}
    tensors = {name: each for name, each in tensors.items() if name != drop}
    if more:
        tensors[more] = ("F32", torch.zeros(4))
    (tmp_path / "m.gguf").write_bytes(file_bytes({**describe(module.config), **metadata}, tensors))
    return tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ({"general.architecture": "gemma3"}, "it is a 'gemma3'; of GGUF files, llama, qwen2, qwen3 are run"),
        ({"qwen3.expert_count": 4}, "it is a mixture of experts, with which no GGUF file is run here"),
        ({"qwen3.attention.sliding_window": 4}, "it has a sliding window, with which no GGUF file is run here"),
        (
            {"qwen3.rope.dimension_count": 8},
            "it rotates a part of each head alone, with which no GGUF file is run here",
        ),
        ({"drop": "token_embd.weight"}, "it lacks the tensor 'token_embd.weight'"),
        ({"drop": "blk.1.ffn_up.weight"}, "it lacks the tensor 'blk.1.ffn_up.weight'"),
        (
            {"more": "blk.0.post_ffw_norm.weight"},
            "it has the tensor 'blk.0.post_ffw_norm.weight', which a qwen3 has not",
        ),
        ({"qwen3.block_count": 2}, "it has the tensor 'blk.2.attn_k.weight', which a qwen3 has not"),
        (
            {"qwen3.block_count": 5},
            "it lacks the tensor 'blk.4.self_attn.q_proj.weight'|it lacks the tensor 'blk.4.attn_q",
        ),
        ({"qwen3.block_count": 4_000_000_000}, "its 'qwen3.block_count' is 4000000000; a number is expected"),
        ({"qwen3.block_count": [1, 2]}, r"its 'qwen3.block_count' is \[1, 2\]; a number is expected"),
        ({"qwen3.attention.head_count": 0}, "its 'qwen3.attention.head_count' is 0; a number is expected"),
        (
            {"qwen3.feed_forward_length": 64},
            r"its tensor 'blk.0.ffn_gate.weight' is \(128, 64\), and its model needs \(64, 64\)",
        ),
        ({"qwen3.attention.key_length": 7}, "what it says of its shape fits no model: "),
        ({"qwen3.rope.freq_base": "x"}, "its 'qwen3.rope.freq_base' is x; a number above 0 is expected"),
        ({"qwen3.rope.freq_base": float("nan")}, "its 'qwen3.rope.freq_base' is nan; a number above 0 is expected"),
        ({"qwen3.rope.scaling.type": "longrope"}, "it scales its positions by 'longrope', which is not known here"),
    ],
)
def test_a_file_of_no_model_that_is_run_here(spoil: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=problem):
        open_model(spoilt(tmp_path, **spoil))


STRANGE = st.sampled_from(
    [0, 1, 7, 64, 2**31, 2**32 - 1, 1.5, float("nan"), float("inf"), "x", "", "yarn", [1, 2], ["a"]]
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 in a file."""
    return write_model(make_module("qwen3"), tmp_path_factory.mktemp("gguf") / "m.gguf", lambda _: "F32")


@given(data=st.data())
def test_whatever_a_file_says_it_is_opened_or_refused(good: Path, data: st.DataObject) -> None:
    """Metadata alone changes; the tensors are what they are."""
    header = read_header(good)
    keys = [key for key in header.metadata if key.startswith("qwen3.")]
    more = ["rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "expert_count"]
    changed = data.draw(
        st.dictionaries(st.sampled_from([*keys, *(f"qwen3.{key}" for key in more)]), STRANGE, max_size=3)
    )
    with patch.object(
        quant_gguf_model, "read_header", lambda _: evolve(header, metadata={**header.metadata, **changed})
    ):
        try:
            model = open_model(good)
        except GgufError:
            return
    assert model.nbytes > 0
