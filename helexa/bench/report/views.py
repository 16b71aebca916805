"""What the page shows, made from runs: headings, cells, rows, drawings, builds. Pure; the template only arranges it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

from attrs import frozen

from helexa.bench.analysis.compare import Change, Difference, Step, changed, steps
from helexa.bench.analysis.statistics import by_rounds, of_run
from helexa.bench.records import Build, Metric, Run
from helexa.bench.report import figures
from helexa.bench.report.plots import Point, history

DRAWN: Final = 24
"""The newest runs of a cell that are drawn: more are a smear at a card's width."""
MOST_CHANGES: Final = 60
"""Changes that are listed, newest first; every cell's newest is marked at the cell too."""

Steps = Mapping[str, Sequence[Step]]
"""By a cell's key, newest first."""


@frozen
class Row:
    """One metric of a cell in its newest run; ``change`` and ``verdict`` are against the build before, or empty."""

    title: str
    primary: bool
    median: str
    interval: str
    change: str
    verdict: str


@frozen
class Drawing:
    """A metric's history. ``svg`` is safe as it is."""

    title: str
    unit: str
    better: str
    svg: str


@frozen
class CellView:
    """A cell with its newest figures."""

    anchor: str
    scenario: str
    parameters: str
    build: Build
    when: str
    runs: int
    rounds: str
    trouble: str
    failed: bool
    rows: tuple[Row, ...]
    drawings: tuple[Drawing, ...]

    @property
    def worse(self) -> int:
        """How many of its metrics the newest build made worse."""
        return sum(row.verdict == "regression" for row in self.rows)

    @property
    def better(self) -> int:
        """How many it made better."""
        return sum(row.verdict == "improvement" for row in self.rows)


@frozen
class ModelView:
    """A model of a target, with its cells."""

    anchor: str
    target: str
    model: str
    cells: tuple[CellView, ...]

    @property
    def worse(self) -> int:
        """How many figures the newest builds made worse."""
        return sum(cell.worse for cell in self.cells)

    @property
    def better(self) -> int:
        """How many they made better."""
        return sum(cell.better for cell in self.cells)

    @property
    def troubled(self) -> int:
        """How many cells failed of late, or samples of them: what a model cannot do, or had no time for, did not."""
        return sum(cell.failed for cell in self.cells)


@frozen
class ChangeView:
    """A line of the list of changes."""

    anchor: str
    where: str
    scenario: str
    metric: str
    figures: str
    change: str
    verdict: str


@frozen
class ArrivalView:
    """A build that came on a day, after which other, and what it made worse and better; the largest first."""

    when: str
    builds: tuple[str, str]
    changes: tuple[ChangeView, ...]

    @property
    def worse(self) -> list[ChangeView]:
        """Regressions."""
        return [change for change in self.changes if change.verdict == "regression"]

    @property
    def better(self) -> list[ChangeView]:
        """Improvements."""
        return [change for change in self.changes if change.verdict == "improvement"]


@frozen
class BuildView:
    """A build, and when it was measured."""

    build: Build
    targets: str
    runs: int
    first: str
    last: str


def models(runs: Iterable[Run], found: Steps) -> list[ModelView]:
    """Arrange runs under targets and models."""
    return [_model(group, found) for group in figures.groups(runs)]


def arrivals(found: Iterable[Step]) -> list[ArrivalView]:
    """List regressions and improvements under the builds that brought them, newest first."""
    known: dict[tuple[str, str, str], list[Change]] = defaultdict(list)
    for change in changed(found)[:MOST_CHANGES]:
        known[figures.day(change.at), _short(change.before), _short(change.after)].append(change)
    return [
        ArrivalView(
            when, (figures.plain(before), figures.plain(after)), tuple(map(_change, sorted(group, key=_weight)))
        )
        for (when, before, after), group in known.items()
    ]


def builds(runs: Iterable[Run]) -> list[BuildView]:
    """List builds, the one that came last first."""
    known: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.started_at):
        known[run.build.id].append(run)
    ordered = sorted(known.values(), key=lambda group: group[0].started_at, reverse=True)
    return [_build(group) for group in ordered]


def by_cell(runs: Sequence[Run]) -> dict[str, list[Step]]:
    """Compare each cell's builds, newest first."""
    found: dict[str, list[Step]] = defaultdict(list)
    for step in steps(runs):
        if step.differences:
            found[step.differences[0].cell.key].append(step)
    return found


