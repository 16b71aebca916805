"""Runs in files: JSON loses nothing and is read strictly; CSV and Parquet are what other programs read."""

import csv
import errno
import io
import math
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from attrs import evolve
from bench_stores import BUILDS, CHAT, EVERYTHING, NOW, failed, ids, made
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target
from helexa.bench.storage.store import Store, StoreError
from helexa.bench.storage.transfer import Format, TransferError, export, format_of, read

FORMATS: tuple[Format, ...] = get_args(Format)
RUNS = [EVERYTHING, made("a-1"), failed("a-2")]


def document() -> dict[str, Any]:
    stream = io.BytesIO()
    export(RUNS, stream, "json")
    found: dict[str, Any] = orjson.loads(stream.getvalue())
    return found


def rows_of(data: bytes, form: Format) -> list[dict[str, Any]]:
    if form == "csv":
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    from pyarrow import parquet

    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    return found


def exported(runs: list[Run], form: Format) -> bytes:
    stream = io.BytesIO()
    assert export(runs, stream, form) == len(runs)
    return stream.getvalue()


def test_json_loses_nothing_on_the_way_through_a_file_and_a_database(tmp_path: Path) -> None:
    assert export(RUNS, tmp_path / "runs.json", "json") == 3
    found = read(tmp_path / "runs.json")
    assert found == RUNS
    store = Store(f"sqlite:///{tmp_path}/bench.db")
    assert store.add_all(found) == 3
    assert store.add_all(read(tmp_path / "runs.json")) == 0, "what is there is not added again"
    assert list(store.every()) == sorted(RUNS, key=lambda run: run.id, reverse=True)
    store.close()


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _NUMBERS | _TEXT, st.lists, max_leaves=5
)
_SAMPLES = st.builds(
    Sample, st.integers(0, 9), st.floats(0, 1e12), st.dictionaries(_TEXT, _NUMBERS, max_size=3), st.none() | _TEXT
)
_METRICS = st.lists(
    st.builds(Metric, _TEXT, _TEXT, _TEXT, st.sampled_from(["higher", "lower"]), st.booleans()),
    max_size=3, unique_by=lambda metric: metric.name,
)  # fmt: skip
_RUNS = st.builds(
    lambda cell, **how: Run(target=Target(cell.target, "openai", "http://x"), cell=cell, **how),
    cell=st.builds(Cell, _TEXT, _TEXT, _TEXT, st.dictionaries(_TEXT, _JSON, max_size=3)),
    id=_TEXT.filter(bool), batch=_TEXT.filter(bool), label=_TEXT, reason=_TEXT,
    started_at=st.floats(0, 1e12), seconds=st.floats(0, 1e12),
    build=st.builds(Build, _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=3)),
    metrics=_METRICS.map(tuple), outcome=st.sampled_from(["ok", "failed", "skipped", "yielded"]),
    samples=st.lists(_SAMPLES, max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(_RUNS, max_size=3))
def test_whatever_is_written_is_read_as_it_was_kept(runs: list[Run]) -> None:
    once = exported(runs, "json")
    found = read(io.BytesIO(once))
    assert exported(found, "json") == once
    for run, back in zip(runs, found, strict=True):
        assert back.build.id == run.build.id
        assert back == run or "\0" in repr(run) or "\\x00" in repr(run)
        assert len(rows_of(exported([run], "csv"), "csv")) == len(rows_of(exported([run], "parquet"), "parquet"))


@given(st.binary(max_size=60) | _JSON.map(orjson.dumps))
def test_no_bytes_are_read_as_something_else_than_an_error(data: bytes) -> None:
    with pytest.raises(TransferError):
        read(io.BytesIO(data))


