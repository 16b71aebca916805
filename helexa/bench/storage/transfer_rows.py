"""Runs as tables, for spreadsheets and data frames: a row for each value of each sample."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from typing import Any, BinaryIO, Final

import orjson

from helexa.bench.records import Metric, Run, Sample

_COLUMNS: Final[dict[str, str]] = {
    **dict.fromkeys(("run", "batch", "label"), "string"),
    **dict.fromkeys(("started_at", "seconds"), "float64"),
    **dict.fromkeys(("target", "target_kind", "target_url", "model", "scenario", "parameters"), "string"),
    **dict.fromkeys(("build", "build_name", "build_details", "outcome", "reason"), "string"),
    **dict.fromkeys(("sample", "round"), "int64"),
    "at": "float64",
    "error": "string",
    **dict.fromkeys(("metric", "unit", "better"), "string"),
    "primary": "bool_",
    "value": "float64",
}
"""Their types as pyarrow calls them. ``parameters`` and ``build_details`` are JSON; ``sample`` counts from 0."""
_ROWS_AT_ONCE: Final = 50_000
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is a formula to a spreadsheet, and servers name their models as they like."""

_NO_SAMPLE: Final = (None,) * 4
_NO_VALUE: Final = (None,) * 5


def has_parquet() -> bool:
    """Whether Parquet files can be written."""
    try:
        return find_spec("pyarrow") is not None
    except ValueError:  # somebody has put nothing in its place
        return False


def write_csv(runs: Iterable[Run], stream: BinaryIO) -> None:
    """Write runs that are storable as UTF-8 with a line of names.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        for row in _rows(runs):
            writer.writerow(map(_shown, row))
        text.flush()
    finally:
        text.detach()  # the stream is not ours to close


def write_parquet(runs: Iterable[Run], stream: BinaryIO) -> None:
    """Write runs that are storable; needs pyarrow."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()])
    rows = _rows(runs)
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for part in iter(partial(_columns, rows), None):
            writer.write_table(pa.table(part, schema=schema))


def _columns(rows: Iterator[tuple[Any, ...]]) -> dict[str, Any] | None:
    """Some rows, by column."""
    part = list(islice(rows, _ROWS_AT_ONCE))
    return dict(zip(_COLUMNS, zip(*part, strict=True), strict=True)) if part else None


def _shown(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def _rows(runs: Iterable[Run]) -> Iterator[tuple[Any, ...]]:
    return chain.from_iterable(map(_rows_of, runs))


def _rows_of(run: Run) -> Iterator[tuple[Any, ...]]:
    facts, metrics = _facts(run), {each.name: each for each in run.metrics}
    if not run.samples:
        yield *facts, *_NO_SAMPLE, *_NO_VALUE
    for number, sample in enumerate(run.samples):
        of_sample = (*facts, number, sample.round, sample.at, sample.error)
        for value in _values(metrics, sample) or [_NO_VALUE]:
            yield *of_sample, *value


def _facts(run: Run) -> tuple[Any, ...]:
    cell, build, target = run.cell, run.build, run.target
    of_cell = cell.target, target.kind, target.url, cell.model, cell.scenario, _json(cell.parameters)
    of_build = build.id, build.name, _json(build.details)
    return run.id, run.batch, run.label, run.started_at, run.seconds, *of_cell, *of_build, run.outcome, run.reason


def _values(metrics: Mapping[str, Metric], sample: Sample) -> list[tuple[Any, ...]]:
    return [(name, *_about(metrics.get(name)), value) for name, value in sample.values.items()]


def _about(metric: Metric | None) -> tuple[Any, ...]:
    return (None,) * 3 if metric is None else (metric.unit, metric.better, metric.primary)


def _json(value: Any) -> str:
    return orjson.dumps(dict(value), option=orjson.OPT_SORT_KEYS).decode()
