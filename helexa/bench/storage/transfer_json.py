"""Runs as JSON, which loses nothing: a line for each run, so that tools for lines have something of it too."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, Final, TypeVar, get_args

import orjson
from attrs import asdict, fields_dict

from helexa.bench.records import Better, Build, Cell, Metric, Outcome, Run, Sample, Target, TargetKind
from helexa.bench.storage.storable import LONGEST_NAME
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

_T = TypeVar("_T")

_FORMAT: Final = "helexa-bench"
_VERSION: Final = 1
_LATEST: Final = 1e12
"""Seconds: later than any clock says, and earlier than what no date can be made of."""
_MOST_ROUNDS: Final = 10**9


class FormatError(Exception):
    """Some bytes are no such JSON; the message is a sentence that says where."""


def write(runs: Iterable[Run], stream: BinaryIO) -> None:
    """Write runs that are storable."""
    stream.write(f'{{"format":"{_FORMAT}","version":{_VERSION},"runs":['.encode())
    for number, run in enumerate(runs):
        stream.write(b",\n" if number else b"\n")
        stream.write(orjson.dumps(_plain(run)))
    stream.write(b"\n]}\n")


def _plain(run: Run) -> dict[str, Any]:
    parts = {name: asdict(getattr(run, name)) for name in ("target", "cell", "build")}
    lists = {
        "metrics": [asdict(each) for each in run.metrics],
        "samples": [_plain_sample(each) for each in run.samples],
    }
    return {name: getattr(run, name) for name in fields_dict(Run)} | parts | lists


def _plain_sample(sample: Sample) -> dict[str, Any]:
    """What ``asdict`` says, in a tenth of its time: there are a million of them."""
    return {"round": sample.round, "at": sample.at, "values": sample.values, "error": sample.error}


def read(data: bytes) -> list[Run]:
    """Read runs.

    Raises:
        FormatError: they are not as ``write`` has them.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise FormatError(
            f"this is no JSON ({error}). Only JSON exports can be read back, not CSV or Parquet."
        ) from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise FormatError('this is no export of helexa\'s benchmarks: a JSON object with "format": "helexa-bench".')
    try:
        return _document(Fields(found))
    except ApiError as error:
        raise FormatError(error.message) from None


def _document(document: Fields) -> list[Run]:
    version = document.integer("version", 1, 2**31)
    if version > _VERSION:
        raise FormatError(f"it has version {version} of a later helexa, and this one knows {_VERSION} at most.")
    _only(document, ("format", "version", "runs"))
    return _each(document, "runs", _run)


def _only(part: Fields, known: Iterable[str]) -> None:
    """A name that is not known may be a misspelt one, or of a later helexa: what it says would get lost."""
    for name in part.data.keys() - set(known):
        raise part.wrong(name[:LONGEST_NAME], f"one of {', '.join(known)} as a name")


def _each(part: Fields, key: str, read_one: Callable[[Fields], _T]) -> list[_T]:
    path = part.name(key)
    return [read_one(Fields(each, f"{path}[{number}]")) for number, each in enumerate(part.objects(key))]


def _run(part: Fields) -> Run:
    _only(part, fields_dict(Run))
    run = Run(
        id=_name(part, "id"),
        batch=_name(part, "batch"),
        label=_name(part, "label", least=0),
        started_at=_seconds(part, "started_at"),
        seconds=_seconds(part, "seconds"),
        target=_target(part.nested("target")),
        cell=_cell(part.nested("cell")),
        build=_build(part.nested("build")),
        metrics=_metrics(part),
        outcome=part.choice("outcome", get_args(Outcome)),
        reason=part.text("reason"),
        samples=tuple(_each(part, "samples", _sample)),
    )
    if run.target.name != run.cell.target:
        raise part.wrong("cell.target", "the name of the target")
    return run


def _name(part: Fields, key: str, least: int = 1) -> str:
    found: str = part.text(key)
    if not least <= len(found) <= LONGEST_NAME:
        raise part.wrong(key, f"{least} to {LONGEST_NAME} characters")
    return found


def _seconds(part: Fields, key: str) -> float:
    return float(part.number(key, 0, _LATEST))


def _target(part: Fields) -> Target:
    _only(part, fields_dict(Target))
    return Target(part.text("name"), part.choice("kind", get_args(TargetKind)), part.text("url"))


def _cell(part: Fields) -> Cell:
    _only(part, fields_dict(Cell))
    cell = Cell(part.text("target"), part.text("model"), part.text("scenario"), part.mapping("parameters"))
    if not cell.has_key:
        raise part.wrong("parameters", "fewer levels")
    return cell


def _build(part: Fields) -> Build:
    _only(part, fields_dict(Build))
    details: Mapping[str, Any] = part.mapping("details")
    texts = Fields(dict(details), part.name("details"))
    return Build(part.text("name"), {name: texts.text(name) for name in details})


def _metrics(part: Fields) -> tuple[Metric, ...]:
    found = _each(part, "metrics", _metric)
    if len({each.name for each in found}) != len(found):
        raise part.wrong("metrics", "different names")
    return tuple(found)


def _metric(part: Fields) -> Metric:
    _only(part, fields_dict(Metric))
    better = part.choice("better", get_args(Better))
    return Metric(part.text("name"), part.text("title"), part.text("unit"), better, part.flag("primary"))


def _sample(part: Fields) -> Sample:
    _only(part, _SAMPLE)
    values = part.mapping("values")
    numbers = Fields(values, part.name("values"))
    most = sys.float_info.max
    return Sample(
        round=part.integer("round", 0, _MOST_ROUNDS),
        at=_seconds(part, "at"),
        values={name: float(numbers.number(name, -most, most)) for name in values},
        error=part.text("error", None),
    )


_SAMPLE: Final = tuple(fields_dict(Sample))
