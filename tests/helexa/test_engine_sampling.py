"""Picking tokens: that a row's pick is the row's own business, that it can be had again, and what is not computed."""

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from samplers import CPU, Operations, pick, sample, tied

from helexa.engine.sampling.drawing import uniform
from helexa.engine.sampling.sampler import Sampled, Sampler
from helexa.wire.sampling import SamplingParams

VOCABULARY = 200  # more than the candidates that are looked at
GREEDY = SamplingParams(temperature=0)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 127, 128, 129, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**63 - 1),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, -0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([(), ((3, 2.5), (0, -100.0))]),
    min_tokens=st.integers(0, 2),
    stop_token_ids=st.sampled_from([(), (1, 2)]),
    logprobs=st.sampled_from([None, 0, 3]),
)


def logits_of(number: int, position: int, spread: float) -> torch.Tensor:
    """What a model would say to a sequence at a position, whatever else is in the batch: ``[1, vocabulary]``."""
    return tied(1000 * number + position, 1, VOCABULARY, spread)


def follow(params: Sequence[SamplingParams], steps: Sequence[Sequence[int]], spread: float) -> list[list[Sampled]]:
    """What each sequence got in steps that each advance some of them, in any order."""
    sampler = Sampler(VOCABULARY, CPU)
    for number, each in enumerate(params):
        sampler.add(number, each, [number, 7])
    found: list[list[Sampled]] = [[] for _ in params]
    for step in steps:
        if step:
            logits = torch.cat([logits_of(number, len(found[number]), spread) for number in step])
            for number, sampled in zip(step, sampler.sample(logits, step), strict=True):
                found[number].append(sampled)
    return found


@settings(max_examples=60)
@given(st.lists(PARAMS, min_size=1, max_size=5), st.data(), st.sampled_from([0.0, 0.5, 2.0, 8.0]))
def test_a_sequence_gets_the_same_tokens_alone_and_in_any_company(
    params: list[SamplingParams], data: st.DataObject, spread: float
) -> None:
    orders = st.lists(st.sampled_from(range(len(params))), unique=True)
    steps = data.draw(st.lists(orders, min_size=1, max_size=4))
    together = follow(params, steps, spread)
    for number in range(len(params)):
        alone = follow(params, [[number]] * len(together[number]), spread)[number]
        assert alone == together[number]


def test_temperature_zero_takes_the_best_and_of_equal_ones_the_lower_id() -> None:
    assert pick([[0.0, 3.0, 1.0], [5.0, 3.0, 5.0], [2.0, 2.0, 2.0]], [GREEDY] * 3) == [1, 0, 0]


def test_temperature_zero_needs_no_other_parameter_to_be_greedy() -> None:
    params = SamplingParams(temperature=0, top_p=0.1, top_k=1, min_p=0.9, seed=3)
    assert pick([[0.0, 0.1, 0.2]] * 20, [evolve(params, seed=seed) for seed in range(20)]) == [2] * 20


def test_greedy_and_drawn_rows_get_their_own_tokens_in_one_batch() -> None:
    sure = [[0.0] * token + [90.0] + [0.0] * (9 - token) for token in range(10)]
    ways = [GREEDY, SamplingParams(), SamplingParams(top_k=3), SamplingParams(top_p=0.9), SamplingParams(min_p=0.5)]
    assert pick(sure, [*ways, *reversed(ways)]) == list(range(10))


def test_the_same_seed_gives_the_same_tokens_again() -> None:
    params = SamplingParams(seed=7, temperature=1.0)
    first, second = (follow([params], [[0]] * 8, 0.5) for _ in range(2))
    assert first == second
    assert len({each.token for each in first[0]}) > 4


def test_seeds_differ_and_so_do_their_neighbours() -> None:
    assert len(set(pick([[0.0] * 1000] * 40, [SamplingParams(seed=seed) for seed in range(40)]))) > 30


def test_without_a_seed_each_sequence_draws_its_own() -> None:
    assert len(set(pick([[0.0] * 1000] * 40, [SamplingParams()] * 40))) > 30


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63 + 4])
def test_the_uniform_number_is_blake2b_of_seed_and_position(seed: int) -> None:
    """Written out, so that a seed means the same tokens in every version."""
    packed = seed.to_bytes(8, "little") + (5).to_bytes(8, "little")
    bits = int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 11
    assert uniform(seed, 5) == bits / 2**53