_PLACES = [
    (("version",), 2, "it has version 2 of a later helexa, and this one knows 1 at most."),
    (("version",), "1", "'version'"),
    (("format",), "other", "this is no export of helexa's benchmarks"),
    (("more",), 1, "'more': expected one of format, version, runs as a name"),
    (("runs",), {}, "'runs': expected a list of objects"),
    (("runs",), [1], "'runs': expected a list of objects"),
    (("runs", 1, "id"), None, "'runs[1].id'"),
    (("runs", 1, "id"), "", "'runs[1].id': expected 1 to 200 characters"),
    (("runs", 1, "batch"), 7, "'runs[1].batch': expected a string"),
    (("runs", 1, "label"), "l" * 201, "'runs[1].label': expected 0 to 200 characters"),
    (("runs", 1, "started_at"), "yesterday", "'runs[1].started_at': expected a number"),
    (("runs", 1, "started_at"), -1, "'runs[1].started_at': expected a number"),
    (("runs", 1, "seconds"), True, "'runs[1].seconds': expected a number"),
    (("runs", 1, "outcome"), "fine", "'runs[1].outcome': expected one of 'ok', 'failed', 'skipped', 'yielded'"),
    (("runs", 1, "surprise"), 1, "'runs[1].surprise': expected one of id, batch"),
    (("runs", 1, "target"), "gpu1", "'runs[1].target': expected an object"),
    (("runs", 1, "target", "kind"), "vllm", "'runs[1].target.kind': expected one of"),
    (("runs", 1, "cell", "target"), "gpu2", "'runs[1].cell.target': expected the name of the target"),
    (("runs", 1, "cell", "parameters"), [], "'runs[1].cell.parameters': expected an object"),
    (("runs", 1, "build", "details"), {"a": 1}, "'runs[1].build.details.a': expected a string"),
    (("runs", 1, "metrics", 0, "better"), "up", "'runs[1].metrics[0].better': expected one of 'higher', 'lower'"),
    (("runs", 1, "metrics", 0, "primary"), 1, "'runs[1].metrics[0].primary': expected a boolean"),
    (("runs", 0, "metrics", 0, "name"), "decode", "'runs[0].metrics': expected different names"),
    (("runs", 0, "samples", 2, "round"), 1.5, "'runs[0].samples[2].round': expected an integer"),
    (("runs", 0, "samples", 2, "round"), -1, "'runs[0].samples[2].round': expected an integer"),
    (("runs", 0, "samples", 2, "at"), [], "'runs[0].samples[2].at': expected a number"),
    (("runs", 0, "samples", 2, "values"), [], "'runs[0].samples[2].values': expected an object"),
    (("runs", 0, "samples", 2, "values", "ttft"), None, "'runs[0].samples[2].values.ttft'"),
    (("runs", 0, "samples", 2, "values", "ttft"), "0.5", "'runs[0].samples[2].values.ttft': expected a number"),
    (("runs", 0, "samples", 2, "values", "ttft"), False, "'runs[0].samples[2].values.ttft': expected a number"),
    (("runs", 0, "samples", 1, "error"), 3, "'runs[0].samples[1].error': expected a string"),
]


