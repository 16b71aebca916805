"""Where a model's files are on this host, and what is said when they are not there."""

import json
import shutil
from pathlib import Path

import pytest

from helexa import tiny
from helexa.neuron.sources import resolve
from helexa.wire.errors import ApiError


@pytest.fixture
def copy(qwen: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may spoil."""
    return shutil.copytree(qwen, tmp_path / "copy")


def refused(model: str, source: str | None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        resolve(model, source)
    return caught.value


def test_a_directory(qwen: Path) -> None:
    assert resolve("any/thing", f"path:{qwen}") == str(qwen)


def test_a_directory_below_home(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(qwen.parent))
    assert resolve("m", f"path:~/{qwen.name}") == str(qwen)


def test_an_id_that_is_a_path(qwen: Path) -> None:
    assert resolve(f"path:{qwen}", None) == str(qwen)


def test_the_bundled_model_needs_no_registry() -> None:
    assert resolve(tiny.MODEL_ID, "helexa") == str(tiny.CHECKPOINT)
    assert resolve("mine", f"helexa:{tiny.MODEL_ID}") == str(tiny.CHECKPOINT)


def test_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF\3\0\0\0")
    assert resolve("m", f"path:{file}") == str(file)


def test_a_directory_whose_name_ends_as_a_gguf_file_s(copy: Path) -> None:
    assert resolve("m", f"path:{copy.rename(copy.with_name('x.gguf'))}").endswith("x.gguf")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("path:/nowhere", "'/nowhere' has no config.json"),
        ("path:", "'path:' has no absolute path; \"path:\" and an absolute path"),
        ("path:~nobody-of-that-name/models", "cannot be read"),
        ("path:/nul\0byte", "'path:/nul\\x00byte…' has control characters or is too long"),
        (f"path:/{'x' * 5000}", "has control characters or is too long"),
        (f"path:/{'x' * 4000}", "cannot be read"),
        ("helexa", "'m' is not bundled with helexa"),
        ("", "'' is not a source"),
        ("s3://bucket", '\'s3://bucket\' is not a source; "huggingface" or "helexa"'),
        ("huggingface:m", "'huggingface:m' does not name a repository; owner/name"),
        ("huggingface:a/b/c", "'huggingface:a/b/c' does not name a GGUF file of a repository"),
        (None, "it is not in the catalogue, and no source is given"),
    ],
)
def test_a_source_that_is_none(source: str | None, reason: str) -> None:
    error = refused("m", source)
    assert (error.status, error.code, error.param) == (400, "invalid_value", "source")
    assert reason in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize("model", ["../../etc", "a/b/c", "a b/c"])
def test_an_id_that_cannot_be_a_repository_s(model: str) -> None:
    assert refused(model, "huggingface").code == "invalid_value"


def test_a_directory_without_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    error = refused("m", f"path:{copy}")
    assert (error.status, error.code) == (400, "weights_missing")
    assert error.message.startswith(f"'{copy}' has a config.json and no safetensors weights; its 'pytorch_model.bin'")


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "gone.safetensors"}}', "{", "[]"])
def test_a_directory_whose_index_names_what_is_not_there(copy: Path, index: str) -> None:
    (copy / "model.safetensors.index.json").write_text(index)
    assert refused("m", f"path:{copy}").code == "weights_missing"


@pytest.mark.parametrize("config", ["{", "[]"])
def test_a_configuration_that_is_none(copy: Path, config: str) -> None:
    (copy / "config.json").write_text(config)
    error = refused("m", f"path:{copy}")
    assert (error.status, error.code) == (400, "config_invalid")
    assert f"The config.json of '{copy}' cannot be read: " in error.message


@pytest.mark.parametrize("kind", ["homemade", None, 7])
def test_a_directory_whose_model_needs_its_own_code(copy: Path, kind: object) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": {"AutoModel": "x.Y"}}))
    error = refused("m", f"path:{copy}")
    assert (error.status, error.code) == (400, "remote_code")
    assert "code from a model's files is never run" in error.message


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("gone.gguf", 404, "source_not_found"),
        ("text.gguf", 400, "weights_invalid"),
        ("empty.gguf", 400, "weights_invalid"),
    ],
)
def test_a_gguf_file_that_is_none(tmp_path: Path, name: str, status: int, code: str) -> None:
    (tmp_path / "text.gguf").write_text("GGML")
    (tmp_path / "empty.gguf").touch()
    error = refused("m", f"path:{tmp_path / name}")
    assert (error.status, error.code) == (status, code)
    assert name in error.message


def test_a_split_gguf_file_that_lacks_a_part(tmp_path: Path) -> None:
    first = tmp_path / "x-00001-of-00002.gguf"
    first.write_bytes(b"GGUF")
    error = refused("m", f"path:{first}")
    assert error.message == f"'{tmp_path}' has no file 'x-00002-of-00002.gguf'; it has 'x-00001-of-00002.gguf'."
