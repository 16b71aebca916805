"""A worker without its process: what it does about one command, and what it keeps afterwards."""

import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field
from engine_runs import PATIENCE, greedy, prompt
from llguidance import LLMatcher
from structlog.testing import capture_logs

from helexa.engine.memory import MIB
from helexa.engine.networks.native import NativeNetwork
from helexa.engine.networks.runner import PagedRunner
from helexa.engine.protocol import (
    Abort,
    Began,
    Dying,
    Failed,
    Finished,
    Frame,
    FrameReader,
    Heartbeat,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Submit,
    Unload,
    Unloaded,
)
from helexa.engine.sampling import constraints
from helexa.engine.weights import files, loading
from helexa.engine.worker import Link, Worker


@define(eq=False)
class Inside:
    """A worker whose loop is not running, and the neuron's end of its socket."""

    worker: Worker
    link: Link
    socket: socket.socket
    _reader: FrameReader = field(factory=FrameReader)

    def do(self, *commands: Load | Unload | Submit | Abort) -> None:
        for command in commands:
            self.worker._handle(command)

    def turn(self) -> None:
        """Once around its loop, without waiting."""
        for command in self.link.take(block=False):
            self.worker._handle(command)
        self.worker._step_all()

    def said(self) -> list[Frame]:
        """What has been sent since, but for what tells that requests begin and how far loads are."""
        return [frame for frame in self.heard() if not isinstance(frame, Began | Loading)]

    def heard(self) -> list[Frame]:
        """All that has been sent since."""
        self.socket.setblocking(False)
        found = []
        try:
            while data := self.socket.recv(1 << 16):
                found += self._reader.push(data)
        except BlockingIOError:
            return found
        raise AssertionError("the worker has closed its end")


@pytest.fixture
def inside(llama: Path) -> Iterator[Inside]:
    """With one model loaded."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(theirs)
        found = Inside(Worker(link, "cpu"), link, ours)
        found.do(Load("m", str(llama)))
        assert isinstance(found.said()[0], Loaded)
        yield found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Shut, it holds every compilation up."""
    gate, real = threading.Event(), constraints.compile_grammar

    def slow(*args: Any) -> LLMatcher:
        assert gate.wait(PATIENCE)
        return real(*args)

    monkeypatch.setattr(constraints, "compile_grammar", slow)
    yield gate
    gate.set()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed then, was freed by whoever let go of it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def constrained(name: str) -> Submit:
    return Submit(name, "m", prompt(5), greedy(8, grammar=LLMatcher.grammar_from_regex("[xy]{3}")))


def weights(worker: Worker) -> "list[weakref.ref[torch.Tensor]]":
    runner = worker._engines["m"].model.runner
    assert isinstance(runner, PagedRunner)
    assert isinstance(runner._network, NativeNetwork)
    return [weakref.ref(runner._network._embedding), weakref.ref(runner._cache._keys[0])]


def test_unload_frees_the_memory_at_once(inside: Inside, no_collector: None) -> None:
    """Also that of a model which refers to itself: only the collector sees such circles, and it takes its time."""
    found = weights(inside.worker)
    runner: Any = inside.worker._engines["m"].model.runner
    runner.circle = runner
    del runner
    inside.do(Submit("r", "m", prompt(5), greedy(8)))
    inside.turn()
    assert [each() is None for each in found] == [False, False]
    inside.do(Unload("m"))
    assert [each() is None for each in found] == [True, True]


def test_a_load_that_fails_keeps_no_memory(
    inside: Inside, llama: Path, monkeypatch: pytest.MonkeyPatch, no_collector: None
) -> None:
    """It may fail late, for want of memory for the cache; the next one needs what its weights had."""
    read, found = loading._read, list[weakref.ref[Any]]()

    def watch(directory: Path) -> Any:
        module = read(directory)
        module.circle = [module]
        found.append(weakref.ref(module))
        return module

    monkeypatch.setattr(loading, "_read", watch)
    monkeypatch.setattr(loading, "HOST_SHARE", 0.0)
    inside.do(Load("other", str(llama)))
    (failed,) = inside.said()
    assert isinstance(failed, LoadFailed)
    assert [each() for each in found] == [None]


