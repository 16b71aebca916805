"""Which runs are compared with which, and what is made of it."""

import math

import pytest
from attrs import evolve
from bench_runs import (
    BUILD_A,
    BUILD_B,
    CHAT,
    DAY,
    DECODE,
    LOGLIK,
    START,
    TOTAL,
    TTFT,
    VALID,
    cell,
    failed,
    measured,
    run,
    white,
)
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.analysis.compare import Comparison, Difference, against_history, changes, compare, steps
from helexa.bench.records import Build, Metric, Run

STEADY = [1.00, 1.01, 0.99, 1.02, 0.98]
POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=7)


def chat(factor: float = 1.0, *, number: int = 0, build: Build = BUILD_A, target: str = "beast") -> Run:
    """A steady run; ``factor`` slows it."""
    values = {
        "ttft": [0.12 * factor * shake for shake in STEADY],
        "decode": [85 / factor * shake for shake in STEADY],
        "total": [1.9 * factor * shake for shake in STEADY],
    }
    return run(values, number=number, build=build, of=cell(target))


def verdicts(compared: Comparison) -> dict[str, str]:
    return {difference.metric.name: difference.verdict for difference in compared.differences}


def only(compared: Comparison) -> Difference:
    (difference,) = compared.differences
    return difference


def of_metric(metric: Metric, before: list[float], after: list[float]) -> Difference:
    sides = (run({metric.name: values}, metrics=(metric,), number=i) for i, values in enumerate((before, after)))
    return only(compare([next(sides)], [next(sides)]))


def test_a_fifth_slower_is_a_regression_of_what_is_primary_and_a_change_of_the_rest() -> None:
    compared = compare([chat()], [chat(1.2, number=1)])
    assert verdicts(compared) == {"ttft": "regression", "decode": "regression", "total": "changed"}
    assert {difference.metric for difference in compared.regressions} == {TTFT, DECODE}
    assert compared.improvements == ()


def test_a_fifth_faster_is_an_improvement() -> None:
    compared = compare([chat()], [chat(1 / 1.2, number=1)])
    assert verdicts(compared) == {"ttft": "improvement", "decode": "improvement", "total": "changed"}


def test_the_same_is_the_same() -> None:
    assert set(verdicts(compare([chat()], [chat(number=1)])).values()) == {"same"}


def test_a_change_that_nobody_minds_is_the_same_however_sure_it_is() -> None:
    many = [run({"ttft": [0.12 + 1e-6 * i for i in range(12)]}, metrics=(TTFT,))]
    more = [run({"ttft": [0.122 + 1e-6 * i for i in range(12)]}, metrics=(TTFT,), number=1)]
    difference = only(compare(many, more))
    assert difference.p < 0.001
    assert difference.verdict == "same"


def test_what_looks_like_a_change_and_is_not_proven_is_unclear() -> None:
    assert of_metric(TTFT, [0.10, 0.13, 0.11, 0.14, 0.12], [0.12, 0.15, 0.13, 0.16, 0.14]).verdict == "unclear"


def test_figures_that_vary_too_much_to_tell_are_never_called_the_same() -> None:
    difference = of_metric(TTFT, [0.1, 0.5, 0.2, 0.9, 0.3], [0.3, 0.9, 0.1, 0.5, 0.2])
    assert difference.ratio == 1
    assert difference.verdict == "unclear"


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_four_rounds_are_too_few_whatever_they_say(rounds: int) -> None:
    assert of_metric(TTFT, [0.1] * rounds, [0.9] * rounds).verdict == "too few"


def test_what_repeats_exactly_is_judged_by_its_size_from_one_value_on() -> None:
    assert of_metric(LOGLIK, [-2.31], [-2.33]).verdict == "regression"
    assert of_metric(LOGLIK, [-2.31], [-2.30]).verdict == "improvement"
    assert of_metric(LOGLIK, [-2.31] * 5, [-2.312] * 5).verdict == "same"


def test_what_should_repeat_exactly_and_does_not_has_to_change_by_more() -> None:
    assert of_metric(LOGLIK, [-2.31, -2.41, -2.25, -2.36, -2.30], [-2.33] * 5).verdict == "unclear"


def test_fractions_count_as_they_are() -> None:
    worse = of_metric(VALID, [0.98] * 5, [0.80] * 5)
    assert (worse.verdict, worse.size) == ("regression", pytest.approx(-0.18))
    assert of_metric(VALID, [0.02] * 5, [0.04] * 5).verdict == "same"


