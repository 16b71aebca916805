"""What of a run can be kept: databases and files have no place for everything that servers say. Pure."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import evolve

from helexa.bench.records import Build, Cell, Metric, Run, Sample, Target

LONGEST_NAME: Final = 200
"""Characters of an id, a batch and a label: PostgreSQL has no place for more than 2,704 bytes in an index."""
_LONGEST_TEXT: Final = 2000
"""Characters of a reason: servers answer with pages."""


def text(said: str, most: int | None = None) -> str:
    """Without what PostgreSQL or UTF-8 has no place for."""
    if said.isascii() and "\0" not in said:
        return said[:most]
    return said[:most].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def cell_kept(cell: Cell) -> Cell:
    """The cell as it is kept."""
    return Cell(text(cell.target), text(cell.model), text(cell.scenario), _plain(cell.parameters))


def storable(run: Run) -> Run:
    """The run as it is kept: what no database or JSON has a place for is replaced or left out.

    Servers say what they like, and one run that is refused would be refused for ever. Values that are no finite numbers
    are left out; so are the later characters of what is longer than a page.
    """
    target = Target(text(run.target.name), run.target.kind, text(run.target.url))
    return evolve(
        run,
        id=text(run.id),
        batch=text(run.batch),
        label=text(run.label, LONGEST_NAME),
        started_at=_finite(run.started_at),
        seconds=_finite(run.seconds),
        target=target,
        cell=cell_kept(run.cell),
        build=_build_kept(run.build),
        metrics=_metrics_kept(run.metrics),
        reason=text(run.reason, _LONGEST_TEXT),
        samples=tuple(map(_sample_kept, run.samples)),
    )


def _build_kept(build: Build) -> Build:
    """Its id stays as it is: whoever asks for that must find it. One that UTF-8 has no place for has none."""
    kept = {_encodable(name): _encodable(value) for name, value in build.details.items()}
    return Build(_encodable(build.name), kept)


def _encodable(said: str) -> str:
    return said if said.isascii() else said.encode("utf-8", "replace").decode()


def _metrics_kept(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """One of each name."""
    kept = [evolve(each, name=text(each.name), title=text(each.title), unit=text(each.unit)) for each in metrics]
    return tuple({each.name: each for each in kept}.values())


def _sample_kept(sample: Sample) -> Sample:
    values = {text(name): float(value) for name, value in sample.values.items() if math.isfinite(value)}
    error = None if sample.error is None else text(sample.error, _LONGEST_TEXT)
    return Sample(sample.round, _finite(sample.at), values, error)


def _finite(number: float) -> float:
    return float(number) if math.isfinite(number) else 0.0


def _plain(value: Any) -> Any:
    """Parameters, nested ones too."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
