"""Where a model's files are, and what is said when they are not there."""

from pathlib import Path

import pytest

from helexa import tiny
from helexa.neuron.sources import resolve
from helexa.wire.errors import ApiError


def refused(model: str, source: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        resolve(model, source)
    return caught.value


def test_a_directory(qwen: Path) -> None:
    assert resolve("any/thing", f"path:{qwen}") == str(qwen)


def test_a_directory_below_home(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(qwen.parent))
    assert resolve("m", f"path:~/{qwen.name}") == str(qwen)


def test_the_bundled_model() -> None:
    assert resolve(tiny.MODEL_ID, "helexa") == str(tiny.CHECKPOINT)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("path:/nowhere", "'/nowhere' has no config.json"),
        ("path:", "has no config.json"),
        ("path:~nobody-of-that-name/models", "cannot be read"),
        ("path:/nul\0byte", "/nul"),
        (f"path:/{'x' * 5000}", "cannot be read"),
        ("helexa", "'m' is not bundled with helexa"),
        ("", "unknown source ''"),
        ("s3://bucket", "unknown source 's3://bucket'; use 'helexa', 'huggingface' or 'path:/…'"),
    ],
)
def test_a_source_that_is_none(source: str, reason: str) -> None:
    error = refused("m", source)
    assert (error.status, error.code, error.param) == (400, "invalid_value", "source")
    assert reason in error.message


def test_what_hugging_face_does_not_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    error = refused("nobody/nothing", "huggingface")
    assert (error.status, error.code) == (502, "upstream_error")
    assert "'nobody/nothing' cannot be fetched from Hugging Face" in error.message
    assert "\n" not in error.message


def test_an_id_that_cannot_be_one() -> None:
    assert refused("../../etc", "huggingface").status == 502