def test_what_has_no_unit_and_is_no_fraction_counts_as_a_share() -> None:
    perplexity = Metric("perplexity", "perplexity", "", "lower")
    difference = of_metric(perplexity, [10.0] * 5, [10.2] * 5)
    assert (difference.absolute, difference.size, difference.verdict) == (False, pytest.approx(0.02), "same")
    assert of_metric(perplexity, [10.0] * 5, [14.0] * 5).verdict == "changed"


def test_a_figure_of_zero_is_no_trap() -> None:
    assert of_metric(DECODE, [0.0] * 5, [0.0] * 5).ratio == 1
    gone, come = of_metric(DECODE, [50.0] * 5, [0.0] * 5), of_metric(DECODE, [0.0] * 5, [50.0] * 5)
    assert (gone.ratio, gone.verdict) == (0, "regression")
    assert (come.ratio, come.verdict) == (math.inf, "improvement")


@given(POSITIVE, POSITIVE)
def test_swapping_the_sides_turns_the_verdict_round(before: list[float], after: list[float]) -> None:
    there, back = of_metric(TTFT, before, after), of_metric(TTFT, after, before)
    turned = {"regression": "improvement", "improvement": "regression"}
    assert back.verdict == turned.get(there.verdict, there.verdict)
    assert there.ratio * back.ratio == pytest.approx(1)


@given(POSITIVE, POSITIVE)
def test_a_verdict_holds_in_any_unit(before: list[float], after: list[float]) -> None:
    scaled = of_metric(TTFT, [64 * value for value in before], [64 * value for value in after])
    assert scaled.verdict == of_metric(TTFT, before, after).verdict


@given(POSITIVE, POSITIVE)
def test_what_is_called_a_change_is_larger_than_its_floor(before: list[float], after: list[float]) -> None:
    difference = of_metric(TTFT, before, after)
    assert difference.verdict not in {"regression", "improvement"} or abs(difference.size) >= difference.floor - 1e-9


def test_a_smaller_size_can_be_asked_for_and_a_larger_one() -> None:
    sides = [chat()], [chat(1.2, number=1)]
    assert set(verdicts(compare(*sides, smallest=0.5)).values()) == {"same"}
    assert only_floor(compare(*sides, smallest=0.5)) == pytest.approx(0.5)
    assert only_floor(compare(*sides, smallest=0.01)) < only_floor(compare(*sides, smallest=0.3))


def only_floor(compared: Comparison) -> float:
    return next(difference.floor for difference in compared.differences if difference.metric == TTFT)


def test_runs_of_one_build_that_differ_raise_what_counts() -> None:
    past = [chat(factor, number=number) for number, factor in enumerate((0.8, 1.3, 1.0, 0.75, 1.25))]
    sides = [chat(number=10)], [chat(1.2, number=11)]
    assert compare(*sides).regressions
    assert not compare(*sides, history=past).regressions
    assert only_floor(compare(*sides, history=past)) > 0.5


def test_runs_of_one_build_that_agree_lower_what_counts() -> None:
    past = [chat(1 + 0.001 * (number % 3), number=number) for number in range(12)]
    sides = [chat(number=20)], [chat(1.08, number=21)]
    assert not compare(*sides).regressions
    assert compare(*sides, history=past).regressions


def test_a_history_of_other_cells_is_none_of_this_ones_business() -> None:
    others = [chat(factor, number=number, target="other") for number, factor in enumerate((0.5, 2.0, 1.0, 3.0))]
    sides = [chat(number=10)], [chat(1.2, number=11)]
    assert compare(*sides, history=others) == compare(*sides)


def test_one_strange_run_of_the_past_does_not_hide_a_change() -> None:
    past = [chat(1 + 0.002 * (number % 5), number=number) for number in range(20)]
    past[7] = chat(9.0, number=7)
    assert compare([chat(number=30)], [chat(1.2, number=31)], history=past).regressions


def test_runs_enough_are_compared_as_runs() -> None:
    before = [chat(number=number) for number in range(5)]
    after = [chat(1.2, number=10 + number) for number in range(5)]
    compared = compare(before, after)
    assert {difference.before.n for difference in compared.differences} == {5}
    assert len(compared.regressions) == 2


def test_cells_match_whatever_the_order_of_their_parameters() -> None:
    first, second = cell(parameters={"a": 1, "b": 2}), cell(parameters={"b": 2, "a": 1})
    assert compare([run(of=first)], [run(of=second, number=1)]).differences
    assert not compare([run(of=first)], [run(of=cell(parameters={"a": 1}), number=1)]).differences


