"""The step loop on real small models: the right tokens, and exactly one end for every request."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from attrs import define, field
from checkpoints import LLAMA_CONTEXT, QWEN_CONTEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.engine import core
from helexa.engine.core import Engine
from helexa.engine.loading import LoadedModel, load_model
from helexa.engine.protocol import Failed, Finished, Report, Submit, TokenDelta
from helexa.engine.runner import PREFILL_CHUNK
from helexa.wire.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)
NAME = "m"


@pytest.fixture(scope="module")
def big(qwen: Path) -> LoadedModel:
    return load_model(str(qwen), "cpu")


@pytest.fixture(scope="module")
def small(llama: Path) -> LoadedModel:
    return load_model(str(llama), "cpu")


def prompt(length: int, seed: int = 0) -> list[int]:
    ids: list[int] = torch.randint(2, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def expected(model: LoadedModel, ids: list[int], count: int) -> list[int]:
    """What transformers itself generates."""
    with torch.inference_mode():
        found = model.module.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    tokens: list[int] = found[0, len(ids) :].tolist()
    return tokens


@define
class Outcome:
    """What an engine has said, by request."""

    tokens: dict[str, list[int]] = field(factory=lambda: defaultdict(list))
    ends: dict[str, list[Report]] = field(factory=lambda: defaultdict(list))

    def note(self, deltas: Iterable[TokenDelta], reports: Iterable[Report]) -> None:
        for delta in deltas:
            assert delta.request not in self.ends, "tokens after the end"
            self.tokens[delta.request] += delta.ids
        for report in reports:
            assert isinstance(report, Finished | Failed)
            self.ends[report.request].append(report)

    def finished(self, request: str) -> Finished:
        (end,) = self.ends[request]
        assert isinstance(end, Finished)
        return end


def run(engine: Engine, outcome: Outcome | None = None) -> Outcome:
    """Step until nothing is left."""
    outcome = outcome or Outcome()
    while engine.running or engine.waiting:
        outcome.note(*engine.step())
    return outcome


def generate(model: LoadedModel, ids: list[int], params: SamplingParams = GREEDY) -> tuple[list[int], Finished]:
    engine = Engine(model)
    assert engine.submit(Submit("r", NAME, ids, params)) == []
    outcome = run(engine)
    return outcome.tokens["r"], outcome.finished("r")


@pytest.mark.parametrize("length", [1, 7, PREFILL_CHUNK - 1, PREFILL_CHUNK, PREFILL_CHUNK + 1, 2 * PREFILL_CHUNK + 300])
def test_greedy_tokens_are_those_of_transformers_however_the_prompt_is_chunked(big: LoadedModel, length: int) -> None:
    ids = prompt(length)
    tokens, end = generate(big, ids)
    assert tokens == expected(big, ids, 12)
    assert end == Finished("r", "length", length, 12)


def test_any_causal_language_model_will_do(small: LoadedModel) -> None:
    ids = prompt(30)
    assert generate(small, ids)[0] == expected(small, ids, 12)


def test_a_batch_of_mixed_lengths_gives_each_its_own_tokens(big: LoadedModel) -> None:
    prompts = {f"r{length}": prompt(length, seed=length) for length in (1, 3, 40, 600, 1100)}
    engine = Engine(big)
    for name, ids in prompts.items():
        engine.submit(Submit(name, NAME, ids, GREEDY))
    outcome = run(engine)
    assert outcome.tokens == {name: expected(big, ids, 12) for name, ids in prompts.items()}


def test_arrivals_in_between_disturb_nobody(small: LoadedModel) -> None:
    engine, outcome = Engine(small), Outcome()
    prompts = {f"r{n}": prompt(5 + 3 * n, seed=n) for n in range(6)}
    for name, ids in prompts.items():
        engine.submit(Submit(name, NAME, ids, GREEDY))
        outcome.note(*engine.step())
        outcome.note(*engine.step())
    run(engine, outcome)
    assert outcome.tokens == {name: expected(small, ids, 12) for name, ids in prompts.items()}


def test_a_long_prompt_takes_one_chunk_a_step_beside_running_ones(big: LoadedModel) -> None:
    engine = Engine(big)
    engine.submit(Submit("quick", NAME, prompt(3), GREEDY))
    engine.submit(Submit("slow", NAME, prompt(2 * PREFILL_CHUNK + 1), GREEDY))
    steps = [{delta.request for delta in engine.step()[0]} for _ in range(3)]
    assert steps == [{"quick"}, {"quick"}, {"quick", "slow"}]


def test_a_seed_gives_the_same_tokens_alone_and_in_company(small: LoadedModel) -> None:
    params = SamplingParams(temperature=1.5, top_p=0.95, seed=42, max_tokens=20)
    alone, _ = generate(small, prompt(9), params)
    engine = Engine(small)
    for n in range(4):
        engine.submit(Submit(f"other{n}", NAME, prompt(4 + n, seed=n), SamplingParams(max_tokens=5 * n + 1)))
    engine.submit(Submit("r", NAME, prompt(9), params))
    assert run(engine).tokens["r"] == alone
    assert generate(small, prompt(9), SamplingParams(temperature=1.5, seed=43, max_tokens=20))[0] != alone


def test_without_a_seed_two_requests_differ(small: LoadedModel) -> None:
    warm = SamplingParams(temperature=2.0, max_tokens=30)
    assert generate(small, prompt(9), warm)[0] != generate(small, prompt(9), warm)[0]


@pytest.mark.parametrize("count", [1, 2, 17])
def test_max_tokens_is_exact(small: LoadedModel, count: int) -> None:
    tokens, end = generate(small, prompt(5), SamplingParams(temperature=0, max_tokens=count))
    assert (len(tokens), end) == (count, Finished("r", "length", 5, count))


def test_a_stop_id_ends_and_is_counted(small: LoadedModel) -> None:
    free = expected(small, prompt(5), 12)
    stop = free[6]
    tokens, end = generate(small, prompt(5), SamplingParams(temperature=0, max_tokens=12, stop_token_ids=(317, stop)))
    assert tokens == free[: free.index(stop) + 1]
    assert end == Finished("r", "stop", 5, len(tokens))


def test_a_stop_id_at_the_very_limit_is_a_stop(small: LoadedModel) -> None:
    first = expected(small, prompt(5), 1)[0]
    _, end = generate(small, prompt(5), SamplingParams(temperature=0, max_tokens=1, stop_token_ids=(first,)))
    assert end.reason == "stop"


def test_a_stop_id_in_the_prompt_stops_nothing(small: LoadedModel) -> None:
    ids = [*prompt(4), 318]
    _, end = generate(small, ids, SamplingParams(temperature=0, max_tokens=3, stop_token_ids=(318,)))
    assert end.reason == "length"


@pytest.mark.parametrize("max_tokens", [None, 10_000])
def test_the_context_is_the_limit(small: LoadedModel, max_tokens: int | None) -> None:
    ids = prompt(LLAMA_CONTEXT - 9)
    tokens, end = generate(small, ids, SamplingParams(temperature=0, max_tokens=max_tokens))
    assert (len(tokens), end.reason) == (9, "length")
    assert tokens == expected(small, ids, 9)


def test_a_prompt_one_short_of_the_context_gets_one_token(small: LoadedModel) -> None:
    assert len(generate(small, prompt(LLAMA_CONTEXT - 1))[0]) == 1


@pytest.mark.parametrize("length", [0, LLAMA_CONTEXT, LLAMA_CONTEXT + 500])
def test_a_prompt_that_cannot_be_served_is_refused_with_both_numbers(small: LoadedModel, length: int) -> None:
    engine = Engine(small)
    (failed,) = engine.submit(Submit("r", NAME, prompt(length), GREEDY))
    assert isinstance(failed, Failed)
    assert failed.code == "context_length_exceeded"
    assert str(length) in failed.error
    assert str(LLAMA_CONTEXT) in failed.error
    assert (engine.running, engine.waiting) == (0, 0)


@pytest.mark.parametrize("bad", [320, 100_000, -1])
def test_a_token_id_outside_the_vocabulary_is_refused(small: LoadedModel, bad: int) -> None:
    """One such id in a step would end the whole worker."""
    engine = Engine(small)
    (failed,) = engine.submit(Submit("r", NAME, [5, bad, 6], GREEDY))
    assert isinstance(failed, Failed)
    assert failed.code == "upstream_error"
    assert "320" in failed.error
    assert engine.waiting == 0


def test_the_last_id_of_the_vocabulary_is_fine(small: LoadedModel) -> None:
    assert generate(small, [319])[1].reason == "length"


def test_a_full_queue_refuses(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_WAITING", 2)
    engine = Engine(small)
    replies = [engine.submit(Submit(f"r{n}", NAME, prompt(3), GREEDY)) for n in range(3)]
    assert replies[:2] == [[], []]
    assert isinstance(replies[2][0], Failed)
    assert replies[2][0].code == "rate_limit_exceeded"
    assert run(engine).ends.keys() == {"r0", "r1"}


def test_more_than_can_run_wait_their_turn_in_order(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_RUNNING", 2)
    engine, outcome = Engine(small), Outcome()
    for n in range(5):
        engine.submit(Submit(f"r{n}", NAME, prompt(3 + n), SamplingParams(temperature=0, max_tokens=2)))
    assert (engine.running, engine.waiting) == (0, 5)
    outcome.note(*engine.step())
    assert (engine.running, engine.waiting) == (2, 3)
    run(engine, outcome)
    assert list(outcome.ends) == [f"r{n}" for n in range(5)]


def test_an_aborted_request_has_no_part_in_the_next_step(small: LoadedModel) -> None:
    engine, outcome = Engine(small), Outcome()
    for name in ("gone", "stays"):
        engine.submit(Submit(name, NAME, prompt(6), GREEDY))
    for _ in range(3):
        outcome.note(*engine.step())
    assert engine.abort("gone") == [Finished("gone", "abort", 6, 3)]
    assert {delta.request for delta in engine.step()[0]} == {"stays"}
    assert engine.abort("gone") == []


def test_an_abort_in_the_middle_of_prefill(big: LoadedModel) -> None:
    engine = Engine(big)
    engine.submit(Submit("r", NAME, prompt(3 * PREFILL_CHUNK), GREEDY))
    engine.step()
    assert engine.abort("r") == [Finished("r", "abort", 3 * PREFILL_CHUNK, 0)]
    assert engine.step() == ([], [])


def test_an_aborted_request_that_waited_never_runs(small: LoadedModel) -> None:
    engine = Engine(small)
    engine.submit(Submit("r", NAME, prompt(6), GREEDY))
    assert engine.abort("r") == [Finished("r", "abort", 6, 0)]
    assert engine.step() == ([], [])


def test_aborting_what_was_never_there_is_nothing(small: LoadedModel) -> None:
    assert Engine(small).abort("ghost") == []


def test_abort_all_ends_running_and_waiting(small: LoadedModel) -> None:
    engine = Engine(small)
    for n in range(core.MAX_RUNNING + 3):
        engine.submit(Submit(f"r{n}", NAME, prompt(3), GREEDY))
    engine.step()
    reports = engine.abort_all()
    assert Counter(type(report) for report in reports) == {Finished: core.MAX_RUNNING + 3}
    assert (engine.running, engine.waiting) == (0, 0)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, LLAMA_CONTEXT + 3), st.integers(1, 6)),
        st.tuples(st.just("abort"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 4), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(operations=OPERATIONS)
def test_every_request_ends_exactly_once(small: LoadedModel, operations: list[tuple[str, int, int]]) -> None:
    engine, outcome, submitted = Engine(small), Outcome(), dict[str, Submit]()

    def submit(length: int, max_tokens: int) -> None:
        request = f"r{len(submitted)}"
        submitted[request] = Submit(request, NAME, prompt(length), SamplingParams(max_tokens=max_tokens, seed=1))
        outcome.note([], engine.submit(submitted[request]))

    def step(count: int, _: int) -> None:
        for _ in range(count):
            outcome.note(*engine.step())

    does: dict[str, Callable[[int, int], None]] = {
        "submit": submit,
        "abort": lambda number, _: outcome.note([], engine.abort(f"r{number}")),
        "step": step,
    }
    for name, first, second in operations:
        does[name](first, second)
        assert engine.running <= core.MAX_RUNNING
        assert engine.running + engine.waiting + len(outcome.ends) == len(submitted)
    run(engine, outcome)
    assert outcome.ends.keys() == submitted.keys()
    for request in submitted:
        check_end(submitted[request], outcome)


def check_end(submit: Submit, outcome: Outcome) -> None:
    (end,) = outcome.ends[submit.request]
    tokens = outcome.tokens[submit.request]
    if isinstance(end, Failed):
        assert tokens == []
        return
    assert isinstance(end, Finished)
    assert (end.prompt_tokens, end.completion_tokens) == (len(submit.prompt_ids), len(tokens))
    if end.reason == "length":
        assert len(tokens) == min(submit.sampling.max_tokens or 0, LLAMA_CONTEXT - len(submit.prompt_ids))


def test_what_is_known_of_a_loaded_model(big: LoadedModel, small: LoadedModel) -> None:
    assert (big.context_length, small.context_length) == (QWEN_CONTEXT, LLAMA_CONTEXT)
    assert (big.vocabulary, small.vocabulary) == (320, 320)
    assert big.memory_mb >= 1
    assert not big.module.training
