"""Models loaded with reduced weights: they answer, they fit where the whole one does not; what cannot be is said."""

from pathlib import Path

import pytest
import torch
from architectures import make_module
from checkpoints import make_tokenizer
from gguf_files import header_of, write_model
from quality import bundled

from helexa import tiny
from helexa.engine.memory import MIB
from helexa.engine.quant.formats import Quant
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.weights import files
from helexa.engine.weights.loading import LoadError, load_model

PROMPT = tuple(range(20, 50))


def likeliest(quant: Quant | None) -> int:
    model = load_model(str(tiny.CHECKPOINT), "cpu", running=1, quant=quant)
    return int(model.runner.forward(StepPlan((Chunk(1, PROMPT, 0, [0, 1], due=True),))).argmax())


@pytest.mark.parametrize("quant", ["bf16", "int8", "int4"])
def test_the_bundled_model_says_what_it_did(quant: Quant) -> None:
    assert likeliest(quant) == likeliest(None)


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_what_a_model_holds_is_what_its_files_told(quant: Quant) -> None:
    told = files.weights_bytes(tiny.CHECKPOINT, quant) / MIB
    held = load_model(str(tiny.CHECKPOINT), "cpu", running=1, quant=quant).memory_mb
    assert told == pytest.approx(held, abs=1.01, rel=0.02)


def test_a_model_that_does_not_fit_does_so_with_reduced_weights() -> None:
    tight = files.weights_bytes(tiny.CHECKPOINT) - 1
    with pytest.raises(LoadError, match="its weights need"):
        load_model(str(tiny.CHECKPOINT), "cpu", running=1, memory=tight)
    assert load_model(str(tiny.CHECKPOINT), "cpu", running=1, memory=tight, quant="int4").memory_mb * MIB < tight


def test_float32_weights_are_brought_to_bfloat16(llama: Path) -> None:
    assert load_model(str(llama), "cpu", running=1).memory_mb >= load_model(str(llama), "cpu", quant="bf16").memory_mb


def test_a_format_without_a_kernel_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoadError, match=r"^fp8 needs an NVIDIA GPU of compute capability 8\.9, and 'cpu' is none"):
        load_model(str(tmp_path), "cpu", quant="fp8")


OTHERS = {
    "qwen3 with experts": "most of this model's weights are elsewhere",
    "qwen3-next with linear attention": "int8 is for models that keep keys and values alone, and this one keeps more",
}


def checkpoint(name: str, directory: Path) -> str:
    make_module(name, torch.bfloat16).save_pretrained(directory)
    return str(directory)


def test_a_decoder_of_another_family_is_reduced_as_well(tmp_path: Path) -> None:
    path = checkpoint("gemma2 with a soft cap", tmp_path)
    whole, reduced = (load_model(path, "cpu", running=1, quant=quant) for quant in ("bf16", "int4"))
    logits = [each.runner.forward(StepPlan((Chunk(1, PROMPT, 0, [0, 1], due=True),)))[0] for each in (whole, reduced)]
    assert torch.nn.functional.cosine_similarity(*logits, dim=0) > 0.9


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_would_not_get_smaller_or_cannot_be_run_reduced_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=OTHERS[name]):
        load_model(checkpoint(name, tmp_path), "cpu", running=1, quant="int8")


def test_a_gguf_file_is_loaded_with_the_tokenizer_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    more = header_of(make_tokenizer()).metadata
    file = write_model(bundled(), tmp_path / "m.gguf", lambda _: "Q8_0", **more)
    model = load_model(str(file), "cpu", running=1)
    found = int(model.runner.forward(StepPlan((Chunk(1, PROMPT, 0, [0, 1], due=True),))).argmax())
    assert found == likeliest(None)
    assert model.memory_mb < load_model(str(tiny.CHECKPOINT), "cpu", running=1).memory_mb
    assert model.eos_ids == {more["tokenizer.ggml.eos_token_id"]}
    assert (model.directory / "tokenizer.json").is_file()


def test_a_gguf_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(LoadError, match=r"^'m\.gguf' cannot be read as GGUF: it is of version 0; 2 and 3 are read$"):
        load_model(str(tmp_path / "m.gguf"), "cpu")


def test_a_gguf_file_larger_than_what_is_left_is_not_read(tmp_path: Path) -> None:
    file = write_model(bundled(), tmp_path / "m.gguf", lambda _: "Q8_0")
    (tmp_path / "tokenizer.json").touch()
    with pytest.raises(LoadError, match="its weights need 6 MiB, and of the memory its neuron may use, 1 MiB are left"):
        load_model(str(file), "cpu", memory=MIB)
