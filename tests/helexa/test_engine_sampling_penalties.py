"""Penalties, biases and stop ids that are not due yet, against the formulas written out."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from samplers import CPU, pick, sample, tied

from helexa.engine.sampling.penalties import Adjustments, adjust
from helexa.engine.sampling.sampler import Sampler
from helexa.wire.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)
VOCABULARY = 40
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=60)
PARAMS = st.builds(
    SamplingParams,
    repetition_penalty=st.sampled_from([1.0, 1.5, 0.5]),
    presence_penalty=st.sampled_from([0.0, 1.0, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.5]),
    logit_bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from([-100.0, 2.0, 5.0])).map(
        lambda biases: tuple(biases.items())
    ),
    min_tokens=st.integers(0, 8),
    stop_token_ids=st.sampled_from([(), (0,), (3, 17), (5, VOCABULARY, VOCABULARY + 9)]),
)


def formula(
    logits: Sequence[float], params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> list[float]:
    """Each logit after all adjustments, one at a time."""
    biases, counts, found = dict(params.logit_bias), Counter(output), []
    for token, given_ in enumerate(logits):
        logit = given_
        if token in prompt or token in output:
            logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        logit -= params.frequency_penalty * counts[token] + params.presence_penalty * (counts[token] > 0)
        logit += biases.get(token, 0.0)
        held = token in params.stop_token_ids and len(output) < params.min_tokens
        found.append(-math.inf if held else logit)
    return found


def adjusted(logits: torch.Tensor, sequences: Sequence[Adjustments]) -> torch.Tensor:
    own = logits.float().clone()
    adjust(own, [each.columns(row) for row, each in enumerate(sequences)])
    return own


@given(st.lists(st.tuples(PARAMS, TOKENS, TOKENS), min_size=1, max_size=4), st.integers(0, 1000))
def test_adjustments_are_what_the_formulas_say_for_each_row(
    rows: list[tuple[SamplingParams, list[int], list[int]]], seed: int
) -> None:
    logits, sequences, expected = tied(seed, len(rows), VOCABULARY), [], []
    for (params, prompt, output), line in zip(rows, logits.tolist(), strict=True):
        sequence = Adjustments(params, prompt, VOCABULARY)
        for token in output:
            sequence.add(token)
        sequences.append(sequence)
        expected.append(formula(line, params, prompt, output))
    torch.testing.assert_close(adjusted(logits, sequences), torch.tensor(expected))


@given(PARAMS, TOKENS, st.lists(st.integers(0, 10), min_size=1, max_size=12))
def test_a_greedy_sequence_takes_the_best_of_the_adjusted_logits_at_each_step(
    params: SamplingParams, prompt: list[int], seeds: list[int]
) -> None:
    params = evolve(params, temperature=0.0)
    sampler, output = Sampler(VOCABULARY, CPU), list[int]()
    sampler.add(0, params, prompt)
    for seed in seeds:
        logits = tied(seed, 1, VOCABULARY)
        line = torch.tensor(formula(logits[0].tolist(), params, prompt, output))
        token = sampler.sample(logits, [0])[0].token
        assert line[token] == pytest.approx(float(line.max()), rel=1e-6)
        output.append(token)


def test_a_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    sequence = Adjustments(SamplingParams(repetition_penalty=2.0), [0, 1, 1, 0], 4)
    sequence.add(3)
    found = adjusted(torch.tensor([[4.0, -4.0, 4.0, 0.5]]), [sequence])
    assert found.tolist() == [[2.0, -8.0, 4.0, 0.25]]


def test_presence_and_frequency_penalties_count_the_output_alone() -> None:
    sequence = Adjustments(SamplingParams(presence_penalty=1.0, frequency_penalty=0.5), [2, 2], 3)
    for token in (1, 0, 1):
        sequence.add(token)
    assert adjusted(torch.zeros(1, 3), [sequence]).tolist() == [[-1.5, -2.0, 0.0]]


def test_a_bias_can_forbid_and_force() -> None:
    row = [3.0, 2.0, 1.0]
    biases = [(), ((0, -100.0),), ((2, 100.0),)]
    assert pick([row] * 3, [evolve(GREEDY, logit_bias=bias) for bias in biases]) == [0, 1, 2]


def test_penalties_go_before_the_bias() -> None:
    params = evolve(GREEDY, repetition_penalty=10.0, logit_bias=((0, 1.0),))
    found = adjusted(torch.tensor([[10.0, 0.0]]), [Adjustments(params, [0], 2)])
    assert found.tolist() == [[2.0, 0.0]]


def test_stop_ids_cannot_be_picked_before_min_tokens() -> None:
    sampler = Sampler(3, CPU)
    sampler.add(0, evolve(GREEDY, min_tokens=2, stop_token_ids=(0, 1)), [0])
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    assert [sampler.sample(logits, [0])[0].token for _ in range(4)] == [2, 2, 0, 0]


def test_a_bias_towards_a_stop_id_does_not_go_before_min_tokens() -> None:
    params = evolve(GREEDY, min_tokens=1, stop_token_ids=(0,), logit_bias=((0, 100.0),))
    assert pick([[3.0, 2.0]], [params]) == [1]


def test_where_there_is_nothing_but_stop_ids_before_min_tokens_the_row_fails() -> None:
    (sampled,) = sample([[3.0, 2.0]], [evolve(GREEDY, min_tokens=1, stop_token_ids=(0, 1))])
    assert sampled.error is not None


def test_each_sequence_has_penalties_of_its_own() -> None:
    sampler = Sampler(3, CPU)
    for number, penalty in enumerate((0.0, 1.5)):
        sampler.add(number, evolve(GREEDY, presence_penalty=penalty), [0])
    logits = torch.tensor([[3.0, 2.0, 1.0]] * 2)
    steps = [[each.token for each in sampler.sample(logits, [1, 0])] for _ in range(4)]
    assert steps == [[0, 0], [1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("params", "output", "active"),
    [
        (SamplingParams(), [1], False),
        (SamplingParams(presence_penalty=1.0), [], False),
        (SamplingParams(presence_penalty=1.0), [1], True),
        (SamplingParams(repetition_penalty=2.0), [], True),
        (SamplingParams(logit_bias=((1, 1.0),)), [], True),
        (SamplingParams(stop_token_ids=(1,)), [], False),
        (SamplingParams(stop_token_ids=(1,), min_tokens=1), [], True),
        (SamplingParams(stop_token_ids=(1,), min_tokens=1), [2], False),
    ],
)
def test_a_row_is_touched_only_if_there_is_something_to_adjust(
    params: SamplingParams, output: list[int], *, active: bool
) -> None:
    sequence = Adjustments(params, [0, 2], 4)
    for token in output:
        sequence.add(token)
    assert sequence.active == active


def test_what_is_kept_grows_with_the_tokens_and_not_with_the_vocabulary() -> None:
    sequence = Adjustments(SamplingParams(repetition_penalty=2.0), list(range(100)) * 50, 200_000)
    for token in range(50, 150):
        sequence.add(token)
    assert sequence.columns(0).shape == (4, 150)
