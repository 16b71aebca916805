"""How much figures vary while nothing changes: the size that a change has to have before it is believed. Pure.

Three things move a figure without anybody's doing. Rounds differ from each other. Rounds that follow each other are
alike, because machines drift over minutes, so that a run's rounds say less than as many independent ones. And runs of
different hours differ by more than their rounds explain. A rank test knows of none but the first: it calls every
drift a discovery. So each is measured from what there is, and the size that counts is a multiple of their sum.

Everything is a variance on the metric's own scale: logarithms for times and rates, plain values for fractions and
nats, where a difference means the same at every level.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Final, TypeAlias

Rounds: TypeAlias = tuple[float, ...]
"""One run's rounds, in order, on the metric's scale."""

OF_A_MEDIAN: Final = math.pi / 2  # the variance of a normal sample's median, in units of its mean's
UNSEEN: Final = 0.025**2  # between runs, as long as there are not several to see it from
_PRIOR: Final = 4.0  # degrees of freedom that all cells together weigh against one cell's own rounds
_PRIOR_RUNS: Final = 2.0  # likewise against one cell's own runs
_DRIFT: Final = 8.0  # what perfect smoothness adds to a run's figure, in variances of its rounds; see `drift`
_SURE: Final = 0.8  # standard errors of chance that smoothness has to exceed
_TAME: Final = 3.0  # standard deviations at which a single strange run is cut off
_ROBUST: Final = 1.4826  # a normal distribution's standard deviation in units of its median absolute deviation
_ENOUGH: Final = 4  # rounds, for their order to say anything
_STALL: Final = 6.0  # standard deviations at which a round is no measurement of what the others measured
_QUIET: Final = 0.02  # standard deviation of a round below which no machine is taken to be
_STALLED: Final = 5  # rounds, of which one may have stalled; where more do, that is how the machine is


def steady(runs: Sequence[Rounds]) -> tuple[Rounds, ...]:
    """Put a stalled round where the run's next one is (Winsor's way), so that it has its place but not its size.

    One round of 2 s among five of 0.1 s says that something else held the machine up. Taken as it is, it makes the
    variance of a run so large that no slowdown stands out, and in the rank test it speaks for the wrong side. Leaving
    it out would not do: five rounds a side are just enough for that test, four are not.

    A round that is strange in its own run and usual in another one has not stalled: the machine has two speeds.

    Args:
        runs: of one metric, in logarithms, those that are compared with each other.
    """
    middles = [median(rounds) for rounds in runs]
    away = [abs(value - middle) for rounds, middle in zip(runs, middles, strict=True) for value in rounds]
    limit = _STALL * max(_ROBUST * median(away), _QUIET)
    return tuple(_steadied(rounds, middles, limit) for rounds in runs)


def _steadied(rounds: Rounds, middles: Sequence[float], limit: float) -> Rounds:
    usual = [value for value in rounds if any(abs(value - middle) <= limit for middle in middles)]
    if (len(rounds) - len(usual)) * _STALLED > len(rounds):
        return rounds
    return tuple(min(max(value, min(usual)), max(usual)) for value in rounds)


def variance_within(runs: Iterable[Rounds]) -> tuple[float, int]:
    """Return the variance of rounds about their run's mean, and its degrees of freedom."""
    squares, freedom = 0.0, 0
    for rounds in runs:
        mean = fmean(rounds)
        squares += sum((value - mean) ** 2 for value in rounds)
        freedom += len(rounds) - 1
    return (squares / freedom if freedom else 0.0), freedom


def within(own: float, freedom: int, others: Sequence[float]) -> float:
    """Return a cell's variance within runs: its own, or that of all cells where five rounds look quiet by chance.

    Variances of few rounds are shrunk to the typical one (Smyth 2004), but never below what the cell itself shows.
    """
    typical = median(others)
    return max(own, (freedom * own + _PRIOR * typical) / (freedom + _PRIOR))


def drift(runs: Iterable[Rounds]) -> float:
    """Say how smoothly rounds follow each other, as what it adds to a run's figure in variances of its rounds.

    The mean squared step between neighbours is twice the variance where rounds know nothing of each other (von Neumann
    1941), and less where they drift. A random walk of five rounds has half of that, and its figures from one run to the
    next differ by two variances of its rounds a side: four per unit of what is missing. What chance explains is taken
    off first.
    """
    ratios = [ratio for rounds in runs if (ratio := _roughness(rounds)) is not None]
    if not ratios:
        return 0.0
    by_chance = _SURE * 0.35 / math.sqrt(len(ratios))  # 0.35: a ratio's standard deviation at five rounds
    return _DRIFT * max(0.0, 1 - fmean(ratios) - by_chance)


def alike(runs: Iterable[Sequence[Rounds]]) -> float:
    """Say how many figures move as one: 1 if each moves by itself, all of them if one machine moves them together.

    Twelve cells that were measured in turns on a machine that drifts are twelve views of one drift, and tell its size
    no better than one of them does.

    Args:
        runs: figure by figure, those at the same place and their rounds at the same place measured in turns.
    """
    together: dict[tuple[int, int], list[float]] = defaultdict(list)
    for figure in runs:
        for place, rounds in enumerate(figure):
            own, freedom = variance_within([rounds])
            for number, value in enumerate(rounds if own else ()):
                away = (value - fmean(rounds)) / math.sqrt(own)
                together[place, number].append(away * math.sqrt((freedom + 1) / freedom))
    return max(1.0, fmean([sum(away) ** 2 / len(away) for away in together.values()] or [1.0]))


def stretched(errors: float, freedom: float) -> float:
    """Return as many standard errors as are as rare as ``errors`` where the error itself is an estimate.

    Student's t in Fisher and Cornish's expansion (1960), within 1 % from five degrees of freedom on.
    """
    z, inverse = errors, 1 / max(freedom, 4.0)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + inverse * (first + inverse * (second + inverse * third))


def variance_between(groups: Iterable[Sequence[Rounds]], within: float) -> tuple[float, int]:
    """Return the variance of runs of one build beyond what their rounds explain, and its degrees of freedom.

    Args:
        groups: runs of one cell, build by build.
        within: the cell's variance of rounds.
    """
    away: list[float] = []
    explained: list[float] = []
    freedom = 0
    for group in groups:
        figures = [median(rounds) for rounds in group]
        middle = median(figures)
        away += [figure - middle for figure in figures] if len(figures) > 1 else []
        explained += [OF_A_MEDIAN * within / len(rounds) for rounds in group]
        freedom += len(figures) - 1
    if not freedom:
        return 0.0, 0
    return max(0.0, _tamed(away) / freedom - fmean(explained)), freedom


def between(own: float, freedom: int, prior: float) -> float:
    """Return a cell's variance between runs: its own as far as it was seen, ``prior`` as far as not."""
    return (freedom * own + _PRIOR_RUNS * prior) / (freedom + _PRIOR_RUNS)


def _roughness(rounds: Rounds) -> float | None:
    own, freedom = variance_within([rounds])
    if freedom + 1 < _ENOUGH or own == 0:
        return None
    steps = fmean((later - earlier) ** 2 for earlier, later in pairwise(rounds))
    return steps / 2 / own


def _tamed(away: Sequence[float]) -> float:
    """Sum squares, with strange ones cut off: one run on a busy day must not hide every change of a year."""
    limit = _TAME * max(_ROBUST * median(abs(value) for value in away), math.sqrt(UNSEEN))
    return sum(min(abs(value), limit) ** 2 for value in away)
