"""Loads that hang, and models whose loads end processes: a small script stands in for the engine, one fault each."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from pools import read, report_of, until

from actors import engine_link, held_model
from actors.device_pool import DevicePool
from actors.device_worker import DeviceWorker, LoadKilledError, WorkerDiedError
from actors.generation import LiveGeneration
from config import RestartPolicy
from config.units import Duration
from helexa.engine import protocol
from helexa.neuron import hosts
from helexa.wire.errors import ApiError
from helexa.wire.fleet import ModelReport
from helexa.wire.progress import Progress
from helexa.wire.sampling import SamplingParams

ROOT = str(Path(protocol.__file__).parents[2])
NEVER = RestartPolicy(max=0, backoff=Duration(0.01))
PREAMBLE = f"""
import os, signal, socket, sys, time
sys.path.insert(0, {ROOT!r})
from helexa.engine.protocol import *
sock = socket.socket(fileno=int(sys.argv[1]))
def send(*frames): sock.sendall(b"".join(map(encode, frames)))
reader, queue = FrameReader(), []
def receive():
    while not queue:
        data = sock.recv(65536)
        if not data: sys.exit(0)
        queue.extend(reader.push(data))
    return queue.pop(0)
def die(): os.kill(os.getpid(), signal.SIGSEGV)
send(Hello(VERSION, os.getpid(), "cpu", "0"))
"""
SERVE = """
while True:
    frame = receive()
    if isinstance(frame, Load):
        send(Loading(frame.model))
        if frame.model == "bad" and frame.path != "/mended": {fault}
        send(Loaded(frame.model, 1, 100, 0.1, 2, 3))
    elif isinstance(frame, Unload):
        send(Unloaded(frame.model))
    elif isinstance(frame, Submit):
        done = len(frame.progress[0].ids) if frame.progress else 0
        send(Began([frame.request]), Tokens(1, [TokenDelta(frame.request, [done])]))
        if done: send(Finished(frame.request, "stop", 1, 2))
