"""What a model's files and the memory that is left say about its limits, and models that are not paged."""

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import transformers
from checkpoints import LLAMA_CONTEXT
from engine_runs import NAME, Bench, assert_idle, generate, greedy, load, prompt, reference
from structlog.testing import capture_logs

from helexa.engine.core import Engine
from helexa.engine.memory import MIB
from helexa.engine.networks.runner import PagedRunner
from helexa.engine.networks.stateful import StatefulRunner
from helexa.engine.protocol import ModelLoad
from helexa.engine.quant.packing import module_bytes
from helexa.engine.weights import files, loading
from helexa.engine.weights.loading import LoadedModel, LoadError, load_model
from helexa.tiny import CHECKPOINT

BLOCK_BYTES = 2 * 2 * (16 + 16) * 4 * 16
"""Of the small Llama: layers, heads, key and value, float32, tokens."""


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may spoil."""
    return shutil.copytree(llama, tmp_path / "copy")


def change(file: Path, **changes: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **changes}))


def leave_memory(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """About so many bytes for the KV cache, whatever this machine has."""
    monkeypatch.setattr(loading, "HOST_SHARE", size / psutil.virtual_memory().available)


# Ends


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (None, None, set()),
        (7, None, {7}),
        (0, None, {0}),
        ([5, 6], None, {5, 6}),
        (7, {"eos_token_id": [8, 9]}, {8, 9}),
        (7, {"eos_token_id": 0}, {0}),
        (7, {"do_sample": True}, {7}),
        (None, {"do_sample": True}, set()),
    ],
)
def test_the_ids_that_end_a_sequence_are_those_of_the_files(
    copy: Path, config: object, generation: dict[str, object] | None, expected: set[int]
) -> None:
    change(copy / "config.json", eos_token_id=config)
    (copy / "generation_config.json").unlink()
    if generation is not None:
        change(copy / "generation_config.json", **generation)
    assert load_model(str(copy), "cpu").eos_ids == expected


def test_the_bundled_model_says_where_it_ends() -> None:
    settings = json.loads((CHECKPOINT / "generation_config.json").read_bytes())
    assert load(CHECKPOINT).eos_ids == set(settings["eos_token_id"])


# Memory


def test_a_pool_holds_all_that_may_run_at_full_length(llama: Path) -> None:
    assert load_model(str(llama), "cpu", running=5).blocks == 5 * LLAMA_CONTEXT // 16


def test_little_memory_makes_the_context_shorter(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_memory(monkeypatch, 3.5 * BLOCK_BYTES)
    model = load_model(str(llama), "cpu")
    assert (model.blocks, model.context_length) == (3, 48)
    tokens, end = generate(model, prompt(40), greedy(None))
    assert (tokens, end.reason) == (reference(model, prompt(40), 8), "length")
    bench = Bench.of(model)
    bench.submit("r", prompt(48), greedy(1))
    assert bench.outcome.failures["r"].error == "prompt of 48 tokens, context of 48"


def test_no_memory_at_all_is_an_error_that_says_so(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "HOST_SHARE", 0.0)
    with pytest.raises(LoadError, match="0 MiB are left for its KV cache, too little for 16 tokens"):
        load_model(str(llama), "cpu")


def test_the_pool_is_only_taken_as_it_is_filled(qwen: Path) -> None:
    """Otherwise an idle model would hold a quarter of the host's memory."""
    process = psutil.Process()
    before = process.memory_info().rss
    model = load_model(str(qwen), "cpu", running=2000)
    pool = model.blocks * model.block_size * 2 * 2 * (16 + 16) * 4
    assert pool > 2**26
    assert process.memory_info().rss - before < pool / 4


@pytest.mark.parametrize("model", ["llama", "bundled"])
def test_warming_up_leaves_no_trace(llama: Path, model: str) -> None:
    found = load_model(str(llama if model == "llama" else CHECKPOINT), "cpu")
    engine = Engine(found)
    assert engine.figures(NAME) == ModelLoad(NAME, 0, 0, found.blocks, found.blocks, 0)
    assert_idle(engine)
    bench = Bench.of(found)
    bench.submit("r", [0] * 40, greedy(2))  # the ids that it warms up with
    assert bench.run().ends["r", 0].cached_tokens == 0


# Memory that a neuron's models may have together


def weights_of(directory: Path) -> int:
    """Bytes, with buffers that no file has."""
    return module_bytes(loading._read(directory).module)


