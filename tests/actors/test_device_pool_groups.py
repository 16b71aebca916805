"""Groups of devices in a pool: made for the first model, ended with the last, however that goes.

Small scripts stand in for the ranks and for the workers of single devices: what counts here is which of them there are.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import trio.testing
from harness import free_port
from pools import report_of, until

from actors import engine_link, tp_leader
from actors.device_pool import DevicePool
from config import RestartPolicy
from config.units import Duration
from helexa.engine import protocol
from helexa.wire.errors import ApiError
from helexa.wire.ranks import Elsewhere
from helexa.wire.sampling import SamplingParams

ROOT = str(Path(protocol.__file__).parents[2])
LATER = """
import select, sys
select.select([int(sys.argv[sys.argv.index("--fd") + 1])], [], [])
"""
"""Most single devices of these tests get no model: they need not import anything."""
ENGINE = f"""
import os, socket, sys
sys.path.insert(0, {ROOT!r})
from helexa.engine.protocol import *
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
def send(*frames): sock.sendall(b"".join(map(encode, frames)))
reader = FrameReader()
send(Hello(VERSION, os.getpid(), "cpu", "0"))
while data := sock.recv(65536):
    for frame in reader.push(data):
        if isinstance(frame, Load) and frame.path == "/bad": send(LoadFailed(frame.model, "no such file"))
        elif isinstance(frame, Load) and frame.path == "/deadly": sys.exit(7)
        elif isinstance(frame, Load) and frame.path != "/slow": send(Loaded(frame.model, 1, 100, 0.1, 2, 3))
        elif isinstance(frame, Unload): send(Unloaded(frame.model))
"""
WAIT = "import time; time.sleep(60)"
OFTEN = RestartPolicy(max=20, backoff=Duration(0.01))
TWICE = RestartPolicy(max=1, backoff=Duration(0.01))
PAIR, OTHERS = "cpu+cpu:0", "cpu:0+cpu:1"
DEVICES = ("cpu", "cpu:0", "cpu:1")


pytestmark = pytest.mark.usefixtures("logs", "forked_scripts", "no_process_is_left")


@pytest.fixture(autouse=True)
def meetings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Scripts for processes; where each rank was told to meet the first one."""
    asked: list[tuple[str, int]] = []

    def rank(place: Any, host: str, port: int) -> list[str]:
        asked.append((host, port))
        return [sys.executable, "-c", WAIT if place.rank else ENGINE, f"rank{place.rank}"]

    def single(_device: str, _threads: int, fd: int) -> list[str]:
        return [sys.executable, "-c", LATER + ENGINE, "single", "--fd", str(fd)]

    monkeypatch.setattr(tp_leader, "_command", rank)
    monkeypatch.setattr(engine_link, "_command", single)
    for module in (tp_leader, engine_link):
        monkeypatch.setattr(module, "LINGER_SECONDS", 0.1)
    return asked


@asynccontextmanager
async def running(policy: RestartPolicy = OFTEN, **settings: Any) -> AsyncIterator[DevicePool]:
    pool = DevicePool(DEVICES, policy, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        with trio.fail_after(30):
            yield pool
        nursery.cancel_scope.cancel()


def ranks() -> int:
    return len(rank_processes())


def rank_processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if _is_rank(each)]


def _is_rank(process: psutil.Process) -> bool:
    try:
        return any("rank" in part for part in process.cmdline()[3:4])
    except psutil.Error:  # it has just ended
        return False


def names(pool: DevicePool) -> list[str]:
    return [actor.name for actor in pool.actors()]


async def test_a_group_is_made_for_its_first_model_and_ended_with_its_last() -> None:
    async with running() as pool:
        assert ranks() == 0
        await pool.load("m", "/m", PAIR)
        await pool.load("n", "/n", PAIR)
        assert (ranks(), report_of(pool).device) == (2, PAIR)
        assert names(pool)[3:] == [f"tp-leader:{PAIR}"]
        await pool.unload("m")
        assert ranks() == 2
        await pool.unload("n")
        assert (ranks(), len(names(pool)), pool.reports()) == (0, 3, ())
        await pool.load("m", "/m", PAIR)
        assert ranks() == 2


async def test_two_groups_and_single_devices_live_beside_each_other() -> None:
    async with running() as pool:
        for model, device in (("a", PAIR), ("b", OTHERS), ("c", "cpu:0")):
            await pool.load(model, "/m", device)
        assert {report.id: report.device for report in pool.reports()} == {"a": PAIR, "b": OTHERS, "c": "cpu:0"}
        await pool.unload("a")
        assert ranks() == 2


