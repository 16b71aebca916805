"""Medians, their intervals, and the rank test: against definitions, and against libraries that have them."""

import itertools
import math
import random
import re
from pathlib import Path
from statistics import median

import pytest
from attrs import evolve
from bench_runs import CHAT, run
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.analysis.statistics import by_rounds, of_run, of_runs, rank_test, smallest_p, summarize
from helexa.bench.records import Sample

NUMBERS = st.floats(-1e6, 1e6)
FEW = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def test_one_value_is_its_own_interval() -> None:
    found = summarize([3.5])
    assert (found.n, found.median, found.low, found.high) == (1, 3.5, 3.5, 3.5)


def test_no_value_cannot_be_summarized() -> None:
    with pytest.raises(ValueError, match="There is no value to summarize"):
        summarize([])
    with pytest.raises(ValueError, match="There is no value"):
        summarize([math.nan, math.inf])


def test_values_that_are_not_finite_are_left_out() -> None:
    assert summarize([1.0, math.nan, 3.0, math.inf, 2.0]) == summarize([1, 2, 3])


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.randoms())
def test_an_interval_holds_its_median_ends_at_values_seen_and_forgets_their_order(
    values: list[float], shuffler: random.Random
) -> None:
    found = summarize(values)
    assert found.low <= found.median <= found.high
    assert {found.low, found.high} <= set(values)
    assert found.median == median(values)
    shuffled = shuffler.sample(values, len(values))
    assert summarize(shuffled) == found


@pytest.mark.parametrize("n", [5, 7, 9, 15, 31, 101])
def test_the_interval_is_the_one_that_resampling_converges_to(n: int) -> None:
    generator = random.Random(n)
    values = [generator.gauss(0, 1) for _ in range(n)]
    medians = sorted(median(generator.choices(values, k=n)) for _ in range(8000))
    found, ordered = summarize(values), sorted(values)
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        drawn = ordered.index(medians[round(share * len(medians))])
        assert abs(ordered.index(end) - drawn) <= (1 if n > 10 else 0)  # draws fall beside a step now and then


def test_every_resample_of_five_values_is_counted() -> None:
    values = (1, 2, 4, 8, 16)
    medians = sorted(median(drawn) for drawn in itertools.product(values, repeat=5))
    found = summarize(values)
    assert found.low == medians[int(0.025 * len(medians))]
    assert found.high == medians[int(0.975 * len(medians))]


def test_the_interval_of_many_values_holds_the_true_median_as_often_as_it_says() -> None:
    generator = random.Random(3)
    held = 0
    for _ in range(1000):
        found = summarize([generator.expovariate(1) for _ in range(25)])
        held += found.low <= math.log(2) <= found.high
    assert 930 <= held <= 985


def test_large_samples_go_on_where_small_ones_end() -> None:
    for n in (399, 400, 401, 402):
        found = summarize(range(n))
        assert found.low == pytest.approx(n / 2 - 0.98 * math.sqrt(n), abs=1.5)
        assert found.low + found.high == n - 1


def test_a_hundred_thousand_values_are_summarized() -> None:
    found = summarize(range(100_000))
    assert (found.median, found.n) == (49_999.5, 100_000)
    assert 49_600 < found.low < 49_750


def test_a_round_is_one_value_however_many_samples_it_has() -> None:
    samples = [Sample(1, 5.0, {"ttft": 9.0}), *(Sample(0, 1.0, {"ttft": value}) for value in (1.0, 2.0, 30.0))]
    whole = evolve(run(), samples=tuple(samples))
    assert by_rounds(whole, "ttft") == [2.0, 9.0]
    found = of_run(whole, "ttft")
    assert found is not None
    assert found.n == 2


def test_failed_samples_and_values_that_are_no_numbers_are_no_rounds() -> None:
    samples = (Sample(0, 1.0, {}, "It failed."), Sample(1, 2.0, {"ttft": math.nan}), Sample(2, 3.0, {"ttft": 1.0}))
    assert by_rounds(evolve(run(), samples=samples), "ttft") == [1.0]
    assert of_run(run(), "never measured") is None
    assert of_runs([run()], "never measured") is None


def test_runs_together_are_all_their_rounds() -> None:
    found = of_runs([run({"ttft": [1.0, 2.0]}, metrics=CHAT), run({"ttft": [3.0]}, metrics=CHAT)], "ttft")
    assert found == summarize([1.0, 2.0, 3.0])


@given(FEW, FEW)
def test_the_rank_test_counts_every_arrangement_ties_and_all(before: list[int], after: list[int]) -> None:
    pooled = [*before, *after]
    ranks = [sum(other < value for other in pooled) + sum(other <= value for other in pooled) for value in pooled]
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(before))]
    observed = sum(ranks[: len(before)])
    tail = min(sum(each <= observed for each in sums), sum(each >= observed for each in sums))
    assert rank_test(before, after) == pytest.approx(min(1.0, 2 * tail / len(sums)))


@pytest.mark.parametrize(("first", "second", "method"), [(5, 5, "exact"), (7, 12, "exact"), (30, 25, "asymptotic")])
def test_the_rank_test_agrees_with_scipy(first: int, second: int, method: str) -> None:
    mannwhitneyu = pytest.importorskip("scipy.stats").mannwhitneyu
    generator = random.Random(first)
    for shift in (0.0, 0.5, 2.0):
        before = [generator.gauss(0, 1) for _ in range(first)]
        after = [generator.gauss(shift, 1) for _ in range(second)]
        expected = mannwhitneyu(before, after, method=method).pvalue
        assert rank_test(before, after) == pytest.approx(expected, rel=1e-9)


def test_many_ties_in_large_samples_are_corrected_for_as_scipy_does() -> None:
    mannwhitneyu = pytest.importorskip("scipy.stats").mannwhitneyu
    before, after = [1, 1, 2, 2, 3] * 6, [2, 2, 3, 3, 3] * 5
    expected = mannwhitneyu(before, after, method="asymptotic").pvalue
    assert rank_test(before, after) == pytest.approx(expected, rel=1e-9)


def test_sides_that_are_all_alike_say_nothing() -> None:
    assert rank_test([2.0] * 5, [2.0] * 5) == 1.0
    assert rank_test([2.0] * 40, [2.0] * 40) == 1.0


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.lists(NUMBERS, min_size=1, max_size=20))
def test_the_rank_test_does_not_mind_which_side_is_first(before: list[float], after: list[float]) -> None:
    assert rank_test(before, after) == pytest.approx(rank_test(after, before))
    assert smallest_p(len(before), len(after)) <= rank_test(before, after) + 0.01  # beyond 24 values it is approximate


@given(st.integers(1, 10), st.integers(1, 10))
def test_sides_that_do_not_overlap_reach_the_smallest_p(before: int, after: int) -> None:
    found = rank_test([float(value) for value in range(before)], [100.0 + value for value in range(after)])
    assert found == pytest.approx(smallest_p(before, after))


def test_an_empty_side_cannot_be_tested() -> None:
    assert smallest_p(0, 5) == 1.0
    with pytest.raises(ValueError, match="values on both sides"):
        rank_test([], [1.0])


def test_no_product_code_imports_scipy() -> None:
    """It is what tests hold the statistics against; an installation does not have it."""
    root = Path(__file__).parents[2]
    sources = [path for package in ("helexa", "actors", "config", "tui") for path in (root / package).rglob("*.py")]
    assert len(sources) > 100
    assert [path for path in sources if re.search(r"(?m)^\s*(import|from) scipy\b", path.read_text("utf-8"))] == []
