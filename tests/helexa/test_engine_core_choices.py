"""Several choices of one request, seeds, and requests and choices that nobody waits for any more."""

from pathlib import Path

import pytest
from attrs import evolve
from engine_runs import Bench, WatchedRunner, assert_idle, generate, greedy, load, prompt, reference

from helexa.engine.protocol import Finished
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import MAX_SEED, SamplingParams

WARM = SamplingParams(temperature=1.5, top_p=0.95, max_tokens=12, seed=42)


@pytest.fixture
def big(qwen: Path) -> LoadedModel:
    return load(qwen)


@pytest.fixture
def small(llama: Path) -> LoadedModel:
    return load(llama)


def warm(seed: int | None, n: int = 1, max_tokens: int = 12) -> SamplingParams:
    return SamplingParams(temperature=1.5, top_p=0.95, max_tokens=max_tokens, seed=seed, n=n)


# Choices


def test_each_choice_draws_with_its_own_seed(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(20), warm(42, n=3))
    choices = bench.run().choices("r")
    assert choices == [generate(small, prompt(20), warm(42 + index))[0] for index in range(3)]
    assert len({tuple(choice) for choice in choices}) == 3


def test_choices_without_a_seed_differ(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(9), warm(None, n=4, max_tokens=30))
    assert len({tuple(choice) for choice in bench.run().choices("r")}) == 4


def test_the_largest_seed_has_successors(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(9), warm(MAX_SEED, n=3))
    assert len({tuple(choice) for choice in bench.run().choices("r")}) == 3


def test_greedy_choices_are_all_what_transformers_says(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(40), greedy(8, n=5))
    assert bench.run().choices("r") == [reference(small, prompt(40), 8)] * 5


def test_the_full_blocks_of_a_prompt_are_computed_once_for_all_choices(small: LoadedModel) -> None:
    runner, model = WatchedRunner.of(small)
    bench = Bench.of(model)
    size = model.block_size
    bench.submit("r", prompt(2 * size + 3), greedy(1, n=4))
    ends = bench.run().ends
    assert [ends["r", index].cached_tokens for index in range(4)] == [0, 2 * size, 2 * size, 2 * size]
    assert sorted(runner.computed.values()) == [3, 3, 3, 2 * size + 3]


def test_the_last_token_of_a_prompt_is_computed_even_if_its_block_is_shared(small: LoadedModel) -> None:
    """Its logits are wanted, and no cache has those."""
    bench = Bench.of(small)
    ids = prompt(2 * small.block_size)
    bench.submit("r", ids, greedy(3, n=2))
    outcome = bench.run()
    assert outcome.choices("r") == [reference(small, ids, 3)] * 2
    assert outcome.ends["r", 1].cached_tokens == small.block_size


def test_every_choice_ends_by_itself(small: LoadedModel) -> None:
    alone = [generate(small, prompt(9), warm(7 + index, max_tokens=30))[0] for index in range(3)]
    stop = alone[1][4]
    lengths = [tokens.index(stop) + 1 if stop in tokens else 30 for tokens in alone]
    bench = Bench.of(small)
    bench.submit("r", prompt(9), evolve(warm(7, n=3, max_tokens=30), stop_token_ids=(stop,)))
    ends = bench.run().ends
    assert [ends["r", index].completion_tokens for index in range(3)] == lengths
    assert ends["r", 1].reason == "stop"


