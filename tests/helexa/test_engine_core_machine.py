"""Whatever comes, and in whatever order: each choice ends once, with the tokens it would have got alone."""

import re
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import ClassVar

from attrs import define, evolve, field
from checkpoints import LLAMA_CONTEXT
from engine_runs import NAME, Bench, WatchedRunner, assert_idle, generate, load, prompt, with_pool
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from llguidance import LLMatcher
from tokenizers import Tokenizer

from helexa.engine.protocol import Finished, Submit
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams

PROMPTS = [prompt(3), prompt(16, seed=1), [*prompt(16, seed=1), *prompt(20, seed=2)], prompt(70, seed=3)]
UNSERVABLE = [[], [5] * LLAMA_CONTEXT, [5, 320]]
BUDGET = Budget(running=3, tokens=24, waiting=8, patience=30)
BLOCKS = 8
"""One and a third of the longest sequence's."""
PATTERN = "[a-f]{5}"
GRAMMARS = [LLMatcher.grammar_from_regex(PATTERN), '{"grammars": [{"json_schema": {"type": "no such type"}}]}']
PARAMS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=1.5, seed=11),
    SamplingParams(temperature=0, stop_token_ids=tuple(range(2, 60))),
    SamplingParams(temperature=1.0, seed=5, top_k=20, repetition_penalty=1.3, logprobs=1),
]


def params(base: SamplingParams, n: int, max_tokens: int, grammar: str | None) -> SamplingParams:
    return evolve(base, n=n, max_tokens=max_tokens, grammar=grammar)


SUBMITS = st.builds(
    Submit,
    st.just(""),
    st.just(NAME),
    st.sampled_from(PROMPTS + UNSERVABLE),
    st.builds(
        params,
        st.sampled_from(PARAMS),
        st.integers(1, 3),
        st.integers(1, 30),
        st.sampled_from([None, None, None, *GRAMMARS]),
    ),
    st.sampled_from(["a", "b"]),
    st.integers(0, 1),
)


@define(eq=False)
class ByHand:
    """An executor whose tasks run when the test says so."""

    waiting: list[Callable[[], None]] = field(factory=list)

    def submit(self, work: Callable[[str], LLMatcher], grammar: str) -> "Future[LLMatcher]":
        future: Future[LLMatcher] = Future()

        def run() -> None:
            try:
                future.set_result(work(grammar))
            except ValueError as error:
                future.set_exception(error)

        self.waiting.append(run)
        return future

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Interleavings(RuleBasedStateMachine):
    """An engine with little of everything, and what it was asked for."""

    whole: ClassVar[LoadedModel]

    def __init__(self) -> None:
        super().__init__()
        self.runner, model = WatchedRunner.of(with_pool(self.whole, BLOCKS))
        self.now = 0.0
        self.bench = Bench.of(model, BUDGET, lambda: self.now)
        self.compiler = ByHand()
        self.bench.engine._grammars._threads = self.compiler  # type: ignore[assignment]
        self.accepted: dict[str, Submit] = {}
        self.count = 0

    @rule(submit=SUBMITS)
    def submit(self, submit: Submit) -> None:
        self.count += 1
        name = f"r{self.count}"
        if not self.bench.submit(name, submit.prompt_ids, submit.sampling, key=submit.key, priority=submit.priority):
            self.accepted[name] = evolve(submit, request=name)
            assert submit.prompt_ids not in UNSERVABLE

    @rule()
    def compile(self) -> None:
        self.compiler.run()

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), index=st.sampled_from([None, None, 0, 1, 2]))
    def abort(self, data: st.DataObject, index: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.accepted)))
        expected = {choice for choice in self.live(name) if index in (None, choice)}
        ends = self.bench.abort(name, index)
        assert {end.index for end in ends if isinstance(end, Finished)} == expected
        assert not self.live(name) & expected

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        self.bench.step(count)

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(number=st.integers(1, 12))
    def spoil(self, number: int) -> None:
        self.runner.broken.add(number)

    def live(self, name: str) -> set[int]:
        outcome = self.bench.outcome
        every = range(self.accepted[name].sampling.n)
        return {index for index in every if name not in outcome.failures and (name, index) not in outcome.ends}

    @invariant()
    def all_are_counted(self) -> None:
        engine = self.bench.engine
        assert engine.running + engine.waiting == sum(len(self.live(name)) for name in self.accepted)
        assert engine.running <= BUDGET.running
        engine.check_integrity()

    def teardown(self) -> None:
        while self.bench.engine.running or self.bench.engine.waiting:
            self.compiler.run()
            self.bench.step()
        assert_idle(self.bench.engine)
        for submit in self.accepted.values():
            assert not self.live(submit.request)
            for index in range(submit.sampling.n):
                self.check(submit, index)

    def check(self, submit: Submit, index: int) -> None:
        """Its tokens are those of a request that has the engine to itself, as far as it came."""
        found = self.bench.outcome.of(submit.request, index)
        end = self.bench.outcome.ends.get((submit.request, index))
        ended = end is not None and end.reason != "abort"
        if submit.sampling.grammar is not None:
            complete = end is not None and end.reason == "stop" and not submit.sampling.stop_token_ids
            assert not complete or re.fullmatch(PATTERN, self.text(found))
            return
        expected = alone(self.whole, tuple(submit.prompt_ids), one(submit.sampling, index))
        assert found == (expected if ended else expected[: len(found)])

    def text(self, ids: list[int]) -> str:
        return str(Tokenizer.from_file(str(self.whole.directory / "tokenizer.json")).decode(ids))


@cache
def alone(model: LoadedModel, ids: tuple[int, ...], params: SamplingParams) -> list[int]:
    return generate(model, list(ids), params)[0]


def one(params: SamplingParams, index: int) -> SamplingParams:
    """A choice of a request as a request of its own."""
    return evolve(params, n=1, seed=None if params.seed is None else params.seed + index)


def test_every_choice_ends_once_with_the_tokens_it_would_have_got_alone(llama: Path) -> None:
    class Bound(Interleavings):
        whole = load(llama)

    run_state_machine_as_test(Bound, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