def test_what_is_loaded_is_told_with_what_it_holds(inside: Inside, llama: Path) -> None:
    inside.do(Load("other", str(llama)))
    (loaded,) = inside.said()
    model = inside.worker._engines["other"].model
    assert isinstance(loaded, Loaded)
    assert (loaded.memory_mb, loaded.kv_mb) == (model.memory_mb, model.kv_mb)
    assert loaded.capacity == inside.worker._budget.running


def test_a_cache_of_few_blocks_holds_few_sequences(inside: Inside, llama: Path) -> None:
    model = inside.worker._engines["m"].model
    memory = (model.memory_mb + model.kv_mb) * MIB + files.weights_bytes(llama) + 4 * 3.5 * 8192
    inside.do(Load("other", str(llama), int(memory)))
    (loaded,) = inside.said()
    assert isinstance(loaded, Loaded)
    assert loaded.capacity == inside.worker._engines["other"].model.blocks == 3


def test_models_share_the_memory_that_all_may_have(inside: Inside, llama: Path) -> None:
    model = inside.worker._engines["m"].model
    used = model.memory_mb + model.kv_mb
    inside.do(Load("other", str(llama), used * MIB + 1))
    (failed,) = inside.said()
    assert isinstance(failed, LoadFailed)
    assert "of the memory its neuron may use, 0 MiB are left" in failed.error
    inside.do(Unload("m"), Load("other", str(llama), used * MIB + 1))
    assert isinstance(inside.said()[-1], Loaded)


def test_a_model_that_is_loaded_anew_makes_room_for_itself(inside: Inside, llama: Path) -> None:
    model = inside.worker._engines["m"].model
    inside.do(Load("m", str(llama), (model.memory_mb + model.kv_mb) * MIB))
    assert isinstance(inside.said()[-1], Loaded)


def test_unload_does_not_wait_for_a_grammar_that_compiles(inside: Inside, gate: threading.Event) -> None:
    """Other models have steps to do meanwhile: with the gate shut, an unload that waited would never return."""
    inside.do(constrained("r"), Unload("m"))
    assert inside.said() == [Finished("r", "abort", 5, 0), Unloaded("m")]


def test_a_compilation_that_is_done_ends_the_wait_for_commands(inside: Inside, gate: threading.Event) -> None:
    inside.do(constrained("r"))
    inside.turn()
    assert inside.worker._is_idle(), "nothing to step, so it would wait"
    gate.set()
    assert inside.link.take(block=True) == []
    assert not inside.worker._is_idle()
    while not inside.worker._is_idle():
        inside.turn()
    ended = inside.said()[-1]
    assert isinstance(ended, Finished)
    assert ended.reason == "stop"


def test_a_model_loaded_anew_under_its_name_ends_what_the_old_one_had(inside: Inside, llama: Path) -> None:
    found = weights(inside.worker)
    inside.do(Submit("r", "m", prompt(5), greedy(8, n=2)), Load("m", str(llama)))
    first, second, loaded = inside.said()
    assert [first, second] == [Finished("r", "abort", 5, 0, index) for index in (0, 1)]
    assert isinstance(loaded, Loaded)
    gc.collect()
    assert [each() for each in found] == [None, None]


def test_a_request_after_a_failed_load_of_the_same_name_fails(inside: Inside) -> None:
    inside.do(Load("other", "/nowhere"), Submit("r", "other", prompt(5)))
    assert isinstance(inside.said()[1], Failed)