def test_uniform_numbers_are_uniform_along_positions_and_along_seeds() -> None:
    count = 4000
    for numbers in ([uniform(1, i) for i in range(count)], [uniform(i, 1) for i in range(count)]):
        assert 0 <= min(numbers) < 0.01
        assert 0.99 < max(numbers) < 1
        bins = [sum(int(number * 10) == each for number in numbers) for each in range(10)]
        assert sum((each - count / 10) ** 2 / (count / 10) for each in bins) < 27.9  # chi-square, 9 degrees, p = 0.001
        mean = sum(numbers) / count
        serial = sum((a - mean) * (b - mean) for a, b in pairwise(numbers)) / count * 12
        assert abs(serial) < 4 / math.sqrt(count)


def test_a_seed_beyond_64_bits_still_draws() -> None:
    assert 0 <= uniform(2**64 + 1, 0) < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    "params", [GREEDY, SamplingParams(repetition_penalty=2.0, logprobs=2), SamplingParams(top_p=0.9)]
)
def test_any_float_type_will_do_and_the_logits_stay_as_they_are(dtype: torch.dtype, params: SamplingParams) -> None:
    logits = torch.tensor([[0.0, 90.0, 0.0], [0.0, 0.0, 90.0]], dtype=dtype)
    before = logits.clone()
    assert pick(logits, [params, params]) == [1, 2]
    assert torch.equal(logits, before)


@pytest.mark.parametrize("broken", [[math.nan] * 3, [math.inf] * 3, [-math.inf] * 3, [0.0, math.nan, 90.0]])
@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        SamplingParams(temperature=0, logit_bias=((1, -100.0),)),
        SamplingParams(),
        SamplingParams(top_k=2),
        SamplingParams(top_p=0.5),
        SamplingParams(min_p=0.5, logprobs=2, presence_penalty=1.0),
    ],
)
def test_logits_that_are_no_numbers_fail_their_row_and_no_other(broken: list[float], params: SamplingParams) -> None:
    first, second = sample([broken, [0.0, 90.0, 0.0]], [params, evolve(params, logit_bias=())])
    assert first.error == ("upstream_error", "The model's output is not a number, or leaves no token to pick.")
    assert first.logprob is None
    assert (second.token, second.error) == (1, None)


def test_broken_logits_of_a_large_vocabulary_fail_their_row_alone() -> None:
    ways = [SamplingParams(top_k=5), SamplingParams(top_p=0.5), SamplingParams(top_k=500)]
    logits = torch.zeros(len(ways), 1000)
    logits[:, 17] = math.nan
    assert all(each.error for each in sample(logits, ways))


def test_a_bias_of_a_token_that_does_not_exist_fails_its_row_alone() -> None:
    rows = [[0.0, 90.0, 0.0]] * 3
    biases = [((3, 1.0),), ((-1, 1.0),), ((2, 1.0),)]
    found = sample(rows, [SamplingParams(logit_bias=bias) for bias in biases])
    assert found[0].error == ("invalid_value", "'logit_bias' names token 3; the model has 3 tokens.")
    assert found[1].error == ("invalid_value", "'logit_bias' names token -1; the model has 3 tokens.")
    assert (found[2].token, found[2].error) == (1, None)


def test_a_sequence_can_be_removed_more_than_once_and_its_number_used_again() -> None:
    sampler = Sampler(3, CPU)
    for _ in range(2):
        sampler.add(4, SamplingParams(seed=1), [0])
        assert sampler.sample(torch.zeros(1, 3), [4]) == sample(torch.zeros(1, 3), [SamplingParams(seed=1)])
        sampler.remove(4)
        sampler.remove(4)
    with pytest.raises(KeyError):
        sampler.sample(torch.zeros(1, 3), [4])


def test_a_batch_of_none_gets_nothing() -> None:
    assert Sampler(3, CPU).sample(torch.zeros(0, 3), []) == []


def test_a_greedy_batch_is_one_reduction_and_copies_no_logits() -> None:
    sampler = Sampler(1000, CPU)
    for number in range(8):
        sampler.add(number, GREEDY, [0])
    logits = tied(0, 8, 1000)
    with Operations() as operations:
        sampler.sample(logits, range(8))
    assert operations.largest == 8
    assert len(operations.names) < 10
    assert operations.names.count("max") == 1


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(min_p=0.1), SamplingParams(presence_penalty=1.0)])
def test_a_row_without_top_k_and_top_p_is_not_sorted(params: SamplingParams) -> None:
    with Operations() as operations:
        sample(torch.zeros(2, 1000), [params] * 2)
    assert not {"topk", "sort"} & set(operations.names)


def test_a_row_that_was_greedy_but_for_min_tokens_is_plain_again_after_them() -> None:
    sampler = Sampler(1000, CPU)
    sampler.add(0, evolve(GREEDY, min_tokens=1, stop_token_ids=(5,)), [0])
    logits = torch.zeros(1, 1000)
    sampler.sample(logits, [0])
    with Operations() as operations:
        sampler.sample(logits, [0])
    assert operations.largest == 1
