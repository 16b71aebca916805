"""What configurations and headers tell of a model's size: the same as the model itself, once it is made."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ALL, NATIVE, PAGED, make_module
from attrs import evolve
from checkpoints import LLAMA_CONTEXT
from gguf_files import write_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, Qwen3Config

from helexa.engine.memory import MIB, SHORTEST_CONTEXT
from helexa.engine.networks import attention, decoders, graphs, workspace
from helexa.engine.networks.decoders import Decoder
from helexa.engine.networks.generic import TransformersNetwork
from helexa.engine.networks.native import NativeNetwork, is_native
from helexa.engine.networks.workspace import Step
from helexa.engine.parallel.network import ParallelNetwork, ShareError, refuse_odd
from helexa.engine.quant.formats import Quant
from helexa.engine.quant.packing import Packed, can_pack
from helexa.engine.sampling import sampler as sampling
from helexa.engine.weights import files, footprint, reading
from helexa.engine.weights.footprint import DEGREES, Needs, Target
from helexa.engine.weights.gguf_model import open_model
from helexa.gguf import read_header

HERE = Target("cpu", packs=can_pack(torch.zeros(16, 16, dtype=torch.bfloat16)))
GPU = Target("cuda")
TIED = {"tie_word_embeddings": True}
QUANTS: list[Quant | None] = [None, "bf16", "int8", "int4"]


class OneOf:
    """The collectives of a rank that never meets the others: enough to be built."""

    def __init__(self, ranks: int) -> None:
        self.rank, self.ranks = 0, ranks

    def reduce(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def built(name: str, dtype: torch.dtype = torch.bfloat16, **more: Any) -> Any:
    """A module like those of `architectures`, of another shape."""
    kind, own = ALL[name]
    shape = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    config = getattr(transformers, kind)(**shape | heads | own | more, dtype=str(dtype).removeprefix("torch."))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def needs_of(directory: Path, quant: Quant | None = None, target: Target = HERE) -> Needs:
    config = AutoConfig.from_pretrained(directory)
    weights = files.weights_bytes(directory, quant)
    return footprint.of_checkpoint(config, files.tensors(directory), weights, quant, target)


# held against the engine


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_configuration_tells_what_helexa_runs_itself(name: str) -> None:
    module = make_module(name)
    assert decoders.of_config(module.config).native == is_native(module)


@pytest.mark.parametrize("name", sorted(PAGED | NATIVE))
def test_a_configuration_tells_what_each_layer_keeps(name: str) -> None:
    module = make_module(name)
    found = decoders.of_config(module.config)
    with torch.inference_mode():
        network = NativeNetwork(module) if found.native else TransformersNetwork(module)
    assert list(found.kept) == network.layers


@pytest.mark.parametrize("head", [{}, TIED])
@pytest.mark.parametrize("name", sorted(NATIVE))
def test_a_configuration_tells_how_many_weights_there_are(name: str, head: dict[str, Any]) -> None:
    module = built(name, **head)
    own = sum(each.numel() for key, each in module.named_parameters() if "norm" not in key)
    assert footprint.parameters(decoders.of_config(module.config)) == own


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("head", [{}, TIED])
@pytest.mark.parametrize("name", sorted(NATIVE))
@torch.inference_mode()
def test_a_network_holds_what_its_configuration_tells(
    name: str, head: dict[str, Any], quant: Quant | None, dtype: torch.dtype
) -> None:
    module = built(name, dtype, **head)
    model = footprint.native(decoders.of_config(module.config), quant, HERE)
    held = NativeNetwork(module.to(torch.bfloat16) if quant else module, quant).nbytes
    assert model.weights - model.norms == pytest.approx(held, rel=0.02)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("name", sorted(NATIVE))
@torch.inference_mode()
def test_a_rank_holds_what_its_configuration_tells(name: str, quant: Quant | None, ranks: int) -> None:
    module = built(name, num_key_value_heads=4, vocab_size=321)
    model = evolve(footprint.native(decoders.of_config(module.config), quant, HERE), ranks=ranks)
    network = ParallelNetwork(module, OneOf(ranks), quant)
    assert model.weights - model.norms == pytest.approx(network.nbytes, rel=0.02)
    assert model.footprint.token == sum(layer.elements for layer in network.layers) * 2


@pytest.mark.parametrize("heads", [(8, 8), (8, 4), (8, 2), (8, 1), (6, 3)])
@pytest.mark.parametrize("neurons", [128, 100])
def test_a_model_is_spread_where_it_can_be(heads: tuple[int, int], neurons: int) -> None:
    counts = {"num_attention_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": 16}
    module = built("qwen3", **counts, intermediate_size=neurons)
    found = decoders.of_config(module.config)
    for ranks in range(1, 9):
        try:
            refuse_odd(module, ranks)
            can = True
        except ShareError:
            can = False
        assert found.divides(ranks) == can, ranks


@pytest.mark.parametrize("kinds", [{}, {"attn_v": "Q6_K"}, {"token_embd": "Q8_0", "ffn_up": "Q6_K"}])
@pytest.mark.parametrize("quant", [None, "int8"])
def test_a_gguf_file_tells_what_its_model_holds(tmp_path: Path, quant: Quant | None, kinds: dict[str, str]) -> None:
    def kind_of(name: str) -> str:
        return next((kind for part, kind in kinds.items() if part in name), "Q4_K")

    module = built("qwen3", hidden_size=256, intermediate_size=256, head_dim=64, tie_word_embeddings=True)
    file = write_model(module, tmp_path / "m.gguf", kind_of)
    model = footprint.native_gguf(read_header(file), quant, HERE)
    assert model is not None
    opened = open_model(file, quant)
    with torch.inference_mode():
        held = NativeNetwork(opened.module, quant, fill=opened.fill).nbytes
    assert model.weights - model.norms == pytest.approx(held, rel=0.02)


def test_constants_are_those_of_the_modules_that_import_torch() -> None:
    assert workspace.READ_AHEAD == reading.AHEAD
    assert workspace._TILE == attention._TILE
    assert workspace._DRAWN_AT_ONCE == sampling._SLICE
    assert [workspace.graph_sizes(most) for most in (1, 3, 64, 256)] == [graphs.buckets(m) for m in (1, 3, 64, 256)]


def test_a_laid_out_layer_is_as_large_as_a_plain_one() -> None:
    weight = torch.zeros(320, 64, dtype=torch.bfloat16)
    if can_pack(weight):
        assert Packed(weight, None).nbytes == footprint.Product(320, 64, None).nbytes(2)


# from files


@pytest.mark.parametrize("quant", QUANTS)
def test_a_checkpoint_is_known_by_its_configuration(llama: Path, quant: Quant | None) -> None:
    found = needs_of(llama, quant)
    assert found.alone.context == LLAMA_CONTEXT
    assert found.alone.kv == LLAMA_CONTEXT * 2 * 2 * 2 * 16 * (2 if quant else 4)
    assert list(found.shared) == [2]
    told = files.weights_bytes(llama, quant)
    copied = 320 * 64 * 2 if quant == "bf16" and HERE.packs else 0  # the output layer, laid out anew
    assert found.alone.weights == pytest.approx(told + copied, rel=0.02)


def test_files_that_are_not_what_the_configuration_says_are_known_by_their_headers(llama: Path) -> None:
    config = AutoConfig.from_pretrained(llama)
    config.num_hidden_layers = 40
    found = footprint.of_checkpoint(config, files.tensors(llama), 12345, None, HERE)
    assert (found.alone.weights, found.shared) == (12345, {})


def test_of_another_family_the_headers_tell_and_it_is_not_spread(tmp_path: Path) -> None:
    make_module("gemma2 with a soft cap", torch.bfloat16).save_pretrained(tmp_path)
    plain, reduced = needs_of(tmp_path), needs_of(tmp_path, "int8")
    copy = 320 * 64 * 2 if HERE.packs else 0
    assert plain.alone.weights == files.weights_bytes(tmp_path) + copy
    assert plain.shared == reduced.shared == {}
    assert reduced.alone.weights < plain.alone.weights


def test_experts_are_not_reduced(tmp_path: Path) -> None:
    make_module("qwen3 with experts", torch.bfloat16).save_pretrained(tmp_path)
    tensors = {name: place for name, place in files.tensors(tmp_path).items() if ".experts." in name}
    experts = sum(math.prod(place.shape) for place in tensors.values()) * 2
    assert needs_of(tmp_path, "int8").alone.weights > experts > files.weights_bytes(tmp_path, "int8") / 2


@pytest.mark.parametrize(("stated", "element"), [("bfloat16", 2), ("float32", 4), (None, 2), (None, 4)])
def test_what_is_published_is_known_by_its_configuration_and_size(stated: str | None, element: int) -> None:
    module = built("qwen3", tie_word_embeddings=True)
    module.config.dtype = stated
    size = sum(each.numel() for each in module.parameters()) * element
    found = footprint.of_published(module.config, size, None, Target(packs=False))
    assert found.alone.weights == pytest.approx(size, rel=0.05)
    assert list(found.shared) == [2]


def test_what_is_published_in_another_size_is_known_by_that_alone() -> None:
    config = built("qwen3").config
    found = footprint.of_published(config, 10 * MIB, "int8", HERE)
    assert found.alone.weights == pytest.approx(5.3 * MIB, rel=0.01)
    assert found.shared == {}


@pytest.mark.parametrize("spoil", ["token_embd.weight", "blk.1.ffn_up.weight"])
def test_a_gguf_file_that_lacks_a_tensor_is_not_known(tmp_path: Path, spoil: str) -> None:
    header = read_header(write_model(built("qwen3"), tmp_path / "m.gguf", lambda _: "F16"))
    assert footprint.of_gguf(header, None, HERE) is not None
    broken = evolve(header, tensors={name: each for name, each in header.tensors.items() if name != spoil})
    assert footprint.of_gguf(broken, None, HERE) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qwen3.block_count", 10**9),
        ("qwen3.block_count", 0),
        ("qwen3.embedding_length", "wide"),
        ("qwen3.attention.head_count", -1),
        ("qwen3.attention.head_count_kv", [2, 2]),
        ("qwen3.attention.key_length", 0),
        ("general.architecture", "mamba"),
    ],
)
def test_a_gguf_file_that_says_nonsense_is_not_known(tmp_path: Path, key: str, value: Any) -> None:
    header = read_header(write_model(built("qwen3"), tmp_path / "m.gguf", lambda _: "F16"))
    assert footprint.of_gguf(evolve(header, metadata={**header.metadata, key: value}), None, HERE) is None


# kinds of devices

LARGE = Qwen3Config(
    vocab_size=151_936,
    hidden_size=4096,
    intermediate_size=12_288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40_960,
    tie_word_embeddings=False,
    dtype="bfloat16",
)


def of_large(quant: Quant | None = None, target: Target = HERE) -> Needs:
    return footprint.of_published(LARGE, 16_381_470_720, quant, target)


def test_a_large_model_on_a_gpu_needs_its_weights_a_context_and_little_more() -> None:
    """Qwen3-8B: 8.19 thousand million weights, 144 KiB of keys and values per token."""
    found = of_large(target=GPU).alone
    assert found.weights == pytest.approx(16.38e9, rel=0.001)
    assert (found.token, found.context) == (144 * 1024, SHORTEST_CONTEXT)
    assert 512 * MIB < found.workspace < 2048 * MIB


def test_a_gpu_keeps_graphs_for_a_model_of_its_own_alone() -> None:
    step = Step(decoders.of_config(LARGE), "cuda", 1, None, SHORTEST_CONTEXT)
    assert step._graphs > 1000 * 151_936 * 2
    assert evolve(step, ranks=2)._graphs == 0


@pytest.mark.parametrize("quant", QUANTS)
def test_every_rank_needs_less_than_the_whole_and_all_together_no_less(quant: Quant | None) -> None:
    found = of_large(quant)
    assert tuple(found.shared) == DEGREES
    weights = [found.alone.weights, *(each.weights for each in found.shared.values())]
    assert weights == sorted(weights, reverse=True)
    for ranks, each in found.shared.items():
        assert each.weights * ranks >= found.alone.weights
        assert each.token * ranks == found.alone.token
        assert each.weights + each.kv + each.workspace < found.alone.weights + found.alone.kv + found.alone.workspace


def test_a_tied_output_layer_is_held_twice_where_it_is_laid_out_anew() -> None:
    tied = evolve(decoders.of_config(LARGE), tied=True)
    plain, packed = (footprint.native(tied, None, Target(packs=packs)).weights for packs in (False, True))
    assert packed - plain == 151_936 * 4096 * 2
    assert footprint.native(tied, None, GPU).weights == plain


def test_a_window_bounds_what_a_step_sees() -> None:
    whole = Step(decoders.of_config(LARGE), "cpu", 1, None, SHORTEST_CONTEXT)
    assert evolve(whole, decoder=evolve(whole.decoder, window=64)).nbytes < whole.nbytes / 2


counts = st.integers(1, 64)


@given(
    width=counts, heads=counts, kv_heads=counts, head=counts, neurons=counts, vocabulary=counts, depth=st.integers(1, 9)
)
def test_no_shape_makes_less_than_nothing(**numbers: int) -> None:
    kept = [decoders.LayerShape(numbers["kv_heads"], numbers["head"], numbers["head"])] * numbers["depth"]
    shape = Decoder(**numbers, context=17, dtype="bfloat16", tied=False, kept=kept, native=True)
    for quant in (*QUANTS, "fp8"):
        model = footprint.native(shape, quant, HERE)  # type: ignore[arg-type]  # mypy makes them strings
        for each in (model.footprint, *footprint.spread(model).values()):
            assert min(each.weights, each.token, each.workspace, each.kv) > 0 or each.token == 0
            assert each.context == 17
