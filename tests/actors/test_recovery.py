"""Real engine workers that break in every way there is: their readers get the tokens that they would have got."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import faulty_worker
import pytest
import trio
import trio.lowlevel
from pools import Running, read, report_of, running_pool, until, worker_of

from actors import engine_link, vitals
from actors.device_pool import DevicePool
from config import RestartPolicy
from config.units import Duration
from helexa.wire.errors import ApiError
from helexa.wire.sampling import SamplingParams

PROMPT = [5, 6, 7]
STORY = SamplingParams(temperature=1.5, seed=3, max_tokens=150)
SHORT = SamplingParams(temperature=0, max_tokens=5)
Arm = Callable[[str, str], None]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the faults of the worker "cpu" lie; that of "cpu:0" has none."""
    found = tmp_path_factory.mktemp("faults")
    for device in ("cpu", "cpu:0"):
        for when in ("load", "step"):
            (found / device / when).mkdir(parents=True)
    return found


@pytest.fixture(scope="module")
def running(directory: Path, forked_engines: None) -> Iterator[Running]:
    def command(device: str, threads: int, fd: int) -> list[str]:
        arguments = ["--device", device, "--fd", str(fd), "--threads", str(threads)]
        return [sys.executable, faulty_worker.__file__, str(directory / device), *arguments]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_link, "_command", command)
        patch.setattr(vitals, "SILENCE_SECONDS", 4.0)
        patch.setattr(vitals, "STALL_SECONDS", 3.0)
        policy = RestartPolicy(max=100, window=Duration(1), backoff=Duration(0.05))
        pool = DevicePool(["cpu", "cpu:0"], policy)
        worker_of(pool)._load_seconds = 5.0
        with running_pool(pool) as found:
            yield found


@pytest.fixture
def arm(directory: Path) -> Arm:
    return lambda when, fault: (directory / "cpu" / when / fault).touch()


@pytest.fixture(autouse=True)
def models(running: Running, qwen: Path, llama: Path) -> None:
    """The model "m" on the worker that breaks, "other" on the one that must not notice."""
    running(lambda pool: pool.load("m", str(qwen), "cpu"))
    running(lambda pool: pool.load("other", str(llama), "cpu:0"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("segfault", "killed by SIGSEGV"),
        ("kill", "killed by SIGKILL"),
        ("hang", "one step has been running for"),
        ("silence", "it gave no sign of life for "),
        ("broken", "it ended itself: the device is broken (AcceleratorError: CUDA error: an illegal memory access"),
        ("fault", "it ended itself: ValueError: the model's code is wrong"),
    ],
)
def test_streams_go_on_after(running: Running, arm: Arm, fault: str, reason: str) -> None:
    async def check(pool: DevicePool) -> None:
        whole, _ = await read(pool.submit("m", PROMPT, STORY, ""))
        pid, bystander = worker_of(pool).pid, worker_of(pool, "cpu:0").pid
        generations = [pool.submit("m", PROMPT, STORY, "") for _ in range(2)]
        first = [(await each.progress())[0].ids for each in generations]
        arm("step", fault)
        await until(lambda: worker_of(pool).pid != pid)
        assert reason in (pool.actors()[0].last_error or "") or pool.actors()[0].state == "running"
        rest = [await read(each) for each in generations]
        assert [[*begun, *ids] for begun, (ids, _) in zip(first, rest, strict=True)] == [whole] * 2
        assert [end.reason for _, end in rest] == ["length"] * 2
        assert reason in (pool.actors()[0].last_error or "")
        assert (worker_of(pool, "cpu:0").pid, pool.actors()[1].restarts) == (bystander, 0)

    running(check)


def test_a_step_without_memory_ends_neither_the_worker_nor_a_stream(running: Running, arm: Arm) -> None:
    async def check(pool: DevicePool) -> None:
        whole, _ = await read(pool.submit("m", PROMPT, STORY, ""))
        pid = worker_of(pool).pid
        generation = pool.submit("m", PROMPT, STORY, "")
        first = (await generation.progress())[0].ids
        arm("step", "memory")
        rest, end = await read(generation)
        assert ([*first, *rest], end.reason) == (whole, "length")
        assert worker_of(pool).pid == pid

    running(check)


