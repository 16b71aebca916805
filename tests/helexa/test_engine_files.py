"""What a model's files say of the size of its weights."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from helexa.engine.weights import files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with an empty configuration."""
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def tensors(size: int = 10, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(size, 3, dtype=dtype), "b": torch.zeros(1, dtype=dtype)}


def test_weights_are_counted_as_they_are_stored(model: Path) -> None:
    save_file(tensors(), model / "model.safetensors", {"format": "pt"})
    assert files.weights_bytes(model) == 31 * 4


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_floats_are_counted_in_the_dtype_they_are_loaded_as(model: Path, key: str) -> None:
    save_file({**tensors(), "packed": torch.zeros(7, dtype=torch.int32)}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({key: "bfloat16"}))
    assert files.weights_bytes(model) == 31 * 2 + 7 * 4


def test_a_dtype_that_nobody_knows_changes_nothing(model: Path) -> None:
    save_file(tensors(), model / "model.safetensors")
    (model / "config.json").write_text('{"dtype": "float3"}')
    assert files.weights_bytes(model) == 31 * 4


def test_the_files_of_an_index_are_counted_once_each_and_no_others(model: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"):
        save_file(tensors(), model / name)
    places = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert files.weights_bytes(model) == 2 * 31 * 4


def test_a_copy_in_another_format_is_not_counted(model: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors"):
        save_file(tensors(), model / name)
    assert files.weights_bytes(model) == 31 * 4


def test_files_under_other_names_are_found(model: Path) -> None:
    save_file(tensors(), model / "weights.safetensors")
    assert files.weights_bytes(model) == 31 * 4


def test_a_directory_without_weights(model: Path) -> None:
    with pytest.raises(ValueError, match="it has no safetensors file"):
        files.weights_bytes(model)


@pytest.mark.parametrize("config", ["{", "[]", None])
def test_a_configuration_that_is_none(model: Path, config: str | None) -> None:
    save_file(tensors(), model / "model.safetensors")
    (model / "config.json").unlink() if config is None else (model / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"'config\.json'"):
        files.weights_bytes(model)


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": "gone.safetensors"}}'])
def test_an_index_that_is_none(model: Path, index: str) -> None:
    (model / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json'|gone"):
        files.weights_bytes(model)


def header(found: object) -> bytes:
    data = json.dumps(found).encode()
    return struct.pack("<Q", len(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"\xff" * 100,
        header([]),
        header({"a": 7}),
        header({"a": {"dtype": "F32", "shape": [2]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": ["x", "y"]}}),
        header({"a": {"dtype": "F32", "shape": "ab", "data_offsets": 7}}),
    ],
)
def test_a_file_that_is_none_is_named(model: Path, data: bytes) -> None:
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"'model\.safetensors' is no safetensors file"):
        files.weights_bytes(model)


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail_in_another_way(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    model = tmp_path_factory.mktemp("m")
    (model / "config.json").write_text('{"dtype": "bfloat16"}')
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)
    try:
        assert files.weights_bytes(model) >= 0
    except ValueError:
        pass
    finally:
        shutil.rmtree(model)
