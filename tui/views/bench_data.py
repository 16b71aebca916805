"""What the benchmarks' API answers, as the console reads it: leniently, as ``tui.shapes``. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import orjson
from attrs import evolve, field, frozen

from tui import shapes

BETTER, WORSE = "improvement", "regression"


@frozen
class Build:
    """What was measured."""

    id: str = ""
    name: str = "?"
    details: Mapping[str, Any] = field(factory=dict)
    last: float = 0.0

    @property
    def short(self) -> str:
        """What tells it from others of its kind: the last word, of most a commit."""
        return self.name.split()[-1] if self.name.split() else self.id


@frozen
class Measured:
    """Which model was measured where, how; ``key`` tells apart."""

    key: str = ""
    target: str = "?"
    model: str = "?"
    scenario: str = "?"
    parameters: Mapping[str, Any] = field(factory=dict)

    @property
    def what(self) -> str:
        """The scenario with its parameters."""
        return " ".join([self.scenario, *(f"{name}={value}" for name, value in self.parameters.items())])


@frozen
class Figure:
    """A metric's median over the rounds of a run, with the 95 % interval of it."""

    name: str = "?"
    title: str = "?"
    unit: str = ""
    better: str = "lower"
    primary: bool = False
    n: int = 0
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0


@frozen
class Run:
    """The newest run of a cell."""

    id: str = ""
    started_at: float = 0.0
    failures: int = 0
    cell: Measured = Measured()
    build: Build = Build()
    figures: tuple[Figure, ...] = ()


@frozen
class Change:
    """A regression, or an improvement, from one build to the next one."""

    verdict: str = ""
    at: float = 0.0
    run: str = ""
    size: float | None = None
    cell: Measured = Measured()
    metric: Figure = Figure()
    before: Build = Build()
    after: Build = Build()


@frozen
class Point:
    """One run in the course of a metric."""

    run: str = ""
    at: float = 0.0
    n: int = 0
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    build: Build = Build()


def runs(raw: Any) -> tuple[Run, ...]:
    """``/api/summary``."""
    return tuple(_run(each) for each in _list(raw, "cells"))


def _run(found: Any) -> Run:
    figures = tuple(_figure(each) for each in _list(found, "figures"))
    return evolve(shapes.read(Run, found), cell=_cell(found), build=_build(found, "build"), figures=figures)


def _figure(found: Any) -> Figure:
    return shapes.read(Figure, {**_object(found), **_object(_object(found).get("metric"))})


def _cell(found: Any) -> Measured:
    return shapes.read(Measured, _object(found).get("cell"))


def _build(found: Any, name: str) -> Build:
    return shapes.read(Build, _object(found).get(name))


def changes(raw: Any) -> dict[tuple[str, str], Change]:
    """``/api/regressions``: the newest of each cell's metric."""
    found: dict[tuple[str, str], Change] = {}
    for change in sorted(map(_change, _list(raw, "changes")), key=lambda each: each.at):
        found[change.cell.key, change.metric.name] = change
    return found


def _change(found: Any) -> Change:
    before, after = (_build(_object(found).get(side), "build") for side in ("from", "to"))
    metric = shapes.read(Figure, _object(found).get("metric"))
    return evolve(shapes.read(Change, found), cell=_cell(found), metric=metric, before=before, after=after)


def builds(raw: Any) -> tuple[Build, ...]:
    """``/api/dimensions``: the newest first."""
    return tuple(sorted(shapes.read_list(Build, _object(raw).get("builds")), key=lambda each: -each.last))


def series(raw: Any) -> Iterator[tuple[tuple[str, str], tuple[Point, ...]]]:
    """``/api/series``: the points of each cell's metric, the oldest first."""
    for each in _list(raw, "series"):
        points = tuple(evolve(shapes.read(Point, one), build=_build(one, "build")) for one in _list(each, "points"))
        yield (_cell(each).key, shapes.read(Figure, _object(each).get("metric")).name), points


def series_query(cell: Measured, metric: str) -> str:
    """The query for the points of a cell's metric."""
    parameters = orjson.dumps(dict(cell.parameters)).decode()
    asked = {"target": cell.target, "model": cell.model, "scenario": cell.scenario}
    return urlencode({**asked, "parameters": parameters, "metric": metric, "limit": "500"})


def _object(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _list(found: Any, name: str) -> Iterable[Any]:
    inner = _object(found).get(name)
    return inner if isinstance(inner, list | tuple) else ()
