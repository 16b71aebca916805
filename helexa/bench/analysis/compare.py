"""Two sets of runs against each other, cell by cell, and a history against itself, build by build. Pure.

What is made of a cell is `verdicts`' to say; which runs are compared with which is said here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, pairwise
from typing import Final

from attrs import astuple, evolve, frozen

from helexa.bench.analysis.noise import Rounds
from helexa.bench.analysis.statistics import Interval, by_rounds
from helexa.bench.analysis.verdicts import Evidence, Verdict, counts_as_is, ground, judge, see
from helexa.bench.records import Build, Cell, Metric, Run

NEAREST: Final = 5
"""Runs on either side of a new build that are compared."""
_REMEMBERED: Final = 25
"""Runs before a new build that are looked at altogether."""


@frozen
class Difference:
    """One metric of one cell, before and after.

    Attributes:
        cell: what was measured, as the later side names it.
        against: the target that the earlier side measured; ``cell.target`` unless targets are compared.
        metric: which.
        before: the earlier side's figure, over rounds or, where there are runs enough, over runs.
        after: the later side's.
        ratio: the later median over the earlier one; infinite over zero, 1 of two zeros.
        p: of the rank test, in which a stalled round has its place but not its size.
        verdict: ``regression`` or ``improvement`` of a primary metric, ``changed`` of another one. ``same``: nothing
            that matters. ``unclear``: looks like a change, or figures vary too much to tell. ``too few``: no values
            could have shown a change.
        floor: the size from which a change counted here.
        size: the change: ``ratio - 1``, of fractions and nats the difference itself.
    """

    cell: Cell
    against: str
    metric: Metric
    before: Interval
    after: Interval
    ratio: float
    p: float
    verdict: Verdict
    floor: float
    size: float

    @property
    def absolute(self) -> bool:
        """Whether ``floor`` and ``size`` are differences rather than shares of the earlier figure."""
        return counts_as_is(self.metric, self.before.median, self.after.median)


@frozen
class Side:
    """One of the two sets.

    Attributes:
        targets: names, sorted, as everything here.
        builds: by name.
        batches: ids.
        labels: without the empty one.
        runs: how many.
        since: start of the first, Unix time in seconds; 0 of no runs.
        until: start of the last.
    """

    targets: tuple[str, ...]
    builds: tuple[Build, ...]
    batches: tuple[str, ...]
    labels: tuple[str, ...]
    runs: int
    since: float
    until: float


@frozen
class Lost:
    """A cell that was measured before and not after, and why not."""

    cell: Cell
    reason: str


@frozen
class Comparison:
    """What two sets of runs say about each other.

    Attributes:
        before: who is the earlier side.
        after: who is the later side.
        differences: by target, model, scenario; metrics in their scenario's order.
        lost: cells that only the earlier side could measure.
        new: cells that only the later side could measure.
    """

    before: Side
    after: Side
    differences: tuple[Difference, ...]
    lost: tuple[Lost, ...]
    new: tuple[Cell, ...]

    @property
    def regressions(self) -> tuple[Difference, ...]:
        """What got worse."""
        return tuple(found for found in self.differences if found.verdict == "regression")

    @property
    def improvements(self) -> tuple[Difference, ...]:
        """What got better."""
        return tuple(found for found in self.differences if found.verdict == "improvement")


@frozen
class Change:
    """A regression or an improvement from one build of a cell to the next.

    Attributes:
        before: the build that was there.
        after: the build that came.
        at: when the first run of that began, Unix time in seconds.
        run: that run's id.
        difference: the figures.
    """

    before: Build
    after: Build
    at: float
    run: str
    difference: Difference

    @property
    def cell(self) -> Cell:
        """Where."""
        return self.difference.cell

    @property
    def metric(self) -> Metric:
        """Of what."""
        return self.difference.metric

    @property
    def ratio(self) -> float:
        """The later median over the earlier one."""
        return self.difference.ratio

    @property
    def p(self) -> float:
        """Of the rank test."""
        return self.difference.p

    @property
    def verdict(self) -> Verdict:
        """``regression`` or ``improvement``."""
        return self.difference.verdict


@frozen
class Step:
    """One cell from one build to the next: what changed, and what did not.

    Attributes:
        before: the build that was there.
        after: the build that came.
        at: when the first run of that began, Unix time in seconds.
        run: that run's id.
        differences: metric by metric.
    """

    before: Build
    after: Build
    at: float
    run: str
    differences: tuple[Difference, ...]


@frozen
class _Pair:
    """One cell's runs of either side, those that have values, and all that is known of it beside."""

    cell: Cell
    against: str
    before: tuple[Run, ...]
    after: tuple[Run, ...]
    past: tuple[tuple[Run, ...], ...] = ()


