"""The commands that read what was measured: comparisons, reports, listings, files; and their exit codes."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from bench_runs import BUILD_B, cell, failed, run
from operators import run_with

from helexa.bench.records import Run
from helexa.bench.storage.store import Store
from helexa.cli.app import app

WORSE = {"ttft": [0.24, 0.241, 0.239, 0.242, 0.238], "decode": [85.0, 85.1, 84.9, 85.2, 84.8]}
STEADY = {"ttft": [0.12, 0.121, 0.119, 0.122, 0.118], "decode": [85.0, 85.2, 84.8, 85.1, 84.9]}
OTHER = cell(target="desk", model="other", scenario="quality")


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/bench.db"
    monkeypatch.setenv("HELEXA_BENCH_DATABASE", url)
    return url


@pytest.fixture
def kept(database: str) -> list[Run]:
    """Two builds, of which the later one takes twice as long to the first token; and a run that failed."""
    runs = [
        evolve(run(STEADY, number=1), label="before"),
        evolve(run(WORSE, number=2, build=BUILD_B), label="after"),
        failed("It is gone.", of=OTHER, number=3),
    ]
    with closing(Store(database)) as store:
        store.add_all(runs)
    return runs


def bench(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    return run_with(app, "bench", *arguments)


def printed(*arguments: object) -> Any:
    return json.loads(bench(*arguments, "--json")[1])


def test_what_has_become_worse_is_exit_code_three(kept: list[Run]) -> None:
    code, out, err = bench("compare", "before", "after")
    assert (code, err) == (3, "")
    assert "regression" in out
    assert bench("compare", "after", "before")[0] == 0
    assert bench("compare", "after", "after")[0] == 0


def test_a_change_that_does_not_matter_to_anybody_is_none(kept: list[Run]) -> None:
    assert bench("compare", "before", "after", "--smallest", "99.9%")[0] == 3
    assert bench("compare", "after", "before", "--smallest", "0")[0] == 0


def test_a_comparison_is_printed_as_json_and_markdown(kept: list[Run]) -> None:
    found = printed("compare", "before", "after")
    worse = [each["metric"]["name"] for each in found["differences"] if each["verdict"] == "regression"]
    assert worse == ["ttft"]
    assert len(found["before"]["builds"][0]["id"]) == 12
    assert "| " in bench("compare", "before", "after", "--format", "markdown")[1]


@pytest.mark.parametrize("refs", [("before", "never"), ("never", "before")])
def test_what_names_nothing_is_said_with_what_there_is(kept: list[Run], refs: tuple[str, str]) -> None:
    code, out, err = bench("compare", *refs)
    assert (code, out) == (1, "")
    assert err.startswith("helexa: ")
    assert "'never'" in err
    assert "before" in err


def test_two_files_are_compared_without_any_database(kept: list[Run], tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.json" for name in ("before", "after")]
    for file in files:
        assert bench("export", file, file.stem)[0] == 0
    assert bench("compare", *files, "--database", "sqlite:////dev/null/x.db")[0] == 3


def test_batches_are_listed_with_the_newest_first(kept: list[Run]) -> None:
    code, out, err = bench("runs")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["BATCH", "batch-0003", "batch-0002", "batch-0001"]
    newest = printed("runs")[0]
    assert (newest["targets"], newest["models"], newest["runs"], newest["not_ok"]) == (["desk"], ["other"], 1, 1)


def test_batches_are_listed_by_what_is_in_them(kept: list[Run]) -> None:
    assert [batch["label"] for batch in printed("runs", "--model", "qwen3-8b")] == ["after", "before"]
    assert [batch["label"] for batch in printed("runs", "--target", "beast", "--limit", 1)] == ["after"]
    assert printed("runs", "--scenario", "nothing") == []
    assert printed("runs", "--since", "1s") == []


def test_batches_are_whole_however_many_runs_they_have(database: str) -> None:
    many = [evolve(run(number=1, batch="b1"), id=f"b1-{number:04d}") for number in range(700)]
    with closing(Store(database)) as store:
        store.add_all([*many, evolve(run(number=2, batch="b2"), id="b2-0000")])
    assert [(batch["id"], batch["runs"]) for batch in printed("runs")] == [("b2", 1), ("b1", 700)]
    assert [batch["id"] for batch in printed("runs", "--limit", 1)] == ["b2"]


def test_the_runs_of_a_batch_are_shown_with_why_they_failed(kept: list[Run]) -> None:
    code, out, _ = bench("runs", "last")
    assert code == 0
    assert "It is gone." in out
    [found] = printed("runs", "before")
    assert found["samples"][0]["values"] == {"ttft": 0.12, "decode": 85.0}


def test_a_report_has_the_newest_figures_of_each_cell(kept: list[Run]) -> None:
    code, out, err = bench("report")
    assert (code, err) == (0, "")
    assert "240 ms" in out
    assert "120 ms" not in out
    assert "120 ms" in bench("report", "before")[1]


def test_a_newer_failure_does_not_hide_the_figures(kept: list[Run], database: str) -> None:
    with closing(Store(database)) as store:
        store.add(failed("It is gone.", number=4))
    assert "240 ms" in bench("report")[1]


def test_a_report_goes_to_a_file_as_its_name_says(kept: list[Run], tmp_path: Path) -> None:
    for name, begins in (("a.html", "<!doctype html>"), ("a.md", "### "), ("a.txt", "\nmetric")):
        code, out, err = bench("report", "-o", tmp_path / name)
        assert (code, out, err) == (0, "", f"wrote {tmp_path / name}\n")
        assert (tmp_path / name).read_text().lower().startswith(begins)
    assert bench("report", "-o", tmp_path / "a.md", "--format", "html")[0] == 0
    assert (tmp_path / "a.md").read_text().lower().startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_is_a_sentence(kept: list[Run], tmp_path: Path) -> None:
    assert bench("report", "-o", tmp_path)[::2] == (1, f"helexa: cannot write {tmp_path}: is a directory.\n")


def test_where_there_is_nothing_it_is_told_how_to_measure(kept: list[Run]) -> None:
    said = "helexa: no runs are kept that are like this; 'helexa bench run' measures.\n"
    assert bench("report", "--model", "nothing") == (1, "", said)
    assert bench("report", "--since", "1s") == (1, "", said)


def test_of_no_runs_at_all_nothing_is_shown() -> None:
    said = "no runs are kept; 'helexa bench run' measures.\n"
    assert bench("report") == (1, "", f"helexa: {said}")
    assert bench("runs") == (0, "", said)
    assert printed("runs") == []


def test_files_are_written_and_read_once(kept: list[Run], tmp_path: Path) -> None:
    file, other = tmp_path / "all.json", f"sqlite:///{tmp_path}/other.db"
    assert bench("export", file)[::2] == (0, f"wrote 3 runs to {file}\n")
    assert bench("import", file, "--database", other)[::2] == (0, f"took 3 runs from {file}\n")
    again = bench("import", file, "--database", other)
    assert again[::2] == (0, f"took 0 runs from {file}; 3 were there already\n")
    assert printed("runs", "--database", other) == printed("runs")


def test_only_what_is_asked_for_is_exported(kept: list[Run], tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    assert bench("export", file, "--target", "beast")[2] == f"wrote 2 runs to {file}\n"
    assert bench("export", file, "before")[2] == f"wrote 1 run to {file}\n"
    assert bench("export", file, "--target", "nothing")[::2] == (1, f"wrote 0 runs to {file}\n")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("-", 2, "say with --format"), ("runs.txt", 1, "runs.txt"), ("nothing/runs.json", 1, "nothing/runs.json")],
)
def test_a_file_that_cannot_be_written_is_a_sentence(
    kept: list[Run], tmp_path: Path, name: str, code: int, said: str
) -> None:
    found, out, err = bench("export", name if name == "-" else tmp_path / name)
    assert (found, out) == (code, "")
    assert err.startswith("helexa: ")
    assert said in err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": [{}]}', "a,b\n1,2\n"])
def test_files_that_are_no_exports_are_refused_and_nothing_is_taken(kept: list[Run], tmp_path: Path, text: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    bench("export", good, "before")
    bad.write_text(text)
    other = f"sqlite:///{tmp_path}/other.db"
    code, out, err = bench("import", good, bad, "--database", other)
    assert (code, out) == (1, "")
    assert err.startswith("helexa: ")
    assert "bad.json" in err
    assert printed("runs", "--database", other) == []


@pytest.mark.parametrize("arguments", [("runs",), ("report",), ("compare", "a", "b"), ("export", "x.json")])
def test_a_database_that_is_none_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.db").write_bytes(b"This is a letter to my aunt, and no database. " * 100)
    code, out, err = bench(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("helexa: the database of runs cannot be used: ")
    assert len(err.splitlines()) == 1


def test_a_database_of_a_newer_helexa_is_a_sentence(kept: list[Run], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "bench.db")) as connection:
        connection.execute("UPDATE helexa_schema SET version = 999")
        connection.commit()
    code, _, err = bench("runs")
    assert code == 1
    assert err.startswith("helexa: the database of runs cannot be used: ")


def test_scenarios_and_suites_are_listed_with_their_parameters() -> None:
    code, out, _ = bench("scenarios")
    assert code == 0
    assert "prompt_tokens=128" in out
    found = printed("scenarios")
    assert found["scenarios"]["chat"]["prompt_tokens"] == 128
    assert set(found["suites"]) == {"quick", "standard", "full"}
