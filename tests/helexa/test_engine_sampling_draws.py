"""Drawing: what may be drawn and how often, against the slow way, and whichever of the fast ways was taken.

The draw is a function of a number in [0, 1). Going through that interval in even steps gives each token as many draws
as its probability says, give or take one: exact, and no statistics needed.
"""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from samplers import CPU, Operations, pick, tied

from helexa.engine.sampling import drawing
from helexa.engine.sampling.drawing import SHORT, WIDTH, RowSettings, Settings, candidates
from helexa.engine.sampling.sampler import Sampler
from helexa.wire.sampling import SamplingParams

STEPS = 500
FREE = RowSettings(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, uniform=0.0)
LOGITS = st.lists(st.integers(-16, 16).map(lambda number: number / 2), min_size=1, max_size=12)
ROW_SETTINGS = st.builds(
    RowSettings,
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 11, 12, 1000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    uniform=st.just(0.0),
)


def draw(logits: torch.Tensor, rows: Sequence[RowSettings]) -> list[int]:
    """The way that the sampler would take first."""
    given_ = Settings.of(rows, CPU)
    if rows[0].top_k:
        return drawing.draw_from_top_k(logits, given_).tolist()
    return (drawing.draw_from_top_p if rows[0].top_p < 1 else drawing.draw_from_all)(logits, given_).tolist()


def sweep(logits: Sequence[float], row: RowSettings) -> Counter[int]:
    """How often each token is drawn in even steps through [0, 1)."""
    rows = [evolve(row, uniform=(step + 0.5) / STEPS) for step in range(STEPS)]
    return Counter(draw(torch.tensor([logits]).expand(STEPS, -1).contiguous(), rows))


def reference(logits: Sequence[float], row: RowSettings) -> dict[int, float]:
    """The probability of each token that may be drawn, the slow way."""
    top = max(logits)
    weights = [math.exp((each - top) / row.temperature) for each in logits]
    ranked = sorted(range(len(logits)), key=lambda token: -weights[token])[: row.top_k or None]
    total, mass, kept = sum(weights[token] for token in ranked), 0.0, {}
    for token in ranked:
        if kept and (mass >= row.top_p * total or weights[token] < row.min_p):
            break
        kept[token] = weights[token]
        mass += weights[token]
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


def near_a_cut(logits: Sequence[float], row: RowSettings) -> bool:
    """Whether a rounding error may move a token over a cut, in which case two right answers differ."""
    nearby = [evolve(row, top_p=row.top_p * factor, min_p=row.min_p * factor) for factor in (1 - 1e-5, 1 + 1e-5)]
    return len({frozenset(reference(logits, each)) for each in nearby}) > 1


@settings(max_examples=100)
@given(LOGITS, ROW_SETTINGS)
def test_each_token_is_drawn_as_often_as_its_probability_says(logits: list[float], row: RowSettings) -> None:
    if near_a_cut(logits, row):
        return
    expected, found = reference(logits, row), sweep(logits, row)
    assert found.keys() <= expected.keys()
    for token, probability in expected.items():
        assert abs(found[token] - STEPS * probability) <= 1.01


def test_a_sampler_draws_as_often_as_the_probabilities_say() -> None:
    """The same once more from seeds, with statistics: 6 standard deviations."""
    logits, count = [0.0, 1.0, 2.0, -1.0, 1.0], 3000
    params = SamplingParams(temperature=0.8, top_k=4, top_p=0.97)
    found = Counter(pick([logits] * count, [evolve(params, seed=seed) for seed in range(count)]))
    expected = reference(logits, RowSettings(0.8, 4, 0.97, 0.0, 0.0))
    assert found.keys() <= expected.keys()
    for token, probability in expected.items():
        assert abs(found[token] - count * probability) < 6 * math.sqrt(count * probability * (1 - probability))


def test_a_sequence_draws_as_often_as_the_probabilities_say_along_its_positions() -> None:
    count, sampler = 2000, Sampler(2, CPU)
    sampler.add(0, SamplingParams(seed=3), [0])
    logits = torch.tensor([[0.25, 0.75]]).log()
    drawn = sum(sampler.sample(logits, [0])[0].token for _ in range(count))
    assert abs(drawn - 0.75 * count) < 6 * math.sqrt(count * 0.75 * 0.25)


@pytest.mark.parametrize(
    ("row", "allowed"),
    [
        (evolve(FREE, top_k=1), {3}),
        (evolve(FREE, top_k=2), {2, 3}),
        (evolve(FREE, top_p=1e-9), {3}),
        (evolve(FREE, top_p=0.39), {3}),
        (evolve(FREE, top_p=0.41), {2, 3}),
        (evolve(FREE, top_p=0.71), {1, 2, 3}),
        (evolve(FREE, min_p=0.76), {3}),
        (evolve(FREE, min_p=0.74), {2, 3}),
        (evolve(FREE, min_p=1.0), {3}),
        (evolve(FREE, top_k=3, min_p=0.3), {1, 2, 3}),
        (evolve(FREE, top_p=0.95, min_p=0.3), {1, 2, 3}),
        (FREE, {0, 1, 2, 3}),
        # of the 0.7 that top_k leaves, 0.4 are 57 %
        (evolve(FREE, top_k=2, top_p=0.56), {3}),
        (evolve(FREE, top_k=2, top_p=0.58), {2, 3}),
        # min_p is measured after the temperature
        (evolve(FREE, temperature=2.0, min_p=0.74), {2, 3}),
        (evolve(FREE, temperature=2.0, min_p=0.70), {1, 2, 3}),
    ],
)
def test_exactly_these_can_be_drawn(row: RowSettings, allowed: set[int]) -> None:
    assert sweep([math.log(each) for each in (0.1, 0.2, 0.3, 0.4)], row).keys() == allowed


