"""What sequences share and must not notice: blocks of prompts, a pool that is too small, places in the queue."""

from pathlib import Path

import pytest
from engine_runs import NAME, Bench, WatchedRunner, generate, greedy, load, prompt, reference, with_pool

from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams


@pytest.fixture
def big(qwen: Path) -> LoadedModel:
    return load(qwen)


@pytest.fixture
def small(llama: Path) -> LoadedModel:
    return load(llama)


# Prefixes


def test_a_prompt_seen_before_is_found_again(small: LoadedModel) -> None:
    runner, model = WatchedRunner.of(small)
    bench = Bench.of(model)
    bench.submit("first", prompt(50), greedy(8), key="a")
    bench.run()
    bench.submit("second", prompt(50), greedy(8), key="a")
    outcome = bench.run()
    assert outcome.of("second") == outcome.of("first") == reference(small, prompt(50), 8)
    assert (outcome.ends["first", 0].cached_tokens, outcome.ends["second", 0].cached_tokens) == (0, 48)
    assert dict(runner.computed) == {1: 57, 2: 9}
    load_ = bench.engine.figures(NAME)
    assert (load_.prefix_queries, load_.prefix_hits) == (100, 48)


def test_an_answer_is_found_again_in_the_next_turn_of_a_conversation(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("first", prompt(30), greedy(20))
    ids = [*prompt(30), *bench.run().of("first"), *prompt(5, seed=9)]
    bench.submit("second", ids, greedy(8))
    outcome = bench.run()
    assert outcome.ends["second", 0].cached_tokens == 48, "49 of the 50 tokens were computed: 3 full blocks"
    assert outcome.of("second") == reference(small, ids, 8)


def test_a_prompt_that_differs_after_a_while_shares_what_is_before(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("first", prompt(60), greedy(4))
    bench.run()
    other = [*prompt(40), 7, *prompt(20, seed=5)]
    bench.submit("second", other, greedy(4))
    outcome = bench.run()
    assert outcome.ends["second", 0].cached_tokens == 32
    assert outcome.of("second") == reference(small, other, 4)


def test_what_one_key_asked_is_never_found_by_another(small: LoadedModel) -> None:
    """How long an answer takes would tell whether somebody else has asked the same."""
    runner, model = WatchedRunner.of(small)
    bench = Bench.of(model)
    for key in ("", "a", "b", "ab"):
        bench.submit(f"of {key}", prompt(50), greedy(2), key=key)
        assert bench.run().ends[f"of {key}", 0].cached_tokens == 0
    assert set(runner.computed.values()) == {51}
    assert bench.engine.figures(NAME).prefix_hits == 0


def test_two_keys_in_one_step_share_nothing(small: LoadedModel) -> None:
    bench = Bench.of(small)
    for key in ("a", "b"):
        bench.submit(key, prompt(50), greedy(4), key=key)
    bench.step()
    load_ = bench.engine.figures(NAME)
    assert load_.blocks_total - load_.blocks_free == 8
    outcome = bench.run()
    assert [end.cached_tokens for end in outcome.ends.values()] == [0, 0]
    assert outcome.of("a") == outcome.of("b") == reference(small, prompt(50), 4)


def test_a_budget_without_reuse_finds_nothing(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(reuse=False))
    for name in ("first", "second"):
        bench.submit(name, prompt(50), greedy(2))
        assert bench.run().ends[name, 0].cached_tokens == 0
    assert bench.engine.figures(NAME).blocks_cached == 0


# A pool that is too small


@pytest.mark.parametrize("blocks", [7, 8, 9, 14])
def test_who_has_to_give_way_gets_the_same_tokens_in_the_end(small: LoadedModel, blocks: int) -> None:
    prompts = {f"r{n}": prompt(10 + 7 * n, seed=n) for n in range(5)}
    bench = Bench.of(with_pool(small, blocks))
    for name, ids in prompts.items():
        bench.submit(name, ids, greedy(45))
    outcome = bench.run()
    assert {name: outcome.of(name) for name in prompts} == {
        name: reference(small, ids, 45) for name, ids in prompts.items()
    }
    assert bench.engine.figures(NAME).preemptions > 0


def test_who_has_to_give_way_draws_on_where_it_was(small: LoadedModel) -> None:
    def params(seed: int) -> SamplingParams:
        return SamplingParams(temperature=1.5, seed=seed, max_tokens=45, frequency_penalty=0.5)

    bench = Bench.of(with_pool(small, 8))
    for n in range(4):
        bench.submit(f"r{n}", prompt(12, seed=n), params(n))
    outcome = bench.run()
    assert bench.engine.figures(NAME).preemptions > 0
    assert [outcome.of(f"r{n}") for n in range(4)] == [
        generate(small, prompt(12, seed=n), params(n))[0] for n in range(4)
    ]


def test_what_a_preempted_sequence_finds_of_its_own_is_no_cached_prompt(small: LoadedModel) -> None:
    bench = Bench.of(with_pool(small, 8))
    for n in range(4):
        bench.submit(f"r{n}", prompt(20, seed=n), greedy(45))
    outcome = bench.run()
    assert bench.engine.figures(NAME).preemptions > 0
    assert {end.cached_tokens for end in outcome.ends.values()} == {0}


def test_one_sequence_may_fill_the_whole_pool(small: LoadedModel) -> None:
    tokens, end = generate(with_pool(small, 3), prompt(40), greedy(None))
    assert (len(tokens), end.reason) == (8, "length")
    assert tokens == reference(small, prompt(40), 8)


def test_a_prompt_larger_than_the_pool_is_refused(small: LoadedModel) -> None:
    bench = Bench.of(with_pool(small, 2))
    bench.submit("r", prompt(32), greedy(1))
    assert bench.outcome.failures["r"].error == "prompt of 32 tokens, context of 32"
    bench.submit("one less", prompt(31), greedy(9))
    assert len(bench.run().of("one less")) == 1


def test_a_higher_priority_runs_first(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=1))
    for n, priority in enumerate((0, 0, 5)):
        bench.submit(f"r{n}", prompt(5, seed=n), greedy(3), priority=priority)
    assert [request for request, _ in bench.run().ends] == ["r2", "r0", "r1"]


def test_a_key_that_asks_little_does_not_wait_for_one_that_asks_much(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    for n in range(6):
        bench.submit(f"much{n}", prompt(5, seed=n), greedy(6), key="much")
    bench.step(2)
    bench.submit("little", prompt(5), greedy(6), key="little")
    order = [request for request, _ in bench.run().ends]
    assert order.index("little") <= 2
