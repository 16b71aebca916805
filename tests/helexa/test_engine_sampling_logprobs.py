"""Log probabilities: of the model's own distribution, and only for rows that ask."""

import json
import math

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from samplers import Operations, sample, tied

from helexa.engine.sampling.logprobs import logprobs
from helexa.wire.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)


def exact(line: list[float]) -> list[float]:
    top = max(line)
    total = math.log(math.fsum(math.exp(each - top) for each in line))
    return [each - top - total for each in line]


@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([0.0, 0.1, 3.0]), st.integers(0, 20), st.data())
def test_they_are_the_natural_logarithms_of_the_likeliest_the_lower_id_first(
    seed: int, vocabulary: int, spread: float, top: int, data: st.DataObject
) -> None:
    logits = tied(seed, 2, vocabulary, spread)
    picked = [data.draw(st.integers(0, vocabulary - 1)) for _ in range(2)]
    for row, found in enumerate(logprobs(logits, picked, [top, 0])):
        line = logits[row].tolist()
        expected = exact(line)
        assert found.logprob == pytest.approx(expected[picked[row]], abs=1e-5)
        order = sorted(range(vocabulary), key=lambda token: (-line[token], token))[: [top, 0][row]]
        assert [token for token, _ in found.top] == order
        assert [value for _, value in found.top] == pytest.approx([expected[token] for token in order], abs=1e-5)


def test_only_rows_that_ask_get_them() -> None:
    asked = [None, 0, 2]
    found = sample([[1.0, 2.0, 0.0]] * 3, [evolve(GREEDY, logprobs=each) for each in asked])
    assert [each.logprob is None for each in found] == [True, False, False]
    assert [len(each.logprob.top) for each in found if each.logprob] == [0, 2]
    with Operations() as operations:
        sample([[1.0, 2.0, 0.0]], [GREEDY])
    assert not [name for name in operations.names if "softmax" in name]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": 5.0},
        {"top_k": 1},
        {"temperature": 0.0, "logit_bias": ((0, 100.0),)},
        {"temperature": 0.0, "repetition_penalty": 5.0},
        {"temperature": 0.0, "stop_token_ids": (1,), "min_tokens": 5},
    ],
)
def test_they_know_nothing_of_temperature_penalties_and_biases(change: dict[str, float]) -> None:
    line = [1.0, 2.0, 0.5]
    (found,) = sample([line], [evolve(SamplingParams(logprobs=3), **change)], prompt=[0, 1])
    expected = exact(line)
    assert found.logprob is not None
    assert found.logprob.logprob == pytest.approx(expected[found.token])
    assert [token for token, _ in found.logprob.top] == [1, 0, 2]
    assert [value for _, value in found.logprob.top] == pytest.approx([expected[token] for token in (1, 0, 2)])


def test_what_the_model_holds_impossible_is_not_among_the_likeliest() -> None:
    (found,) = sample([[-math.inf, 1.0, -math.inf]], [evolve(GREEDY, logprobs=3)])
    assert found.logprob is not None
    assert json.loads(json.dumps(found.logprob.top, allow_nan=False)) == [[1, 0.0]]


def test_a_vocabulary_smaller_than_what_is_asked_for_is_reported_whole() -> None:
    (found,) = sample([[0.0, 1.0]], [evolve(GREEDY, logprobs=20)])
    assert found.logprob is not None
    assert len(found.logprob.top) == 2


def test_likeliest_tokens_that_many_others_equal_are_the_lowest_ids() -> None:
    (found,) = logprobs(torch.zeros(1, 5000), [4999], [20])
    assert [token for token, _ in found.top] == list(range(20))
    assert found.logprob == pytest.approx(-math.log(5000), abs=1e-5)