def test_a_load_without_memory_fails_with_its_reason_and_the_worker_lives(
    running: Running, arm: Arm, llama: Path
) -> None:
    async def check(pool: DevicePool) -> None:
        pid = worker_of(pool).pid
        arm("load", "memory")
        with pytest.raises(ApiError, match="CUDA out of memory"):
            await pool.load("large", str(llama), "cpu")
        assert (report_of(pool, "large").status, worker_of(pool).pid) == ("failed", pid)
        ids, _ = await read(pool.submit("m", PROMPT, SHORT, ""))
        assert len(ids) == SHORT.max_tokens
        await pool.load("large", str(llama), "cpu")
        await pool.unload("large")

    running(check)


def test_a_device_found_broken_by_a_load_costs_its_streams_nothing(running: Running, arm: Arm, llama: Path) -> None:
    async def check(pool: DevicePool) -> None:
        whole, _ = await read(pool.submit("m", PROMPT, STORY, ""))
        generation = pool.submit("m", PROMPT, STORY, "")
        first = (await generation.progress())[0].ids
        arm("load", "broken")
        await pool.load("late", str(llama), "cpu")
        rest, _ = await read(generation)
        assert [*first, *rest] == whole
        assert "the device is broken (AcceleratorError" in (pool.actors()[0].last_error or "")
        await pool.unload("late")

    running(check)


def test_a_load_that_hangs_fails_with_its_reason_and_costs_the_streams_nothing(
    running: Running, arm: Arm, llama: Path
) -> None:
    async def check(pool: DevicePool) -> None:
        whole, _ = await read(pool.submit("m", PROMPT, STORY, ""))
        pid, bystander = worker_of(pool).pid, worker_of(pool, "cpu:0").pid
        generation = pool.submit("m", PROMPT, STORY, "")
        first = (await generation.progress())[0].ids
        arm("load", "hang")
        with pytest.raises(
            ApiError, match=r"was ended while it loaded this model \(its load came no further for \d+ s"
        ):
            await pool.load("late", str(llama), "cpu")
        assert worker_of(pool).pid != pid
        rest, end = await read(generation)
        assert ([*first, *rest], end.reason) == (whole, "length")
        assert report_of(pool, "late").status == "failed"
        assert (worker_of(pool, "cpu:0").pid, pool.actors()[1].restarts) == (bystander, 0)
        with pytest.raises(ApiError, match="It may be tried again in"):
            await pool.load("late", str(llama), "cpu")
        await pool.unload("late")
        await pool.load("late", str(llama), "cpu")
        await pool.unload("late")

    running(check)


def test_a_request_that_ends_every_process_fails_and_the_others_go_on(running: Running) -> None:
    async def check(pool: DevicePool) -> None:
        whole, _ = await read(pool.submit("m", PROMPT, STORY, ""))
        restarts = pool.actors()[0].restarts
        good = [pool.submit("m", PROMPT, STORY, "") for _ in range(2)]
        first = [(await each.progress())[0].ids for each in good]
        _, end = await read(pool.submit("m", [faulty_worker.POISON, 5], STORY, ""))
        assert (end.reason, end.code) == ("failed", "upstream_error")
        assert "2 times in a row while it ran this request (killed by SIGSEGV)" in (end.error or "")
        rest = [await read(each) for each in good]
        assert [[*begun, *ids] for begun, (ids, _) in zip(first, rest, strict=True)] == [whole] * 2
        assert pool.actors()[0].restarts == restarts + 2

    running(check)


def test_a_reader_that_leaves_meanwhile_leaves_nothing(running: Running, arm: Arm) -> None:
    async def check(pool: DevicePool) -> None:
        generation = pool.submit("m", PROMPT, STORY, "")
        await generation.progress()
        arm("step", "kill")
        await until(lambda: report_of(pool).status == "recovering")
        generation.close()
        assert not worker_of(pool).busy
        await until(lambda: report_of(pool).status == "loaded")
        await trio.lowlevel.checkpoint()
        assert report_of(pool).running == 0

    running(check)
