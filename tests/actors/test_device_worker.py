"""A device worker against processes that misbehave: a small script stands in for the engine, one fault each."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from actors import ProcessStuckError, engine_link, vitals
from actors.device_pool import DevicePool
from actors.device_worker import DeviceWorker, WorkerDiedError
from actors.engine_link import EngineLink
from actors.generation import LiveGeneration
from config import RestartPolicy
from config.units import Duration
from helexa.engine import protocol
from helexa.engine.protocol import TokenLogprob
from helexa.neuron.ports import ChoiceNews, End
from helexa.wire.errors import ApiError
from helexa.wire.fleet import KvCache, Limit, ModelReport, Steps
from helexa.wire.sampling import SamplingParams

ROOT = str(Path(protocol.__file__).parents[2])
NEVER = RestartPolicy(max=0, backoff=Duration(0.01))
TWICE = RestartPolicy(max=2, backoff=Duration(0.01))
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
hello = lambda version=VERSION: send(Hello(version, os.getpid(), "cpu", "0"))
def load():
    model = receive().model
    send(Loaded(model, 1, 100, 0.1, 2, 3))
"""
SERVE = "hello(); load(); "


pytestmark = pytest.mark.usefixtures("logs", "forked_scripts", "no_process_is_left")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Says what the process of every worker does."""

    def use(program: str) -> None:
        def command(_device: str, _threads: int, fd: int) -> list[str]:
            return [sys.executable, "-c", PREAMBLE + program, str(fd)]

        monkeypatch.setattr(engine_link, "_command", command)

    return use


async def died(worker: DeviceWorker) -> str:
    """Run one process until it ends; why it did."""
    with trio.fail_after(30), pytest.raises(WorkerDiedError) as caught:
        await worker.run()
    return str(caught.value)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit(3)", "exited with code 3"),
        ("hello(); os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("hello(VERSION + 1); receive()", f"version {protocol.VERSION + 1}"),
        ("hello(); sock.sendall(b'HTTP/1.1 400 Bad Request'); receive()", "are allowed"),
        ("hello(); sock.sendall(bytes([0, 0, 0, 1, 0])); receive()", "not a frame"),
        ("hello(); send(Abort('r')); receive()", "a worker does not send Abort"),
        ("hello(); send(Heartbeat(1, 1e6, False, [])); receive()", "one step has been running for 1000000 s"),
        ("hello(); sock.close(); time.sleep(60)", "killed by SIGTERM"),
        ("hello(); signal.signal(signal.SIGTERM, signal.SIG_IGN); sock.close(); time.sleep(60)", "killed by SIGKILL"),
    ],
    ids=lambda value: value[:40],
)
async def test_however_the_process_fails_it_is_ended_and_the_reason_told(
    script: Callable[[str], None], program: str, reason: str
) -> None:
    script(program)
    assert reason in await died(DeviceWorker("cpu"))


async def test_a_process_that_never_greets_is_ended(
    script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "HELLO_SECONDS", 0.2)
    script("time.sleep(60)")
    assert "it gave no sign of life for" in await died(DeviceWorker("cpu"))


async def test_a_process_that_falls_silent_is_ended(
    script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "SILENCE_SECONDS", 0.2)
    script("hello(); time.sleep(60)")
    assert "it gave no sign of life for" in await died(DeviceWorker("cpu"))


async def test_a_program_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_link, "_command", lambda *_: ["/nowhere/python"])
    with pytest.raises(FileNotFoundError):
        await DeviceWorker("cpu").run()


async def test_cancelling_a_start_leaves_nothing(script: Callable[[str], None]) -> None:
    script(SERVE + "receive()")
    with trio.move_on_after(0.02):
        await DeviceWorker("cpu").run()


async def test_it_has_started_when_the_process_has_greeted(script: Callable[[str], None]) -> None:
    script("time.sleep(.2); hello(); receive()")
    worker = DeviceWorker("cpu")
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            await nursery.start(worker.run)
        assert worker.pid is not None
        nursery.cancel_scope.cancel()
    assert worker.pid is None


async def serving(nursery: trio.Nursery, worker: DeviceWorker) -> None:
    """Run the worker once, on its own; its death is the test's business."""

    async def run() -> None:
        with pytest.raises(WorkerDiedError):
            await worker.run()

    nursery.start_soon(run)
    await worker.load("m", "/m")


