"""The topologies that come with the package, and reading files at large."""

import os
from pathlib import Path

import attrs
import pytest

from config import DEMO, HOMELAB, Topology, TopologyError, load


@pytest.mark.parametrize("path", [DEMO, HOMELAB])
def test_the_bundled_files_have_no_problems(path: Path) -> None:
    assert load(path, env={}).neurons


def test_the_demo_is_one_loopback_box_with_the_bundled_model() -> None:
    demo = load(DEMO, env={})
    (neuron,) = demo.neurons
    assert neuron.name == "local"
    assert neuron.preload == ("helexa/tiny",)
    assert demo.resolve("tiny") == demo.model("helexa/tiny")
    assert not demo.auth_required


def test_the_homelab_uses_every_section() -> None:
    homelab = load(HOMELAB, env={})
    sections = {field.name for field in attrs.fields(Topology)}
    written = HOMELAB.read_text()
    assert {name for name in sections if f"[{name}" in written} == sections
    assert homelab.hosts == ("gateway", "beast", "desk")
    assert homelab.auth_required


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_bytes(b"\xef\xbb\xbfmodels = [{ id = 'm' }]\r\n")
    assert load(path, env={}).model("m")


def test_the_environment_of_the_process_counts_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "topology.toml"
    path.write_text("")
    monkeypatch.setenv("HELEXA__CORTEX__SECRET_ENV", "OTHER")
    assert load(path).cortex.secret_env == "OTHER"


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(TopologyError) as caught:
        load(path, env={})
    assert str(caught.value) == (
        f"{path}: cannot be read: no such file or directory "
        "(give the path of a topology file; `helexa init` writes one)"
    )


def test_a_directory_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(TopologyError) as caught:
        load(tmp_path, env={})
    assert str(caught.value) == f"{tmp_path}: cannot be read: is a directory"


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# one\n# \xe9\n")
    with pytest.raises(TopologyError) as caught:
        load(os.fspath(path), env={})
    assert str(caught.value) == f"{path}:2: is not UTF-8 text (save the file as UTF-8)"
