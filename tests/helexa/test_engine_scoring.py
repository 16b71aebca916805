"""Log probabilities of a prompt's own tokens: those of transformers, however the prompt is computed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ALL, BLOCK, CONTEXT, NATIVE, VOCABULARY, make_module, make_runner
from attrs import define, evolve, field
from engine_runs import assert_idle, load, prompt, with_pool
from rank_threads import Ranks, ShardedRunner

from helexa.engine import core
from helexa.engine.core import Engine
from helexa.engine.networks.runner import Runner
from helexa.engine.networks.stateful import StatefulRunner
from helexa.engine.protocol import Failed, Finished, Progress, Report, ScoringParams, Submit, TokenDelta, TokenLogprob
from helexa.engine.sampling import scoring
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import LEAST_SCORED, Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams

PROMPT = prompt(60)
NARROW = Budget(running=8, tokens=24)
ONE_BY_ONE = "qwen3-next with linear attention"


def scored(top: int = 0, **more: Any) -> ScoringParams:
    return ScoringParams(**{"max_tokens": 3, "temperature": 0, "logprobs": top, **more}, prompt_logprobs=top)


@define
class Told:
    """What an engine has told of one choice."""

    ids: list[int] = field(factory=list)
    logprobs: list[TokenLogprob] = field(factory=list)
    deltas: int = 0

    @property
    def prompt(self) -> list[int]:
        return [token for token, each in zip(self.ids, self.logprobs, strict=True) if each.prompt]

    @property
    def numbers(self) -> list[float | None]:
        return [each.logprob for each in self.logprobs]


@define
class Scoring:
    """An engine, and what it has told."""

    engine: Engine
    told: dict[tuple[str, int], Told] = field(factory=dict)
    ends: list[Report] = field(factory=list)

    @classmethod
    def of(cls, model: LoadedModel, budget: Budget = NARROW) -> "Scoring":
        return cls(Engine(model, budget))

    def submit(self, request: str, ids: list[int], params: SamplingParams, **more: Any) -> None:
        self.ends += self.engine.submit(Submit(request, "m", ids, params, **more))

    def step(self) -> list[TokenDelta]:
        deltas, ends = self.engine.step()
        self.engine.check_integrity()
        self.ends += ends
        for delta in deltas:
            told = self.told.setdefault((delta.request, delta.index), Told())
            told.ids += delta.ids
            told.logprobs += delta.logprobs
            told.deltas += 1
        return deltas

    def run(self) -> "Scoring":
        while self.engine.has_work:
            self.step()
        assert_idle(self.engine)
        assert self.engine._scoring == {}
        return self

    def of_request(self, request: str = "r", index: int = 0) -> Told:
        return self.told[request, index]


def run(model: LoadedModel, ids: list[int], params: ScoringParams, budget: Budget = NARROW, **more: Any) -> Told:
    """One request, alone, to its end."""
    bench = Scoring.of(model, budget)
    bench.submit("r", ids, params, **more)
    return bench.run().of_request()


@pytest.fixture(scope="module")
def small(llama: Path) -> LoadedModel:
    return load(llama)


def small_model(runner: Runner, small: LoadedModel) -> LoadedModel:
    """A model of `architectures` as if it had been loaded."""
    return evolve(small, runner=runner, blocks=200, block_size=BLOCK, context_length=CONTEXT, vocabulary=VOCABULARY)


@torch.inference_mode()
def reference(module: Any, ids: list[int]) -> torch.Tensor:
    """What transformers thinks of each token but the first, ``[tokens - 1, vocabulary]``."""
    return torch.log_softmax(module(torch.tensor([ids]), use_cache=False).logits[0, :-1].float(), dim=-1)


def assert_as(module: Any, told: Told, tolerance: float = 1e-3) -> None:
    """All told is what transformers says of the same tokens."""
    table = reference(module, told.ids)
    assert told.numbers[0] is None
    own = table.gather(-1, torch.tensor(told.ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()
    assert told.numbers[1:] == pytest.approx(own, abs=tolerance)
    for row, each in zip(table, told.logprobs[1:], strict=True):
        values = [value for _, value in each.top]
        assert values == pytest.approx(row.topk(len(values)).values.tolist(), abs=tolerance)
        assert values == pytest.approx([row[token].item() for token, _ in each.top], abs=tolerance)


# the same numbers


@pytest.mark.parametrize("name", sorted(ALL))
def test_they_are_those_of_transformers(small: LoadedModel, name: str) -> None:
    """In chunks, in steps that other requests have a part in."""
    bench = Scoring.of(small_model(make_runner(make_module(name)), small))
    bench.submit("other", PROMPT[:30], SamplingParams(max_tokens=3, temperature=0))
    bench.submit("r", PROMPT, scored(2))
    told = bench.run().of_request()
    assert told.prompt == PROMPT
    assert len(told.ids) == len(PROMPT) + 3
    assert told.deltas > 5
    assert_as(make_module(name), told)


def test_a_model_that_computes_prompts_as_a_whole_scores_them_too(small: LoadedModel) -> None:
    runner = make_runner(make_module(ONE_BY_ONE))
    assert isinstance(runner, StatefulRunner)
    runner._in_chunks = False
    told = run(small_model(runner, small), PROMPT, scored(2))
    assert told.prompt == PROMPT
    assert_as(make_module(ONE_BY_ONE), told)


@pytest.mark.parametrize("name", sorted(NATIVE)[:2])
def test_two_ranks_have_those_of_one(small: LoadedModel, name: str) -> None:
    ranks = Ranks(2)
    try:
        runner: Any = ShardedRunner(ranks, lambda: make_module(name))
        told = run(small_model(runner, small), PROMPT, scored(1))
    finally:
        ranks.close()
    assert_as(make_module(name), told)


@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 18, 33])
def test_a_prompt_of_any_length_is_told_whole(small: LoadedModel, length: int) -> None:
    ids = prompt(length, length)
    told = run(small, ids, scored(1))
    assert told.prompt == ids
    assert told.numbers[0] is None
    assert None not in told.numbers[1:]
    assert told.numbers[1:] == pytest.approx(run(small, ids, scored(1), Budget()).numbers[1:], abs=1e-4)


def test_what_follows_is_what_follows_without(small: LoadedModel) -> None:
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, SamplingParams(max_tokens=12, temperature=1.5, seed=7))
    bench.submit("s", PROMPT, scored(max_tokens=12, temperature=1.5, seed=7))
    bench.run()
    assert bench.of_request("s").ids == [*PROMPT, *bench.of_request("r").ids]


def test_each_choice_tells_the_prompt(small: LoadedModel) -> None:
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, scored(1, n=3, temperature=1.5, seed=3))
    bench.run()
    told = [bench.of_request(index=index) for index in range(3)]
    assert [each.prompt for each in told] == [PROMPT] * 3
    for each in told[1:]:
        assert each.numbers[1:60] == pytest.approx(told[0].numbers[1:60], abs=1e-4)
    assert len({tuple(each.ids[60:]) for each in told}) > 1


def test_the_likeliest_are_as_many_as_were_asked_for(small: LoadedModel) -> None:
    for top in (0, 1, 5):
        told = run(small, PROMPT, scored(top))
        assert {len(each.top) for each in told.logprobs[1:]} == {top}
        assert told.logprobs[0].top == []


# the cache


def test_what_is_cached_is_computed_again_and_what_is_computed_is_cached(small: LoadedModel) -> None:
    bench = Scoring.of(small)
    for request in ("a", "b"):
        bench.submit(request, PROMPT, scored(1))
        bench.run()
    bench.submit("plain", PROMPT, SamplingParams(max_tokens=1))
    bench.run()
    cached = [end.cached_tokens for end in bench.ends if isinstance(end, Finished)]
    assert cached[:2] == [0, 0]
    assert cached[2] >= len(PROMPT) - 1 - small.block_size
    assert bench.of_request("b").numbers[1:] == pytest.approx(bench.of_request("a").numbers[1:], abs=1e-4)


def test_a_prompt_that_gives_way_half_way_goes_on_from_there(small: LoadedModel) -> None:
    whole = run(small, PROMPT, scored(1))
    bench = Scoring.of(small, Budget(running=1, tokens=24))
    bench.submit("r", PROMPT, scored(1))
    bench.step()
    half = len(bench.of_request().prompt)
    assert 0 < half < len(PROMPT)
    bench.submit("first", prompt(30, 5), SamplingParams(max_tokens=4), priority=1)
    bench.run()
    assert bench.engine.figures("m").preemptions == 1
    assert bench.of_request().ids == whole.ids
    assert bench.of_request().numbers[1:] == pytest.approx(whole.numbers[1:], abs=1e-4)


def test_sequences_that_are_preempted_for_want_of_blocks_tell_nothing_twice(small: LoadedModel) -> None:
    bench = Scoring.of(with_pool(small, 9), Budget(running=4, tokens=24))
    prompts = {f"r{seed}": prompt(40, seed) for seed in range(4)}
    for request, ids in prompts.items():
        bench.submit(request, ids, scored(1, max_tokens=30))
    bench.run()
    assert bench.engine.figures("m").preemptions > 0
    for request, ids in prompts.items():
        assert bench.of_request(request).prompt == ids
        assert len(bench.of_request(request).ids) == 70


# other processes


@pytest.mark.parametrize("cut", [0, 1, 2, 16, 17, 31, 58, 59, 60, 61, 62])
def test_another_process_goes_on_from_any_token(small: LoadedModel, cut: int) -> None:
    whole = run(small, PROMPT, scored(1))
    rest = run(small, PROMPT, scored(1), progress=[Progress(0, whole.ids[:cut])])
    assert rest.ids == whole.ids[cut:]
    numbers = [number for number in whole.numbers[cut:] if number is not None]
    assert [number for number in rest.numbers if number is not None] == pytest.approx(numbers, abs=1e-4)
    assert len(rest.prompt) == max(0, 60 - cut)


def test_another_process_ends_what_was_complete(small: LoadedModel) -> None:
    whole = run(small, PROMPT, scored(1))
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, scored(1), progress=[Progress(0, whole.ids)])
    assert bench.ends == [Finished("r", "length", 60, 3)]
    assert bench.engine._scoring == {}


# memory, and what goes wrong


@define(eq=False)
class Watched:
    """A runner that notes how many rows of logits it makes, and does what a test wants with them."""

    inner: Runner
    rows: list[int] = field(factory=list)
    spoil: int | None = None
    short: int = 10_000

    @property
    def vocabulary(self) -> int:
        return self.inner.vocabulary

    @property
    def reuses_prefixes(self) -> bool:
        return self.inner.reuses_prefixes

    def forward(self, plan: StepPlan) -> torch.Tensor:
        if plan.tokens > self.short:
            raise MemoryError
        logits = self.inner.forward(plan)
        self.rows.append(len(logits))
        if self.spoil is not None:
            logits = logits.clone()
            logits[self.spoil] = float("nan")
        return logits

    def forget(self, number: int) -> None:
        self.inner.forget(number)


@pytest.mark.parametrize(("running", "others"), [(64, 0), (64, 3), (20, 0), (4, 3)])
def test_a_step_has_hardly_more_rows_of_logits_than_sequences_may_run(
    small: LoadedModel, running: int, others: int
) -> None:
    runner = Watched(small.runner)
    bench = Scoring.of(evolve(small, runner=runner), Budget(running=running, tokens=512))
    for other in range(others):
        bench.submit(f"o{other}", prompt(9, other), SamplingParams(max_tokens=20, temperature=0))
    for seed in range(2):
        bench.submit(f"r{seed}", prompt(80, seed), scored(1))
    bench.run()
    assert len(_finished(bench.ends)) == others + 2
    places = min(running, small.blocks)
    assert max(runner.rows) <= max(places, LEAST_SCORED + places)
    assert max(runner.rows) >= LEAST_SCORED
    if not others:
        assert max(runner.rows) <= max(places, LEAST_SCORED + 2)


def test_rows_are_read_a_few_at_a_time(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(small, PROMPT, scored(2))
    found: list[int] = []
    read = scoring.logprobs

    def watch(logits: torch.Tensor, picked: list[int], tops: list[int]) -> list[TokenLogprob]:
        found.append(len(logits))
        return read(logits, picked, tops)

    monkeypatch.setattr(scoring, "logprobs", watch)
    monkeypatch.setitem(scoring._AT_ONCE, "cpu", 3 * small.runner.vocabulary)
    assert run(small, PROMPT, scored(2)) == whole
    assert max(found) == 3


def test_a_step_that_is_too_large_is_taken_again_in_smaller_ones(small: LoadedModel) -> None:
    whole = run(small, PROMPT, scored(1))
    runner = Watched(small.runner, short=5)
    told = run(evolve(small, runner=runner), PROMPT, scored(1), Budget(tokens=40))
    assert told.ids == whole.ids
    assert told.numbers[1:] == pytest.approx(whole.numbers[1:], abs=1e-4)


@pytest.mark.parametrize("ahead", [0, 1])
def test_logits_that_are_no_numbers_end_their_request_alone(small: LoadedModel, ahead: int) -> None:
    runner = Watched(small.runner)
    bench = Scoring.of(evolve(small, runner=runner), Budget(running=40, tokens=100))
    if ahead:
        bench.submit("other", prompt(9), SamplingParams(max_tokens=8, temperature=0))
        bench.step()
    bench.submit("r", PROMPT, scored(1))
    runner.spoil = ahead + 5
    bench.step()
    runner.spoil = None
    bench.run()
    assert [end for end in bench.ends if isinstance(end, Failed)] == [
        Failed("r", "upstream_error", "The model's output is not a number, or leaves no token to pick")
    ]
    assert ("r", 0) not in bench.told
    if ahead:
        assert len(bench.of_request("other").ids) == 8


def test_what_is_given_up_half_way_leaves_nothing(small: LoadedModel) -> None:
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, scored(1))
    bench.step()
    bench.engine.abort("r")
    assert_idle(bench.engine)
    assert bench.engine._scoring == {}


def test_who_does_not_ask_pays_nothing(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(core, "score", never)
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, SamplingParams(max_tokens=5, logprobs=1))
    told = bench.run().of_request()
    assert len(told.ids) == 5
    assert told.prompt == []


def test_what_was_picked_is_counted_and_what_was_given_is_not(small: LoadedModel) -> None:
    bench = Scoring.of(small)
    bench.submit("r", PROMPT, scored(1))
    bench.run()
    figures = bench.engine.figures("m")
    assert (figures.new_tokens, figures.step_tokens) == (3, len(PROMPT) + 2)
    (end,) = _finished(bench.ends)
    assert (end.prompt_tokens, end.completion_tokens) == (60, 3)


def _finished(reports: Iterable[Report]) -> list[Finished]:
    return [each for each in reports if isinstance(each, Finished)]