def test_what_a_model_and_its_cache_hold_is_told(llama: Path) -> None:
    model = load_model(str(llama), "cpu", running=5)
    assert model.memory_mb == -(-weights_of(llama) // MIB)
    assert model.kv_mb == -(-model.blocks * BLOCK_BYTES // MIB)


def test_a_cache_gets_its_share_of_what_the_weights_leave(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "HOST_SHARE", 0.5)
    weights = weights_of(llama)
    assert load_model(str(llama), "cpu", memory=weights + 2 * 7 * BLOCK_BYTES).blocks == 7
    plenty = load_model(str(llama), "cpu", memory=2**40)
    assert plenty.blocks == load_model(str(llama), "cpu").blocks, "not more than the machine has"


def test_weights_larger_than_what_is_left_are_not_even_read(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = files.weights_bytes(llama)
    monkeypatch.setattr(loading, "_read", None)
    with pytest.raises(LoadError) as caught:
        load_model(str(llama), "cpu", memory=weights - 1)
    needed, left = -(-weights // MIB), (weights - 1) // MIB
    assert str(caught.value) == (
        f"its weights need {needed} MiB, and of the memory its neuron may use, {left} MiB are left"
    )


def test_weights_that_turn_out_larger_than_their_files_are_refused_as_well(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(llama)
    monkeypatch.setattr(files, "weights_bytes", lambda *_: 0)
    with pytest.raises(LoadError, match="its weights need"):
        load_model(str(llama), "cpu", memory=weights - 1)


def test_weights_that_leave_nothing_for_a_cache_are_told_with_both_numbers(llama: Path) -> None:
    with pytest.raises(LoadError, match="0 MiB are left for its KV cache, too little for 16 tokens, which need 1 MiB"):
        load_model(str(llama), "cpu", memory=weights_of(llama))


def test_files_that_are_broken_are_told_as_without_a_limit(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(LoadError, match=r"'model\.safetensors' is no safetensors file"):
        load_model(str(copy), "cpu", memory=2**30)


# Models that are not paged

MAMBA: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "initializer_range": 0.3,
    "eos_token_id": 9,
}
GPTJ: dict[str, Any] = {
    "vocab_size": 320,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "rotary_dim": 8,
    "initializer_range": 0.3,
    "eos_token_id": None,
}


def save(directory: Path, config: Any) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("mamba"), transformers.MambaConfig(**MAMBA))


@pytest.fixture(scope="module")
def gptj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("gptj"), transformers.GPTJConfig(**GPTJ))


def check_batch(model: LoadedModel) -> None:
    prompts = {f"r{n}": prompt(4 + 9 * n, seed=n) for n in range(4)}
    bench = Bench.of(model)
    for name, ids in prompts.items():
        bench.submit(name, ids, greedy(6))
    outcome = bench.run()
    assert {name: outcome.of(name) for name in prompts} == {
        name: reference(model, ids, 6) for name, ids in prompts.items()
    }


def test_a_model_that_cannot_be_paged_is_told_and_served(mamba: Path) -> None:
    with capture_logs() as logs:
        model = load_model(str(mamba), "cpu")
    assert [entry["event"] for entry in logs] == ["model.not_paged"]
    assert isinstance(model.runner, StatefulRunner)
    assert model.runner._states == {}, "what warmed it up"
    assert (model.context_length, model.eos_ids) == (4096, {9})
    check_batch(model)


def test_a_model_with_attention_of_its_own_is_not_taken_for_one_that_is_paged(gptj: Path) -> None:
    model = load_model(str(gptj), "cpu")
    assert isinstance(model.runner, StatefulRunner)
    assert model.context_length == 64
    check_batch(model)


def test_without_a_paged_cache_no_prompt_is_found_again(mamba: Path) -> None:
    bench = Bench.of(load_model(str(mamba), "cpu"))
    for name in ("first", "second"):
        bench.submit(name, prompt(40), greedy(3))
        assert bench.run().ends[name, 0].cached_tokens == 0
    assert bench.outcome.of("first") == bench.outcome.of("second")


def test_a_model_that_is_paged_says_nothing(llama: Path) -> None:
    with capture_logs() as logs:
        assert isinstance(load_model(str(llama), "cpu").runner, PagedRunner)
    assert logs == []


def test_a_model_whose_sequences_cannot_be_told_apart_does_not_load(tmp_path: Path) -> None:
    config = transformers.RecurrentGemmaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=32,
        attention_window_size=8,
    )
    with pytest.raises(LoadError, match="does not hand out what it keeps of a sequence"):
        load_model(str(save(tmp_path, config)), "cpu")