async def test_a_model_goes_on_as_many_devices_as_it_is_said_to_where_the_fewest_are() -> None:
    async with running(ranks_of=lambda model: {"pair": 2, "many": 4}.get(model, 1)) as pool:
        await pool.load("one", "/m", None)
        await pool.load("pair", "/m", None)
        await pool.load("two", "/m", None)
        found = {report.id: report.device for report in pool.reports()}
        assert found == {"one": "cpu", "pair": OTHERS, "two": "cpu"}
        with pytest.raises(
            ApiError, match="'many' is to be spread over 4 devices, and this host has cpu, cpu:0, cpu:1"
        ):
            await pool.load("many", "/m", None)


@pytest.mark.parametrize("device", ["cpu+cpu:7", "cpu+cpu", "cpu:9"])
async def test_devices_that_cannot_be_had_are_refused_and_nothing_is_started(device: str) -> None:
    async with running() as pool:
        with pytest.raises(ApiError) as caught:
            await pool.load("m", "/m", device)
        assert (caught.value.status, caught.value.param) == (400, "device")
        assert (ranks(), pool.reports()) == (0, ())


async def test_a_failed_load_leaves_its_reason_and_no_process() -> None:
    async with running() as pool:
        with pytest.raises(ApiError, match="'m' does not load: no such file"):
            await pool.load("m", "/bad", PAIR)
        await until(lambda: ranks() == 0)
        assert (report_of(pool).status, report_of(pool).error) == ("failed", "no such file")
        with pytest.raises(ApiError, match="The model 'm' is failed: no such file") as caught:
            pool.submit("m", [1], SamplingParams(), "key")
        assert caught.value.status == 503
        await pool.load("m", "/m", PAIR)
        assert [report.status for report in pool.reports()] == ["loaded"]
        await pool.unload("m")
        with pytest.raises(ApiError, match="does not exist"):
            await pool.unload("m")


async def test_what_has_failed_can_be_forgotten() -> None:
    async with running() as pool:
        with pytest.raises(ApiError):
            await pool.load("m", "/bad", PAIR)
        await until(lambda: ranks() == 0)
        await pool.unload("m")
        assert pool.reports() == ()


async def test_a_failed_load_takes_no_other_model_with_it() -> None:
    async with running() as pool:
        await pool.load("n", "/n", PAIR)
        with pytest.raises(ApiError):
            await pool.load("m", "/bad", PAIR)
        await trio.testing.wait_all_tasks_blocked()
        assert {report.id: report.status for report in pool.reports()} == {"n": "loaded", "m": "failed"}
        assert ranks() == 2
        await pool.unload("n")
        assert (ranks(), report_of(pool).status) == (0, "failed")


async def test_a_model_that_failed_on_one_device_can_be_tried_on_several_and_back() -> None:
    async with running() as pool:
        for device in ("cpu", PAIR, OTHERS, "cpu:0"):
            with pytest.raises(ApiError):
                await pool.load("m", "/bad", device)
            assert (report_of(pool).device, report_of(pool).status) == (device, "failed")
        await pool.load("m", "/m", PAIR)
        assert report_of(pool).device == PAIR


async def test_a_group_whose_ranks_do_not_start_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_place: Any, _host: str, _port: int) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit(5)", "rank"]

    whole = tp_leader._command
    async with running(TWICE) as pool:
        monkeypatch.setattr(tp_leader, "_command", broken)
        with pytest.raises(ApiError, match="exited with code 5"):
            await pool.load("m", "/m", PAIR)
        await until(lambda: ranks() == 0)
        assert report_of(pool).status == "failed"
        monkeypatch.setattr(tp_leader, "_command", whole)
        await pool.load("m", "/m", PAIR)
        assert report_of(pool).status == "loaded", "whoever asks again gets a group of its own, with a fresh budget"


async def test_a_group_that_died_too_often_is_given_up_and_comes_back_when_somebody_asks() -> None:
    async with running(RestartPolicy(max=0, backoff=Duration(0.01))) as pool:
        await pool.load("m", "/m", PAIR)
        await pool.load("n", "/n", "cpu:1")
        rank_processes()[1].kill()
        await until(lambda: report_of(pool).status == "failed")
        assert "its rank 1 killed by SIGKILL" in (report_of(pool).error or "")
        assert report_of(pool, "n").status == "loaded"
        await pool.restart(PAIR, force=False)
        assert (report_of(pool).status, ranks()) == ("loaded", 2)
        rank_processes()[1].kill()
        await until(lambda: report_of(pool).status == "failed")
        await pool.load("m", "/m", PAIR)
        assert (report_of(pool).status, ranks()) == ("loaded", 2)


