"""What the benchmark loop measures next, and when it goes on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Hours
from helexa.bench import sweep
from helexa.bench.records import Cell, Outcome
from helexa.bench.sweep import LEAST_SECONDS, LONGEST_SECONDS, MOST_SECONDS, Rest, Want

DAY = 86_400.0
outcomes = st.sampled_from(["ok", "failed", "skipped", "yielded"])
moments = st.floats(0, 1e9)
rests = st.dictionaries(st.tuples(st.text(max_size=2), st.just("b")), st.builds(Rest, moments), max_size=5)


def want(scenario: str, done: int = 0, build: str = "b1") -> Want:
    return Want(Cell("local", "m", scenario, {"n": 1}), build, done)


def names(wants: list[Want]) -> list[str]:
    return [each.cell.scenario for each in wants]


def test_a_cell_with_enough_runs_is_left_alone() -> None:
    assert names(sweep.due([want("a", 5), want("b", 6), want("c", 4)], 5, {}, 0)) == ["c"]


def test_what_there_is_least_of_comes_first_and_otherwise_the_order_stays() -> None:
    found = sweep.due([want("a", 2), want("b", 0), want("c", 1), want("d", 0)], 5, {}, 0)
    assert names(found) == ["b", "d", "c", "a"]


def test_what_did_not_work_out_lately_comes_after_what_there_is_as_little_of() -> None:
    tried = {want("a").name: Rest(5.0, 2), want("b").name: Rest(5.0, 1)}
    assert names(sweep.due([want("a"), want("b"), want("c"), want("d", 1)], 5, tried, 6)) == ["c", "b", "a", "d"]


def test_a_cell_that_rests_is_due_again_when_its_rest_is_over() -> None:
    resting = {want("a").name: Rest(10.0)}
    assert names(sweep.due([want("a"), want("b")], 5, resting, 9.9)) == ["b"]
    assert names(sweep.due([want("a"), want("b")], 5, resting, 10.0)) == ["a", "b"]


def test_another_build_of_it_has_no_part_in_its_rest() -> None:
    resting = {want("a").name: Rest(math.inf)}
    assert names(sweep.due([want("a", build="b2")], 5, resting, 0)) == ["a"]


def test_a_cell_is_the_same_whatever_the_order_of_its_parameters() -> None:
    one, other = (
        Want(Cell("t", "m", "s", dict(pairs)), "b", 0) for pairs in ([("x", 1), ("y", 2)], [("y", 2), ("x", 1)])
    )
    assert sweep.due([one], 1, {other.name: Rest(1.0)}, 0) == []


def test_after_success_it_rests_for_the_interval_and_setbacks_are_forgotten() -> None:
    assert sweep.rest_after("ok", Rest(0.0, 7), 1800, 100) == Rest(1900)


@pytest.mark.parametrize(("outcome", "first"), [("yielded", 60), ("failed", 600)])
def test_setbacks_double_the_rest_up_to_some_hours(outcome: Outcome, first: float) -> None:
    rest, lengths = None, []
    for _ in range(12):
        rest = sweep.rest_after(outcome, rest, 1800, 0)
        lengths.append(rest.until)
    assert lengths[:3] == [first, 2 * first, 4 * first]
    assert lengths[-1] == LONGEST_SECONDS
    assert rest is not None
    assert sweep.rest_after(outcome, Rest(0, 10**6), 1800, 0).until == LONGEST_SECONDS, "no power overflows"


def test_what_was_skipped_rests_for_hours() -> None:
    assert sweep.rest_after("skipped", None, 1800, 5) == Rest(5 + LONGEST_SECONDS, 1)


@given(rests, moments)
def test_the_next_round_is_neither_too_soon_nor_too_late(resting: dict[sweep.Name, Rest], now: float) -> None:
    at = sweep.next_round(resting, now)
    assert now + LEAST_SECONDS <= at <= now + MOST_SECONDS
    assert all(at <= max(rest.until, now + LEAST_SECONDS) for rest in resting.values() if rest.until > now)


def test_setbacks_are_remembered_until_they_would_not_matter() -> None:
    rest = {("a", "b"): Rest(100.0, 3)}
    assert sweep.still_resting(rest, 101) == rest
    assert sweep.still_resting(rest, 101 + LONGEST_SECONDS) == {}


@pytest.mark.parametrize(
    ("minute", "may"), [(1319, False), (1320, True), (1439, True), (0, True), (269, True), (270, False)]
)
def test_hours_may_go_over_midnight(minute: int, may: bool) -> None:  # noqa: FBT001 - as pytest calls it
    assert sweep.may_begin(Hours.parse("22:00-04:30"), minute) is may
    assert sweep.may_begin(None, minute)


def test_runs_are_kept_for_the_retention() -> None:
    assert sweep.oldest_kept(10 * DAY, 95 * DAY, 100 * DAY) == 85 * DAY
    assert sweep.oldest_kept(math.inf, 95 * DAY, 100 * DAY) is None
    assert sweep.oldest_kept(10 * DAY, None, 100 * DAY) is None


def test_a_clock_that_is_years_ahead_deletes_nothing_that_is_newer_than_the_retention() -> None:
    assert sweep.oldest_kept(400 * DAY, 1000 * DAY, 9000 * DAY) == 600 * DAY


def test_a_clock_that_went_back_deletes_less() -> None:
    assert sweep.oldest_kept(400 * DAY, 1000 * DAY, 500 * DAY) == 100 * DAY


@given(st.lists(st.tuples(outcomes, st.floats(0, 1e4)), max_size=30))
def test_whatever_happens_a_cell_is_tried_again_within_hours(history: list[tuple[Outcome, float]]) -> None:
    now, rest = 0.0, None
    for outcome, passed in history:
        now += passed
        rest = sweep.rest_after(outcome, rest, 1800, now)
        assert now < rest.until <= now + LONGEST_SECONDS
