"""Groups of real ranks: the tokens of one process, whichever host a rank is on, and again after one has died."""

import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import trio
from children import rank_children
from structlog.testing import capture_logs
from transformers import LlamaConfig, LlamaForCausalLM

from actors.actor import ActorStatus
from actors.device_worker import DeviceWorker, WorkerDiedError
from actors.supervisor import Supervisor
from actors.tp_leader import Meeting, TpFollower, TpLeader
from config import RestartPolicy
from config.units import Duration
from helexa.tiny import CHECKPOINT
from helexa.wire.errors import ApiError
from helexa.wire.sampling import SamplingParams

pytestmark = pytest.mark.usefixtures("forked_engines")
BUNDLED = str(CHECKPOINT)
PROMPTS = [[(7 * index + 3) % 300 for index in range(length)] for length in (3, 17, 60)]
GREEDY = SamplingParams(temperature=0, max_tokens=24)
SEEDED = SamplingParams(temperature=0.7, seed=7, max_tokens=8)
OFTEN = RestartPolicy(max=5, backoff=Duration(0.01))
START_SECONDS = 60.0


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


async def tokens(worker: DeviceWorker, sampling: SamplingParams = GREEDY) -> list[list[int]]:
    """What all prompts are continued with, asked at once."""
    found: dict[int, list[int]] = {}

    async def ask(number: int, prompt: Sequence[int]) -> None:
        generation = worker.submit("m", list(prompt), sampling, "key")
        while news := await generation.progress():
            for each in news:
                found.setdefault(number, []).extend(each.ids)
        generation.close()

    with trio.fail_after(START_SECONDS):
        async with trio.open_nursery() as nursery:
            for number, prompt in enumerate(PROMPTS):
                nursery.start_soon(ask, number, prompt)
    return [found[number] for number in sorted(found)]


@asynccontextmanager
async def running(worker: DeviceWorker) -> AsyncIterator[None]:
    """The worker once, without a supervisor, with the bundled model."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(WorkerDiedError):
                await worker.run()

        nursery.start_soon(run)
        with trio.fail_after(START_SECONDS):
            await worker.load("m", BUNDLED)
        yield
        nursery.cancel_scope.cancel()


def heard_on(process: psutil.Process) -> set[str]:
    return {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}


@pytest.fixture
def odd(tmp_path: Path) -> str:
    """A model with one key head, which two ranks cannot share."""
    shape = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    with torch.random.fork_rng():
        LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=1)).save_pretrained(tmp_path)
    return str(tmp_path)


async def test_two_ranks_serve_as_one_process_does(odd: str) -> None:
    single = DeviceWorker("cpu", threads=1)
    async with running(single):
        expected = await tokens(single)
    group = TpLeader(["cpu", "cpu"])
    async with running(group):
        assert sorted(rank_children()) == [0, 1]
        assert {address for each in rank_children().values() for address in heard_on(each)} == {"127.0.0.1"}
        assert await tokens(group) == expected
        drawn = await tokens(group, SEEDED)
        with pytest.raises(ApiError, match="its 1 key and value heads cannot be shared evenly by 2 devices"):
            await group.load("odd", odd)
        with pytest.raises(ApiError, match="there is no directory '/nowhere'"):
            await group.load("gone", "/nowhere")
        await group.unload("m")
        await group.load("m", BUNDLED)
        assert await tokens(group) == expected, "what could not be loaded, and what was unloaded, left nothing behind"
        assert await tokens(group, SEEDED) == drawn
    assert not rank_children()


class Ends:
    """What a supervisor is told of the ends of its actors."""

    def __init__(self) -> None:
        self._heard, self._told = trio.open_memory_channel[str](100)

    def note(self, status: ActorStatus) -> None:
        self._heard.send_nowait(status.last_error or "")

    async def wait_for(self, reason: str) -> None:
        with trio.fail_after(10):
            while reason not in await self._told.receive():
                pass


async def test_a_group_is_rebuilt_when_a_rank_dies_or_stands_still() -> None:
    group, ends = TpLeader(["cpu", "cpu"], meeting=Meeting(patience=1.0)), Ends()
    supervisor = Supervisor("test", on_change=ends.note)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.spawn(group, OFTEN, escalate=False)
        with trio.fail_after(START_SECONDS):
            await group.load("m", BUNDLED)
        expected = await tokens(group)
        for sign, reason in (
            (signal.SIGKILL, "its rank 1 killed by SIGKILL"),
            (signal.SIGSTOP, "its rank 0 waited too long for another rank"),
        ):
            before = rank_children()
            generation = group.submit("m", PROMPTS[2], SamplingParams(temperature=0, max_tokens=1500), "key")
            await generation.progress()
            before[1].send_signal(sign)
            await ends.wait_for(reason)
            assert group.reports()[0].status == "recovering"
            assert not any(each.is_running() for each in before.values())
            generation.close()
            with trio.fail_after(START_SECONDS):
                await group.wait_settled()
            assert await tokens(group) == expected
        nursery.cancel_scope.cancel()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_ranks_of_two_hosts_serve_as_one() -> None:
    meeting = Meeting("127.0.0.1", free_port(), "a secret that both hosts know", elsewhere=1)
    group, ends = TpLeader(["cpu"], threads=1, meeting=meeting), Ends()
    far = TpFollower("cpu", rank=1, ranks=2, own="127.0.0.2", meeting=meeting, threads=1)
    supervisor = Supervisor("test", on_change=ends.note)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.spawn(far, OFTEN, escalate=False)
        supervisor.spawn(group, OFTEN, escalate=False)
        with trio.fail_after(START_SECONDS):
            await group.load("m", BUNDLED)
        expected = await tokens(group)
        ranks = rank_children()
        assert (heard_on(ranks[0]), heard_on(ranks[1])) == ({"127.0.0.1"}, {"127.0.0.2"})
        ranks[1].kill()
        await ends.wait_for("its rank 0 lost another rank")
        with trio.fail_after(START_SECONDS):
            await group.wait_settled()
        assert await tokens(group) == expected
        nursery.cancel_scope.cancel()
