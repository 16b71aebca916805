"""Requests that another process has begun: from any token on, the same tokens follow."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import evolve
from checkpoints import LLAMA_CONTEXT
from engine_runs import Bench, greedy, load, prompt
from llguidance import LLMatcher
from torch import Tensor

from helexa import tiny
from helexa.engine.protocol import Failed, Finished, Progress
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.wire.sampling import SamplingParams

PROMPT = prompt(20)
REGEX = LLMatcher.grammar_from_regex("[a-f]{2}[0-9]{3}[a-f]{4,40}")
JSON = LLMatcher.grammar_from_json_schema(
    '{"type": "object", "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "boolean"}}, "required": ["a", "b"],'
    '"additionalProperties": false, "x-guidance": {"whitespace_flexible": false}}'
)
CASES = {
    "greedy": greedy(24),
    "seeded": SamplingParams(max_tokens=24, temperature=1.5, seed=7),
    "top_k, top_p, min_p": SamplingParams(max_tokens=24, seed=3, top_k=40, top_p=0.9, min_p=0.01),
    "repetition": SamplingParams(max_tokens=24, temperature=0, repetition_penalty=1.7),
    "presence and frequency": SamplingParams(max_tokens=24, seed=5, presence_penalty=1.5, frequency_penalty=1.0),
    "bias": greedy(24, logit_bias=((9, 3.0), (11, -100.0)), frequency_penalty=2.0),
    "a stop that is not due": SamplingParams(
        max_tokens=24, seed=9, temperature=2, min_tokens=15, stop_token_ids=tuple(range(2, 300, 3))
    ),
    "a regular expression": SamplingParams(max_tokens=24, seed=2, temperature=2, grammar=REGEX),
    "a schema": SamplingParams(max_tokens=40, seed=4, temperature=2, grammar=JSON),
    "log probabilities": SamplingParams(max_tokens=24, seed=6, logprobs=2),
}


@pytest.fixture(scope="module")
def small(llama: Path) -> LoadedModel:
    return load(llama)


def run(
    model: LoadedModel, params: SamplingParams, progress: Sequence[Progress] = (), ids: list[int] = PROMPT
) -> Bench:
    """One request, alone, to its end."""
    bench = Bench.of(model)
    bench.note_resumed("r", progress)
    bench.submit("r", ids, params, progress=list(progress))
    bench.run()
    return bench


@pytest.mark.parametrize("case", CASES)
def test_from_any_token_on_the_same_ones_follow(small: LoadedModel, case: str) -> None:
    params = CASES[case]
    whole = run(small, params).outcome
    tokens, end = whole.of("r"), whole.ends["r", 0]
    assert len(tokens) > 8
    for cut in {1, 2, 7, len(tokens) - 1}:
        rest = run(small, params, [Progress(0, tokens[:cut])]).outcome
        assert rest.of("r") == tokens[cut:]
        assert rest.ends["r", 0] == evolve(end, cached_tokens=rest.ends["r", 0].cached_tokens)
        if params.logprobs is not None:
            assert [each.logprob for each in rest.logprobs["r", 0]] == pytest.approx(
                [each.logprob for each in whole.logprobs["r", 0][cut:]], abs=1e-4
            )


@pytest.mark.parametrize("grammar", [None, REGEX])
def test_each_choice_goes_on_from_where_it_was_and_those_that_have_ended_do_not(
    small: LoadedModel, grammar: str | None
) -> None:
    params = SamplingParams(n=3, max_tokens=20, temperature=1.5, seed=11, grammar=grammar)
    whole = run(small, params).outcome
    progress = [Progress(0, whole.of("r", 0)[:5]), Progress(2, whole.of("r", 2)[:9])]
    rest = run(small, params, progress).outcome
    assert [rest.of("r", index) for index in (0, 2)] == [whole.of("r", 0)[5:], whole.of("r", 2)[9:]]
    assert set(rest.ends) == {("r", 0), ("r", 2)}


def test_a_choice_that_has_no_token_yet_begins_beside_its_siblings(small: LoadedModel) -> None:
    params = SamplingParams(n=2, max_tokens=12, temperature=1.5, seed=11)
    whole = run(small, params).outcome
    rest = run(small, params, [Progress(0, whole.of("r", 0)[:4]), Progress(1, [])]).outcome
    assert rest.choices("r") == [whole.of("r", 0)[4:], whole.of("r", 1)]


@pytest.mark.parametrize("case", ["greedy", "a stop that is not due", "a schema"])
def test_what_was_complete_already_ends_at_once(small: LoadedModel, case: str) -> None:
    """Its last token has come out of the dead process, and the word that it was the last has not."""
    params = CASES[case]
    whole = run(small, params).outcome
    bench = run(small, params, [Progress(0, whole.of("r"))])
    assert bench.outcome.tokens == {}
    assert bench.outcome.reasons() == whole.reasons()


def test_one_choice_may_be_complete_and_another_not(small: LoadedModel) -> None:
    params = SamplingParams(n=2, max_tokens=12, temperature=1.5, seed=11)
    whole = run(small, params).outcome
    rest = run(small, params, [Progress(0, whole.of("r", 0)), Progress(1, whole.of("r", 1)[:3])]).outcome
    assert rest.reasons() == {("r", 0): "length", ("r", 1): "length"}
    assert rest.choices("r") == [whole.of("r", 1)[3:]]


def test_the_context_is_the_limit_of_what_goes_on(small: LoadedModel) -> None:
    ids = prompt(LLAMA_CONTEXT - 9)
    whole = run(small, greedy(None), ids=ids).outcome
    rest = run(small, greedy(None), [Progress(0, whole.of("r")[:4])], ids).outcome
    assert rest.of("r") == whole.of("r")[4:]
    assert rest.ends["r", 0] == Finished("r", "length", len(ids), 9, cached_tokens=rest.ends["r", 0].cached_tokens)


def test_tokens_of_its_own_that_are_found_again_are_no_cached_prompt(small: LoadedModel) -> None:
    """Another request may have computed the very same text."""
    tokens = run(small, greedy(60)).outcome.of("r")
    rest = run(small, greedy(60), [Progress(0, tokens[:50])]).outcome
    assert rest.ends["r", 0].cached_tokens <= len(PROMPT)


def test_generated_ids_outside_the_vocabulary_are_refused(small: LoadedModel) -> None:
    bench = Bench.of(small)
    (failed,) = bench.submit("r", PROMPT, greedy(9), progress=[Progress(0, [5, 320])])
    assert isinstance(failed, Failed)
    assert "320" in failed.error


def test_what_a_grammar_does_not_allow_fails_its_request_alone(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.note_resumed("bad", progress := [Progress(0, [2, 2, 2, 2])])
    bench.submit("bad", PROMPT, greedy(9, grammar=REGEX), progress=progress)
    bench.submit("good", PROMPT, greedy(9))
    outcome = bench.run()
    assert outcome.failures["bad"].code == "upstream_error"
    assert len(outcome.of("good")) == 9


def test_more_than_fits_at_once_goes_on_one_after_the_other(small: LoadedModel) -> None:
    params = {f"r{n}": SamplingParams(max_tokens=12, temperature=1.5, seed=n) for n in range(5)}
    whole = {name: run(small, each).outcome.of("r") for name, each in params.items()}
    bench = Bench.of(small, Budget(running=2))
    for name, each in params.items():
        progress = [Progress(0, whole[name][:6])]
        bench.note_resumed(name, progress)
        bench.submit(name, PROMPT, each, progress=progress)
    outcome = bench.run()
    assert {name: outcome.of(name) for name in params} == {name: tokens[6:] for name, tokens in whole.items()}


def test_who_begins_is_told_before_the_step_and_once(small: LoadedModel) -> None:
    bench = Bench.of(small, Budget(running=2))
    told: list[list[str]] = []
    bench.engine._announce = told.append
    bench.submit("a", PROMPT, greedy(3, n=2))
    bench.submit("b", PROMPT, greedy(3))
    assert told == []
    bench.step()
    assert told == [["a"]]
    bench.run()
    assert told == [["a"], ["b"]]
    assert bench.engine._begun == set()


@pytest.mark.parametrize("params", [SamplingParams(max_tokens=200, temperature=1.5, seed=7), greedy(200)])
def test_in_bfloat16_too_where_rounding_would_tell_one_kernel_from_another(params: SamplingParams) -> None:
    """Attention rounds differently for one query and for many: drawn tokens would differ after a few more."""
    model = load(Path(tiny.__file__).parent / "checkpoint")
    whole = run(model, params).outcome.of("r")
    for cut in (20, 101):
        assert run(model, params, [Progress(0, whole[:cut])]).outcome.of("r") == whole[cut:]


def test_what_was_generated_is_computed_again_token_by_token(small: LoadedModel) -> None:
    plans: list[StepPlan] = []
    bench = Bench.of(small)
    forward = bench.engine.model.runner.forward

    def watch(plan: StepPlan) -> Tensor:
        plans.append(plan)
        return forward(plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.engine.model.runner, "forward", watch)
        bench.note_resumed("r", progress := [Progress(0, [5, 6, 7])])
        bench.submit("r", PROMPT, greedy(5), progress=progress)
        bench.step()
    parts = [(chunk.start, list(chunk.ids), chunk.due) for chunk in plans[0].chunks]
    begin = parts[0][0]  # a block of the prompt may have been found
    assert parts == [(begin, PROMPT[begin:], False), (20, [5], False), (21, [6], False), (22, [7], True)]
