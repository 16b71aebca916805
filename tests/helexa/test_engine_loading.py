"""What loads, what does not and why, and that no file of a repository is ever run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import make_module
from checkpoints import LLAMA_CONTEXT, QWEN_CONTEXT
from engine_runs import generate, greedy, load, prompt
from gguf_files import write_model
from safetensors.torch import load_file, save_file

from helexa.engine.networks.runner import PagedRunner
from helexa.engine.threads import ThreadGovernor
from helexa.engine.weights import checkpoints, loading
from helexa.engine.weights.loading import LoadError, load_model
from helexa.text import ChatTokenizer

WEIGHTS = "model.safetensors"


class Poison:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._marker}'",)


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may spoil."""
    return shutil.copytree(llama, tmp_path / "copy")


def change_config(directory: Path, **changes: object) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_model_that_loads_says_what_it_holds(llama: Path) -> None:
    model = load_model(str(llama), "cpu")
    size = sum(each.numel() * 4 for each in load_file(llama / WEIGHTS).values())
    assert size / 2**20 <= model.memory_mb <= size / 2**20 + 2
    assert model.seconds > 0
    assert model.device == torch.device("cpu")
    assert model.directory == llama
    assert model.vocabulary == model.runner.vocabulary == 320


def test_the_context_is_the_models_own(llama: Path, qwen: Path) -> None:
    assert (load(llama).context_length, load(qwen).context_length) == (LLAMA_CONTEXT, QWEN_CONTEXT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_keep_the_type_they_were_published_in(copy: Path, dtype: torch.dtype) -> None:
    weights = {name: each.to(dtype) for name, each in load_file(copy / WEIGHTS).items()}
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    change_config(copy, dtype=str(dtype).removeprefix("torch."))
    runner = load_model(str(copy), "cpu").runner
    assert isinstance(runner, PagedRunner)
    assert runner._network.dtype == runner._cache._keys[0].dtype == dtype


def test_weights_in_several_files(copy: Path, llama: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    names = sorted(weights)
    shards = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    (copy / WEIGHTS).unlink()
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, copy / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert generate(load_model(str(copy), "cpu"), prompt(9), greedy(8)) == generate(load(llama), prompt(9), greedy(8))


def test_a_missing_directory() -> None:
    with pytest.raises(LoadError, match="there is no directory '/nowhere/at/all'"):
        load_model("/nowhere/at/all", "cpu")


def test_an_id_that_is_not_in_the_cache_is_not_looked_for_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LoadError, match="LocalEntryNotFoundError"):
        load_model("nobody/nothing", "cpu")


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"config\.json"):
        load_model(str(tmp_path), "cpu")


@pytest.mark.parametrize("config", ["", "{", "[]", '{"model_type": "no-such-architecture"}', "{}"])
def test_a_config_that_is_none(copy: Path, config: str) -> None:
    (copy / "config.json").write_text(config)
    with pytest.raises(LoadError):
        load_model(str(copy), "cpu")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[: len(data) // 2], "it may not have been copied whole"),
        (lambda _: b"", "it has 0 bytes"),
        (lambda data: b"\xff" * len(data), "its header is to have 18446744073709551615 bytes"),
    ],
)
@pytest.mark.parametrize("memory", [None, 2**30])
def test_corrupt_weights(copy: Path, spoil: Any, reason: str, memory: int | None) -> None:
    file = copy / WEIGHTS
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(LoadError, match=f"^'model.safetensors' is no safetensors file: .*{reason}"):
        load_model(str(copy), "cpu", memory=memory)


