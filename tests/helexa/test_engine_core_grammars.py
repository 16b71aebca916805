"""Requests whose output has to match a grammar: compiled beside the step loop, followed in it, ended by it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, get_ident

import pytest
from engine_runs import PATIENCE, Bench, assert_idle, greedy, load, prompt, reference
from llguidance import LLMatcher
from tokenizers import Tokenizer

from helexa.engine.protocol import Finished
from helexa.engine.sampling import constraints
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel
from helexa.tiny import CHECKPOINT
from helexa.wire.sampling import SamplingParams

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
BROKEN = '{"grammars": [{"json_schema": {"type": "no such type"}}]}'


def schema(value: object) -> str:
    grammar: str = LLMatcher.grammar_from_json_schema(json.dumps(value), defaults={"whitespace_flexible": False})
    return grammar


def regex(value: str) -> str:
    grammar: str = LLMatcher.grammar_from_regex(value)
    return grammar


@pytest.fixture
def tiny() -> LoadedModel:
    return load(CHECKPOINT)


@pytest.fixture
def small(llama: Path) -> LoadedModel:
    return load(llama)


def told(model: LoadedModel, ids: list[int]) -> str:
    return str(Tokenizer.from_file(str(model.directory / "tokenizer.json")).decode(ids))


@pytest.fixture(params=["bundled", "noise"])
def either(request: pytest.FixtureRequest, llama: Path) -> LoadedModel:
    return load(CHECKPOINT if request.param == "bundled" else llama)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_what_a_schema_asks_for_is_valid_json_and_ends_by_itself(either: LoadedModel, temperature: float) -> None:
    """No stop id is given: the closing brace alone ends it."""
    bench = Bench.of(either)
    params = SamplingParams(temperature=temperature, max_tokens=80, seed=3, n=3, grammar=schema(SCHEMA))
    bench.submit("r", prompt(9), params)
    outcome = bench.run()
    assert set(outcome.reasons().values()) == {"stop"}
    for tokens in outcome.choices("r"):
        answer = json.loads(told(either, tokens))
        assert set(answer) == {"name", "age", "tags"}
        assert 0 <= answer["age"] <= 150
        assert set(answer["tags"]) <= {"red", "green"}


def test_a_stop_id_may_end_what_a_grammar_has_matched(tiny: LoadedModel) -> None:
    stop = tuple(tiny.eos_ids)
    bench = Bench.of(tiny)
    bench.submit("r", prompt(9), SamplingParams(max_tokens=200, seed=1, grammar=regex("a+"), stop_token_ids=stop))
    outcome = bench.run()
    *letters, last = outcome.of("r")
    assert set(told(tiny, letters)) == {"a"}
    assert (outcome.ends["r", 0].reason, last in stop) in {("stop", True), ("length", False)}


def test_an_output_that_is_complete_at_the_very_limit_is_complete(small: LoadedModel) -> None:
    def end(max_tokens: int) -> Finished:
        bench = Bench.of(small)
        bench.submit("r", prompt(5), greedy(max_tokens, grammar=regex("[ab]{6}")))
        return bench.run().ends["r", 0]

    whole = end(50)
    needed = whole.completion_tokens
    assert (whole.reason, needed > 1) == ("stop", True)
    assert (end(needed).reason, end(needed).completion_tokens) == ("stop", needed)
    assert (end(needed - 1).reason, end(needed - 1).completion_tokens) == ("length", needed - 1)


def test_a_constrained_request_leaves_the_others_alone(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("free", prompt(20), greedy(30))
    bench.submit("bound", prompt(20), greedy(30, grammar=regex("[0-9]{5}")))
    bench.await_compiler()
    outcome = bench.run()
    assert outcome.of("free") == reference(small, prompt(20), 30)
    assert told(small, outcome.of("bound")).isdigit()


def test_a_grammar_that_does_not_compile_fails_its_request_alone(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("streams", prompt(20), greedy(40))
    bench.step(2)
    bench.submit("bad", prompt(20), greedy(5, grammar=BROKEN, n=2))
    while "bad" not in bench.outcome.failures:
        bench.alarm.wait(PATIENCE)
        bench.step()
    assert bench.outcome.failures["bad"].code == "invalid_value"
    assert "no such type" in bench.outcome.failures["bad"].error
    assert bench.run().of("streams") == reference(small, prompt(20), 40)


def test_a_grammar_that_does_not_compile_fails_in_an_engine_that_is_idle(small: LoadedModel) -> None:
    bench = Bench.of(small)
    bench.submit("bad", prompt(20), greedy(5, grammar="no grammar at all"))
    assert bench.run().failures["bad"].code == "invalid_value"


def test_the_same_grammar_is_compiled_once(small: LoadedModel) -> None:
    bench = Bench.of(small)
    for n in range(3):
        bench.submit(f"r{n}", prompt(5 + n), greedy(8, grammar=regex("[xy]{3}"), n=2))
        bench.run()
    assert set(bench.outcome.reasons().values()) == {"stop"}
    figures = bench.engine._grammars.figures
    assert (figures.compiled, figures.reused) == (1, 2)


class Gate:
    """Holds every compilation up until it is opened."""

    def __init__(self, real: Callable[..., LLMatcher]) -> None:
        self._real = real
        self._open = Event()
        self.reached = Event()
        self.thread = 0

    def __call__(self, *args: object) -> LLMatcher:
        self.thread = get_ident()
        self.reached.set()
        assert self._open.wait(PATIENCE)
        return self._real(*args)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A compiler that is slow for as long as the test wants."""
    gate = Gate(constraints.compile_grammar)
    monkeypatch.setattr(constraints, "compile_grammar", gate)
    yield gate
    gate.open()


