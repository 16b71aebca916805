"""A neuron's process, of which a small script stands in: ready, never ready, gone too early, gone later."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trio
from attrs import define, field
from structlog.testing import capture_logs

from actors import Supervisor, neuron_process
from actors.neuron_process import NeuronDiedError, NeuronProcess
from config import RestartPolicy
from config.units import Duration

PREAMBLE = "import os, signal, sys, time; fd = int(sys.argv[1]); ready = lambda: (os.write(fd, b'\\n'), os.close(fd)); "
LIVE = "sys.stdin.read()"


@define(eq=False)
class Changes:
    """How often the process has come or gone."""

    count: int = 0
    news: trio.Event = field(factory=trio.Event)

    def __call__(self) -> None:
        self.count += 1
        self.news.set()
        self.news = trio.Event()


class Scripted(NeuronProcess):
    """A neuron that runs the next of its programs, the last one again and again."""

    def __init__(self, changes: Changes, *programs: str) -> None:
        super().__init__("n", "topology.toml", os.environ, changes)
        self.programs = list(programs)

    def _command(self, ready_fd: int) -> list[str]:
        program = self.programs.pop(0) if len(self.programs) > 1 else self.programs[0]
        return [sys.executable, "-c", PREAMBLE + program, str(ready_fd)]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = set(psutil.Process().children())
    with capture_logs():
        yield
    assert set(psutil.Process().children()) == before


@pytest.fixture
def changes() -> Changes:
    return Changes()


async def died(process: NeuronProcess) -> str:
    with trio.fail_after(20), pytest.raises(NeuronDiedError) as caught:
        await process.run()
    return str(caught.value)


async def test_it_has_started_when_the_process_says_so(changes: Changes) -> None:
    process = Scripted(changes, f"time.sleep(.1); ready(); {LIVE}")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run)
            assert changes.count == 1
            nursery.cancel_scope.cancel()
    assert changes.count == 2


async def test_one_that_ends_before_it_serves(changes: Changes) -> None:
    reason = await died(Scripted(changes, "sys.exit(2)"))
    assert reason == "the process of neuron 'n' exited with code 2 before it served"


async def test_one_that_ends_later(changes: Changes) -> None:
    reason = await died(Scripted(changes, "ready(); os.kill(os.getpid(), signal.SIGKILL)"))
    assert reason == "the process of neuron 'n' is gone: killed by SIGKILL"
    assert changes.count == 2


async def test_one_that_never_serves_is_ended(changes: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_process, "READY_SECONDS", 0.3)
    reason = await died(Scripted(changes, LIVE))
    assert reason == "the process of neuron 'n' did not serve within 0.3 s"


async def test_one_that_closes_its_pipe_and_lives_on_is_ended(
    changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuron_process, "READY_SECONDS", 0.3)
    assert "did not serve within" in await died(Scripted(changes, f"os.close(fd); {LIVE}"))


async def test_one_that_ignores_sigterm_is_killed(changes: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_process, "STOP_SECONDS", 0.2)
    process = Scripted(changes, "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run)
            nursery.cancel_scope.cancel()


async def test_it_is_replaced_when_it_dies(changes: Changes) -> None:
    process = Scripted(changes, "ready(); sys.exit(1)", "sys.exit(1)", f"ready(); {LIVE}")
    supervisor = Supervisor("test")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            supervisor.spawn(process, RestartPolicy(backoff=Duration(0.01)), escalate=False)
            while changes.count < 4:
                await changes.news.wait()
            (status,) = supervisor.status()
            assert (status.state, status.restarts) == ("running", 2)
            assert "exited with code 1 before it served" in (status.last_error or "")
            nursery.cancel_scope.cancel()


async def test_the_pipe_is_not_left_open(changes: Changes) -> None:
    before = psutil.Process().num_fds()
    await died(Scripted(changes, "sys.exit(2)"))
    assert psutil.Process().num_fds() == before


def test_its_command_reads_like_what_it_is() -> None:
    process = NeuronProcess("beast", "/etc/fleet.toml", {}, lambda: None)
    assert process.name == "neuron:beast"
    command = process._command(7)
    assert command[0] == sys.executable
    tail = ["-m", "helexa", "neuron", "/etc/fleet.toml", "--name", "beast", "--ready-fd", "7"]
    assert command[-len(tail) :] == tail


async def test_a_real_neuron_that_cannot_start_says_so(changes: Changes, tmp_path: Path) -> None:
    """The command as it is, with a file that is not there: exit code 2 is wrong usage."""
    process = NeuronProcess("n", str(tmp_path / "absent.toml"), os.environ, changes)
    assert "exited with code 2 before it served" in await died(process)