def compare(
    before: Sequence[Run],
    after: Sequence[Run],
    *,
    smallest: float = 0.05,
    same_target: bool | None = None,
    history: Sequence[Run] = (),
) -> Comparison:
    """Compare two sets of runs, cell by cell and metric by metric.

    Args:
        before: the earlier side, in any order; runs without a value say what could not be measured.
        after: the later side.
        smallest: the share of the earlier figure from which a change matters.
        same_target: whether cells match by target too. ``None``: if the sides have a target in common. ``False``: each
            target of the earlier side is compared with each of the later one.
        history: other runs. Those of compared cells tell how much runs of one build differ; without any, runs are
            taken to differ by 2.5 %, which is less than many machines do.
    """
    by_target = bool(_targets(before) & _targets(after)) if same_target is None else same_target
    pairs = list(_pairs(before, after, history, by_target=by_target))
    differences = list(chain.from_iterable(_differences(pairs, smallest)))
    first, last = _cells(before, by_target=by_target), _cells(after, by_target=by_target)
    return Comparison(
        before=_side(before),
        after=_side(after),
        differences=tuple(differences),
        lost=tuple(_lost(first, last)),
        new=tuple(lost.cell for lost in _lost(last, first)),
    )


def changes(runs: Sequence[Run], *, smallest: float = 0.05) -> list[Change]:
    """Find what changed from each build of a cell to its next, newest first.

    A build that comes back after another one is a build of its own: what it undid is found too. Five runs at most on
    either side are compared, the nearest; all others tell how much runs of one build differ.

    Args:
        runs: of any cells, in any order.
        smallest: the share of the earlier figure from which a change matters.
    """
    return changed(steps(runs, smallest=smallest))


def steps(runs: Sequence[Run], *, smallest: float = 0.05) -> list[Step]:
    """Compare each build of each cell with its next, newest first; see `changes`. Runs broken off are left out."""
    whole = [run for run in runs if not run.broken_off]
    pairs = [pair for history in _cells(whole, by_target=True).values() for pair in _steps(history)]
    return sorted(_judged(pairs, smallest), key=lambda step: (step.at, step.run), reverse=True)


def changed(found: Iterable[Step]) -> list[Change]:
    """Pick what is a regression or an improvement, in the order of steps."""
    return [
        Change(step.before, step.after, step.at, step.run, difference)
        for step in found
        for difference in step.differences
        if difference.verdict in {"regression", "improvement"}
    ]


def against_history(run: Run, earlier: Sequence[Run], *, smallest: float = 0.05) -> list[Change]:
    """Say what changed with a run's build: it, and runs of that build just before it, against the build before.

    Args:
        run: the newest of its cell.
        earlier: runs of any cells, in any order; those of this cell count.
        smallest: the share of the earlier figure from which a change matters.
    """
    cells = _cells([known for known in earlier if known.id != run.id and not known.broken_off], by_target=True)
    pairs = list(_steps([*cells.get(run.cell.key, ()), run]))[-1:] if run.outcome == "ok" else []
    return changed(_judged(pairs, smallest))


def _judged(pairs: Sequence[_Pair], smallest: float) -> list[Step]:
    judged = zip(pairs, _differences(pairs, smallest), strict=True)
    return [_step(pair.before[-1], pair.after[0], differences) for pair, differences in judged]


def _step(last: Run, first: Run, differences: Iterable[Difference]) -> Step:
    return Step(last.build, first.build, first.started_at, first.id, tuple(differences))


