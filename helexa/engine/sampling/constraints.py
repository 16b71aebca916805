"""Compiles grammars beside the step loop: a slow one holds up nobody but whoever asked for it."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import monotonic

from attrs import frozen
from llguidance import LLMatcher, LLTokenizer

from helexa.grammar import GrammarError, compile_grammar, load_tokenizer

THREADS = 2
MAX_WAITING = 64
MAX_CACHED = 32
"""Compiled grammars kept; most take a few MiB, and the memory of a trial bounds the worst."""


class CompilerBusyError(Exception):
    """Too many grammars are waiting already."""


@frozen
class GrammarFigures:
    """What compiling has cost so far.

    Attributes:
        compiled: grammars compiled, or found wanting.
        reused: requests whose grammar was compiled, or being compiled, already.
        seconds: time spent on ``compiled``, the tokenizer's first loading included.
        waiting: grammars under way.
    """

    compiled: int
    reused: int
    seconds: float
    waiting: int


class Compilation:
    """One request's grammar, under way or compiled."""

    def __init__(self, future: Future[LLMatcher]) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        """Whether ``error`` and ``matcher`` can say anything."""
        return self._future.done()

    @property
    def refusal(self) -> tuple[str, str] | None:
        """Code of the API and a sentence why there will be no matcher, if there will be none; only when ``done``."""
        try:
            error = self._future.exception(timeout=0)
        except CancelledError:
            return "upstream_error", "The model was unloaded while the grammar was being compiled."
        match error:
            case None:
                return None
            case GrammarError():
                return "invalid_value", str(error)
            case CompilerBusyError():
                return "rate_limit_exceeded", str(error)
            case _:
                return "upstream_error", f"The grammar could not be compiled: {type(error).__name__}: {error}"

    @property
    def error(self) -> str | None:
        """The sentence of ``refusal``."""
        return None if self.refusal is None else self.refusal[1]

    def matcher(self) -> LLMatcher:
        """A new matcher at the start of its output, for one sequence; only when ``done`` without an error."""
        return self._future.result(timeout=0).deep_copy()


class GrammarCompiler:
    """Owns the threads that compile one model's grammars, and the grammars compiled last.

    Costs nothing before the first grammar: no thread, no tokenizer.

    Args:
        directory: the model's.
        vocabulary: width of its logits.
        eos_ids: token ids that end a sequence, allowed where a grammar may end.
    """

    def __init__(self, directory: Path, vocabulary: int, eos_ids: Collection[int]) -> None:
        self._model = directory, vocabulary, frozenset(eos_ids)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="grammar")
        self._loading = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._lock = Lock()  # for all below
        self._futures: OrderedDict[str, Future[LLMatcher]] = OrderedDict()
        self._waiting = 0
        self._compiled = 0
        self._reused = 0
        self._seconds = 0.0

    @property
    def figures(self) -> GrammarFigures:
        """What it has cost so far; from any thread."""
        with self._lock:
            return GrammarFigures(self._compiled, self._reused, self._seconds, self._waiting)

    def compile(self, grammar: str, done: Callable[[], None]) -> Compilation:
        """Begin to compile, or find what is compiled or under way already.

        Args:
            grammar: llguidance's serialised form.
            done: called once when the compilation is done: from another thread, or from this call if it is already.
        """
        future = self._future(grammar)
        future.add_done_callback(lambda _: done())
        return Compilation(future)

    def close(self) -> None:
        """End the threads, after what they are at: seconds at most. What still waits is refused."""
        self._threads.shutdown(cancel_futures=True)

    def _future(self, grammar: str) -> Future[LLMatcher]:
        with self._lock:
            if (known := self._futures.get(grammar)) is not None:
                self._futures.move_to_end(grammar)
                self._reused += 1
                return known
            if self._waiting >= MAX_WAITING:
                return _busy()
            future = self._futures[grammar] = self._threads.submit(self._compile, grammar)
            self._waiting += 1
        future.add_done_callback(lambda done: self._settle(grammar, done))
        return future

    def _compile(self, grammar: str) -> LLMatcher:
        begun = monotonic()
        try:
            return compile_grammar(self._loaded(), grammar)
        finally:
            with self._lock:
                self._compiled += 1
                self._seconds += monotonic() - begun

    def _loaded(self) -> LLTokenizer:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer(*self._model)
            return self._tokenizer

    def _settle(self, grammar: str, future: Future[LLMatcher]) -> None:
        """Keep what was compiled last; forget what was not, so that it can be tried anew."""
        with self._lock:
            self._waiting -= 1
            failed = future.cancelled() or future.exception() is not None
            if failed and self._futures.get(grammar) is future:
                del self._futures[grammar]
            compiled = [each for each, known in self._futures.items() if known.done()]
            for each in compiled[: max(0, len(compiled) - MAX_CACHED)]:
                del self._futures[each]


def _busy() -> Future[LLMatcher]:
    future: Future[LLMatcher] = Future()
    future.set_exception(CompilerBusyError(f"{MAX_WAITING} grammars are already being compiled."))
    return future
