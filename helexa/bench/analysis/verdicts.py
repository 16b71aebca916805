"""What is made of one metric before and after. Pure.

A change is called one when two judges agree. The rank test (`statistics.rank_test`) says that the sides differ in
order, whatever their distribution. The size has to exceed what would matter to anybody, and three standard errors of
what moves figures while nothing changes (`noise`). The test alone calls every drift of the machine a discovery; the
size alone calls one lucky median one.

What that finds of a slowdown by 20 % in one run a side (simulated as in `tests/helexa/test_bench_power.py`; the noise
is the standard deviation of a round, each by itself):

    noise of a round           2 %      3 %      5 %     10 %
    12 cells, 5 rounds        100 %     95 %     59 %      9 %
    12 cells, 7 rounds        100 %     96 %     74 %     18 %
    one cell, 5 rounds         93 %     76 %     28 %      3 %
    one cell, 7 rounds         97 %     87 %     53 %      8 %

One round in five may have stalled on either side: that costs at most some ten percentage points (`noise.steady`).

Where nothing changed, at most one cell is called in 20 such comparisons. One thing defeats a single run a side: a
machine that changes its speed by 10 % or more for minutes, in the pause between the sides. No sample shows that. From
about three earlier runs of the cell on (``past``) it is seen, and what counts grows with it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from statistics import median
from typing import Final, Literal, TypeAlias

from attrs import frozen

from helexa.bench.analysis import noise
from helexa.bench.analysis.noise import Rounds
from helexa.bench.analysis.statistics import Interval, rank_test, smallest_p, summarize
from helexa.bench.records import Metric

Verdict: TypeAlias = Literal["regression", "improvement", "changed", "same", "unclear", "too few"]

ALPHA: Final = 0.01
"""The rank test's level. Five rounds a side reach it if none is out of order, seven with up to four pairs that are,
four a side never. At 0.02, three disturbed rounds of five were called a change again and again."""
ERRORS: Final = 3.0
"""Standard errors that a change has to exceed."""
BLIND: Final = 0.25
"""A floor above which nothing is called the same, unless no smaller change is of interest."""
SMALLEST: Final[Mapping[str, float]] = {"nats/token": 0.01}
"""What matters of metrics that repeat exactly. A build that computes something else is off by far more; the order of
additions in 16-bit arithmetic moves a mean log-likelihood by about 0.001."""


def counts_as_is(metric: Metric, *figures: float) -> bool:
    """Whether a metric's differences count as they are: twice a fraction of 0.01 is nothing. Others count as shares.

    What has no unit is a fraction as long as its figures are: a speed-up or a perplexity is none.
    """
    return metric.unit in SMALLEST or (metric.unit == "" and all(0 <= figure <= 1 for figure in figures))


@frozen
class Evidence:
    """The rounds of one metric of one cell.

    Attributes:
        metric: what was measured.
        before: the earlier side's runs; at least one.
        after: the later side's; likewise.
        past: other runs of the cell, build by build: what differs between those of one build is noise.
        together: both sides were measured in turns, so that no drift and no hour comes between them.
    """

    metric: Metric
    before: tuple[Rounds, ...]
    after: tuple[Rounds, ...]
    past: tuple[tuple[Rounds, ...], ...] = ()
    together: bool = False

    @property
    def exact(self) -> bool:
        """Whether the metric repeats exactly, so that one value says as much as many."""
        return self.metric.unit in SMALLEST


@frozen
class Seen:
    """Evidence on the scale on which a difference means the same at every level.

    Attributes:
        scale: takes a value there.
        runs: of both sides; times and rates `noise.steady`.
        groups: all runs, build by build.
        units: what counts as a value, of either side: a run where there are enough of them for the test, else a round.
        within: variance of rounds within runs.
        freedom: its degrees of freedom.
    """

    scale: Callable[[float], float]
    runs: tuple[Rounds, ...]
    groups: tuple[tuple[Rounds, ...], ...]
    units: tuple[list[float], list[float]]
    within: float
    freedom: int


@frozen
class Ground:
    """What all cells of a comparison say of the noise together.

    Attributes:
        within: variances within runs, by the metric's name.
        drift: see `noise.drift`.
        between: variance between runs; 0 where nothing was run twice.
        errors: `ERRORS`, stretched by how little all this is known.
    """

    within: Mapping[str, Sequence[float]]
    drift: float
    between: float
    errors: float


@frozen
class Judgement:
    """What is made of one metric: the fields of `helexa.bench.analysis.compare.Difference` that say so."""

    before: Interval
    after: Interval
    ratio: float
    p: float
    verdict: Verdict
    floor: float
    size: float


def see(evidence: Evidence) -> Seen:
    """Bring evidence to its scale."""
    scale = _scale(evidence)
    runs = (*_scaled(evidence.before, scale), *_scaled(evidence.after, scale))
    if scale is math.log:  # what is no time and no rate does not stall
        runs = noise.steady(runs)
    before, after = runs[: len(evidence.before)], runs[len(evidence.before) :]
    past = tuple(_scaled(group, scale) for group in evidence.past)
    return Seen(scale, runs, (before, after, *past), _units(before, after), *noise.variance_within(runs))


def ground(evidence: Sequence[Evidence], seen: Sequence[Seen]) -> Ground:
    """Gather what is known of the noise from every metric of every cell."""
    variances: dict[str, list[float]] = defaultdict(list)
    for each, scaled in zip(evidence, seen, strict=True):
        variances[each.metric.name].append(scaled.within)
    loose = [scaled for each, scaled in zip(evidence, seen, strict=True) if not each.exact]
    drift = noise.drift(run for scaled in loose for run in scaled.runs)
    between = [noise.variance_between(scaled.groups, scaled.within) for scaled in loose]
    freedom = sum(degrees for _, degrees in between)
    pooled = sum(variance * degrees for variance, degrees in between) / freedom if freedom else 0.0
    views = noise.alike(
        _upright(each.metric, scaled.runs) for each, scaled in zip(evidence, seen, strict=True) if not each.exact
    )
    errors = noise.stretched(ERRORS, sum(scaled.freedom for scaled in loose) / views)
    return Ground(variances, drift, pooled, errors)


def judge(evidence: Evidence, seen: Seen, known: Ground, smallest: float) -> Judgement:
    """Say what is made of one metric.

    Args:
        evidence: its rounds.
        seen: the same, scaled.
        known: of all cells together.
        smallest: the share from which a change matters; metrics that repeat exactly have their own size.
    """
    first, last = map(summarize, _units(evidence.before, evidence.after))
    logs = seen.scale is math.log
    matters = SMALLEST.get(evidence.metric.unit, math.log1p(smallest) if logs else smallest)
    floor = max(matters, _believed(evidence, seen, known))
    step = seen.scale(last.median) - seen.scale(first.median)
    p, few = rank_test(*seen.units), smallest_p(first.n, last.n) > ALPHA
    sure = p <= ALPHA
    if evidence.exact:
        sure, few = True, False
    verdict = "too few" if few else _verdict(evidence.metric, step, floor, matters, sure=sure)
    as_is = counts_as_is(evidence.metric, first.median, last.median)
    size = last.median - first.median if as_is else _ratio(first, last) - 1
    return Judgement(
        first,
        last,
        _ratio(first, last),
        p,
        verdict,
        abs(math.expm1(math.copysign(floor, step))) if logs else floor,
        size,
    )


def _upright(metric: Metric, runs: Iterable[Rounds]) -> list[Rounds]:
    """Turn figures so that what slows everything down moves all of them the same way."""
    sign = 1 if metric.better == "higher" else -1
    return [tuple(sign * value for value in rounds) for rounds in runs]


def _verdict(metric: Metric, step: float, floor: float, matters: float, *, sure: bool) -> Verdict:
    if sure and abs(step) >= floor:
        if not metric.primary:
            return "changed"
        return "improvement" if (step > 0) == (metric.better == "higher") else "regression"
    return "unclear" if abs(step) >= matters or floor > max(BLIND, matters) else "same"


def _believed(evidence: Evidence, seen: Seen, known: Ground) -> float:
    """Return the size from which the difference between the sides is more than what moves while nothing changes."""
    within = noise.within(seen.within, seen.freedom, known.within[evidence.metric.name])
    between = 0.0 if evidence.together or evidence.exact else _between(seen, within, known)
    of_rounds = sum(noise.OF_A_MEDIAN * within / sum(map(len, runs)) for runs in (evidence.before, evidence.after))
    of_runs = between / len(evidence.before) + between / len(evidence.after)
    return math.sqrt(known.errors**2 * of_rounds + ERRORS**2 * of_runs)


def _between(seen: Seen, within: float, known: Ground) -> float:
    own, freedom = noise.variance_between(seen.groups, within)
    return noise.between(own, freedom, max(noise.UNSEEN + known.drift * within, known.between))


def _units(before: Sequence[Rounds], after: Sequence[Rounds]) -> tuple[list[float], list[float]]:
    """Return what counts as a value: a run where there are enough of them for the test, else a round."""
    if smallest_p(len(before), len(after)) <= ALPHA:
        return [median(run) for run in before], [median(run) for run in after]
    return list(chain.from_iterable(before)), list(chain.from_iterable(after))


def _scale(evidence: Evidence) -> Callable[[float], float]:
    """Logarithms, or plain values where differences count; shares of the larger figure where some are not above 0."""
    figures = [median(units) for units in _units(evidence.before, evidence.after)]
    if counts_as_is(evidence.metric, *figures):
        return float
    every = [value for group in (evidence.before, evidence.after, *evidence.past) for run in group for value in run]
    if min(every) > 0:
        return math.log
    largest = max(map(abs, figures)) or 1.0
    return lambda value: value / largest


def _scaled(runs: Iterable[Rounds], scale: Callable[[float], float]) -> tuple[Rounds, ...]:
    return tuple(tuple(map(scale, run)) for run in runs)


def _ratio(before: Interval, after: Interval) -> float:
    if before.median:
        return after.median / before.median
    return math.copysign(math.inf, after.median) if after.median else 1.0