def _differences(pairs: Sequence[_Pair], smallest: float) -> list[list[Difference]]:
    """Judge every metric of every pair; what all of them say of the noise counts for each."""
    evidence = [list(_evidence(pair)) for pair in pairs]
    seen = [[see(each) for each in metrics] for metrics in evidence]
    known = ground(list(chain.from_iterable(evidence)), list(chain.from_iterable(seen)))
    return [
        [
            Difference(
                pair.cell, pair.against, each.metric, *astuple(judge(each, scaled, known, smallest), recurse=False)
            )
            for each, scaled in zip(metrics, values, strict=True)
        ]
        for pair, metrics, values in zip(pairs, evidence, seen, strict=True)
    ]


def _evidence(pair: _Pair) -> Iterator[Evidence]:
    together = {run.batch for run in pair.before} == {run.batch for run in pair.after}
    for metric in pair.after[-1].metrics:
        before, after = _rounds(pair.before, metric), _rounds(pair.after, metric)
        if before and after:
            past = tuple(rounds for group in pair.past if (rounds := _rounds(group, metric)))
            yield Evidence(metric, before, after, past, together)


def _rounds(runs: Iterable[Run], metric: Metric) -> tuple[Rounds, ...]:
    return tuple(tuple(rounds) for run in runs if (rounds := by_rounds(run, metric.name)))


def _pairs(before: Sequence[Run], after: Sequence[Run], history: Sequence[Run], *, by_target: bool) -> Iterator[_Pair]:
    """Match cells: with their target, or each target of one side with each of the other."""
    named = {run.id for run in (*before, *after)}
    past = _cells([run for run in history if run.id not in named], by_target=True)
    first, last = _cells(before, by_target=True), _cells(after, by_target=True)
    candidates: dict[str, list[str]] = defaultdict(list)
    for key in sorted(first):
        candidates[_key(first[key][0].cell, by_target=by_target)].append(key)
    for key in sorted(last):
        for other in candidates[_key(last[key][0].cell, by_target=by_target)]:
            earlier, later = _good(first[other]), _good(last[key])
            if earlier and later:
                groups = tuple(era for each in dict.fromkeys((other, key)) for era in _eras(past.get(each, [])))
                yield _Pair(later[0].cell, earlier[0].cell.target, earlier, later, groups)


def _steps(history: Sequence[Run]) -> Iterator[_Pair]:
    """Take each change of builds in one cell's history, with the runs before it that are not compared."""
    eras = _eras(history)
    gone = 0
    for earlier, later in pairwise(eras):
        gone += len(earlier)
        known = _good(history)[max(0, gone - _REMEMBERED) : max(0, gone - NEAREST)]
        past = tuple(group for group in _eras(known) if group)
        yield _Pair(later[0].cell, later[0].cell.target, earlier[-NEAREST:], later[:NEAREST], past)


def _eras(history: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Group runs with values, in their order, by build: consecutive ones of one build are an era."""
    return [tuple(group) for _, group in groupby(_good(history), key=lambda run: run.build.id)]


def _good(runs: Iterable[Run]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.outcome == "ok")


def _cells(runs: Iterable[Run], *, by_target: bool) -> dict[str, list[Run]]:
    """Group runs by their cell's key, oldest first."""
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.started_at, run.id)):
        cells[_key(run.cell, by_target=by_target)].append(run)
    return cells


def _key(cell: Cell, *, by_target: bool) -> str:
    return cell.key if by_target else evolve(cell, target="").key


def _lost(first: dict[str, list[Run]], last: dict[str, list[Run]]) -> Iterator[Lost]:
    for key, runs in sorted(first.items()):
        tried = last.get(key, [])
        if _good(runs) and not _good(tried):
            yield Lost(runs[-1].cell, tried[-1].reason if tried else "It was not measured.")


def _targets(runs: Iterable[Run]) -> set[str]:
    return {run.cell.target for run in runs}


def _side(runs: Sequence[Run]) -> Side:
    builds = {run.build.id: run.build for run in runs}
    starts = [run.started_at for run in runs] or [0.0]
    return Side(
        targets=tuple(sorted(_targets(runs))),
        builds=tuple(sorted(builds.values(), key=lambda build: (build.name, build.id))),
        batches=tuple(sorted({run.batch for run in runs})),
        labels=tuple(sorted({run.label for run in runs} - {""})),
        runs=len(runs),
        since=min(starts),
        until=max(starts),
    )