def test_weights_that_end_while_they_are_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped file would end the process."""
    file, opened = copy / WEIGHTS, checkpoints.files.tensors

    def cut(directory: Path) -> Any:
        found = opened(directory)
        os.truncate(file, file.stat().st_size // 2)
        return found

    monkeypatch.setattr(checkpoints.files, "tensors", cut)
    with pytest.raises(LoadError, match=r"^'model.safetensors' ended while it was being read; it has been changed$"):
        load_model(str(copy), "cpu")


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"lack 1 of .*model\.layers\.0\.mlp\.up_proj\.weight"):
        load_model(str(copy), "cpu")


def test_weights_of_another_shape(copy: Path) -> None:
    change_config(copy, intermediate_size=96)
    with pytest.raises(LoadError) as caught:
        load_model(str(copy), "cpu")
    assert str(caught.value) == (
        "its files have 'model.layers.0.mlp.gate_proj.weight' as [128, 64], and its configuration as [96, 64]"
    )


def test_weights_that_are_no_floats(copy: Path) -> None:
    weights = load_file(copy / WEIGHTS)
    weights["model.norm.weight"] = torch.ones(64, dtype=torch.int8)
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"^its files have 'model\.norm\.weight' as I8, which is no dtype of weights"):
        load_model(str(copy), "cpu")


def test_a_configuration_of_more_layers_than_there_are_tensors_is_refused_before_they_are_made(copy: Path) -> None:
    change_config(copy, num_hidden_layers=10**12)
    with pytest.raises(LoadError, match=r"^its configuration has 1000000000000 layers, its files \d+ tensors$"):
        load_model(str(copy), "cpu")


def test_code_that_a_model_cannot_do_without_is_refused_by_its_name(copy: Path) -> None:
    change_config(copy, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"}, model_type="evil")
    with pytest.raises(LoadError, match=r"^it needs code of its own, 'modeling_evil\.py'; no code of .* is ever run$"):
        load_model(str(copy), "cpu")


@pytest.mark.parametrize("name", ["../model.safetensors", "/model.safetensors"])
def test_an_index_that_names_files_elsewhere_is_refused(copy: Path, name: str) -> None:
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(LoadError, match=f"^its index names '{name}', which is outside of its directory$"):
        load_model(str(copy), "cpu")


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 7}'])
def test_an_index_that_is_none_is_told_by_its_name(copy: Path, index: str) -> None:
    (copy / f"{WEIGHTS}.index.json").write_text(index)
    with pytest.raises(LoadError, match=r"^'model\.safetensors\.index\.json' (cannot be read|does not have what)"):
        load_model(str(copy), "cpu")


def test_an_index_that_names_the_wrong_file_is_refused(copy: Path) -> None:
    index = {"weight_map": {"model.norm.weight": WEIGHTS, "model.more.weight": WEIGHTS}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(
        LoadError, match=r"^its index says that 'model\.more\.weight' is in 'model\.safetensors', and it"
    ):
        load_model(str(copy), "cpu")


def test_the_time_of_a_load_is_told_in_parts_that_make_it_up(llama: Path) -> None:
    model = load_model(str(llama), "cpu")
    assert set(model.parts) == {"open", "read", "arrange", "cache", "warm up"}
    assert min(model.parts.values()) >= 0
    assert 0.9 * model.seconds - 0.05 < sum(model.parts.values()) <= model.seconds


def test_a_device_that_is_not_there(llama: Path) -> None:
    with pytest.raises(LoadError):
        load_model(str(llama), "cuda:77")


def test_an_error_is_one_line(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(LoadError) as caught:
        load_model(str(copy), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_in_pickles_alone_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / WEIGHTS), copy / "pytorch_model.bin")
    (copy / WEIGHTS).unlink()
    with pytest.raises(LoadError, match=r"^its weights are in 'pytorch_model.bin', and it has no safetensors file"):
        load_model(str(copy), "cpu")


def test_an_index_that_names_pickles_is_refused(copy: Path) -> None:
    """These are honest ones, which a restricted unpickler would read."""
    weights = load_file(copy / WEIGHTS)
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadError, match=r"'pytorch_model\.bin'; only safetensors"):
        load_model(str(copy), "cpu")


def test_a_config_that_names_pickles_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "adapter_model.bin")
    change_config(copy, transformers_weights="adapter_model.bin")
    with pytest.raises(LoadError, match=r"'adapter_model\.bin'; only safetensors"):
        load_model(str(copy), "cpu")


CODE = {
    "AutoConfig": "evil.EvilConfig",
    "AutoModelForCausalLM": "evil.EvilModel",
    "AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"],
}


@pytest.mark.parametrize("model_type", ["llama", "evil"])
def test_a_poisoned_repository_runs_nothing(copy: Path, tmp_path: Path, model_type: str) -> None:
    """Every file that something might execute: scripts named by configs, pickles of every usual name."""
    marker = tmp_path / "poisoned"
    (copy / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for script in ("modeling_llama.py", "tokenization_llama.py", "custom_generate/generate.py", "__init__.py"):
        (copy / script).parent.mkdir(exist_ok=True)
        shutil.copy(copy / "evil.py", copy / script)
    for name in (
        "pytorch_model.bin",
        "tokenizer.pkl",
        "training_args.bin",
        ".metadata",
        "model.pt",
        "adapter_model.bin",
    ):
        (copy / name).write_bytes(pickle.dumps(Poison(marker)))
    change_config(copy, auto_map=CODE, model_type=model_type, custom_generate="evil.py")
    tokenizer_config = copy / "tokenizer_config.json"
    tokenizer_config.write_text(json.dumps({**json.loads(tokenizer_config.read_text()), "auto_map": CODE}))
    for read in (lambda: load_model(str(copy), "cpu"), lambda: ChatTokenizer.load(copy)):
        try:
            read()
        except (LoadError, ValueError):
            assert model_type == "evil"
    assert not marker.exists()


def test_the_poison_works(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    marker = tmp_path / "poisoned"
    pickle.loads(pickle.dumps(Poison(marker)))
    assert marker.exists()


def test_how_far_a_load_is_is_told_in_bytes(llama: Path) -> None:
    told: list[tuple[int, int]] = []
    load_model(str(llama), "cpu", told=lambda done, total: told.append((done, total)))
    size = sum(each.numel() * 4 for each in load_file(llama / WEIGHTS).values())
    assert {total for _, total in told} == {size}
    assert max(told) == told[-1] == (size, size)


def test_how_far_a_load_of_a_gguf_file_is_is_told_part_by_part(llama: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    shutil.copy(llama / "tokenizer.json", tmp_path)
    file = write_model(make_module("llama"), tmp_path / "m.gguf", lambda _: "F32")
    load_model(str(file), "cpu", told=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert len({done for done, _ in told}) > 3, "layer by layer"
    assert told[-1][0] == told[-1][1] > 0


def test_threads_are_as_before_whatever_the_first_steps_saw(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowded machine has the second step taken by one thread alone."""
    used, before = list[int](), torch.get_num_threads()

    def crowded(_threads: int, use: Callable[[int], None]) -> ThreadGovernor:
        def note(threads: int) -> None:
            used.append(threads)
            use(threads)

        return ThreadGovernor(before + 3, note, clock=count(0, 0.01).__next__, spent=lambda: 0)

    monkeypatch.setattr(loading, "ThreadGovernor", crowded)
    torch.set_num_threads(before + 3)
    load_model(str(llama), "cpu")
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (used, after) == ([1], before + 3)
