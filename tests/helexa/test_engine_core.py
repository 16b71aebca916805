"""The step loop on real small models: the right tokens, where they end, and what is refused."""

from pathlib import Path

import pytest
from checkpoints import LLAMA_CONTEXT
from engine_runs import NAME, Bench, generate, greedy, load, prompt, reference

from helexa.engine.protocol import Failed, Finished, ModelLoad
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams

STEP = Budget().tokens
"""Tokens of one step."""


@pytest.fixture
def big(qwen: Path) -> LoadedModel:
    return load(qwen)


@pytest.fixture
def small(llama: Path) -> LoadedModel:
    return load(llama)


@pytest.mark.parametrize("length", [1, 7, STEP - 1, STEP, STEP + 1, 2 * STEP + 300])
def test_greedy_tokens_are_those_of_transformers_however_the_prompt_is_chunked(big: LoadedModel, length: int) -> None:
    ids = prompt(length)
    tokens, end = generate(big, ids, greedy(12))
    assert tokens == reference(big, ids, 12)
    assert end == Finished("r", "length", length, 12)


def test_another_architecture_does_as_well(small: LoadedModel) -> None:
    ids = prompt(30)
    assert generate(small, ids, greedy(12))[0] == reference(small, ids, 12)


def test_a_batch_of_mixed_lengths_gives_each_its_own_tokens(big: LoadedModel) -> None:
    prompts = {length: prompt(length, seed=length) for length in (1, 3, 40, 600, 1100)}
    bench = Bench.of(big)
    for length, ids in prompts.items():
        bench.submit(f"r{length}", ids, greedy(12))
    outcome = bench.run()
    assert {length: outcome.of(f"r{length}") for length in prompts} == {
        length: reference(big, ids, 12) for length, ids in prompts.items()
    }


def test_arrivals_in_between_disturb_nobody(small: LoadedModel) -> None:
    bench = Bench.of(small)
    prompts = {f"r{n}": prompt(5 + 3 * n, seed=n) for n in range(6)}
    for name, ids in prompts.items():
        bench.submit(name, ids, greedy(12))
        bench.step(2)
    outcome = bench.run()
    assert {name: outcome.of(name) for name in prompts} == {
        name: reference(small, ids, 12) for name, ids in prompts.items()
    }


def test_a_long_prompt_takes_a_piece_of_each_step_beside_running_ones(big: LoadedModel) -> None:
    bench = Bench.of(big)
    bench.submit("quick", prompt(3), greedy(12))
    bench.step()
    bench.submit("slow", prompt(2 * STEP + 1), greedy(12))
    steps = [{delta.request for delta in bench.step()} for _ in range(3)]
    assert steps == [{"quick"}, {"quick"}, {"quick", "slow"}]


def test_a_step_brings_one_token_for_each_that_runs(small: LoadedModel) -> None:
    bench = Bench.of(small)
    for n in range(5):
        bench.submit(f"r{n}", prompt(4 + n), greedy(3))
    for _ in range(3):
        assert sorted((delta.request, len(delta.ids)) for delta in bench.step()) == [(f"r{n}", 1) for n in range(5)]
    assert not bench.engine.has_work


@pytest.mark.parametrize("count", [1, 2, 17])
def test_max_tokens_is_exact(small: LoadedModel, count: int) -> None:
    tokens, end = generate(small, prompt(5), greedy(count))
    assert (len(tokens), end) == (count, Finished("r", "length", 5, count))


def test_a_stop_id_ends_and_is_counted(small: LoadedModel) -> None:
    free = reference(small, prompt(5), 12)
    stop = free[6]
    tokens, end = generate(small, prompt(5), greedy(12, stop_token_ids=(317, stop)))
    assert tokens == free[: free.index(stop) + 1]
    assert end == Finished("r", "stop", 5, len(tokens))


def test_a_stop_id_at_the_very_limit_is_a_stop(small: LoadedModel) -> None:
    first = reference(small, prompt(5), 1)[0]
    assert generate(small, prompt(5), greedy(1, stop_token_ids=(first,)))[1].reason == "stop"


def test_a_stop_id_in_the_prompt_stops_nothing(small: LoadedModel) -> None:
    assert generate(small, [*prompt(4), 318], greedy(3, stop_token_ids=(318,)))[1].reason == "length"


def test_no_stop_id_is_picked_before_min_tokens(small: LoadedModel) -> None:
    first = reference(small, prompt(5), 1)[0]
    tokens, end = generate(small, prompt(5), greedy(12, stop_token_ids=(first,), min_tokens=4))
    assert first not in tokens[:4]
    assert len(tokens) >= 4
    assert (end.reason == "stop") == (tokens[-1] == first)


@pytest.mark.parametrize("max_tokens", [None, 10_000])
def test_the_context_is_the_limit(small: LoadedModel, max_tokens: int | None) -> None:
    ids = prompt(LLAMA_CONTEXT - 9)
    tokens, end = generate(small, ids, greedy(max_tokens))
    assert (len(tokens), end.reason) == (9, "length")
    assert tokens == reference(small, ids, 9)


def test_a_prompt_one_short_of_the_context_gets_one_token(small: LoadedModel) -> None:
    assert len(generate(small, prompt(LLAMA_CONTEXT - 1), greedy(12))[0]) == 1