@pytest.mark.parametrize("row", [evolve(FREE, top_k=2), evolve(FREE, top_p=0.5), evolve(FREE, top_k=3, top_p=0.6)])
def test_of_tokens_that_are_equal_the_lower_ids_stay(row: RowSettings) -> None:
    assert sweep([1.0, 1.0, 1.0, 1.0], row).keys() == {0, 1}


@pytest.mark.parametrize("row", [evolve(FREE, min_p=1.0), evolve(FREE, min_p=1.0, top_k=3)])
def test_a_min_p_of_one_keeps_all_of_the_best(row: RowSettings) -> None:
    assert sweep([1.0, 0.9, 1.0, 0.0], row).keys() == {0, 2}


@pytest.mark.parametrize("cut", [{"top_p": 0.0}, {"min_p": 2.0}])
def test_cuts_that_leave_nothing_leave_the_best(cut: dict[str, float]) -> None:
    assert sweep([0.0, 1.0, 0.5], evolve(FREE, top_k=3, **cut)).keys() == {1}


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 3)])
@pytest.mark.parametrize("row", [FREE, evolve(FREE, top_k=4), evolve(FREE, top_p=0.9999999), evolve(FREE, min_p=0.01)])
def test_the_ends_of_the_interval_draw_what_is_possible(number: float, token: int, row: RowSettings) -> None:
    logits = torch.tensor([[-math.inf, 2.0, -math.inf, 1.0, -math.inf]])
    assert draw(logits, [evolve(row, uniform=number)]) == [token]


def test_top_p_of_one_keeps_the_tail() -> None:
    logits = torch.zeros(2, 200_000)
    assert draw(logits, [evolve(FREE, uniform=0.0), evolve(FREE, uniform=1 - 2**-53)]) == [0, 199_999]


def test_a_tiny_temperature_is_nearly_greedy_and_no_division_by_zero() -> None:
    for temperature in (1e-6, 1e-45, 1e-300):
        assert sweep([1.0, 1.1, -50.0], evolve(FREE, temperature=temperature)).keys() == {1}


def test_temperature_flattens() -> None:
    shares = [sweep([0.0, 2.0], evolve(FREE, temperature=t))[0] / STEPS for t in (0.5, 1.0, 2.0)]
    assert shares == pytest.approx([0.018, 0.119, 0.269], abs=0.002)


@settings(max_examples=80)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.05, 1.0, 4.0, 30.0]),
    st.sampled_from([0, 1, 5, WIDTH - 1, WIDTH, WIDTH + 1, 300, 999]),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_the_candidates_give_the_tokens_that_a_full_sort_gives(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    assume(top_k or top_p < 1)
    logits = tied(seed, 16, 3 * WIDTH, spread).float()
    rows = [RowSettings(0.9, top_k, top_p, min_p, (row + 0.5) / 16) for row in range(16)]
    exact = drawing.draw_from_sorted(logits, Settings.of(rows, CPU)).tolist()
    assert [(a, b) for a, b in zip(draw(logits, rows), exact, strict=True) if a not in (b, SHORT)] == []


@pytest.mark.parametrize(
    ("row", "is_short"),
    [
        (evolve(FREE, top_k=WIDTH - 1), False),
        (evolve(FREE, top_k=WIDTH), True),  # the last candidate may have equals that are none
        (evolve(FREE, top_k=WIDTH + 1), True),
        (evolve(FREE, top_p=0.5), True),
        (evolve(FREE, top_p=0.1), False),
    ],
)
def test_candidates_that_do_not_settle_it_are_said_to_be_short(row: RowSettings, *, is_short: bool) -> None:
    flat = torch.linspace(0, 1, 1000).unsqueeze(0)
    assert (draw(flat, [row]) == [SHORT]) == is_short


def test_a_row_that_is_short_is_drawn_all_the_same() -> None:
    params = SamplingParams(top_p=0.5, seed=1)
    tokens = pick(torch.zeros(50, 1000), [evolve(params, seed=seed) for seed in range(50)])
    assert max(tokens) < 500  # of equal tokens the lower half is the nucleus
    assert len(set(tokens)) > 30


def test_a_row_with_few_possible_tokens_is_never_short() -> None:
    logits = torch.full((1, 1000), -math.inf)
    logits[0, 500:520] = 1.0
    for row in (evolve(FREE, top_k=600), evolve(FREE, top_p=0.99)):
        assert draw(logits, [evolve(row, uniform=0.999)]) == [519]


def test_a_peaked_row_is_not_sorted() -> None:
    logits = tied(1, 4, 5000, spread=6.0)
    ways = [SamplingParams(top_p=0.9), SamplingParams(top_k=50), SamplingParams(top_k=20, top_p=0.9), SamplingParams()]
    with Operations() as operations:
        pick(logits, ways)
    assert "topk" in operations.names
    assert operations.largest <= 2 * 5000


@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.0, 0.3, 5.0]), st.integers(1, 40))
def test_candidates_are_the_first_of_the_sorted_row_as_far_as_known(
    seed: int, vocabulary: int, spread: float, width: int
) -> None:
    logits = tied(seed, 3, vocabulary, spread).float()
    values, tokens, known = candidates(logits, width)
    for row in range(3):
        line = logits[row].tolist()
        exact = sorted(range(vocabulary), key=lambda token: (-line[token], token))
        sure = int(known[row].sum())
        assert known[row].tolist() == [place < sure for place in range(min(width, vocabulary))]
        assert tokens[row, :sure].tolist() == exact[:sure]
        assert values[row].tolist() == [line[token] for token in exact[:width]]
