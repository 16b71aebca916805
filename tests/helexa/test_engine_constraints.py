"""Compiling beside the step loop: once per grammar, in threads that are there when needed, and never without bound."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from helexa.engine.sampling import constraints
from helexa.engine.sampling.constraints import MAX_CACHED, MAX_WAITING, Compilation, GrammarCompiler
from helexa.tiny import CHECKPOINT

ENDS = (3063, 3065)
PATIENCE = 60


def digits(count: int) -> str:
    """A different grammar for each count; a plain schema, which takes a millisecond."""
    schema = {"type": "integer", "minimum": 0, "maximum": count}
    return LLMatcher.grammar_from_json_schema(json.dumps(schema))


class Gate:
    """Holds compilations up until it is opened, and knows how many have come to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.seen: SimpleQueue[str] = SimpleQueue()
        self._compile = constraints.compile_grammar
        monkeypatch.setattr(constraints, "compile_grammar", self)

    def __call__(self, tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
        self.seen.put(grammar)
        assert self.opened.wait(PATIENCE)
        return self._compile(tokenizer, grammar)


@pytest.fixture
def compiler() -> Iterator[GrammarCompiler]:
    found = GrammarCompiler(CHECKPOINT, 3072, ENDS)
    yield found
    found.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler) -> Iterator[Gate]:
    found = Gate(monkeypatch)
    yield found
    found.opened.set()


def compile_now(compiler: GrammarCompiler, grammar: str) -> Compilation:
    finished = threading.Event()
    compilation = compiler.compile(grammar, finished.set)
    assert finished.wait(PATIENCE)
    assert compilation.done
    return compilation