def test_the_books_are_looked_at_when_there_is_nothing_to_do(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.engine.worker.CHECK_SECONDS", -1.0)
    assert inside.worker._is_idle()
    inside.worker._engines["m"]._scheduler.blocks._users[3] = 1  # a block that is lost
    with pytest.raises(RuntimeError, match="block 3 has 0 users and 1 references"):
        inside.worker._is_idle()


def test_an_abort_finds_its_request_in_whichever_model_has_it(inside: Inside, qwen: Path) -> None:
    inside.do(Load("q", str(qwen)), Submit("r", "q", prompt(5), greedy(8)), Abort("r"))
    assert inside.said()[-1] == Finished("r", "abort", 5, 0)


def test_what_begins_is_told_before_its_first_step(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    inside.do(Submit("a", "m", prompt(5), greedy(2)), Submit("b", "m", prompt(6), greedy(2)))
    heard: list[Frame] = []
    engine = inside.worker._engines["m"]
    monkeypatch.setattr(engine, "_forward", lambda _: heard.extend(inside.heard()) or "no memory today")
    inside.turn()
    assert heard == [Began(["a", "b"])]


def test_a_load_tells_that_it_begins_and_how_far_it_is(inside: Inside, llama: Path) -> None:
    inside.do(Load("other", str(llama)))
    *steps, loaded = inside.heard()
    assert isinstance(loaded, Loaded)
    assert steps[0] == Loading("other")
    last = steps[-1]
    assert isinstance(last, Loading)
    assert last.done == last.total > 0


def test_a_load_that_fails_tells_that_it_has_begun_too(inside: Inside) -> None:
    inside.do(Load("other", "/nowhere"))
    begun, failed = inside.heard()
    assert begun == Loading("other")
    assert isinstance(failed, LoadFailed)


def test_a_heartbeat_tells_for_how_long_a_load_has_come_no_further(
    inside: Inside, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Heartbeat] = []
    read = inside.worker._read

    def late(*arguments: Any) -> Any:
        loading = inside.worker._loading
        assert loading is not None
        loading._moved -= 100
        told.append(inside.worker._heartbeat())
        model = read(*arguments)
        told.append(inside.worker._heartbeat())
        return model

    monkeypatch.setattr(inside.worker, "_read", late)
    inside.do(Load("other", str(llama)))
    assert [each.loading for each in told] == [True, True]
    assert told[0].stalled_seconds >= 100
    assert told[1].stalled_seconds < 100
    assert not inside.worker._heartbeat().loading
    assert inside.worker._heartbeat().stalled_seconds == 0


def test_a_heartbeat_tells_how_large_the_step_under_way_is_and_what_others_took(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner: Any = inside.worker._engines["m"].model.runner
    forward, told = runner.forward, list[Heartbeat]()

    def watched(plan: object) -> Any:
        told.append(inside.worker._heartbeat())
        return forward(plan)

    monkeypatch.setattr(runner, "forward", watched)
    inside.do(Submit("r", "m", prompt(9), greedy(2)))
    for _ in range(2):
        inside.turn()
    first, second = told
    assert (first.tokens, first.largest) == (9, 0)
    assert first.longest > 0, "of the steps that the model was tried out with"
    assert (second.tokens, second.largest) == (1, 9)
    assert second.stalled_seconds > 0
    assert inside.worker._stepping is None, "a model that is unloaded would not be free"


class Gone(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The codes that the worker has ended its process with."""
    found: list[int] = []

    def exit_(code: int) -> None:
        found.append(code)
        raise Gone

    monkeypatch.setattr("helexa.engine.worker.os._exit", exit_)
    with capture_logs():
        yield found


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (RuntimeError("CUDA error: sticky"), (75, "the device is broken (RuntimeError: CUDA error: sticky)")),
        (ValueError("no such thing"), (70, "ValueError: no such thing")),
    ],
)
def test_a_worker_that_cannot_go_on_says_why_and_ends_its_process(
    inside: Inside, exits: list[int], monkeypatch: pytest.MonkeyPatch, error: Exception, ended: tuple[int, str]
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(inside.worker._engines["m"].model.runner, "forward", fail)
    monkeypatch.setattr(inside.worker, "_beat", lambda: None)
    inside.link._commands.put(Submit("r", "m", prompt(5), greedy(2)))
    with pytest.raises(Gone):
        inside.worker.run()
    code, words = ended
    assert exits == [code]
    assert inside.said()[-1] == Dying(words)


def test_a_load_that_finds_the_device_broken_ends_the_process(
    inside: Inside, exits: list[int], llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(loading, "_read", read)
    monkeypatch.setattr(inside.worker, "_beat", lambda: None)
    inside.link._commands.put(Load("other", str(llama)))
    with pytest.raises(Gone):
        inside.worker.run()
    assert exits == [75]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_load_without_memory_fails_and_the_worker_goes_on(
    inside: Inside, llama: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_read", read)
        inside.do(Load("other", str(llama)))
    (failed,) = inside.said()
    assert isinstance(failed, LoadFailed)
    assert type(error).__name__ in failed.error
    inside.do(Load("other", str(llama)))
    assert isinstance(inside.said()[0], Loaded)