"""
KILLS = SERVE.format(fault="die()")
HANGS = SERVE.format(fault="send(Heartbeat(1, 99.0, True, [])); time.sleep(60)")
BEGIN = "receive(); send(Loaded('m', 1, 100, .1)); send(Began([receive().request])); "
Script = Callable[[str], None]


pytestmark = pytest.mark.usefixtures("logs", "forked_scripts", "no_process_is_left")


@pytest.fixture
def threads() -> list[int]:
    """How many each process was told to use."""
    return []


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, threads: list[int]) -> Script:
    """Says what the process of every worker does."""

    def use(program: str) -> None:
        def command(_device: str, count: int, fd: int) -> list[str]:
            threads.append(count)
            return [sys.executable, "-c", PREAMBLE + program, str(fd)]

        monkeypatch.setattr(engine_link, "_command", command)

    return use


async def ended(worker: DeviceWorker) -> WorkerDiedError:
    """Run one process until it ends."""
    with trio.fail_after(30), pytest.raises(WorkerDiedError) as caught:
        await worker.run()
    return caught.value


async def wanted(nursery: trio.Nursery, worker: DeviceWorker, *models: str) -> list[str]:
    """Have models loaded by the next process; the errors of those that fail, as they come."""
    errors: list[str] = []

    async def load(model: str) -> None:
        try:
            await worker.load(model, f"/{model}")
        except ApiError as error:
            errors.append(error.message)

    for model in models:
        nursery.start_soon(load, model)
        await trio.testing.wait_all_tasks_blocked()
    return errors


async def test_a_load_that_comes_no_further_fails_and_its_process_is_replaced(script: Script) -> None:
    script(HANGS)
    worker = DeviceWorker("cpu", load_seconds=20)
    async with trio.open_nursery() as nursery:
        errors = await wanted(nursery, worker, "bad")
        died = await ended(worker)
    assert isinstance(died, LoadKilledError)
    assert str(died) == "the engine worker of cpu is gone: its load came no further for 99 s"
    error = "the engine worker of cpu was ended while it loaded this model (its load came no further for 99 s)"
    assert errors == [f"'bad' does not load: {error}"]
    assert worker.reports() == (ModelReport("bad", "failed", "cpu", error=error),)


async def test_a_load_that_hangs_is_given_as_long_as_the_settings_say(script: Script) -> None:
    script("m = receive().model; send(Loading(m), Heartbeat(1, 99.0, True, []), Loaded(m, 1, 100, 0.1)); receive()")
    worker = DeviceWorker("cpu", load_seconds=100)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await worker.load("slow", "/slow")
            nursery.cancel_scope.cancel()


async def test_a_model_whose_load_ends_every_process_fails_and_the_others_go_on(script: Script) -> None:
    """Not one restart is allowed, and these are not held against the worker."""
    script(KILLS)
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.load("good", "/good", None)
            generation = pool.submit("good", [1], SamplingParams(), "")
            await generation.progress()
            with pytest.raises(ApiError, match=r"has died 2 times in a row while it loaded this model \(killed by SIG"):
                await pool.load("bad", "/bad", None)
            ids, end = await read(generation)
            assert (ids, end.reason) == ([1], "stop")
            await until(lambda: report_of(pool, "good").status == "loaded")
            assert report_of(pool, "bad").status == "failed"
            (actor,) = pool.actors()
            assert (actor.state, actor.restarts) == ("running", 2)
            nursery.cancel_scope.cancel()


async def test_what_a_process_died_of_is_loaded_last_by_the_next(script: Script) -> None:
    script(KILLS)
    worker = DeviceWorker("cpu")
    async with trio.open_nursery() as nursery:
        errors = await wanted(nursery, worker, "bad", "good")
        await ended(worker)
        assert [report.status for report in worker.reports()] == ["loading", "loading"]
        await ended(worker)
        assert [report.status for report in worker.reports()] == ["failed", "recovering"]
    assert len(errors) == 1


async def test_a_model_that_is_taken_for_the_cause_is_not_loaded_by_itself_and_refused_for_a_while(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(KILLS)
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            with pytest.raises(ApiError):
                await pool.load("bad", "/bad", None)
            await pool.load("good", "/good", None)
            with pytest.raises(ApiError, match=r"It may be tried again in (600|599) s\.$") as caught:
                await pool.load("bad", "/bad", None)
            assert (caught.value.status, caught.value.code) == (502, "upstream_error")
            assert pool.actors()[0].restarts == 2, "it was not tried again"
            await pool.restart("cpu", force=False)
            assert [report.status for report in pool.reports()] == ["failed", "loaded"]
            with pytest.raises(ApiError, match="has died 3 times in a row"):
                await pool.load("bad", "/bad", None)
            await until(lambda: pool.actors()[0].restarts == 1)
            await pool.load("bad", "/mended", None)
            assert report_of(pool, "bad").status == "loaded"
            nursery.cancel_scope.cancel()


async def test_after_the_while_it_may_be_tried_once_more(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_model, "REFUSED_SECONDS", 0.0)
    script(KILLS)
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            for deaths, restarts in ((2, 2), (3, 3)):
                with pytest.raises(ApiError, match=f"has died {deaths} times in a row"):
                    await pool.load("bad", "/bad", None)
                await until(lambda: pool.actors()[0].state == "running")
                assert pool.actors()[0].restarts == restarts
            nursery.cancel_scope.cancel()


async def test_a_model_that_is_unloaded_is_forgotten_with_what_was_held_against_it(script: Script) -> None:
    script(KILLS)
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            for _ in range(2):
                with pytest.raises(ApiError, match="has died 2 times in a row"):
                    await pool.load("bad", "/bad", None)
                await pool.unload("bad")
            nursery.cancel_scope.cancel()


async def test_requests_are_not_blamed_for_a_death_by_a_load(script: Script) -> None:
    """The second death in a row, in the middle of its prompt: for a step's death it would have been taken for it."""
    script("receive(); send(Loaded('m', 1, 100, .1)); send(Began([receive().request])); die()")
    worker, generations = DeviceWorker("cpu"), list[LiveGeneration]()
    async with trio.open_nursery() as nursery:

        async def submit() -> None:
            await worker.load("m", "/m")
            generations.append(worker.submit("m", [1], SamplingParams(), ""))

        nursery.start_soon(submit)
        assert not isinstance(await ended(worker), LoadKilledError)
        script(BEGIN + "send(Loading(receive().model)); die()")

        async def load() -> None:
            await until(lambda: worker.reports()[0].status == "loaded")
            with trio.move_on_after(5):
                await worker.load("bad", "/bad")

        nursery.start_soon(load)
        assert isinstance(await ended(worker), LoadKilledError)
        assert [each.live for each in generations] == [1], "the request goes on"
        nursery.cancel_scope.cancel()


async def test_a_stop_in_the_middle_of_a_load_is_held_against_nobody(script: Script) -> None:
    script("send(Loading(receive().model, 1, 10)); receive()")
    worker = DeviceWorker("cpu")
    for _ in range(3):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                if not worker.reports():
                    await wanted(nursery, worker, "m")
                await until(lambda: worker.reports()[0].progress is not None)
                nursery.cancel_scope.cancel()
    assert worker.reports() == (ModelReport("m", "loading", "cpu"),)


async def test_a_load_tells_how_far_it_is(script: Script) -> None:
    script("m = receive().model; send(Loading(m), Loading(m, 30, 100), Loading('gone', 1, 2)); receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await wanted(nursery, worker, "m")
            await until(lambda: (worker.reports()[0].progress or Progress("loading")).done == 30)
            progress = worker.reports()[0].progress
            assert progress is not None
            assert (progress.phase, progress.total) == ("loading", 100)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("asked", [0, 3])
async def test_a_worker_has_the_threads_that_its_host_may_use(
    script: Script, threads: list[int], monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr(hosts, "usable_threads", lambda: 7)
    script("sys.exit(1)")
    await ended(DeviceWorker("cpu", threads=asked))
    assert threads == [asked or 7]
