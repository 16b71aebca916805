"""Picking tokens: what may be picked, how often, and that a row's pick is the row's own business."""

import math
from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.engine.sampling import sample
from helexa.wire.sampling import SamplingParams

VOCABULARY = 12
LOGITS = st.lists(st.floats(-8, 8, width=16), min_size=VOCABULARY, max_size=VOCABULARY)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 11, 12, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
)
ROW = st.tuples(LOGITS, PARAMS)
Row = tuple[list[float], SamplingParams]


def generator(seed: int | None) -> torch.Generator:
    return torch.Generator().manual_seed(seed or 0)


def pick(rows: Iterable[Row]) -> list[int]:
    logits, params = zip(*rows, strict=True)
    return sample(torch.tensor(logits), params, [generator(each.seed) for each in params])


def draws(logits: list[float], params: SamplingParams, count: int) -> Counter[int]:
    """Many draws from one generator."""
    rows = torch.tensor([logits]).expand(count, -1)
    return Counter(sample(rows, [params] * count, [generator(params.seed)] * count))


def reference(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """The probability of each token that may be picked, the slow way."""
    top = max(logits)
    weights = [math.exp((each - top) / params.temperature) for each in logits]
    ranked = sorted(range(len(logits)), key=lambda token: -weights[token])[: params.top_k or None]
    total, mass, kept = sum(weights[token] for token in ranked), 0.0, {}
    for token in ranked:
        if kept and (mass >= params.top_p * total * (1 - 1e-6) or weights[token] < params.min_p * (1 - 1e-6)):
            break
        kept[token] = weights[token]
        mass += weights[token]
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


def test_temperature_zero_takes_the_best() -> None:
    assert pick(
        [([0.0, 3.0, 1.0], SamplingParams(temperature=0)), ([5.0, 3.0, 1.0], SamplingParams(temperature=0))]
    ) == [
        1,
        0,
    ]


def test_temperature_zero_needs_no_other_parameter_to_be_greedy() -> None:
    params = SamplingParams(temperature=0, top_p=0.1, top_k=1, min_p=0.9, seed=3)
    assert draws([0.0, 0.1, 0.2], params, 20) == {2: 20}


def test_a_greedy_row_draws_nothing() -> None:
    """Otherwise a request's seed would mean other tokens after its temperature was raised."""
    source = generator(1)
    sample(torch.zeros(1, 4), [SamplingParams(temperature=0)], [source])
    assert torch.equal(source.get_state(), generator(1).get_state())


def test_a_warm_row_draws_once() -> None:
    source, other = generator(1), generator(1)
    sample(torch.zeros(1, 4), [SamplingParams()], [source])
    torch.rand((), generator=other)
    assert torch.equal(source.get_state(), other.get_state())


@given(ROW, st.lists(ROW, max_size=5), st.data())
def test_a_row_gets_the_same_token_alone_and_in_any_batch(row: Row, others: list[Row], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(others)))
    batch = [*others[:place], row, *others[place:]]
    assert pick(batch)[place] == pick([row])[0]


@given(ROW)
def test_what_is_picked_may_be_picked(row: Row) -> None:
    logits, params = row
    if params.temperature > 0:
        assert pick([row])[0] in reference(logits, params)


@settings(max_examples=25)
@given(LOGITS, PARAMS.filter(lambda params: params.temperature > 0))
def test_how_often_is_as_the_probabilities_say(logits: list[float], params: SamplingParams) -> None:
    expected, count = reference(logits, params), 400
    found = draws(logits, params, count)
    assert found.keys() <= expected.keys()
    for token, probability in expected.items():
        deviation = math.sqrt(count * probability * (1 - probability))
        assert abs(found[token] - count * probability) < 6 * deviation + 6


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(top_k=1), {3}),
        (SamplingParams(top_k=2), {2, 3}),
        (SamplingParams(top_p=0.39), {3}),
        (SamplingParams(top_p=0.41), {2, 3}),
        (SamplingParams(top_p=0.71), {1, 2, 3}),
        (SamplingParams(min_p=0.76), {3}),
        (SamplingParams(min_p=0.74), {2, 3}),
        (SamplingParams(min_p=1.0), {3}),
        (SamplingParams(top_k=3, min_p=0.3), {1, 2, 3}),
        (SamplingParams(), {0, 1, 2, 3}),
        # of the 0.7 that top_k leaves, 0.4 are 57 %
        (SamplingParams(top_k=2, top_p=0.56), {3}),
        (SamplingParams(top_k=2, top_p=0.58), {2, 3}),
    ],
)
def test_exactly_these_can_be_picked(params: SamplingParams, allowed: set[int]) -> None:
    logits = [math.log(each) for each in (0.1, 0.2, 0.3, 0.4)]
    assert draws(logits, params, 300).keys() == allowed


def test_temperature_flattens() -> None:
    logits = [0.0, 2.0]
    shares = [draws(logits, SamplingParams(temperature=t, seed=1), 500)[0] / 500 for t in (0.5, 1.0, 2.0)]
    assert shares == sorted(shares)
    assert shares == pytest.approx([0.018, 0.119, 0.269], abs=0.05)


def test_top_p_of_one_keeps_the_tail() -> None:
    """Rounding in a running sum over many candidates ends above or below 1; the last ones must still have a chance."""
    vocabulary = 50_000
    logits = torch.zeros(64, vocabulary)
    tokens = sample(logits, [SamplingParams()] * 64, [generator(seed) for seed in range(64)])
    assert max(tokens) > vocabulary * 0.9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_float_type(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 30.0]], dtype=dtype)
    assert sample(logits, [SamplingParams(temperature=0), SamplingParams()], [generator(0)] * 2) == [1, 2]


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    assert draws([1.0, 1.1, -50.0], SamplingParams(temperature=1e-6), 20) == {1: 20}


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_cost_the_other_rows_nothing(broken: float) -> None:
    rows = [([broken] * 3, SamplingParams()), ([0.0, 30.0, 0.0], SamplingParams())]
    first, second = pick(rows)
    assert 0 <= first < 3
    assert second == 1


def test_seeds_differ() -> None:
    assert len({pick([([0.0] * VOCABULARY, SamplingParams(seed=seed))])[0] for seed in range(40)}) > 5