async def test_a_group_is_restarted_by_its_name_and_leaves_single_workers_alone() -> None:
    async with running() as pool:
        await pool.load("m", "/m", PAIR)
        await pool.load("n", "/n", "cpu")
        before, single = {each.pid for each in rank_processes()}, pool._workers["device-worker:cpu"].pid
        await pool.restart(PAIR, force=False)
        assert before.isdisjoint(each.pid for each in rank_processes())
        assert (ranks(), report_of(pool).status, pool._workers["device-worker:cpu"].pid) == (2, "loaded", single)
        await pool.unload("m")
        with pytest.raises(ApiError, match=r"There is no device 'cpu\+cpu:0'; this host has cpu, cpu:0, cpu:1"):
            await pool.restart(PAIR, force=False)


async def test_a_group_that_loses_its_last_model_while_it_is_restarted_does_not_come_back() -> None:
    async with running() as pool:
        await pool.load("m", "/m", PAIR)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: pool.restart(PAIR, force=True))
            await trio.testing.wait_all_tasks_blocked()
            await pool.unload("m")
        await trio.testing.wait_all_tasks_blocked()
        assert (ranks(), len(names(pool)), pool.reports()) == (0, 3, ())


async def test_a_load_that_nobody_waits_for_any_more_goes_on_and_its_failure_leaves_no_process() -> None:
    async with running() as pool:
        with trio.move_on_after(0.01):
            await pool.load("m", "/bad", PAIR)
        await until(lambda: report_of(pool).status == "failed" and ranks() == 0)
        with trio.move_on_after(0.01):
            await pool.load("n", "/n", PAIR)
        await until(lambda: report_of(pool, "n").status == "loaded")
        assert ranks() == 2


async def test_an_unload_that_nobody_waits_for_still_ends_the_group() -> None:
    async with running() as pool:
        await pool.load("m", "/m", PAIR)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.unload("m")
        assert (ranks(), pool.reports()) == (0, ())


async def test_a_load_while_the_group_ends_waits_and_makes_another_one() -> None:
    async with running() as pool:
        await pool.load("m", "/m", PAIR)
        before = {each.pid for each in rank_processes()}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.unload, "m")
            await until(lambda: len(names(pool)) == len(DEVICES))
            nursery.start_soon(pool.load, "n", "/n", PAIR)
            nursery.start_soon(pool.load, "n", "/n", PAIR)
        assert [(report.id, report.status) for report in pool.reports()] == [("n", "loaded")]
        assert ranks() == 2
        assert before.isdisjoint(each.pid for each in rank_processes())


async def test_ranks_elsewhere_meet_the_leader_where_the_load_says(
    meetings: list[tuple[str, int]],
) -> None:
    first, second = (Elsewhere(1, "127.0.0.2", free_port(), "t" * 64) for _ in range(2))
    async with running() as pool:
        await pool.load("m", "/m", "cpu", elsewhere=first)
        await pool.load("n", "/n", "cpu")
        assert meetings == [(first.host, first.port)]
        assert (ranks(), report_of(pool).device, names(pool)[3:]) == (1, "cpu", ["tp-leader:cpu/m"])
        await pool.restart("cpu", force=False)
        assert len(meetings) == 1, "what is called so is the worker of the device"
        await pool.unload("m")
        assert (ranks(), report_of(pool, "n").status) == (0, "loaded")
        await pool.load("m", "/m", "cpu", elsewhere=second)
        assert meetings[1:] == [(second.host, second.port)]


async def test_a_failed_load_over_several_hosts_is_tried_again_with_the_new_token(
    meetings: list[tuple[str, int]],
) -> None:
    asked = [Elsewhere(1, "127.0.0.2", free_port(), token * 64) for token in "ab"]
    async with running(TWICE) as pool:
        with pytest.raises(ApiError):
            await pool.load("m", "/deadly", "cpu", elsewhere=asked[0])
        await pool.load("m", "/m", "cpu", elsewhere=asked[1])
        assert meetings[-1] == (asked[1].host, asked[1].port)
        assert report_of(pool).status == "loaded"


async def test_a_pool_that_ends_takes_no_group() -> None:
    pool = DevicePool(DEVICES, OFTEN)
    with pytest.raises(ApiError, match="shutting down"):
        await pool.load("m", "/m", PAIR)


async def test_the_end_of_a_pool_ends_a_group_in_the_middle_of_a_load() -> None:
    async with running() as pool:
        with trio.move_on_after(0.5):
            await pool.load("m", "/slow", PAIR)
        assert ranks() == 2