@pytest.mark.parametrize("top", [0, 3])
def test_every_token_comes_with_its_log_probability_if_asked_for(small: LoadedModel, top: int) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(6), greedy(8, logprobs=top))
    bench.submit("without", prompt(6), greedy(8))
    outcome = bench.run()
    found = outcome.logprobs["r", 0]
    assert len(found) == 8
    assert all(each.logprob <= 0 and len(each.top) == top for each in found)
    if top:
        assert [each.top[0] for each in found] == list(
            zip(outcome.of("r"), [each.logprob for each in found], strict=True)
        )
    assert outcome.logprobs["without", 0] == []


@pytest.mark.parametrize("length", [0, LLAMA_CONTEXT, LLAMA_CONTEXT + 500])
def test_a_prompt_that_cannot_be_served_is_refused_with_both_numbers(small: LoadedModel, length: int) -> None:
    bench = Bench.of(small)
    (failed,) = bench.submit("r", prompt(length), greedy(12))
    assert isinstance(failed, Failed)
    assert failed.code == "context_length_exceeded"
    assert str(length) in failed.error
    assert str(LLAMA_CONTEXT) in failed.error
    assert (bench.engine.running, bench.engine.waiting, bench.engine.has_work) == (0, 0, False)


@pytest.mark.parametrize("bad", [320, 100_000, -1])
def test_a_token_id_outside_the_vocabulary_is_refused(small: LoadedModel, bad: int) -> None:
    """One such id in a step would end the whole worker."""
    bench = Bench.of(small)
    (failed,) = bench.submit("r", [5, bad, 6], greedy(12))
    assert isinstance(failed, Failed)
    assert failed.code == "upstream_error"
    assert "320" in failed.error
    assert bench.engine.waiting == 0


def test_the_last_id_of_the_vocabulary_is_fine(small: LoadedModel) -> None:
    assert generate(small, [319], greedy(1))[1].reason == "length"


def test_a_bias_for_a_token_that_is_not_there_fails_its_request_alone(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("bad", prompt(5), greedy(4, logit_bias=((320, 1.0),), n=2))
    bench.submit("good", prompt(5), greedy(4))
    outcome = bench.run()
    assert outcome.failures["bad"].code == "invalid_value"
    assert outcome.of("good") == reference(small, prompt(5), 4)
    assert set(outcome.ends) == {("good", 0)}


def test_a_full_queue_counts_choices(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(waiting=5))
    assert bench.submit("a", prompt(3), greedy(2, n=3)) == []
    (failed,) = bench.submit("b", prompt(3), greedy(2, n=3))
    assert isinstance(failed, Failed)
    assert failed.code == "rate_limit_exceeded"
    assert "3 sequences" in failed.error
    assert bench.submit("c", prompt(3), greedy(2, n=2)) == []
    assert len(bench.submit("d", prompt(3), greedy(2))) == 1
    assert bench.engine.waiting == 5
    bench.step()
    assert bench.submit("e", prompt(3), greedy(2)) == [], "those that run do not wait"
    assert set(bench.run().ends) == {("a", 0), ("a", 1), ("a", 2), ("c", 0), ("c", 1), ("e", 0)}


def test_more_than_can_run_wait_their_turn_in_order(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    for n in range(5):
        bench.submit(f"r{n}", prompt(3 + n), greedy(2))
    assert (bench.engine.running, bench.engine.waiting) == (0, 5)
    bench.step()
    assert (bench.engine.running, bench.engine.waiting) == (2, 3)
    assert [request for request, _ in bench.run().ends] == [f"r{n}" for n in range(5)]


def test_figures_tell_what_is_used_and_what_is_left(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    total = small.blocks
    assert bench.engine.figures(NAME) == ModelLoad(NAME, 0, 0, total, total, 0)
    for n, length in enumerate((20, 5, 40)):
        bench.submit(f"r{n}", prompt(length, seed=n), greedy(3))
    assert bench.engine.figures(NAME) == ModelLoad(NAME, 0, 3, total, total, 0)
    bench.step()
    assert bench.engine.figures(NAME) == ModelLoad(NAME, 2, 1, total, total - 3, 0, 25, 0, 0, 1, 0.0, 25, 2)
    bench.run()
    assert bench.engine.figures(NAME) == ModelLoad(NAME, 0, 0, total, total - 3, 3, 65, 0, 0, 6, 0.0, 71, 9)


def test_figures_tell_how_long_steps_take_and_not_how_long_nothing_is_to_do(small: LoadedModel) -> None:
    times = iter(range(1_000))
    bench = Bench.of(small, clock=lambda: next(times) / 4)  # each look at the clock is a quarter of a second later
    bench.submit("r", prompt(5), greedy(1))
    bench.step()
    first = bench.engine.figures(NAME)
    assert (first.steps, first.step_tokens, first.new_tokens) == (1, 5, 1)
    assert first.step_seconds > 0
    bench.step(5)
    assert bench.engine.figures(NAME) == first
    bench.submit("s", prompt(7), greedy(1))
    bench.step()
    second = bench.engine.figures(NAME)
    assert (second.steps, second.step_tokens, second.new_tokens) == (2, 12, 2)
    assert second.step_seconds == 2 * first.step_seconds


def test_an_empty_engine_does_nothing(small: LoadedModel) -> None:
    assert Bench.of(small).engine.step() == ([], [])


def test_temperature_without_a_seed_differs_from_one_request_to_the_next(small: LoadedModel) -> None:
    warm = SamplingParams(temperature=2.0, max_tokens=30)
    assert generate(small, prompt(9), warm)[0] != generate(small, prompt(9), warm)[0]
