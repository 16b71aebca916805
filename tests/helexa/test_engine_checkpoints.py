"""Models that helexa reads itself are those that transformers reads; and an unload leaves nothing."""

import gc
import json
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import transformers
from architectures import BLOCK, NATIVE, PAGED, make_module
from attrs import field, frozen
from gguf_files import write_model
from safetensors.torch import load_file, save_file

from helexa.engine.networks.native import NativeNetwork
from helexa.engine.networks.runner import PagedRunner
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.weights import loading
from helexa.engine.weights.checkpoints import open_native
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model, release
from helexa.tiny import CHECKPOINT

CPU = torch.device("cpu")
IDS = tuple(range(3, 40))
WEIGHTS = "model.safetensors"


def save(name: str, directory: Path, dtype: torch.dtype = torch.float32) -> Path:
    make_module(name, dtype).save_pretrained(directory)
    return directory


@torch.inference_mode()
def said_by(model: LoadedModel) -> torch.Tensor:
    """The logits after some tokens, float32."""
    slots = list(range(-(-len(IDS) // model.block_size)))
    return model.runner.forward(StepPlan((Chunk(1, IDS, 0, slots, due=True),)))[0].float()


@torch.inference_mode()
def said_by_transformers(directory: Path, quant: Quant | None = None) -> torch.Tensor:
    """The same of a network whose module transformers has read."""
    dtype: Any = torch.bfloat16 if quant else "auto"
    module = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    runner = PagedRunner(NativeNetwork(module, quant), CPU, 40, BLOCK)
    return runner.forward(StepPlan((Chunk(1, IDS, 0, list(range(10)), due=True),)))[0].float()


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """In parts of what is expected. In float32, products of the same numbers at other places of memory differ."""
    return float((found - expected).norm() / expected.norm())


ROUNDING = 1e-5

# The same model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NATIVE)
def test_a_model_of_the_family_is_what_transformers_reads(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    directory = save(name, tmp_path, dtype)
    assert open_native(directory) is not None
    found, expected = said_by(load_model(str(directory), "cpu")), said_by_transformers(directory)
    assert torch.equal(found, expected) if dtype == torch.bfloat16 else off(found, expected) < ROUNDING


@pytest.mark.parametrize("quant", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_reduced_as_well(tmp_path: Path, name: str, quant: Quant) -> None:
    directory = save(name, tmp_path)  # in float32: reduced from bfloat16
    found = load_model(str(directory), "cpu", quant=quant)
    assert torch.equal(said_by(found), said_by_transformers(directory, quant))


@pytest.mark.parametrize("quant", [None, "int8", "int4"])
@pytest.mark.parametrize("name", ["qwen3", "qwen2"])  # the second has biases
def test_layers_laid_out_by_several_threads_are_those_of_one(tmp_path: Path, name: str, quant: Quant | None) -> None:
    directory, threads = save(name, tmp_path, torch.bfloat16), torch.get_num_threads()
    expected = said_by(load_model(str(directory), "cpu", quant=quant))
    torch.set_num_threads(threads + 2)
    try:
        found = load_model(str(directory), "cpu", quant=quant)
        assert torch.get_num_threads() == threads + 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(said_by(found), expected)


def test_the_bundled_model_is_what_transformers_reads() -> None:
    assert torch.equal(said_by(load_model(str(CHECKPOINT), "cpu")), said_by_transformers(CHECKPOINT))


def test_a_tied_output_layer_is_one_with_the_embedding(tmp_path: Path) -> None:
    module = make_module("qwen3")
    module.config.tie_word_embeddings = True
    module.tie_weights()
    module.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    model = load_model(str(tmp_path), "cpu")
    assert off(said_by(model), said_by_transformers(tmp_path)) < ROUNDING
    network: Any = model.runner._network  # type: ignore[attr-defined]
    assert network._head.weight.data_ptr() == network._embedding.data_ptr()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "linear", "factor": 2.0},
    ],
)
def test_positions_are_scaled_as_the_configuration_says(tmp_path: Path, rope: dict[str, Any]) -> None:
    """What is computed from it is in no file, and was not there while the model had no memory."""
    directory = save("llama", tmp_path)
    config = json.loads((directory / "config.json").read_text())
    config["rope_parameters"] = rope | {"rope_theta": 10_000.0, "original_max_position_embeddings": 64}
    (directory / "config.json").write_text(json.dumps(config))
    plain = said_by_transformers(save("llama", tmp_path / "plain"))
    found = said_by(load_model(str(directory), "cpu"))
    assert off(found, said_by_transformers(directory)) < ROUNDING < off(found, plain)


@pytest.mark.parametrize("stated", [None, "float32", "bfloat16"])
def test_weights_become_what_the_configuration_says_or_else_stay(tmp_path: Path, stated: str | None) -> None:
    directory = save("qwen3", tmp_path, torch.bfloat16)
    config = json.loads((directory / "config.json").read_text())
    config.pop("dtype", None)
    (directory / "config.json").write_text(json.dumps(config | ({"dtype": stated} if stated else {})))
    opened = open_native(directory)
    assert opened is not None
    assert opened.dtype == opened.module.dtype == (torch.float32 if stated == "float32" else torch.bfloat16)
    assert off(said_by(load_model(str(directory), "cpu")), said_by_transformers(directory)) < ROUNDING


# What is left to transformers


def test_weights_under_other_names_are_left_to_transformers(tmp_path: Path) -> None:
    directory = save("qwen3", tmp_path / "whole")
    expected = said_by(load_model(str(directory), "cpu"))
    weights = load_file(directory / WEIGHTS)
    renamed = {name.removeprefix("model."): each for name, each in weights.items()}
    save_file(renamed, directory / WEIGHTS, {"format": "pt"})
    assert open_native(directory) is None
    try:
        assert off(said_by(load_model(str(directory), "cpu")), expected) < ROUNDING
    except LoadError as error:
        assert "lack" in str(error)  # noqa: PT017 - whether it knows these names is up to transformers


def test_an_output_layer_that_is_tied_and_stored_is_left_to_transformers(tmp_path: Path) -> None:
    directory = save("qwen3", tmp_path)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert open_native(directory) is None


@pytest.mark.parametrize("name", PAGED)
def test_other_families_are_left_to_transformers(tmp_path: Path, name: str) -> None:
    assert open_native(save(name, tmp_path)) is None


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_other_families_are_reduced_before_they_are_tried_out(tmp_path: Path, quant: Quant) -> None:
    directory = save("phi3", tmp_path, torch.bfloat16)
    whole, reduced = load_model(str(directory), "cpu"), load_model(str(directory), "cpu", quant=quant)
    assert isinstance(reduced.runner, PagedRunner)
    assert 0 < off(said_by(reduced), said_by(whole)) < 0.5


def test_what_cannot_be_reduced_says_so_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_read", None)
    with pytest.raises(LoadError, match=r"^fp8 needs an NVIDIA GPU of compute capability 8\.9, and 'cpu' is none"):
        load_model(str(save("qwen3", tmp_path)), "cpu", quant="fp8")


# GGUF files


@pytest.mark.parametrize("quant", [None, "int8"])
def test_a_gguf_file_is_loaded_like_a_directory(tmp_path: Path, quant: Quant | None) -> None:
    module = make_module("qwen3", torch.bfloat16)
    file = write_model(module, tmp_path / "m.gguf", lambda _: "BF16")
    module.save_pretrained(tmp_path / "same")
    (tmp_path / "tokenizer.json").touch()
    model = load_model(str(file), "cpu", quant=quant)
    assert (model.directory, model.eos_ids, model.vocabulary) == (tmp_path, {7}, 320)
    assert torch.equal(said_by(model), said_by_transformers(tmp_path / "same", quant))


def test_a_gguf_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(LoadError) as caught:
        load_model(str(tmp_path / "m.gguf"), "cpu")
    assert "Error" not in str(caught.value)


def test_a_gguf_file_without_a_tokenizer_is_told_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_put", None)
    file = write_model(make_module("qwen3", torch.bfloat16), tmp_path / "m.gguf", lambda _: "BF16")
    with pytest.raises(LoadError, match=r"^it has no tokenizer; put the model's tokenizer\.json beside it$"):
        load_model(str(file), "cpu")


def test_a_gguf_file_that_is_not_there() -> None:
    with pytest.raises(LoadError, match=r"^there is no file '/nowhere/m\.gguf'$"):
        load_model("/nowhere/m.gguf", "cpu")


# Shared by several processes


@frozen(eq=False)
class Alone:
    """A group of one that says it is two, and has room for three blocks."""

    asked: list[str] = field(factory=list)
    count: int = 2

    def network(self, module: Any, **how: Any) -> NativeNetwork:
        self.asked.append("network")
        return NativeNetwork(module, **how)

    def agree(self, blocks: int) -> int:
        self.asked.append("agree")
        return min(blocks, 3)


def test_a_group_makes_its_own_network_and_agrees_on_its_blocks(tmp_path: Path) -> None:
    ranks = Alone()
    model = load_model(str(save("qwen3", tmp_path)), "cpu", ranks=ranks)
    assert (model.blocks, ranks.asked) == (3, ["network", "agree", "agree"])


def test_a_model_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"^a Phi3ForCausalLM, .* cannot be spread over several devices$"):
        load_model(str(save("phi3", tmp_path)), "cpu", ranks=Alone())


# Memory

LARGE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 320,
    "max_position_embeddings": 64,
    "eos_token_id": None,
    "bos_token_id": None,
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 50 MiB in bfloat16, which shows among what Python and torch take and give."""
    directory = tmp_path_factory.mktemp("large")
    config = transformers.Qwen3Config(**LARGE)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(directory)
    return directory


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize("quant", [None, "int8"])
def test_an_unload_gives_all_memory_back(large: Path, quant: Quant | None) -> None:
    load_model(str(large), "cpu", quant=quant)  # what a first load sets up for all
    release()
    before = resident()
    model = load_model(str(large), "cpu", quant=quant)
    weights = model.memory_mb << 20
    assert resident() - before > weights * 0.9
    del model
    release()
    assert resident() - before < weights * 0.1


@pytest.mark.parametrize("name", ["qwen3", "phi3"])
def test_nothing_of_an_unloaded_model_is_left(tmp_path: Path, name: str) -> None:
    model = load_model(str(save(name, tmp_path)), "cpu")
    runner: Any = model.runner
    left = [weakref.ref(each) for each in (runner, runner._network, runner._cache)]
    del model, runner
    release()
    assert [each() for each in left] == [None] * 3


def test_weights_are_let_go_of_as_they_are_arranged(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never two copies: while the last layer is read, only the weights of a few are there as they came."""
    kept, most = list[weakref.ref[torch.Tensor]](), 0
    take = loading.WeightReader.take

    def watch(self: Any, name: str) -> torch.Tensor:
        nonlocal most
        found = take(self, name)
        kept.append(weakref.ref(found))
        most = max(most, sum(each.nbytes for ref in kept if (each := ref()) is not None) + self._held)
        return found

    monkeypatch.setattr(loading.WeightReader, "take", watch)
    monkeypatch.setattr(loading, "WeightReader", partial(loading.WeightReader, ahead=1 << 20))
    gc.disable()
    try:
        model = load_model(str(large), "cpu")
    finally:
        gc.enable()
    assert most < (model.memory_mb << 20) / 3