def grammar_threads() -> set[threading.Thread]:
    """Those there are now; an engine of another module's tests may have left some."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("grammar")}


def test_a_grammar_is_compiled_and_followed(compiler: GrammarCompiler) -> None:
    compilation = compile_now(compiler, digits(9))
    assert compilation.refusal is None
    assert compilation.error is None
    assert compilation.matcher().compute_bitmask()


def test_each_matcher_is_a_sequences_own(compiler: GrammarCompiler) -> None:
    compilation = compile_now(compiler, digits(9))
    first, second = compilation.matcher(), compilation.matcher()
    token = next(token for token in range(3072) if first.validate_tokens([token]))
    assert first.consume_token(token)
    assert second.validate_tokens([token])
    assert compile_now(compiler, digits(9)).matcher().validate_tokens([token])


def test_a_bad_grammar_is_refused_in_words_and_may_be_tried_again(compiler: GrammarCompiler) -> None:
    for _ in range(2):
        compilation = compile_now(compiler, "start: (")
        assert compilation.refusal is not None
        assert compilation.refusal[0] == "invalid_value"
        assert compilation.error is not None
        assert compilation.error.startswith("The grammar cannot be used: ")
    assert compiler.figures.compiled == 2
    assert compiler.figures.reused == 0


def test_a_model_without_a_tokenizer_file_cannot_follow_grammars(tmp_path: Path) -> None:
    compiler = GrammarCompiler(tmp_path, 3072, ENDS)
    assert "tokenizer.json" in (compile_now(compiler, digits(9)).error or "")
    shutil.copy(CHECKPOINT / "tokenizer.json", tmp_path)
    assert compile_now(compiler, digits(9)).error is None
    (tmp_path / "tokenizer.json").unlink()
    assert compile_now(compiler, digits(8)).error is None  # it was read once
    compiler.close()


def test_an_unforeseen_error_is_an_answer_too(compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> LLMatcher:
        raise MemoryError("no room")

    monkeypatch.setattr(constraints, "compile_grammar", fail)
    refusal = compile_now(compiler, digits(9)).refusal
    assert refusal == ("upstream_error", "The grammar could not be compiled: MemoryError: no room")


def test_before_the_first_grammar_there_is_no_thread_and_no_tokenizer(tmp_path: Path) -> None:
    before = grammar_threads()
    compiler = GrammarCompiler(tmp_path / "nowhere", 3072, ENDS)
    assert grammar_threads() == before
    compiler.close()


def test_closing_ends_the_threads() -> None:
    before = grammar_threads()
    compiler = GrammarCompiler(CHECKPOINT, 3072, ENDS)
    compile_now(compiler, digits(9))
    assert grammar_threads() > before
    compiler.close()
    assert grammar_threads() <= before


def test_a_grammar_is_compiled_once(compiler: GrammarCompiler, gate: Gate) -> None:
    finished: SimpleQueue[int] = SimpleQueue()
    compilations = [compiler.compile(digits(9), lambda i=i: finished.put(i)) for i in range(5)]
    assert gate.seen.get(timeout=PATIENCE) == digits(9)
    assert not any(each.done for each in compilations)
    gate.opened.set()
    assert {finished.get(timeout=PATIENCE) for _ in range(5)} == set(range(5))
    assert all(each.error is None for each in compilations)
    assert compile_now(compiler, digits(9)).error is None
    figures = compiler.figures
    assert (figures.compiled, figures.reused, figures.waiting) == (1, 5, 0)
    assert figures.seconds > 0


def test_what_is_compiled_already_is_there_at_once(compiler: GrammarCompiler) -> None:
    compile_now(compiler, digits(9))
    called = []
    assert compiler.compile(digits(9), lambda: called.append(True)).done
    assert called == [True]


def test_a_slow_grammar_does_not_hold_up_the_caller_nor_the_next_grammar(compiler: GrammarCompiler, gate: Gate) -> None:
    slow, finished = compiler.compile(digits(1), lambda: None), threading.Event()
    gate.seen.get(timeout=PATIENCE)
    constraints.compile_grammar = gate._compile
    assert compiler.compile(digits(2), finished.set)
    assert finished.wait(PATIENCE)
    assert not slow.done


def test_the_queue_is_bounded_and_says_so(compiler: GrammarCompiler, gate: Gate) -> None:
    finished: SimpleQueue[None] = SimpleQueue()
    for count in range(MAX_WAITING):
        compiler.compile(digits(count), lambda: finished.put(None))
    assert compiler.figures.waiting == MAX_WAITING
    one_more = compile_now(compiler, digits(MAX_WAITING))
    assert one_more.refusal == ("rate_limit_exceeded", f"{MAX_WAITING} grammars are already being compiled.")
    assert not compiler.compile(digits(0), lambda: None).done  # one that is under way anyway
    gate.opened.set()
    for _ in range(MAX_WAITING):
        finished.get(timeout=PATIENCE)
    assert compile_now(compiler, digits(MAX_WAITING)).error is None


def test_the_grammars_used_last_are_kept(compiler: GrammarCompiler) -> None:
    for count in range(MAX_CACHED):
        compile_now(compiler, digits(count))
    compile_now(compiler, digits(0))
    compile_now(compiler, digits(MAX_CACHED))
    before = compiler.figures
    compile_now(compiler, digits(0))
    compile_now(compiler, digits(1))
    after = compiler.figures
    assert (after.reused - before.reused, after.compiled - before.compiled) == (1, 1)


def test_closing_refuses_what_still_waits(gate: Gate, compiler: GrammarCompiler) -> None:
    finished: SimpleQueue[None] = SimpleQueue()
    compilations = [compiler.compile(digits(count), lambda: finished.put(None)) for count in range(5)]
    for _ in range(constraints.THREADS):
        gate.seen.get(timeout=PATIENCE)
    closing = threading.Thread(target=compiler.close)
    closing.start()
    for _ in range(5 - constraints.THREADS):
        finished.get(timeout=PATIENCE)
    gate.opened.set()
    closing.join(PATIENCE)
    reasons = [each.refusal for each in compilations]
    assert reasons[: constraints.THREADS] == [None] * constraints.THREADS
    for reason in reasons[constraints.THREADS :]:
        assert reason == ("upstream_error", "The model was unloaded while the grammar was being compiled.")