def test_different_targets_are_compared_if_they_have_none_in_common() -> None:
    compared = compare([chat(target="old")], [chat(1.2, target="new")])
    assert {(difference.against, difference.cell.target) for difference in compared.differences} == {("old", "new")}
    assert compared.lost == compared.new == ()
    assert not compare([chat(target="old")], [chat(target="new")], same_target=True).differences


def test_targets_of_one_side_are_never_thrown_together() -> None:
    compared = compare([chat(target="one"), chat(5.0, target="two")], [chat(target="new")])
    found = {(found.against, found.verdict) for found in compared.differences if found.metric == TTFT}
    assert found == {("one", "same"), ("two", "improvement")}


def test_targets_that_both_sides_have_are_compared_with_themselves() -> None:
    compared = compare([chat(), chat(target="two")], [chat(number=1)])
    assert {difference.cell.target for difference in compared.differences} == {"beast"}
    assert [lost.cell.target for lost in compared.lost] == ["two"]


def test_sides_measured_in_turns_need_no_allowance_for_the_hours_between() -> None:
    cells = [cell("one"), cell("two")]
    together = [evolve(each, batch="same") for each in (run(of=cells[0]), run(of=cells[1]))]
    apart = [together[0], evolve(together[1], batch="other")]
    floors = [only_floor(compare(pair[:1], pair[1:])) for pair in (together, apart)]
    assert floors[0] < floors[1]


def test_a_cell_that_fails_now_is_lost_with_its_reason() -> None:
    compared = compare([chat()], [failed("The stream stalled.", number=1)])
    assert [lost.reason for lost in compared.lost] == ["The stream stalled."]
    assert not compared.differences


def test_a_cell_that_is_not_measured_now_is_lost_too_and_one_more_is_new() -> None:
    compared = compare([chat(), chat(target="gone")], [chat(number=1), chat(target="come", number=1)])
    assert [lost.reason for lost in compared.lost] == ["It was not measured."]
    assert [found.target for found in compared.new] == ["come"]


def test_what_never_worked_is_neither_lost_nor_new() -> None:
    compared = compare([failed()], [failed(number=1)])
    assert (compared.differences, compared.lost, compared.new) == ((), (), ())


def test_nothing_can_be_compared_with_nothing() -> None:
    compared = compare([], [])
    assert compared.differences == ()
    assert (compared.before.runs, compared.after.since) == (0, 0.0)


def test_a_metric_that_one_side_lacks_is_left_out() -> None:
    compared = compare([run({"ttft": [0.1] * 5}, metrics=(TTFT,))], [chat(number=1)])
    assert verdicts(compared).keys() == {"ttft"}


def test_sides_say_who_they_are() -> None:
    side = compare([chat(), evolve(chat(number=3), label="night")], [chat(number=5, build=BUILD_B)]).before
    assert (side.targets, side.builds, side.labels, side.runs) == (("beast",), (BUILD_A,), ("night",), 2)
    assert (side.since, side.until) == (START, START + 3 * DAY)


def history(*factors: tuple[Build, float]) -> list[Run]:
    return [chat(factor, number=number, build=build) for number, (build, factor) in enumerate(factors)]


def test_a_change_is_found_where_its_build_came() -> None:
    runs = history((BUILD_A, 1), (BUILD_A, 1), (BUILD_B, 1.3), (BUILD_B, 1.3))
    found = changes(runs)
    assert {change.metric for change in found} == {TTFT, DECODE}
    assert {(change.before, change.after, change.at, change.run) for change in found} == {
        (BUILD_A, BUILD_B, runs[2].started_at, runs[2].id)
    }
    assert {change.verdict for change in found} == {"regression"}
    assert {round(change.ratio, 2) for change in found} == {1.3, 0.77}
    assert all(change.p < 0.01 and change.cell == runs[0].cell for change in found)


def test_a_build_that_comes_back_undoes_what_was_changed() -> None:
    runs = history(*[(BUILD_A, 1)] * 3, *[(BUILD_B, 1.3)] * 3, *[(BUILD_A, 1)] * 3)
    assert [change.verdict for change in changes(runs)] == ["improvement"] * 2 + ["regression"] * 2


def test_changes_do_not_depend_on_the_order_of_runs() -> None:
    runs = history(*[(BUILD_A, 1)] * 2, *[(BUILD_B, 1.3)] * 2)
    assert changes(runs[::-1]) == changes(runs)


