"""Device workers on real engine processes: loads, generations, and every way back after a worker was lost.

Two workers serve the whole module: they run in a thread with a trio of its own, and each test enters there. What a test
breaks mends itself, which is what is tested.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trio
from attrs import astuple
from checkpoints import QWEN_CONTEXT
from children import children_with
from pools import Running, read, report_of, running_pool, until, worker_of
from structlog.testing import capture_logs

from actors import vitals
from actors.device_pool import DevicePool
from config import RestartPolicy
from config.units import Duration
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Limit
from helexa.wire.sampling import SamplingParams

PROMPT = [5, 6, 7]
ENDLESS = SamplingParams(temperature=0)
LONG = SamplingParams(temperature=1.5, seed=3, max_tokens=300)
SHORT = SamplingParams(temperature=0, max_tokens=5)


@pytest.fixture(scope="module")
def running(forked_engines: None) -> Iterator[Running]:
    policy = RestartPolicy(max=100, backoff=Duration(0.05))
    with running_pool(DevicePool(["cpu", "cpu:0"], policy)) as running:
        yield running
    assert children_with("helexa.engine.worker") == []


@pytest.fixture
def model(running: Running, qwen: Path) -> Iterator[str]:
    """A model on the worker "cpu", whatever the test does to it."""
    running(lambda pool: pool.load("m", str(qwen), "cpu"))
    yield "m"

    async def unload(pool: DevicePool) -> None:
        if any(report.id == "m" for report in pool.reports()):
            await pool.unload("m")

    running(unload)


async def answers(pool: DevicePool, model: str = "m") -> None:
    ids, end = await read(pool.submit(model, PROMPT, SHORT, ""))
    assert (len(ids), end.reason) == (5, "length")


def test_a_loaded_model_and_what_is_told_of_it(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        found = report_of(pool)
        assert (found.status, found.device, found.error) == ("loaded", "cpu", None)
        assert found.limit == Limit(QWEN_CONTEXT, QWEN_CONTEXT - 1, QWEN_CONTEXT - 1)
        assert found.memory_mb > 0
        assert worker_of(pool).pid is not None
        await until(lambda: [actor.state for actor in pool.actors()] == ["running", "running"])

    running(check)


def test_a_generation_runs_to_its_end(running: Running, model: str) -> None:
    running(answers)


def test_many_generations_at_once_get_the_same_tokens(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        generations = [pool.submit(model, PROMPT, SHORT, "") for _ in range(20)]
        results = [await read(generation) for generation in generations]
        assert len({tuple(ids) for ids, _ in results}) == 1

    running(check)


def test_closing_a_generation_frees_the_engine(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        generation = pool.submit(model, PROMPT, ENDLESS, "")
        await generation.progress()
        await until(lambda: report_of(pool).running == 1)
        generation.close()
        await until(lambda: report_of(pool).running == 0)
        assert worker_of(pool)._requests.choices == 0

    running(check)


def test_concurrent_loads_of_one_model_are_one(running: Running, qwen: Path) -> None:
    async def check(pool: DevicePool) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pool.load, "joined", str(qwen), None)
        await pool.unload("joined")

    with capture_logs() as logs:
        running(check)
    assert [log["event"] for log in logs if log.get("model") == "joined"] == ["model.loaded"]


def test_a_model_goes_where_it_is_told_or_where_the_fewest_are(running: Running, model: str, llama: Path) -> None:
    async def check(pool: DevicePool) -> None:
        await pool.load("elsewhere", str(llama), None)
        await pool.load("there", str(llama), "cpu")
        await pool.load("there", str(llama), "cpu:0")
        assert [report_of(pool, each).device for each in ("elsewhere", "there")] == ["cpu:0", "cpu"]
        await answers(pool, "elsewhere")
        await pool.unload("elsewhere")
        await pool.unload("there")

    running(check)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(running: Running, qwen: Path) -> None:
    with pytest.raises(ApiError, match=r"this host has cpu, cpu:0") as caught:
        running(lambda pool: pool.load("m", str(qwen), "cuda:9"))
    assert (caught.value.status, caught.value.param) == (400, "device")


def test_unknown_models(running: Running) -> None:
    async def submit(pool: DevicePool) -> None:
        pool.submit("ghost", PROMPT, SHORT, "")

    for work in (submit, lambda pool: pool.unload("ghost")):
        with pytest.raises(ApiError) as caught:
            running(work)
        assert caught.value.code == "model_not_found"


def test_a_broken_model_fails_with_its_reason_and_loads_once_mended(
    running: Running, model: str, llama: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(llama, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(b"\0" * 100)

    async def fail(pool: DevicePool) -> None:
        with pytest.raises(ApiError, match=r"'broken' does not load: 'model\.safetensors' is no safe") as caught:
            await pool.load("broken", str(broken), "cpu")
        assert caught.value.code == "upstream_error"
        assert report_of(pool, "broken").status == "failed"
        with pytest.raises(ApiError, match=r"is failed: 'model\.safetensors' is no safe"):
            pool.submit("broken", PROMPT, SHORT, "")
        await answers(pool)

    running(fail)
    shutil.copy(llama / "model.safetensors", weights)

    async def mend(pool: DevicePool) -> None:
        await pool.load("broken", str(broken), "cpu")
        assert (report_of(pool, "broken").status, report_of(pool, "broken").error) == ("loaded", None)
        await answers(pool, "broken")
        await pool.unload("broken")

    running(mend)


def test_unloading_ends_what_is_being_generated(running: Running, model: str, qwen: Path) -> None:
    async def check(pool: DevicePool) -> None:
        generation = pool.submit(model, PROMPT, ENDLESS, "")
        await generation.progress()
        await pool.unload(model)
        assert (await read(generation))[1].reason == "abort"
        with pytest.raises(ApiError, match="does not exist"):
            pool.submit(model, PROMPT, SHORT, "")
        await pool.load(model, str(qwen), "cpu")
        await answers(pool)

    running(check)


def test_a_worker_killed_in_the_middle_of_a_generation(running: Running, model: str, llama: Path) -> None:
    async def check(pool: DevicePool) -> None:
        await pool.load("other", str(llama), "cpu:0")
        pid = worker_of(pool).pid
        assert pid is not None
        whole, _ = await read(pool.submit(model, PROMPT, LONG, ""))
        generation = pool.submit(model, PROMPT, LONG, "")
        ((_, begun, _, _),) = [astuple(each, recurse=False) for each in await generation.progress()]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: report_of(pool).status == "recovering")
        with pytest.raises(ApiError, match="is recovering") as caught:
            pool.submit(model, PROMPT, SHORT, "")
        assert (caught.value.status, caught.value.retry_after) == (503, 2)
        await answers(pool, "other")
        rest, end = await read(generation)
        assert (len(begun) < len(whole), [*begun, *rest], end.reason) == (True, whole, "length")
        await answers(pool)
        assert worker_of(pool).pid not in (None, pid)
        assert pool.actors()[0].restarts == 1
        assert "killed by SIGKILL" in (pool.actors()[0].last_error or "")
        await pool.unload("other")

    running(check)


def test_a_load_under_way_when_the_worker_dies_is_done_by_the_next(running: Running, qwen: Path) -> None:
    async def check(pool: DevicePool) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.load, "late", str(qwen), "cpu")
            await trio.lowlevel.checkpoint()  # the load is on its way, and nothing can have come back
            os.kill(worker_of(pool).pid or 0, signal.SIGKILL)
        await answers(pool, "late")
        await pool.unload("late")

    running(check)


def test_a_restart_brings_the_same_models_in_another_process(running: Running, model: str, llama: Path) -> None:
    async def check(pool: DevicePool) -> None:
        await pool.load("other", str(llama), "cpu")
        before = worker_of(pool).pid
        await pool.restart("cpu", force=False)
        assert worker_of(pool).pid not in (None, before)
        assert before is not None
        assert not psutil.pid_exists(before)
        for each in (model, "other"):
            assert report_of(pool, each).status == "loaded"
            await answers(pool, each)
        (actor,) = (each for each in pool.actors() if each.name == "device-worker:cpu")
        assert (actor.state, actor.restarts, actor.last_error) == ("running", 0, None)
        await pool.unload("other")

    running(check)


def test_a_device_with_requests_is_restarted_by_force_only(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        generation = pool.submit(model, PROMPT, ENDLESS, "")
        await generation.progress()
        with pytest.raises(ApiError) as caught:
            await pool.restart("cpu", force=False)
        assert (caught.value.status, caught.value.code) == (409, "device_busy")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: pool.restart("cpu", force=True))
            _, end = await read(generation)
            assert (end.code, end.error) == ("upstream_error", "The engine worker of cpu is being restarted.")
            with pytest.raises(ApiError, match="is recovering") as caught:
                pool.submit(model, PROMPT, SHORT, "")
            assert (caught.value.status, caught.value.retry_after) == (503, 2)
        await answers(pool)

    running(check)


def test_two_restarts_at_once_are_one(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        codes: list[str] = []

        async def restart() -> None:
            try:
                await pool.restart("cpu", force=True)
            except ApiError as error:
                codes.append(error.code or "")
            else:
                codes.append("restarted")

        async with trio.open_nursery() as nursery:  # both are asked before the first's process can have ended
            nursery.start_soon(restart)
            nursery.start_soon(restart)
        assert codes == ["device_busy", "restarted"]
        await answers(pool)

    running(check)


def test_whoever_asks_for_a_restart_and_leaves_has_still_got_it(running: Running, model: str) -> None:
    async def check(pool: DevicePool) -> None:
        before = worker_of(pool).pid
        with trio.move_on_after(0):
            await pool.restart("cpu", force=False)
        await until(lambda: report_of(pool).status == "loaded")
        assert worker_of(pool).pid != before
        await answers(pool)

    running(check)


def test_an_unknown_device_cannot_be_restarted(running: Running) -> None:
    with pytest.raises(ApiError, match="this host has cpu, cpu:0") as caught:
        running(lambda pool: pool.restart("cuda:9", force=True))
    assert (caught.value.status, caught.value.code) == (404, "device_not_found")


def test_a_worker_that_is_stopped_is_noticed_and_replaced(
    running: Running, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(pool: DevicePool) -> None:
        pid = worker_of(pool).pid
        assert pid is not None
        generation = pool.submit(model, PROMPT, ENDLESS, "")
        await generation.progress()
        os.kill(pid, signal.SIGSTOP)
        _, end = await read(generation)
        assert end.reason == "length"
        (actor,) = (each for each in pool.actors() if each.name == "device-worker:cpu")
        assert "no sign of life" in (actor.last_error or "")
        assert not psutil.pid_exists(pid)

    with monkeypatch.context() as patch:
        patch.setattr(vitals, "SILENCE_SECONDS", 2.5)
        running(check)
    running(lambda pool: until(lambda: report_of(pool).status == "loaded"))
    running(answers)
