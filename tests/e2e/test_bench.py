"""An operator measures a real fleet with the real commands: figures, exit codes, what is kept, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from harness import Fleet, free_port
from slow_proxy import slowed

pytestmark = pytest.mark.usefixtures("forked_fleets")
CHAT = ("--scenario", "chat:prompt_tokens=32,output_tokens=4,requests=1")
ROUNDS = ("--rounds", "5")


@define(eq=False)
class Bench:
    """The commands, with a database of their own."""

    fleet: Fleet
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        database = f"sqlite:///{self.directory}/bench.db"
        return {**os.environ, "HELEXA_URL": self.fleet.url, "HELEXA_BENCH_DATABASE": database, "COLUMNS": "80"}

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, env=self.environment, timeout=100, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: object) -> Any:
        """What a command that succeeds, or finds a regression, prints as JSON."""
        code, out, err = self(*arguments, "--json")
        assert code in {0, 3}, err
        return json.loads(out)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "helexa", "bench", *map(str, arguments)]


@pytest.fixture
def bench(fleet: Fleet, tmp_path: Path) -> Bench:
    return Bench(fleet, tmp_path)


@pytest.fixture
def slow(fleet: Fleet) -> Iterator[str]:
    """The fleet, which takes sixteen times as long over everything: far beyond what busy machines do."""
    with slowed(fleet.port, 16.0) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_fleet_is_measured_and_kept_and_what_is_slower_next_time_is_a_regression(bench: Bench, slow: str) -> None:
    code, out, err = bench("run", *CHAT, *ROUNDS, "--label", "before")
    assert code == 0, err
    assert "helexa/tiny" in out
    assert "time to first token" in out
    assert "kept as batch" in err
    code, out, err = bench("run", *CHAT, *ROUNDS, "--url", slow, "--label", "after")
    assert code == 3, out + err
    assert "regression" in out
    assert "Traceback" not in err
    assert {row["label"] for row in bench.json("runs")} == {"before", "after"}


def test_a_neuron_and_an_outside_server_are_measured_beside_each_other(bench: Bench) -> None:
    outside = ("--target", f"other={bench.fleet.url}", "--topology", bench.fleet.topology, "--model", "helexa/tiny")
    found = bench.json("run", *CHAT, "--rounds", 2, *outside)
    cells = {(run["cell"]["target"], run["target"]["kind"], run["cell"]["model"]) for run in found["runs"]}
    assert cells == {("local", "neuron", "helexa/tiny"), ("other", "openai", "helexa/tiny")}
    assert {run["outcome"] for run in found["runs"]} == {"ok"}
    assert found["comparison"] is None


def test_the_quick_suite_measures_a_fleet(bench: Bench) -> None:
    found = bench.json("run", "--rounds", 1, "--against", "none", "--no-save")
    assert {run["outcome"] for run in found["runs"]} <= {"ok", "skipped"}
    assert {run["cell"]["scenario"] for run in found["runs"] if run["outcome"] == "ok"} >= {"chat", "throughput"}
    assert not (bench.directory / "bench.db").exists()


def test_what_was_measured_until_ctrl_c_is_shown_and_kept(bench: Bench) -> None:
    pipe = subprocess.PIPE
    measure = command("run", *CHAT, "--rounds", 1000)
    with subprocess.Popen(measure, stdout=pipe, stderr=pipe, text=True, env=bench.environment) as process:
        assert process.stderr is not None
        try:
            assert "round 1 of 1000" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "broken off" in err
    assert "time to first token" in out
    [run] = bench.json("runs", "last")
    assert run["samples"]


def test_what_cannot_be_measured_is_said_in_a_sentence(bench: Bench) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    wrong: list[tuple[tuple[object, ...], str]] = [
        (("run", *CHAT, "--url", nobody), f"helexa: no fleet answers at {nobody} "),
        (("run", *CHAT, "--model", "nobody/x"), "helexa: no target has a model 'nobody/x'; there is helexa/tiny."),
        (("compare", "a", "b"), "helexa: "),
    ]
    for arguments, said in wrong:
        code, out, err = bench(*arguments)
        assert (code, out) == (1, ""), arguments
        assert err.startswith(said)
        assert "Traceback" not in err


def test_figures_go_to_files(bench: Bench, tmp_path: Path) -> None:
    bench.json("run", *CHAT, "--rounds", 2)
    export, page = tmp_path / "all.json", tmp_path / "page.html"
    assert bench("export", export)[2] == f"wrote 1 run to {export}\n"
    assert bench("report", "-o", page)[0] == 0
    assert "helexa/tiny" in page.read_text()
