"""What goes wrong in one request and must not spoil another: broken logits, and a queue that does not move."""

from pathlib import Path

import pytest
from engine_runs import Bench, WatchedRunner, greedy, load, prompt, reference

from helexa.engine.protocol import Failed
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams


@pytest.fixture
def watched(llama: Path) -> tuple[WatchedRunner, LoadedModel]:
    return WatchedRunner.of(load(llama))


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# Logits that are no numbers


@pytest.mark.parametrize("when", [0, 3])
@pytest.mark.parametrize(
    "params",
    [
        greedy(20),
        greedy(20, logprobs=2),
        greedy(20, frequency_penalty=1.0),
        SamplingParams(max_tokens=20),
        SamplingParams(max_tokens=20, top_k=5),
        SamplingParams(max_tokens=20, top_p=0.5, min_p=0.1),
    ],
    ids=["greedy", "logprobs", "penalty", "warm", "top_k", "top_p"],
)
def test_broken_logits_fail_their_request_alone(
    watched: tuple[WatchedRunner, LoadedModel], params: SamplingParams, when: int
) -> None:
    runner, model = watched
    bench = Bench.of(model)
    bench.submit("before", prompt(20), greedy(12))
    bench.submit("broken", prompt(20, seed=1), params)
    bench.submit("after", prompt(7), greedy(12))
    bench.step(when)
    runner.broken.add(2)
    outcome = bench.run()
    assert outcome.failures["broken"].code == "upstream_error"
    assert "not a number" in outcome.failures["broken"].error
    assert len(outcome.of("broken")) == when
    assert outcome.of("before") == reference(model, prompt(20), 12)
    assert outcome.of("after") == reference(model, prompt(7), 12)
    assert set(outcome.failures) == {"broken"}


def test_a_broken_choice_takes_its_siblings_with_it_and_nobody_else(
    watched: tuple[WatchedRunner, LoadedModel],
) -> None:
    runner, model = watched
    bench = Bench.of(model, Budget(running=4))
    bench.submit("broken", prompt(20), greedy(12, n=3))
    bench.submit("other", prompt(20), greedy(12, n=2))
    bench.step(2)
    runner.broken.add(2)
    assert {delta.request for delta in bench.step()} == {"other"}
    assert isinstance(bench.outcome.failures["broken"], Failed)
    assert bench.run().choices("other") == [reference(model, prompt(20), 12)] * 2
    assert sorted(runner.forgotten) == [1, 2, 3, 4, 5]


def test_several_broken_choices_are_one_failure(watched: tuple[WatchedRunner, LoadedModel]) -> None:
    runner, model = watched
    runner.broken.update((1, 2, 3))
    bench = Bench.of(model)
    bench.submit("a", prompt(20), greedy(12, n=2))
    bench.submit("b", prompt(9), greedy(12))
    bench.step()
    assert set(bench.outcome.failures) == {"a", "b"}
    assert bench.run().ends == {}


def test_choices_that_have_ended_keep_their_ends(watched: tuple[WatchedRunner, LoadedModel]) -> None:
    runner, model = watched
    bench = Bench.of(model)
    bench.submit("r", prompt(20), greedy(12, n=3))
    bench.step()
    bench.abort("r", 0)
    runner.broken.add(3)
    outcome = bench.run()
    assert outcome.reasons() == {("r", 0): "abort"}
    assert set(outcome.failures) == {"r"}


def test_a_request_after_a_broken_one_with_the_same_prompt_is_served(
    watched: tuple[WatchedRunner, LoadedModel],
) -> None:
    runner, model = watched
    runner.broken.add(1)
    bench = Bench.of(model)
    bench.submit("broken", prompt(40), greedy(12))
    bench.run()
    bench.submit("again", prompt(40), greedy(12))
    assert bench.run().of("again") == reference(model, prompt(40), 12)


# Patience


def test_who_waits_too_long_is_told_so_and_the_rest_go_on(watched: tuple[WatchedRunner, LoadedModel]) -> None:
    _, model = watched
    clock = Clock()
    bench = Bench.of(model, Budget(running=1, patience=30), clock)
    bench.submit("runs", prompt(5), greedy(20))
    bench.submit("waits", prompt(6), greedy(20))
    bench.step()
    clock.now += 20
    bench.submit("came later", prompt(7), greedy(4))
    bench.step()
    assert bench.outcome.failures == {}
    clock.now += 11
    bench.step()
    failed = bench.outcome.failures["waits"]
    assert (failed.code, failed.error) == ("rate_limit_exceeded", "no place became free within 30 s")
    outcome = bench.run()
    assert outcome.of("runs") == reference(model, prompt(5), 20)
    assert outcome.of("came later") == reference(model, prompt(7), 4)
    assert set(outcome.failures) == {"waits"}


def test_patience_is_for_those_that_never_ran(watched: tuple[WatchedRunner, LoadedModel]) -> None:
    _, model = watched
    clock = Clock()
    bench = Bench.of(model, Budget(running=1, patience=30), clock)
    bench.submit("low", prompt(5), greedy(20))
    bench.step(3)
    bench.submit("high", prompt(6), greedy(4), priority=1)
    bench.step()
    assert (bench.engine.running, bench.engine.waiting) == (1, 1), "the low one had to give way"
    clock.now += 1000
    outcome = bench.run()
    assert outcome.failures == {}
    assert outcome.of("low") == reference(model, prompt(5), 20)


def test_a_choice_that_waits_for_its_siblings_is_not_given_up(watched: tuple[WatchedRunner, LoadedModel]) -> None:
    _, model = watched
    clock = Clock()
    bench = Bench.of(model, Budget(running=2, patience=30), clock)
    bench.submit("r", prompt(5), greedy(20, n=3))
    bench.step(2)
    clock.now += 31
    outcome = bench.run()
    assert outcome.failures == {}
    assert {index: len(outcome.of("r", index)) for index in range(3)} == {0: 20, 1: 20, 2: 20}