async def read(generation: LiveGeneration) -> dict[int, tuple[list[int], End | None]]:
    """What each choice was told until all had ended."""
    found: dict[int, tuple[list[int], End | None]] = {}
    while news := await generation.progress():
        for each in news:
            ids, _ = found.get(each.index, ([], None))
            found[each.index] = ([*ids, *each.ids], each.end)
    return found


async def test_a_generation_s_life(script: Callable[[str], None]) -> None:
    script(
        SERVE + "r = receive().request; send(Tokens(1, [TokenDelta(r, [7]), TokenDelta('a stranger', [9])]));"
        "send(Tokens(2, [TokenDelta(r, [8])]), Finished(r, 'stop', 3, 2, 0, 2)); receive(); receive()"
    )
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            generation = worker.submit("m", [1, 2, 3], SamplingParams(), "")
            assert await read(generation) == {0: ([7, 8], End("stop", cached_tokens=2))}
            nursery.cancel_scope.cancel()


async def test_a_refusal_by_the_engine_is_a_sentence(script: Callable[[str], None]) -> None:
    script(SERVE + "send(Failed(receive().request, 'context_length_exceeded', 'prompt of 9')); receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            news = await worker.submit("m", [1], SamplingParams(), "").progress()
            assert news == (ChoiceNews(0, (), end=End("failed", "context_length_exceeded", "Prompt of 9.")),)
            nursery.cancel_scope.cancel()


ONE_TOKEN = "s = receive(); send(Began([s.request]), Tokens(1, [TokenDelta(s.request, [7])])); "
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


async def test_after_a_death_the_next_process_goes_on(script: Callable[[str], None]) -> None:
    script(SERVE + ONE_TOKEN + DIE)
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            generation = worker.submit("m", [1], SamplingParams(seed=5), "team")
            assert await generation.progress() == (ChoiceNews(0, (7,)),)
        assert worker.reports()[0].status == "recovering"
        with pytest.raises(ApiError, match="is recovering") as caught:
            worker.submit("m", [1], SamplingParams(), "")
        assert (caught.value.status, caught.value.retry_after) == (503, 2)
        script(
            SERVE + "s = receive(); assert (s.key, s.sampling.seed, s.progress) == ('team', 5, [Progress(0, [7])]), s;"
            "send(Tokens(1, [TokenDelta(s.request, [8])]), Finished(s.request, 'stop', 1, 2)); receive()"
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            assert await read(generation) == {0: ([8], End("stop"))}
            nursery.cancel_scope.cancel()


async def test_a_model_that_does_not_load_again_ends_its_generations(script: Callable[[str], None]) -> None:
    script(SERVE + "receive(); " + DIE)
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            generation = worker.submit("m", [1], SamplingParams(), "")
        script("hello(); send(LoadFailed(receive().model, 'its files are gone')); receive()")
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            ((_, end),) = (await read(generation)).values()
            assert end == End("failed", "upstream_error", "The model 'm' does not load again: its files are gone.")
            nursery.cancel_scope.cancel()


async def test_a_generation_waits_for_the_next_process_only_so_long(script: Callable[[str], None]) -> None:
    script(SERVE + ONE_TOKEN + DIE)
    worker = DeviceWorker("cpu", recovery=0.1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            ((ids, end),) = (await read(worker.submit("m", [1], SamplingParams(), ""))).values()
    assert (ids, end is not None and end.code) == ([7], "service_unavailable")


async def test_a_model_unloaded_while_there_is_no_process_ends_its_generations(script: Callable[[str], None]) -> None:
    script(SERVE + "receive(); " + DIE)
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            generation = worker.submit("m", [1], SamplingParams(), "")
        await worker.unload("m")
        ((_, end),) = (await read(generation)).values()
    assert end == End("failed", "upstream_error", "The model 'm' was unloaded.")


async def test_generations_of_a_worker_that_is_stopped_end_with_it(script: Callable[[str], None]) -> None:
    script(SERVE + "receive(); receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            await worker.load("m", "/m")
            generation = worker.submit("m", [1], SamplingParams(), "")
            nursery.cancel_scope.cancel()
        ((_, end),) = (await read(generation)).values()
    assert end == End("failed", "upstream_error", "The engine worker of cpu was stopped.")


async def test_the_restarts_used_up_end_what_waits(script: Callable[[str], None]) -> None:
    script(SERVE + "receive(); " + DIE)
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.load("m", "/m", None)
            ((_, end),) = (await read(pool.submit("m", [1], SamplingParams(), ""))).values()
            assert end is not None
            assert end.code == "upstream_error"
            assert "does not come back: WorkerDiedError: the engine worker of cpu is gone: killed" in (end.error or "")
            nursery.cancel_scope.cancel()


async def test_a_request_that_kills_every_process_ends_and_the_others_go_on(script: Callable[[str], None]) -> None:
    """With 666 in its prompt a request ends the process in its first step; any other one brings two tokens."""
    script(
        SERVE + "\nlive = []\nwhile True:\n"
        "    s = receive()\n"
        "    if isinstance(s, Abort): continue\n"
        "    send(Began([s.request]))\n"
        "    if 666 in s.prompt_ids: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    done = len(s.progress[0].ids) if s.progress else 0\n"
        "    send(Tokens(1, [TokenDelta(s.request, [done])]))\n"
        "    if done: send(Finished(s.request, 'stop', 1, 2))\n"
    )
    pool = DevicePool(["cpu"], TWICE)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.load("m", "/m", None)
            good = [pool.submit("m", [1], SamplingParams(), "") for _ in range(2)]
            for each in good:
                await each.progress()
            bad = pool.submit("m", [666], SamplingParams(), "")
            ((_, end),) = (await read(bad)).values()
            assert end is not None
            assert "2 times in a row while it ran this request (killed by SIGSEGV)" in (end.error or "")
            assert [await read(each) for each in good] == [{0: ([1], End("stop"))}] * 2
            assert pool.actors()[0].restarts <= 2
            nursery.cancel_scope.cancel()


async def test_a_worker_s_last_words_are_the_reason_of_its_death(script: Callable[[str], None]) -> None:
    script("hello(); send(Dying('the device is broken (RuntimeError: CUDA error)')); sys.exit(75)")
    assert "it ended itself: the device is broken (RuntimeError: CUDA error)" in await died(DeviceWorker("cpu"))


async def test_a_process_the_kernel_holds_on_to_does_not_keep_its_generations(
    script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = EngineLink.close

    async def stuck(self: EngineLink, grace: float) -> Any:
        await close(self, grace)
        raise ProcessStuckError("it is stuck in the kernel")

    monkeypatch.setattr(EngineLink, "close", stuck)
    script(SERVE + "receive()")
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.load("m", "/m", None)
            ((_, end),) = (await read(pool.submit("m", [1], SamplingParams(), ""))).values()
            assert end is not None
            assert "stuck in the kernel" in (end.error or "")
            nursery.cancel_scope.cancel()


async def test_choices_go_their_own_ways_and_one_can_be_stopped(script: Callable[[str], None]) -> None:
    script(
        SERVE + "s = receive(); r = s.request; assert (s.key, s.sampling.n) == ('team', 3), s;"
        "send(Tokens(1, [TokenDelta(r, [7], 0, [TokenLogprob(-.5)]), TokenDelta(r, [8], 1)]));"
        "send(Finished(r, 'stop', 1, 1, 1));"
        "a = receive(); assert (a.request, a.index) == (r, 0), a;"
        "send(Tokens(2, [TokenDelta(r, [9], 0), TokenDelta(r, [9], 2)]), Finished(r, 'abort', 1, 2, 0, 16),"
        "Finished(r, 'length', 1, 1, 2)); receive()"
    )
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            generation = worker.submit("m", [1], SamplingParams(n=3), "team")
            first = (await generation.progress())[0]
            assert first == ChoiceNews(0, (7,), (TokenLogprob(-0.5),))
            generation.stop(0)
            rest = await read(generation)
            assert rest[0] == ([9], End("abort", cached_tokens=16))
            assert rest[2] == ([9], End("length"))
            assert worker._requests.choices == 0
            nursery.cancel_scope.cancel()


async def test_too_many_live_choices_are_refused(
    script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.device_worker.MAX_LIVE_REQUESTS", 4)
    script(SERVE + "[receive() for _ in iter(int, 1)]")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            first = worker.submit("m", [1], SamplingParams(n=3), "")
            with pytest.raises(ApiError, match="4 requests are already in flight"):
                worker.submit("m", [1], SamplingParams(n=2), "")
            worker.submit("m", [1], SamplingParams(), "")
            first.close()
            worker.submit("m", [1], SamplingParams(n=3), "")
            nursery.cancel_scope.cancel()


async def test_too_many_live_requests_are_refused(
    script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.device_worker.MAX_LIVE_REQUESTS", 1)
    script(SERVE + "[receive() for _ in iter(int, 1)]")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            first = worker.submit("m", [1], SamplingParams(), "")
            with pytest.raises(ApiError, match="1 requests are already in flight") as caught:
                worker.submit("m", [1], SamplingParams(), "")
            assert caught.value.status == 429
            first.close()
            worker.submit("m", [1], SamplingParams(), "")
            nursery.cancel_scope.cancel()


async def test_unloading_while_loading_releases_who_waits(script: Callable[[str], None]) -> None:
    script("hello(); receive(); receive(); send(Loaded('m', 1, 50, .1), Unloaded('m')); receive()")
    worker = DeviceWorker("cpu")
    errors: list[ApiError] = []

    async def load() -> None:
        with pytest.raises(ApiError, match="unloaded while it was loading") as caught:
            await worker.load("m", "/m")
        errors.append(caught.value)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            async with trio.open_nursery() as loads:
                loads.start_soon(load)
                loads.start_soon(load)
                await trio.testing.wait_all_tasks_blocked()
                await worker.unload("m")
            assert worker.reports() == ()
            nursery.cancel_scope.cancel()
    assert [error.status for error in errors] == [503, 503]


async def run_until_cancelled(
    worker: DeviceWorker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    await worker.run(task_status=task_status)


async def test_loading_what_is_being_unloaded_waits_for_the_end_of_that(script: Callable[[str], None]) -> None:
    """The answer to the first load must not be taken for that to the second."""
    script(
        "hello(); first = receive(); receive(); send(LoadFailed('m', 'first'), Unloaded('m'));"
        "second = receive(); assert second.path == '/second', second; send(Loaded('m', 1, 50, .1)); receive()"
    )
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)

            async def first() -> None:
                with pytest.raises(ApiError):
                    await worker.load("m", "/first")

            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(worker.unload, "m")
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            await worker.load("m", "/second")
            (report,) = worker.reports()
            assert (report.status, report.error) == ("loaded", None)
            nursery.cancel_scope.cancel()


async def test_a_failed_model_is_tried_again_by_the_next_process(script: Callable[[str], None]) -> None:
    script("hello(); receive(); send(LoadFailed('m', 'no such file')); receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            with pytest.raises(ApiError, match="no such file"):
                await worker.load("m", "/m")
            assert worker.reports() == (ModelReport("m", "failed", "cpu", error="no such file"),)
            nursery.cancel_scope.cancel()
        assert worker.reports() == (ModelReport("m", "loading", "cpu"),)
        script(SERVE + "receive()")
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            await worker.load("m", "/m")
            assert worker.reports()[0].status == "loaded"
            nursery.cancel_scope.cancel()


async def test_a_loaded_model_is_told_with_what_it_holds_and_how_much_it_can_do(script: Callable[[str], None]) -> None:
    script(SERVE + "receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            (report,) = worker.reports()
            assert (report.memory_mb, report.kv_mb, report.capacity) == (1, 2, 3)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("memory", [None, 24 * 2**30])
async def test_the_process_is_told_how_much_memory_its_models_may_have(
    script: Callable[[str], None], memory: int | None
) -> None:
    script("hello(); load = receive(); send(LoadFailed(load.model, f'allowed {load.memory}')); receive()")
    worker = DeviceWorker("cpu", memory=memory)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            with pytest.raises(ApiError, match=f"allowed {memory}$"):
                await worker.load("m", "/m")
            nursery.cancel_scope.cancel()


async def test_heartbeats_tell_how_busy_a_model_is(script: Callable[[str], None]) -> None:
    script(
        SERVE + "told = [ModelLoad('m', 2, 3, 64, 10, 30, 900, 512, 4, 7, 1.5, 90, 20), ModelLoad('x', 1, 1)];"
        "send(Heartbeat(1, 0.0, False, told),"
        "Failed('r', 'upstream_error', ''), LoadFailed('y', 'never asked for')); receive(); receive()"
    )
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            while worker.reports()[0].running == 0:  # noqa: ASYNC110 - a real process
                await trio.sleep(0.01)
            (report,) = worker.reports()
            assert (report.running, report.waiting, report.kv) == (2, 3, KvCache(64, 10, 30, 900, 512, 4))
            assert report.steps == Steps(7, 1.5, 90, 20)
            nursery.cancel_scope.cancel()


async def test_an_idle_worker_tells_of_its_cache_too_and_a_lost_one_does_not(script: Callable[[str], None]) -> None:
    script(SERVE + "send(Heartbeat(1, 0.0, False, [ModelLoad('m', 0, 0, 64, 34, 30)])); receive(); sys.exit(1)")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await serving(nursery, worker)
            while worker.reports()[0].kv is None:  # noqa: ASYNC110 - a real process
                await trio.sleep(0.01)
            assert worker.reports()[0].kv == KvCache(64, 34, 30)
            worker.submit("m", [1], SamplingParams(), "")
        assert worker.reports() == (ModelReport("m", "recovering", "cpu", 1, Limit(100, 99, 99), kv_mb=2, capacity=3),)


async def test_a_choice_that_was_never_asked_for_is_a_broken_worker(script: Callable[[str], None]) -> None:
    script(SERVE + "send(Finished(receive().request, 'stop', 1, 1, 1)); receive()")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                assert "a choice 1 of a request for 1" in await died(worker)

            nursery.start_soon(run)
            await worker.load("m", "/m")
            worker.submit("m", [1], SamplingParams(), "")


async def test_frames_wait_in_the_outbox_and_not_in_the_sender(script: Callable[[str], None]) -> None:
    script("hello(); time.sleep(60)")
    worker = DeviceWorker("cpu")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_until_cancelled, worker)
            link = worker._link
            assert link is not None
            for n in range(4):
                link.send(protocol.Submit(f"r{n}", "m", [1] * 1_000_000))
                await trio.testing.wait_all_tasks_blocked()
            assert worker.mailbox_depth == 3
            nursery.cancel_scope.cancel()
    assert worker.mailbox_depth == 0


async def test_a_worker_beyond_help_releases_who_waits_and_refuses_who_comes(script: Callable[[str], None]) -> None:
    script("hello(); receive(); sys.exit(7)")
    pool = DevicePool(["cpu", "cpu:0"], TWICE)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            for _ in range(2):
                with pytest.raises(ApiError, match="exited with code 7") as caught:
                    await pool.load("m", "/m", "cpu")
                assert (caught.value.status, caught.value.code) == (502, "upstream_error")
            (report,) = pool.reports()
            assert report.status == "failed"
            assert "exited with code 7" in (report.error or "")
            with pytest.raises(ApiError, match="is failed") as refused:
                pool.submit("m", [1], SamplingParams(), "")
            assert refused.value.status == 503
            failed, lives = pool.actors()
            assert (failed.state, failed.restarts, lives.state) == ("failed", 2, "running")
            await pool.unload("m")
            assert pool.reports() == ()
            nursery.cancel_scope.cancel()


async def test_a_worker_beyond_help_is_given_no_new_model(script: Callable[[str], None]) -> None:
    script("hello(); m = receive().model; sys.exit(7) if m == 'bad' else send(Loaded(m, 1, 9, .1)); receive()")
    pool = DevicePool(["cpu", "cpu:0"], NEVER)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            with pytest.raises(ApiError):
                await pool.load("bad", "/m", "cpu")
            await pool.unload("bad")
            await pool.load("good", "/m", None)
            assert pool.reports()[0].device == "cpu:0"
            nursery.cancel_scope.cancel()


async def test_a_load_of_one_that_never_starts_ends(script: Callable[[str], None]) -> None:
    script("sys.exit(1)")
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            with pytest.raises(ApiError, match="exited with code 1"):
                await pool.load("m", "/m", None)
            nursery.cancel_scope.cancel()


async def test_a_restart_gives_a_worker_beyond_help_another_chance(script: Callable[[str], None]) -> None:
    script("hello(); receive(); sys.exit(7)")
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            with pytest.raises(ApiError, match="exited with code 7"):
                await pool.load("m", "/m", None)
            script(SERVE + "receive()")
            await pool.restart("cpu", force=False)
            (report,) = pool.reports()
            assert (report.status, report.error) == ("loaded", None)
            await pool.load("m", "/m", None)
            nursery.cancel_scope.cancel()


async def test_a_device_that_loads_a_model_is_restarted_by_force_only(script: Callable[[str], None]) -> None:
    script("hello(); receive(); receive()")
    pool = DevicePool(["cpu"], NEVER)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            nursery.start_soon(pool.load, "m", "/m", None)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ApiError, match="loads a model"):
                await pool.restart("cpu", force=False)
            script(SERVE + "receive()")
            await pool.restart("cpu", force=True)
            assert pool.reports()[0].status == "loaded"
            nursery.cancel_scope.cancel()