def test_one_build_has_no_changes_and_nothing_neither() -> None:
    assert changes(history((BUILD_A, 1), (BUILD_A, 2))) == []
    assert changes([]) == steps([]) == []


def test_runs_that_failed_are_no_builds_of_their_own() -> None:
    runs = [*history((BUILD_A, 1), (BUILD_A, 1)), evolve(failed(number=7), build=BUILD_B)]
    assert changes(runs) == []


def test_the_newest_run_is_held_against_the_build_before_it_alone() -> None:
    runs = history((BUILD_A, 1), (BUILD_A, 1), (BUILD_B, 1.3), (BUILD_A, 1.3))
    assert against_history(runs[3], runs[:3]) == []
    found = against_history(runs[2], runs[:2])
    assert {change.verdict for change in found} == {"regression"}
    assert against_history(runs[0], []) == []


def test_a_run_that_failed_says_nothing_against_history() -> None:
    runs = history((BUILD_A, 1), (BUILD_B, 1.3))
    assert against_history(failed(number=9), runs) == []


def test_long_histories_are_compared_where_builds_meet() -> None:
    runs = history(*[(BUILD_A, 3.0)] * 30, *[(BUILD_A, 1)] * 6, *[(BUILD_B, 1.3)] * 6)
    step = steps(runs)[0]
    assert {difference.before.n for difference in step.differences} == {5}
    assert {round(difference.ratio, 2) for difference in step.differences if difference.metric == TTFT} == {1.3}


def test_hundreds_of_cells_are_compared_at_once() -> None:
    cells = [cell(model=f"m{number}") for number in range(300)]
    machine = white(1, 0.02)
    before = measured(machine, cells)
    after = measured(machine, cells, at=START + DAY, factor=1.25)
    compared = compare(before, after)
    assert len(compared.differences) == 600
    assert len(compared.regressions) > 590


def test_metrics_keep_their_scenarios_order() -> None:
    assert [difference.metric for difference in compare([chat()], [chat(number=1)]).differences] == list(CHAT)
    assert TOTAL in CHAT


REGRESSED = [0.350, 0.362, 0.341, 0.370, 0.355, 0.349]
STALLED = [0.099, 0.104, 0.101, 2.155, 0.110, 0.102]


@pytest.mark.parametrize("place", range(6))
def test_one_stalled_round_hides_no_slowdown_and_makes_none(place: int) -> None:
    stalled = STALLED[:]
    stalled[3], stalled[place] = stalled[place], stalled[3]
    slower, faster = of_metric(TTFT, stalled, REGRESSED), of_metric(TTFT, REGRESSED, stalled)
    assert (slower.verdict, faster.verdict) == ("regression", "improvement")
    assert slower.floor < 0.3, "what counts is told by the five rounds that did not stall"
    assert slower.before.high > 2, "the interval is over all that was measured"
    assert of_metric(TTFT, stalled, [0.1, 0.105, 0.1, 0.102, 0.108, 0.103]).verdict == "same"


def test_a_stall_of_a_rate_is_one_too_and_on_both_sides() -> None:
    before, after = [85.0, 86, 84.5, 4, 85.5, 85], [68.0, 67.5, 1, 69, 68.5, 68]
    assert of_metric(DECODE, before, after).verdict == "regression"
    assert of_metric(DECODE, after, before).verdict == "improvement"


def test_two_rounds_of_six_are_no_stall_but_how_the_machine_is() -> None:
    assert of_metric(TTFT, [0.099, 0.104, 2.0, 2.155, 0.110, 0.102], REGRESSED).verdict == "unclear"


def test_a_round_as_slow_as_the_other_side_has_not_stalled() -> None:
    """A machine of two speeds: one round of five in the slow one before, one in the fast one after."""
    assert (
        of_metric(TTFT, [0.100, 0.101, 0.125, 0.099, 0.102], [0.125, 0.124, 0.126, 0.100, 0.127]).verdict
        != "regression"
    )


def test_runs_that_were_broken_off_are_nothing_that_a_build_is_measured_by() -> None:
    stopped = evolve(chat(1.5, number=6, build=BUILD_B), reason="Measuring was broken off.")
    runs = [chat(number=number) for number in range(6)]
    assert changes([*runs, stopped]) == []
    assert len(changes([*runs, evolve(stopped, reason="")])) == 2
    after = chat(number=7, build=BUILD_A)
    assert against_history(after, [*runs, stopped]) == []
    assert verdicts(compare(runs, [stopped]))["ttft"] == "regression", "whoever names it means it"
