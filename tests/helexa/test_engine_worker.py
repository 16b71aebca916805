"""The engine worker as a process of its own: every frame it answers, and every way it ends."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from attrs import evolve
from checkpoints import LLAMA_CONTEXT, QWEN_CONTEXT
from engine_runs import greedy, load, reference
from llguidance import LLMatcher
from raw_worker import RawWorker
from tokenizers import Tokenizer

from helexa.engine import protocol
from helexa.engine.protocol import (
    Abort,
    Failed,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Progress,
    ScoringParams,
    Submit,
    Tokens,
    Unload,
    Unloaded,
)
from helexa.wire.sampling import SamplingParams

PROMPT = [5, 6, 7]
ENDLESS = SamplingParams(temperature=0)
DIGITS = LLMatcher.grammar_from_regex("[0-9]{4}")


@pytest.fixture(scope="module")
def process() -> Iterator[RawWorker]:
    """One worker for the tests that do not end it."""
    worker = RawWorker.start()
    hello = worker.greet()
    assert hello == protocol.Hello(protocol.VERSION, worker.process.pid, "cpu", torch.__version__)
    yield worker
    worker.end()


@pytest.fixture
def worker(process: RawWorker) -> Iterator[RawWorker]:
    """The shared worker, shown to be alive and idle again afterwards."""
    yield process
    process.send(Unload("afterwards"))
    assert process.next(Unloaded) == Unloaded("afterwards")


@pytest.fixture
def model(worker: RawWorker, llama: Path) -> Iterator[str]:
    """A loaded model with a short context."""
    loaded = worker.load("small", llama)
    assert isinstance(loaded, Loaded)
    yield "small"
    worker.send(Unload("small"))
    assert worker.next(Unloaded) == Unloaded("small")


@pytest.fixture
def long(worker: RawWorker, qwen: Path) -> Iterator[str]:
    """A loaded model with a long context."""
    assert isinstance(worker.load("long", qwen), Loaded)
    yield "long"
    worker.send(Unload("long"))
    assert worker.next(Unloaded) == Unloaded("long")


def test_load_tells_what_the_model_needs_and_takes(worker: RawWorker, qwen: Path, llama: Path) -> None:
    for name, path, context in (("a", qwen, QWEN_CONTEXT), ("b", llama, LLAMA_CONTEXT)):
        loaded = worker.load(name, path)
        assert isinstance(loaded, Loaded)
        assert (loaded.model, loaded.context_length) == (name, context)
        assert loaded.memory_mb >= 1
        assert loaded.seconds > 0
    worker.send(Unload("a"), Unload("b"))
    assert [worker.next(Unloaded).model for _ in range(2)] == ["a", "b"]


def test_a_load_tells_how_far_it_is(worker: RawWorker, qwen: Path) -> None:
    worker.loading.clear()
    assert isinstance(worker.load("a", qwen), Loaded)
    assert worker.loading[0] == Loading("a")
    assert worker.loading[-1].done == worker.loading[-1].total > 0
    assert [each.done for each in worker.loading] == sorted(each.done for each in worker.loading)
    worker.send(Unload("a"))
    worker.next(Unloaded)


def test_a_request_brings_its_tokens_and_one_end(worker: RawWorker, model: str, llama: Path) -> None:
    worker.send(Submit("r1", model, PROMPT, greedy(10)))
    tokens, ends = worker.collect(["r1"])
    assert tokens["r1"] == reference(load(llama), PROMPT, 10)
    assert ends["r1"] == Finished("r1", "length", 3, 10)


def test_a_prompt_that_is_scored_comes_before_what_follows(worker: RawWorker, model: str, llama: Path) -> None:
    params = ScoringParams(temperature=0, max_tokens=4, logprobs=1, prompt_logprobs=1)
    worker.send(
        Submit("r1", model, PROMPT, params), Submit("r2", model, PROMPT, params, progress=[Progress(0, [5, 6])])
    )
    tokens, ends = worker.collect(["r1", "r2"])
    assert tokens["r1"] == [*PROMPT, *reference(load(llama), PROMPT, 4)]
    assert tokens["r2"] == tokens["r1"][2:]
    assert ends["r1"] == Finished("r1", "length", 3, 4)


def test_the_tokens_of_a_step_travel_in_one_frame(worker: RawWorker, model: str) -> None:
    requests = [f"r{n}" for n in range(3)]
    worker.send(*[Submit(name, model, PROMPT, greedy(4)) for name in requests])
    frames = []
    ends: list[str] = []
    while len(ends) < 3:
        frame = worker.next(Tokens, Finished)
        if isinstance(frame, Tokens):
            frames.append(frame)
        else:
            ends.append(frame.request)
    assert max(len(frame.deltas) for frame in frames) == 3
    steps = [frame.step for frame in frames]
    assert steps == sorted(set(steps))


def test_two_models_serve_side_by_side(worker: RawWorker, model: str, long: str) -> None:
    worker.send(Submit("r1", model, PROMPT, greedy(5)), Submit("r2", long, PROMPT, greedy(5)))
    tokens, ends = worker.collect(["r1", "r2"])
    assert {end.completion_tokens for end in ends.values() if isinstance(end, Finished)} == {5}
    assert tokens["r1"] != tokens["r2"]


def test_a_request_for_a_model_that_is_not_loaded_fails(worker: RawWorker) -> None:
    worker.send(Submit("r1", "ghost", PROMPT))
    assert worker.next(Failed) == Failed("r1", "service_unavailable", "ghost is not loaded")


def test_a_prompt_beyond_the_context_fails(worker: RawWorker, model: str) -> None:
    worker.send(Submit("r1", model, [5] * 500, greedy(1)))
    failed = worker.next(Failed)
    assert (failed.request, failed.code) == ("r1", "context_length_exceeded")


def test_token_ids_the_model_does_not_know_fail_alone(worker: RawWorker, model: str) -> None:
    worker.send(Submit("bad", model, [5, 4000], greedy(3)), Submit("good", model, PROMPT, greedy(3)))
    _, ends = worker.collect(["bad", "good"])
    assert isinstance(ends["bad"], Failed)
    assert ends["good"] == Finished("good", "length", 3, 3)


def test_an_abort_ends_a_running_request(worker: RawWorker, long: str) -> None:
    worker.send(Submit("r1", long, PROMPT, ENDLESS))
    worker.next(Tokens)
    worker.send(Abort("r1"))
    tokens, ends = worker.collect(["r1"])
    end = ends["r1"]
    assert isinstance(end, Finished)
    assert end.reason == "abort"
    assert end.completion_tokens == 1 + len(tokens.get("r1", []))


def test_an_abort_for_what_has_ended_is_nothing(worker: RawWorker, model: str) -> None:
    worker.send(Submit("r1", model, PROMPT, greedy(1)))
    worker.collect(["r1"])
    worker.send(Abort("r1"), Abort("never-was"))


def test_a_request_may_be_aborted_in_the_same_breath(worker: RawWorker, model: str) -> None:
    worker.send(Submit("r1", model, PROMPT, greedy(50)), Abort("r1"))
    tokens, ends = worker.collect(["r1"])
    end = ends["r1"]
    assert isinstance(end, Finished)
    assert (end.reason, end.completion_tokens) == ("abort", len(tokens.get("r1", [])))


def test_an_abort_of_one_choice_leaves_the_others(worker: RawWorker, long: str) -> None:
    worker.send(Submit("r1", long, PROMPT, evolve(ENDLESS, n=3)))
    worker.next(Tokens)
    worker.send(Abort("r1", 1), Abort("r1", 2))
    while not isinstance(frame := worker.next(Tokens, Finished), Finished):
        pass
    assert (frame.request, frame.index, frame.reason) == ("r1", 1, "abort")
    while not isinstance(frame := worker.next(Tokens, Finished), Finished):
        pass
    assert (frame.request, frame.index, frame.reason) == ("r1", 2, "abort")
    assert [delta.index for delta in worker.next(Tokens).deltas] == [0]
    worker.send(Abort("r1"))
    assert isinstance(worker.collect(["r1"])[1]["r1"], Finished)


def test_a_grammar_is_compiled_and_obeyed_by_a_worker_with_nothing_else_to_do(
    worker: RawWorker, model: str, llama: Path
) -> None:
    """It sleeps until a command comes, or the compiler wakes it."""
    worker.send(Submit("r1", model, PROMPT, greedy(20, grammar=DIGITS)))
    tokens, ends = worker.collect(["r1"])
    assert re.fullmatch("[0-9]{4}", Tokenizer.from_file(str(llama / "tokenizer.json")).decode(tokens["r1"]))
    assert ends["r1"] == Finished("r1", "stop", 3, len(tokens["r1"]))


def test_a_grammar_that_is_none_fails_its_request_while_another_one_streams(worker: RawWorker, model: str) -> None:
    worker.send(Submit("bad", model, PROMPT, greedy(5, grammar="no grammar")), Submit("good", model, PROMPT, greedy(5)))
    _, ends = worker.collect(["bad", "good"])
    assert isinstance(ends["bad"], Failed)
    assert ends["bad"].code == "invalid_value"
    assert ends["good"] == Finished("good", "length", 3, 5)


def test_unload_with_a_grammar_under_way_ends_its_request(worker: RawWorker, long: str, model: str) -> None:
    grammar = LLMatcher.grammar_from_json_schema('{"type": "array", "minItems": 1000}')
    constrained = Submit("r1", long, PROMPT, evolve(ENDLESS, grammar=grammar))
    worker.send(constrained, Unload(long), Submit("r2", model, PROMPT, greedy(3)))
    ended = worker.collect(["r1"])[1]["r1"]
    assert isinstance(ended, Finished)
    assert ended.reason == "abort"
    assert worker.next(Unloaded) == Unloaded(long)
    assert worker.collect(["r2"])[1]["r2"] == Finished("r2", "length", 3, 3)


def test_heartbeats_tell_how_the_cache_is_used(worker: RawWorker, model: str) -> None:
    for name in ("first", "second"):
        worker.send(Submit(name, model, PROMPT * 10, greedy(4)))
        worker.collect([name])
    worker.await_heartbeat()  # this one may have been on its way
    (figures,) = worker.await_heartbeat().models
    assert (figures.model, figures.running, figures.waiting, figures.preemptions) == (model, 0, 0, 0)
    assert (figures.prefix_queries, figures.prefix_hits) == (60, 16)
    assert figures.blocks_cached == 2
    assert figures.blocks_free == figures.blocks_total - 2


def test_unload_ends_the_model_s_requests_first(worker: RawWorker, long: str, model: str) -> None:
    worker.send(Submit("r1", long, PROMPT, ENDLESS), Submit("r2", long, PROMPT, ENDLESS))
    worker.next(Tokens)
    worker.send(Unload(long), Submit("r3", model, PROMPT, greedy(2)), Load(long, "/nowhere"))
    _, ends = worker.collect(["r1", "r2"])
    assert {end.reason for end in ends.values() if isinstance(end, Finished)} == {"abort"}
    assert worker.next(Unloaded) == Unloaded(long)
    assert worker.next(LoadFailed).model == long
    assert worker.collect(["r3"])[1] == {"r3": Finished("r3", "length", 3, 2)}


def test_unload_of_what_is_not_there_is_answered(worker: RawWorker) -> None:
    worker.send(Unload("ghost"))
    assert worker.next(Unloaded) == Unloaded("ghost")


def test_a_model_can_be_loaded_again(worker: RawWorker, llama: Path) -> None:
    for _ in range(2):
        assert isinstance(worker.load("again", llama), Loaded)
        worker.send(Unload("again"))
        worker.next(Unloaded)


def test_loads_that_fail_say_why_and_the_worker_lives_on(worker: RawWorker, llama: Path, tmp_path: Path) -> None:
    corrupt = shutil.copytree(llama, tmp_path / "corrupt")
    (corrupt / "model.safetensors").write_bytes(b"\0" * 100)
    pickled = shutil.copytree(llama, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    reasons = {tmp_path / "nowhere": "nowhere", corrupt: "is no safetensors file", pickled: "'pytorch_model.bin'"}
    for path, reason in reasons.items():
        failed = worker.load("broken", path)
        assert isinstance(failed, LoadFailed)
        assert reason in failed.error


def test_a_poisoned_repository_runs_nothing(worker: RawWorker, llama: Path, tmp_path: Path) -> None:
    """The process that would run it is the one that matters; `test_engine_loading` has the variants."""
    marker, poisoned = tmp_path / "marker", shutil.copytree(llama, tmp_path / "poisoned")
    (poisoned / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = {**json.loads((poisoned / "config.json").read_text()), "model_type": "evil"}
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (poisoned / "config.json").write_text(json.dumps(config))
    failed = worker.load("poisoned", poisoned)
    assert isinstance(failed, LoadFailed)
    assert not marker.exists()


def test_the_heart_beats_while_the_engine_works_and_tells_of_each_model(
    worker: RawWorker, long: str, model: str
) -> None:
    worker.send(Submit("r1", long, PROMPT, ENDLESS))
    worker.next(Tokens)
    worker.await_heartbeat()
    first, second = worker.await_heartbeat(), worker.await_heartbeat()
    assert {each.model: each.running for each in first.models} == {long: 1, model: 0}
    used = {each.model: each.blocks_total - each.blocks_free for each in first.models}
    assert (used[long] > 0, used[model]) == (True, 0)
    assert second.step > first.step
    assert not second.loading
    worker.send(Abort("r1"))
    worker.collect(["r1"])


def test_the_heart_beats_while_there_is_nothing_to_do(worker: RawWorker) -> None:
    idle = worker.await_heartbeat()
    assert (idle.stalled_seconds, idle.loading, idle.models) == (0.0, False, [])


def test_ctrl_c_is_not_for_the_worker(worker: RawWorker, model: str) -> None:
    """A terminal sends it to the whole group; the root process decides who ends when."""
    os.kill(worker.process.pid, signal.SIGINT)
    worker.send(Submit("r1", model, PROMPT, greedy(2)))
    worker.collect(["r1"])


@pytest.fixture
def fresh(process: RawWorker, forked_engines: None) -> Iterator[RawWorker]:
    """A worker of the test's own, for it to end; the one before it has shown that one can be begun from nothing."""
    worker = RawWorker.start()
    worker.greet()
    yield worker
    worker.end()


@pytest.fixture
def generating(fresh: RawWorker, qwen: Path) -> RawWorker:
    """The same in the middle of a generation."""
    assert isinstance(fresh.load("m", qwen), Loaded)
    fresh.send(Submit("r1", "m", PROMPT, ENDLESS), Submit("r2", "m", PROMPT, ENDLESS))
    fresh.next(Tokens)
    return fresh


def test_it_ends_in_the_middle_of_a_generation_when_the_socket_does(generating: RawWorker) -> None:
    generating.socket.close()
    assert generating.wait() == 0


def test_it_ends_in_the_middle_of_a_generation_when_its_lifeline_does(generating: RawWorker) -> None:
    assert generating.process.stdin is not None
    generating.process.stdin.close()
    assert generating.wait() == 1


def test_it_ends_on_sigterm(fresh: RawWorker) -> None:
    fresh.process.terminate()
    assert fresh.wait() == -signal.SIGTERM


def test_it_ends_when_it_is_sent_nonsense(fresh: RawWorker) -> None:
    fresh.socket.sendall(b"\xff" * 64)
    assert fresh.wait() == 0


def test_it_leaves_no_process_behind(process: RawWorker) -> None:
    assert psutil.Process(process.process.pid).children(recursive=True) == []
