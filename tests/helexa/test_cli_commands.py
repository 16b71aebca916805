"""`check` and `init` as an operator meets them: what is printed where, and the exit code."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from config import DEMO, HOMELAB, load, parse
from helexa.cli.app import app
from helexa.cli.scaffold import scaffold
from helexa.wire.fleet import DeviceInfo, Discovery

RUNNER = CliRunner()
COMMANDS = ("up", "check", "doctor", "status", "ps", "load", "unload", "pin", "plan", "chat", "init", "neuron")
CPU = DeviceInfo(0, "cpu", "x86_64", 8192)


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("file", "counts"),
    [(DEMO, "1 neuron(s), 1 model(s), 1 alias(es)"), (HOMELAB, None)],
    ids=["demo", "homelab"],
)
def test_a_valid_file_is_counted_on_stdout(file: Path, counts: str | None) -> None:
    code, out, err = run("check", file)
    assert (code, err) == (0, "")
    assert out.startswith(f"{file} is valid: ")
    assert counts is None or out == f"{file} is valid: {counts}.\n"


def test_every_problem_is_shown_at_once_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[cortex]\nlisten = 5\nlisetn = "x"\n[aliases]\nsmall = "nothing"\n')
    code, out, err = run("check", file)
    assert (code, out) == (2, "")
    *problems, last = err.splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in problems] == [f"bad.toml:{n}" for n in (2, 3, 5)]
    assert last == f"helexa: 3 problems in {file}; nothing was started."


@pytest.mark.parametrize("text", ["[cortex", "a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_one_problem(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    code, _, err = run("check", file)
    assert code == 2
    assert err.endswith(f"helexa: 1 problem in {file}; nothing was started.\n")
    assert "Traceback" not in err


def test_a_file_that_is_not_text_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe\x00")
    code, out, err = run("check", file)
    assert (code, out) == (2, "")
    assert "bad.toml" in err


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, command: str) -> None:
    missing = tmp_path / "missing.toml"
    for path, reason in ((missing, "no such file or directory"), (tmp_path, "is a directory")):
        code, out, err = run(command, path)
        assert (code, out) == (2, "")
        assert err.startswith(f"{path}: cannot be read: {reason}")
        assert err.endswith(f"helexa: 1 problem in {path}; nothing was started.\n")


def test_a_neuron_that_the_file_does_not_have_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.text.forgo_torch", lambda: None)  # for good, and this process has other tests to run
    code, out, err = run("neuron", DEMO, "--name", "other")
    assert (code, out) == (2, "")
    assert err == f"helexa: {DEMO} has no neuron 'other'; it has local.\n"


def test_a_host_that_the_file_does_not_have_is_wrong_usage() -> None:
    code, out, err = run("up", HOMELAB, "--host", "elsewhere")
    assert (code, out) == (2, "")
    known = ", ".join(load(HOMELAB).hosts)
    assert f"has nothing for host 'elsewhere'; it names {known}. Say which one this is with --host." in err


@pytest.mark.parametrize("arguments", [["nothing"], ["check"], ["up", "--nothing"], ["neuron", str(DEMO)]])
def test_wrong_usage_is_exit_code_two(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage:" in err


def test_help_names_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f" {name} " in out for name in COMMANDS)
    assert "--ready-fd" not in run("neuron", "--help")[1]


def test_doctor_is_given_the_file_the_host_and_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def examine(file: Path | None, host: str | None, *, as_json: bool) -> int:
        asked.append((file, host, as_json))
        return 1

    monkeypatch.setattr("helexa.cli.doctor.doctor", examine)
    assert run("doctor") == (1, "", "")
    assert run("doctor", DEMO, "--host", "beast", "--json")[0] == 1
    assert asked == [(None, None, False), (DEMO, "beast", True)]


def test_the_version_is_printed() -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("helexa 0.")


def test_init_writes_a_file_that_check_accepts(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    code, out, err = run("init", file)
    assert (code, out) == (0, "")
    assert err == f"wrote {file}; look through it, then: helexa up {file}\n"
    assert run("check", file)[0] == 0


def test_init_overwrites_only_when_told_to(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    file.write_text("mine")
    assert run("init", file) == (1, "", f"helexa: {file} is there already; --force overwrites it.\n")
    assert file.read_text() == "mine"
    assert run("init", file, "--force")[0] == 0
    assert load(file).neuron("local") is not None


def test_init_says_why_it_cannot_write(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "topology.toml"
    assert run("init", file) == (1, "", f"helexa: cannot write {file}: No such file or directory\n")
    assert run("init", tmp_path, "--force") == (1, "", f"helexa: cannot write {tmp_path}: Is a directory\n")


def test_a_scaffold_names_what_was_found() -> None:
    devices = (DeviceInfo(0, "cuda:0", "RTX 3060", 12288, "8.6"), DeviceInfo(1, "cuda:1", "RTX 4090", 24564, "8.9"))
    text = scaffold(Discovery("box", "Linux", "560", devices))
    assert "#   cuda:0  RTX 3060, 12 GiB, compute capability 8.6\n" in text
    assert parse(text).neurons[0].devices == ("cuda:0", "cuda:1")


def test_a_scaffold_says_why_there_is_only_a_cpu() -> None:
    text = scaffold(Discovery("box", "Linux", None, (CPU,), "no NVIDIA device:\n[driver] not loaded"))
    assert "#   (no NVIDIA device: [driver] not loaded)\n" in text
    topology = parse(text)
    assert (topology.neurons[0].devices, topology.neurons[0].preload) == (("cpu",), ("helexa/tiny",))
    assert topology.aliases == {"tiny": "helexa/tiny"}


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 2**20))
def test_a_scaffold_is_a_valid_file_whatever_a_driver_says(kind: str, reason: str, memory: int) -> None:
    found = Discovery("box", "Linux", None, (DeviceInfo(0, "cpu", kind, memory, kind),), reason)
    assert parse(scaffold(found)).neurons[0].devices == ("cpu",)


def test_the_commented_parts_of_a_scaffold_are_valid_too() -> None:
    lines = scaffold(Discovery("box", "Linux", None, (CPU,))).splitlines()
    start = next(index for index, line in enumerate(lines) if line == "# [cortex]")
    second = "\n".join(line.removeprefix("#").strip() for line in lines[start:-2])
    topology = parse(second)
    assert topology.hosts == ("gateway", "beast")