def test_more_choices_than_places_run_one_after_the_other(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    bench.submit("r", prompt(9), warm(1, n=5))
    bench.step()
    assert (bench.engine.running, bench.engine.waiting) == (2, 3)
    assert bench.run().choices("r") == [generate(small, prompt(9), warm(1 + index))[0] for index in range(5)]


# Seeds


def test_a_seed_gives_the_same_tokens_alone_and_in_company(small: LoadedModel) -> None:
    alone, _ = generate(small, prompt(9), WARM)
    bench = Bench.of(small)
    for n in range(4):
        bench.submit(f"other{n}", prompt(4 + n, seed=n), warm(None, n=1 + n % 2, max_tokens=5 * n + 1))
    bench.step(2)
    bench.submit("r", prompt(9), WARM)
    assert bench.run().of("r") == alone


def test_a_seed_gives_the_same_tokens_when_its_neighbours_go(small: LoadedModel) -> None:
    alone, _ = generate(small, prompt(9), WARM)
    bench = Bench.of(small)
    for name in ("before", "r", "after"):
        bench.submit(name, prompt(9), WARM if name == "r" else warm(None, max_tokens=40))
    bench.step(3)
    bench.abort("before")
    bench.step(3)
    bench.abort("after")
    assert bench.run().of("r") == alone


def test_another_seed_gives_other_tokens(small: LoadedModel) -> None:
    assert generate(small, prompt(9), warm(43))[0] != generate(small, prompt(9), warm(42))[0]


# Aborts


def test_an_aborted_request_has_no_part_in_the_next_step(small: LoadedModel) -> None:
    bench = Bench.of(small)
    for name in ("gone", "stays"):
        bench.submit(name, prompt(6), greedy(12))
    bench.step(3)
    assert bench.abort("gone") == [Finished("gone", "abort", 6, 3)]
    assert {delta.request for delta in bench.step()} == {"stays"}
    assert bench.abort("gone") == []
    assert bench.run().of("stays") == reference(small, prompt(6), 12)


def test_one_choice_goes_and_its_siblings_go_on(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(20), warm(5, n=3))
    bench.step(4)
    assert bench.abort("r", 1) == [Finished("r", "abort", 20, 4, 1, cached_tokens=16)]
    assert [delta.index for delta in bench.step()] == [0, 2]
    outcome = bench.run()
    assert [outcome.of("r", index) for index in (0, 2)] == [
        generate(small, prompt(20), warm(5 + index))[0] for index in (0, 2)
    ]
    assert outcome.reasons() == {("r", 0): "length", ("r", 1): "abort", ("r", 2): "length"}


def test_the_choice_that_computed_the_prompt_may_go_first(small: LoadedModel) -> None:
    """Its siblings read the blocks that it filled."""
    bench = Bench.of(small)
    bench.submit("r", prompt(40), greedy(8, n=3))
    bench.step()
    bench.abort("r", 0)
    outcome = bench.run()
    assert [outcome.of("r", index) for index in (1, 2)] == [reference(small, prompt(40), 8)] * 2


def test_a_choice_that_waits_is_aborted_like_one_that_runs(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=1))
    bench.submit("r", prompt(6), greedy(4, n=3))
    bench.step()
    assert bench.abort("r", 2) == [Finished("r", "abort", 6, 0, 2)]
    assert bench.engine.waiting == 1
    assert bench.run().reasons() == {("r", 0): "length", ("r", 1): "length", ("r", 2): "abort"}


def test_an_abort_of_the_request_takes_the_choices_that_are_left(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    bench.submit("r", prompt(6), greedy(4, n=3))
    bench.step()
    bench.abort("r", 0)
    assert {end.index for end in bench.abort("r") if isinstance(end, Finished)} == {1, 2}
    assert_idle(bench.engine)


def test_an_abort_in_the_middle_of_prefill_gives_its_blocks_back(big: LoadedModel) -> None:
    bench = Bench.of(big, Budget(tokens=64))
    bench.submit("r", prompt(200), greedy(12))
    bench.step()
    assert bench.abort("r") == [Finished("r", "abort", 200, 0)]
    assert bench.engine.step() == ([], [])
    assert_idle(bench.engine)


def test_what_an_aborted_prefill_computed_is_found_again(big: LoadedModel) -> None:
    bench = Bench.of(big, Budget(tokens=64))
    bench.submit("gone", prompt(200), greedy(6))
    bench.step(2)
    bench.abort("gone")
    bench.submit("r", prompt(200), greedy(6))
    outcome = bench.run()
    assert outcome.ends["r", 0].cached_tokens == 128
    assert outcome.of("r") == reference(big, prompt(200), 6)


def test_an_aborted_request_that_waited_never_runs(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(6), greedy(12))
    assert bench.abort("r") == [Finished("r", "abort", 6, 0)]
    assert bench.engine.step() == ([], [])


@pytest.mark.parametrize("index", [None, 0, 3])
def test_aborting_what_was_never_there_is_nothing(small: LoadedModel, index: int | None) -> None:
    assert Bench.of(small).abort("ghost", index) == []


def test_aborting_a_choice_that_a_request_does_not_have_is_nothing(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(6), greedy(3, n=2))
    assert bench.abort("r", 2) == []
    assert len(bench.run().ends) == 2


def test_abort_all_ends_running_and_waiting(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=3))
    for n in range(4):
        bench.submit(f"r{n}", prompt(3), greedy(5, n=2))
    bench.step()
    bench.outcome.note([], bench.engine.abort_all())
    assert bench.outcome.reasons() == {(f"r{n}", index): "abort" for n in range(4) for index in range(2)}
    assert_idle(bench.engine)
    assert bench.engine.abort_all() == []


def test_a_name_may_be_used_again_after_its_end(small: LoadedModel) -> None:
    bench = Bench.of(small)
    for _ in range(2):
        bench.outcome = type(bench.outcome)()
        bench.submit("r", prompt(6), greedy(4))
        assert bench.run().of("r") == reference(small, prompt(6), 4)