def _model(group: figures.Group, found: Steps) -> ModelView:
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in group.runs:
        cells[run.cell.key].append(run)
    views = tuple(_cell(of_cell, found.get(key, ())) for key, of_cell in sorted(cells.items(), key=_by_scenario))
    anchor = _anchor("model", group.target, group.model)
    return ModelView(anchor, figures.plain(group.target), figures.plain(group.model), views)


def _by_scenario(item: tuple[str, Sequence[Run]]) -> tuple[str, list[tuple[str, bool, float, str]]]:
    """Sort parameters as numbers where they are: 128 before 4,096."""
    cell = item[1][0].cell
    return cell.scenario, [
        (name, isinstance(value, str), value if isinstance(value, int | float) else 0.0, str(value))
        for name, value in sorted(cell.parameters.items())
    ]


def _cell(runs: Sequence[Run], found: Sequence[Step]) -> CellView:
    good = [run for run in runs if run.outcome == "ok"]
    newest, last = (good or runs)[-1], runs[-1]
    drawn = good[-DRAWN:]
    shown = [metric for metric in newest.metrics if metric.primary]
    drawings = [drawing for metric in shown if (drawing := _drawing(drawn, metric, found)) is not None]
    rows = _rows(newest, found[0].differences if found and found[0].after.id == newest.build.id else ())
    return CellView(
        anchor=_anchor("cell", newest.cell.key),
        scenario=figures.plain(newest.cell.scenario),
        parameters=figures.parameters(newest.cell),
        build=newest.build,
        when=figures.moment(newest.started_at),
        runs=len(good),
        rounds=max((row.rounds for row in figures.shown(newest)), key=int, default="0"),
        trouble=f"{figures.moment(last.started_at)} {trouble}" if (trouble := figures.trouble(last)) else "",
        failed=last.outcome == "failed" or (last.outcome == "ok" and last.failures > 0),
        rows=tuple(rows),
        drawings=tuple(drawings),
    )


def _rows(run: Run, differences: Iterable[Difference]) -> Iterator[Row]:
    known = {difference.metric.name: difference for difference in differences}
    for shown in figures.shown(run):
        found = known.get(shown.metric.name)
        change, verdict = (figures.change(found), found.verdict) if found else ("", "")
        title = figures.plain(shown.metric.title)
        yield Row(title, shown.metric.primary, shown.median, shown.interval, change, verdict)


def _drawing(runs: Sequence[Run], metric: Metric, found: Iterable[Step]) -> Drawing | None:
    flags = {change.run: change for change in changed(found) if change.metric.name == metric.name}
    points = [point for run in runs if (point := _point(run, metric, flags.get(run.id))) is not None]
    if not points:
        return None
    factor, unit = figures.unit_of(metric.unit, max(point.found.median for point in points))
    svg = history(points, metric, factor, unit)
    return Drawing(figures.plain(metric.title), unit, f"{metric.better} is better", svg)


def _point(run: Run, metric: Metric, change: Change | None) -> Point | None:
    found = of_run(run, metric.name)
    if found is None:
        return None
    told = (
        f"{figures.moment(run.started_at)} · {run.build.name} · "
        f"{figures.figure(found.median, metric.unit)} ({figures.spread(found, metric.unit)}) · {found.n} rounds"
    )
    flag = figures.change(change.difference) if change else ""
    worse = change is not None and change.verdict == "regression"
    return Point(found, by_rounds(run, metric.name), run.build.id, _short(run.build), told, flag, worse=worse)


def _short(build: Build) -> str:
    """Return the last word of a build's name: its commit, if it has one."""
    return build.name.split()[-1] if build.name.split() else build.id


def _weight(change: Change) -> float:
    return -abs(change.difference.size)


def _change(change: Change) -> ChangeView:
    difference, unit = change.difference, change.metric.unit
    return ChangeView(
        anchor=_anchor("cell", change.cell.key),
        where=figures.plain(f"{change.cell.target} · {change.cell.model}"),
        scenario=figures.scenario(change.cell),
        metric=figures.plain(change.metric.title),
        figures=figures.both(difference.before.median, difference.after.median, unit),
        change=figures.change(difference),
        verdict=change.verdict,
    )


def _build(runs: Sequence[Run]) -> BuildView:
    targets = ", ".join(sorted({figures.plain(run.cell.target) for run in runs}))
    return BuildView(
        runs[0].build, targets, len(runs), figures.day(runs[0].started_at), figures.day(runs[-1].started_at)
    )


def _anchor(kind: str, *names: str) -> str:
    """Return an element's id: names hold what no id may."""
    return f"{kind}-{sha256('/'.join(names).encode()).hexdigest()[:10]}"
