"""What samples say: medians with intervals, and whether two sets of samples differ. Pure, and without a library.

The *unit* of every figure here is a round. Requests of one round run within moments of each other on one state of the
machine, so they are no independent measurements: ten requests in each of five rounds are five measurements. A round's
value is the median of its samples, a run's figure the median of its rounds.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from statistics import NormalDist, median
from typing import Final

from attrs import frozen

from helexa.bench.records import Run

CONFIDENCE: Final = 0.95
_CLOSED_FORM: Final = 400  # values; above, the binomial is a normal distribution for every purpose here
_EXACT: Final = 24  # values of both sides; above, the rank sum is a normal distribution for every purpose here


@frozen
class Interval:
    """A median, and where the true one is likely to be.

    Attributes:
        n: how many values there were.
        median: of them, in the values' unit.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    n: int
    median: float
    low: float
    high: float


def summarize(values: Sequence[float]) -> Interval:
    """Say the median of values, with its 95 % bootstrap interval (Efron 1979, percentile method).

    The bootstrap distribution of a median is known in closed form: the k-th of ``n`` ordered values, or one below it,
    is the median of a resample as often as a binomial(n, k/n) reaches more than half. So nothing is drawn: the answer
    is what infinitely many resamples would say, the same every time, in microseconds. For an even number of values the
    lower median counts below and the upper one above, so that both ends are values that were seen.

    Args:
        values: in any order. Those that are not finite are left out.

    Raises:
        ValueError: there is no finite value.
    """
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        raise ValueError("There is no value to summarize.")
    low = _rank(len(ordered))
    return Interval(len(ordered), median(ordered), ordered[low], ordered[-1 - low])


def of_run(run: Run, metric: str) -> Interval | None:
    """Say a run's figure for a metric: over its rounds. ``None``: it has no value of it."""
    rounds = by_rounds(run, metric)
    return summarize(rounds) if rounds else None


def of_runs(runs: Iterable[Run], metric: str) -> Interval | None:
    """Say the figure of several runs together: over the rounds of all of them. ``None``: no run has a value of it."""
    rounds = [value for run in runs for value in by_rounds(run, metric)]
    return summarize(rounds) if rounds else None


def by_rounds(run: Run, metric: str) -> list[float]:
    """Return one value per round that has any: the median of its samples, in the order of rounds. Finite ones only."""
    rounds: dict[int, list[float]] = {}
    for sample in run.samples:
        value = sample.values.get(metric)
        if value is not None and math.isfinite(value):
            rounds.setdefault(sample.round, []).append(value)
    return [median(rounds[number]) for number in sorted(rounds)]


def rank_test(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the two-sided p of the Wilcoxon-Mann-Whitney rank-sum test (Mann and Whitney 1947).

    Exact up to 24 values, ties and all: among every way to pick ``len(before)`` of the pooled mid-ranks, the share
    whose sum is at least as far out. Above, the normal approximation, corrected for ties and continuity.

    Raises:
        ValueError: one side is empty.
    """
    if not before or not after:
        raise ValueError("A rank test needs values on both sides.")
    ranks = _doubled_ranks([*before, *after])
    exact = len(ranks) <= _EXACT
    return (_exact_p if exact else _normal_p)(ranks, len(before))


def smallest_p(before: int, after: int) -> float:
    """Return the p of two sides of so many values that do not overlap at all: no data can give a smaller one."""
    return min(1.0, 2 / math.comb(before + after, before)) if before and after else 1.0


@cache
def _rank(n: int) -> int:
    """How many ordered values lie outside the interval at either end."""
    if n > _CLOSED_FORM:
        half_width = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) / 2 * math.sqrt(n)
        return max(0, math.floor(n / 2 - half_width))
    needed = (n + 1) // 2  # that many values at or below x put the (lower) median there
    outside = (1 - CONFIDENCE) / 2
    return next(k - 1 for k in range(1, n + 1) if _at_least(needed, n, k / n) >= outside)


def _at_least(successes: int, n: int, chance: float) -> float:
    """P(binomial(n, chance) >= successes)."""
    return math.fsum(math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(successes, n + 1))


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Mid-ranks times two, which are whole numbers; in the order of ``values``."""
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered)))}
    last = {value: place for place, value in enumerate(ordered)}
    return [first[value] + last[value] + 2 for value in values]


def _exact_p(ranks: Sequence[int], size: int) -> float:
    """Count subsets by size and sum: the coefficients of prod(1 + z q^rank), each one digit of a whole number.

    A digit has a bit per value, which no count overflows; digits of a whole number add up to its remainder by the
    largest digit. Enumerating the subsets takes minutes from 30 values on; a table in Python takes a second.
    """
    digit = len(ranks) + 1
    ways = [1, *([0] * size)]
    for rank in ranks:
        for chosen in range(size, 0, -1):
            ways[chosen] += ways[chosen - 1] << (digit * rank)
    observed, counted, base = sum(ranks[:size]), ways[size], (1 << digit) - 1
    total = math.comb(len(ranks), size)
    below = (counted & ((1 << (digit * (observed + 1))) - 1)) % base
    above = (counted >> (digit * observed)) % base
    return min(1.0, 2 * min(below, above) / total)


def _normal_p(ranks: Sequence[int], size: int) -> float:
    mean = sum(ranks) / len(ranks)
    spread = sum((rank - mean) ** 2 for rank in ranks) / (len(ranks) - 1)  # of one draw without replacement
    variance = spread * size * (len(ranks) - size) / len(ranks)
    if variance == 0:
        return 1.0
    away = max(0.0, abs(sum(ranks[:size]) - size * mean) - 1)  # half a rank, doubled as ranks are
    return 2 * (1 - NormalDist().cdf(away / math.sqrt(variance)))