def test_a_slow_compilation_holds_up_no_step(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    bench.submit("slow", prompt(20), greedy(8, grammar=regex("[xy]{3}")))
    assert gate.reached.wait(PATIENCE)
    assert gate.thread != get_ident()
    assert not bench.engine.has_work, "a worker with nothing else to do may sleep"
    assert bench.engine.waiting == 1
    bench.submit("quick", prompt(20), greedy(10))
    bench.step(10)
    assert bench.outcome.of("quick") == reference(small, prompt(20), 10)
    assert bench.outcome.ends.keys() == {("quick", 0)}
    gate.open()
    bench.await_compiler()
    assert bench.run().reasons()["slow", 0] == "stop"


def test_an_abort_while_compiling_takes_the_request(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(20), greedy(8, grammar=regex("[xy]{3}"), n=2))
    assert bench.abort("r") == [Finished("r", "abort", 20, 0, 0), Finished("r", "abort", 20, 0, 1)]
    assert bench.engine.waiting == 0
    gate.open()
    assert bench.alarm.wait(PATIENCE)
    assert bench.engine.step() == ([], [])
    assert_idle(bench.engine)


def test_an_abort_of_one_choice_while_compiling_leaves_its_siblings(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    params = SamplingParams(max_tokens=8, seed=5, grammar=regex("[a-z]{4}"), n=3)
    bench.submit("r", prompt(20), params)
    assert bench.abort("r", 1) == [Finished("r", "abort", 20, 0, 1)]
    assert bench.abort("r", 1) == []
    assert bench.abort("r", 7) == []
    assert bench.engine.waiting == 2
    gate.open()
    outcome = bench.run()
    assert outcome.reasons() == {("r", 0): "stop", ("r", 1): "abort", ("r", 2): "stop"}
    whole = Bench.of(small)
    whole.submit("r", prompt(20), params)
    assert [whole.run().of("r", index) for index in (0, 2)] == [outcome.of("r", index) for index in (0, 2)]


def test_aborts_of_every_choice_while_compiling_leave_nothing(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(20), greedy(8, grammar=regex("[xy]{3}"), n=2))
    for index in (1, 0):
        bench.abort("r", index)
    assert bench.outcome.reasons() == {("r", 0): "abort", ("r", 1): "abort"}
    assert_idle(bench.engine)


def test_abort_all_takes_what_compiles(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    bench.submit("compiles", prompt(20), greedy(8, grammar=regex("[xy]{3}"), n=2))
    bench.submit("runs", prompt(20), greedy(8))
    bench.step()
    bench.outcome.note([], bench.engine.abort_all())
    assert set(bench.outcome.reasons().values()) == {"abort"}
    assert len(bench.outcome.ends) == 3
    assert_idle(bench.engine)


def test_what_compiles_counts_as_waiting(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small, Budget(waiting=3))
    bench.submit("compiles", prompt(20), greedy(8, grammar=regex("[xy]{3}"), n=2))
    assert bench.engine.figures("m").waiting == 2
    bench.submit("too many", prompt(20), greedy(8, n=2))
    assert bench.outcome.failures["too many"].code == "rate_limit_exceeded"
    bench.submit("fits", prompt(20), greedy(8))
    gate.open()
    assert set(bench.run().ends) == {("compiles", 0), ("compiles", 1), ("fits", 0)}


def test_patience_begins_when_the_grammar_is_ready(small: LoadedModel, gate: Gate) -> None:
    now = [0.0]
    bench = Bench.of(small, Budget(patience=10), lambda: now[0])
    bench.submit("r", prompt(20), greedy(8, grammar=regex("[xy]{3}")))
    now[0] = 1000.0
    gate.open()
    assert bench.run().reasons() == {("r", 0): "stop"}


def test_closing_does_not_wait_for_a_compilation(small: LoadedModel, gate: Gate) -> None:
    bench = Bench.of(small)
    bench.submit("r", prompt(20), greedy(8, grammar=regex("[xy]{3}")))
    assert gate.reached.wait(PATIENCE)
    bench.engine.abort_all()
    bench.engine.close()  # with the gate shut: a close that waited would never return


def test_figures_are_told_while_requests_come_and_go(small: LoadedModel, gate: Gate) -> None:
    """The heart beats in a thread of its own; one that raised there would be a worker taken for dead."""
    bench = Bench.of(small)
    bench.submit("r", prompt(20), greedy(8, grammar=regex("[xy]{3}"), n=2))
    compiling = bench.engine._compiling

    class Arrival(list[int]):
        """Another request comes in the moment that this one is counted."""

        def __len__(self) -> int:
            compiling["late"] = compiling["r"]
            return super().__len__()

    compiling["r"].choices = Arrival([0, 1])
    assert bench.engine.figures("m").waiting == 2