@pytest.mark.parametrize(("place", "value", "told"), _PLACES)
def test_what_is_wrong_in_a_file_is_named_with_its_place(
    tmp_path: Path, place: tuple[str | int, ...], value: object, told: str
) -> None:
    found = document()
    inner: Any = found
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    (tmp_path / "x.json").write_bytes(orjson.dumps(found))
    with pytest.raises(TransferError) as raised:
        read(tmp_path / "x.json")
    assert str(raised.value).startswith(f"{tmp_path}/x.json: ")
    assert told in str(raised.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_no_json(number: str) -> None:
    text = orjson.dumps(document()).replace(b"0.30000000000000004", number.encode())
    with pytest.raises(TransferError, match=r"^the stream: this is no JSON \(.*line 1 column \d+"):
        read(io.BytesIO(text))


def test_parameters_that_are_nested_too_deeply_to_be_written_are_refused() -> None:
    found = document()
    found["runs"][0]["cell"]["parameters"] = "here"
    deep = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(TransferError, match=r"'runs\[0\]\.cell\.parameters': expected fewer levels"):
        read(io.BytesIO(orjson.dumps(found).replace(b'"here"', deep)))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_cannot_be_read_back_and_say_so(form: Format) -> None:
    with pytest.raises(TransferError, match="Only JSON exports can be read back, not CSV or Parquet"):
        read(io.BytesIO(exported(RUNS, form)))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_has_a_row_for_each_value_and_loses_no_failure(form: Format) -> None:
    found = rows_of(exported(RUNS, form), form)
    none = "" if form == "csv" else None
    assert [(row["run"], row["metric"], row["error"]) for row in found] == [
        ("b7-01", "ttft", none),
        ("b7-01", "decode", none),
        ("b7-01", none, 'it said "no" \u2014\n twice'),
        ("b7-01", "ttft", none),
        ("b7-01", "decode", none),
        ("a-1", "ttft", none),
        ("a-2", none, none),
    ]
    assert [float(row["value"]) for row in found if row["metric"] == "decode"] == [1e-300, 1.7e308]
    assert [int(row["sample"]) for row in found[:5]] == [0, 0, 1, 2, 2]
    first = found[0]
    assert orjson.loads(first["parameters"]) == EVERYTHING.cell.parameters
    assert orjson.loads(first["build_details"]) == EVERYTHING.build.details
    told = first["build"], first["target_kind"], first["unit"], first["better"], str(first["primary"]).lower()
    assert told == (EVERYTHING.build.id, "cortex", "s", "lower", "true")
    assert found[-1]["reason"] == "it is not reachable"


@pytest.mark.parametrize("form", FORMATS)
def test_no_runs_are_a_file_too(form: Format) -> None:
    data = exported([], form)
    if form == "json":
        assert read(io.BytesIO(data)) == []
    else:
        assert rows_of(data, form) == []


def test_more_rows_than_are_written_at_once_are_all_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.bench.storage.transfer_rows._ROWS_AT_ONCE", 3)
    assert len(rows_of(exported(RUNS, "parquet"), "parquet")) == 7


@pytest.mark.parametrize("model", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_spreadsheet_takes_no_name_for_a_formula(model: str) -> None:
    run = made("a-1", evolve(CHAT, model=model), values=(-1.5,))
    (row,) = rows_of(exported([run], "csv"), "csv")
    assert row["model"] == f"'{model}"
    assert row["value"] == "-1.5", "a number is none"
    assert rows_of(exported([run], "parquet"), "parquet")[0]["model"] == model


@pytest.mark.parametrize("form", FORMATS)
def test_what_no_file_has_a_place_for_is_left_out(form: Format) -> None:
    odd = made("a-1", label="\udcff", samples=(Sample(0, math.nan, {"ttft": math.inf}),), build=Build("\ud800"))
    data = exported([odd], form)
    if form == "json":
        assert read(io.BytesIO(data))[0].samples == (Sample(0, 0.0, {}),)
    else:
        assert len(rows_of(data, form)) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path: Path, form: Format) -> None:
    path = tmp_path / f"runs.{form}"
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    export(RUNS, link, form)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert path.read_bytes() == exported(RUNS, form)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    export(RUNS, tmp_path / "new.csv", "csv")
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o600


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_fails_on_the_way_leaves_the_old_file(tmp_path: Path, form: Format) -> None:
    def runs() -> Iterator[Run]:
        yield EVERYTHING
        raise StoreError("it is away")

    path = tmp_path / "runs"
    path.write_text("old")
    with pytest.raises(StoreError, match="it is away"):
        export(runs(), path, form)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class Full(io.RawIOBase):
    """A file on a disk that is full."""

    name = "full.out"

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_a_sentence(form: Format) -> None:
    full: Any = Full()
    with pytest.raises(TransferError, match=r"^full\.out: .*no space left on device"):
        export(RUNS, full, form)
    assert not full.closed


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    export(RUNS, pipe, "json")
    reader.join()
    assert received == [exported(RUNS, "json")]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_stays_open(form: Format) -> None:
    stream = io.BytesIO()
    export(RUNS, stream, form)
    assert not stream.closed


def open_nowhere(tmp_path: Path) -> list[tuple[Path, str]]:
    return [
        (tmp_path / "none" / "x.json", "no such file or directory."),
        (tmp_path, "is a directory."),
    ]


def test_a_place_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    for path, told in open_nowhere(tmp_path):
        with pytest.raises(TransferError) as raised:
            export(RUNS, path, "json")
        assert str(raised.value).endswith(told)
        assert str(tmp_path) in str(raised.value)
        with pytest.raises(TransferError) as raised:
            read(path)
        assert str(raised.value) == f"{path}: {told}"


@pytest.mark.parametrize(("name", "form"), [("x.csv", "csv"), ("a.b.JSON", "json"), ("p/x.parquet", "parquet")])
def test_the_end_of_a_name_says_what_a_file_is(name: str, form: Format) -> None:
    assert format_of(Path(name)) == form


@pytest.mark.parametrize("name", ["x", "csv", "x.json.gz", ".csv"])
def test_a_name_that_ends_in_nothing_known_is_refused(name: str) -> None:
    with pytest.raises(TransferError, match=r"the name of an export ends in \.csv, \.json or \.parquet\.$"):
        format_of(Path(name))


def test_without_pyarrow_parquet_says_what_to_install_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = r"^Parquet files need pyarrow\. Install it with: pip install 'helexa\[parquet\]'$"
    with pytest.raises(TransferError, match=told):
        format_of(tmp_path / "x.parquet")
    with pytest.raises(TransferError, match=told):
        export(iter(RUNS), tmp_path / "x.parquet", "parquet")
    assert not list(tmp_path.iterdir())
    assert export(RUNS, tmp_path / "x.csv", "csv") == 3


def test_a_run_that_was_measured_elsewhere_is_found_among_the_others(tmp_path: Path) -> None:
    export([made("2025-1", build=BUILDS[1], started_at=NOW - 1e7)], tmp_path / "x.json", "json")
    store = Store(f"sqlite:///{tmp_path}/bench.db")
    store.add_all([made("2024-1"), made("2026-1")])
    store.add_all(read(tmp_path / "x.json"))
    assert ids(store.runs()) == ["2026-1", "2025-1", "2024-1"]
    store.close()
