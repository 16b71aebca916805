"""Real child processes: however they or their parent end, nothing is left.

Whether processes are gone is seen on a pipe whose write end they inherit: it ends when the last of them has. Looking
for process IDs would be fooled by IDs used again, and by orphans that whatever is process 1 here never reaps.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from attrs import define
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from actors import ChildProcess, Exit, ProcessStuckError
from actors import process as process_module

ROOT = Path(process_module.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

READY = "import os, signal, sys, time; say = lambda text: os.write(int(sys.argv[1]), text); "
SERVE = READY + "say(b'ready'); time.sleep(60)"
DEAF = READY + "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(b'ready'); time.sleep(60)"
POLITE = READY + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); say(b'ready'); time.sleep(60)"
LEAVES_ONE_BEHIND = READY + (
    "import subprocess; fd = int(sys.argv[1]); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], pass_fds=[fd]); say(b'ready'); "
)
GRANDCHILD = (
    "import os, signal, sys, time; from helexa import lifeline; "
    "lifeline.watch(lambda: os.kill(os.getpid(), signal.SIGTERM), grace=1); "
    "os.write(int(sys.argv[1]), b'ready'); time.sleep(60)"
)
PARENT = f"""
import sys, trio
from actors import ChildProcess
async def main():
    fd = int(sys.argv[1])
    argv = [sys.executable, "-c", {GRANDCHILD!r}, sys.argv[1]]
    child = await ChildProcess.spawn(argv, pass_fds=[fd], name="grandchild")
    await child.wait()
trio.run(main)
"""


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = set(psutil.Process().children())
    yield
    left = set(psutil.Process().children()) - before  # zombies included
    assert left == set()


@define
class Pipe:
    """What children write to, and hold open while they live."""

    reader: trio.lowlevel.FdStream
    write_fd: int

    async def spawn(self, program: str) -> ChildProcess:
        """Start a Python program and wait until it says that it is ready; the parent's write end is closed then."""
        argv = [sys.executable, "-c", program, str(self.write_fd)]
        child = await ChildProcess.spawn(argv, env=ENVIRONMENT, pass_fds=[self.write_fd], name="child")
        os.close(self.write_fd)
        self.write_fd = -1
        assert await self.reader.receive_some(5) == b"ready"
        return child

    async def ended(self) -> bool:
        """Wait until everybody who holds the write end is gone."""
        with trio.move_on_after(3):
            return await self.reader.receive_some(1) == b""
        return False


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    read_fd, write_fd = os.pipe()
    made = Pipe(trio.lowlevel.FdStream(read_fd), write_fd)
    yield made
    if made.write_fd >= 0:
        os.close(made.write_fd)
    await made.reader.aclose()


async def spawn(program: str) -> ChildProcess:
    return await ChildProcess.spawn([sys.executable, "-c", program], name="child")


@pytest.mark.parametrize(
    ("returncode", "expected", "sentence"),
    [
        (0, Exit(0, None), "exited with code 0"),
        (3, Exit(3, None), "exited with code 3"),
        (-9, Exit(None, "SIGKILL"), "killed by SIGKILL"),
        (-11, Exit(None, "SIGSEGV"), "killed by SIGSEGV"),
        (-40, Exit(None, "signal 40"), "killed by signal 40"),
    ],
)
def test_an_exit_says_what_happened(returncode: int, expected: Exit, sentence: str) -> None:
    assert Exit.from_returncode(returncode) == expected
    assert str(expected) == sentence


async def test_wait_returns_the_exit_code_again_and_again() -> None:
    child = await spawn("raise SystemExit(3)")
    before = child.exit
    assert await child.wait() == await child.wait() == Exit(3, None)
    assert (before, child.exit) == (None, Exit(3, None))


async def test_wait_names_the_signal() -> None:
    child = await spawn("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert str(await child.wait()) == "killed by SIGKILL"


async def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await ChildProcess.spawn(["/no-such-program"], name="child")


async def test_the_child_leads_a_session_of_its_own() -> None:
    child = await spawn("import os; raise SystemExit(os.getsid(0) == os.getpgrp() == os.getpid())")
    assert await child.wait() == Exit(1, None)


async def test_the_environment_is_the_given_one() -> None:
    program = "import os; raise SystemExit(int(os.environ['WANTED']) + ('UNWANTED' in os.environ))"
    child = await ChildProcess.spawn([sys.executable, "-c", program], env={"WANTED": "4"}, name="child")
    assert await child.wait() == Exit(4, None)


async def test_stdin_stays_open_while_the_parent_lives() -> None:
    child = await spawn("import select, sys; sys.exit(3 if select.select([0], [], [], 0.1)[0] else 7)")
    assert await child.wait() == Exit(7, None)


async def test_any_number_of_tasks_may_wait(pipe: Pipe) -> None:
    child = await pipe.spawn(POLITE)
    exits: list[Exit] = []

    async def wait() -> None:
        exits.append(await child.wait())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        os.kill(child.pid, signal.SIGTERM)
    assert exits == [Exit(3, None)] * 3


async def test_a_cancelled_wait_can_be_taken_up_again(pipe: Pipe) -> None:
    child = await pipe.spawn(POLITE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    os.kill(child.pid, signal.SIGTERM)
    assert await child.wait() == Exit(3, None)


async def test_stop_asks_politely_first(pipe: Pipe) -> None:
    child = await pipe.spawn(POLITE)
    assert await child.stop(grace=5) == Exit(3, None)


async def test_a_child_that_ignores_sigterm_is_killed(pipe: Pipe, logs: list[dict[str, object]]) -> None:
    child = await pipe.spawn(DEAF)
    begin = trio.current_time()
    assert await child.stop(grace=0.2) == Exit(None, "SIGKILL")
    assert trio.current_time() - begin >= 0.2
    [entry] = logs
    assert (entry["process"], entry["pid"], entry["grace"]) == ("child", child.pid, 0.2)


async def test_a_suspended_child_cannot_act_on_sigterm_and_is_killed(pipe: Pipe) -> None:
    child = await pipe.spawn(POLITE)
    os.kill(child.pid, signal.SIGSTOP)
    assert await child.stop(grace=0.1) == Exit(None, "SIGKILL")


async def test_no_grace_means_no_sigterm(pipe: Pipe) -> None:
    child = await pipe.spawn(POLITE)
    assert await child.stop(grace=0) == Exit(None, "SIGKILL")


async def test_stop_again_is_fine_and_returns_the_same(pipe: Pipe) -> None:
    child = await pipe.spawn(SERVE)
    assert await child.stop(grace=5) == await child.stop(grace=5) == Exit(None, "SIGTERM")


async def test_stop_of_a_child_that_has_ended_returns_how_it_ended(pipe: Pipe) -> None:
    child = await pipe.spawn(READY + "say(b'ready'); sys.exit(5)")
    assert await pipe.ended()
    assert await child.stop(grace=1) == Exit(5, None)


async def test_two_tasks_stop_one_child_while_a_third_waits(pipe: Pipe) -> None:
    child = await pipe.spawn(DEAF)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(child.stop, 0.1)
        nursery.start_soon(child.wait)
    assert child.exit == Exit(None, "SIGKILL")


async def test_stop_works_under_cancellation(pipe: Pipe) -> None:
    child = await pipe.spawn(DEAF)
    with trio.CancelScope() as scope:
        scope.cancel()
        await child.stop(grace=0.1)
    assert child.exit == Exit(None, "SIGKILL")
    assert await pipe.ended()


async def test_killing_takes_the_whole_process_group(pipe: Pipe) -> None:
    child = await pipe.spawn(LEAVES_ONE_BEHIND + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    await child.stop(grace=0.1)
    assert await pipe.ended()


async def test_a_polite_leader_leaves_nobody_of_its_group_behind(pipe: Pipe) -> None:
    child = await pipe.spawn(LEAVES_ONE_BEHIND + "time.sleep(60)")
    assert await child.stop(grace=5) == Exit(None, "SIGTERM")
    assert await pipe.ended()


async def test_a_leader_that_exits_by_itself_leaves_nobody_behind(pipe: Pipe) -> None:
    child = await pipe.spawn(LEAVES_ONE_BEHIND)
    assert await child.wait() == Exit(0, None)
    assert await pipe.ended()


async def test_a_grandchild_in_its_own_session_ends_when_its_parent_is_killed(pipe: Pipe) -> None:
    child = await pipe.spawn(PARENT)
    os.kill(child.pid, signal.SIGKILL)
    assert await child.wait() == Exit(None, "SIGKILL")
    assert await pipe.ended()


async def test_spawn_in_a_cancelled_scope_starts_nothing(pipe: Pipe) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pipe.spawn(SERVE)
    assert scope.cancelled_caught


async def test_spawn_cancelled_while_the_process_is_made_leaves_nothing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_process = trio.lowlevel.open_process
    with trio.CancelScope() as scope:

        async def cancelled_meanwhile(*args: Any, **kwargs: Any) -> trio.Process:
            with trio.CancelScope(shield=True):  # the thread that forks is not interrupted either
                process = await open_process(*args, **kwargs)
            scope.cancel()
            return process

        monkeypatch.setattr(trio.lowlevel, "open_process", cancelled_meanwhile)
        await pipe.spawn(DEAF)
    os.close(pipe.write_fd)
    pipe.write_fd = -1
    assert scope.cancelled_caught
    assert await pipe.ended()


async def test_a_process_that_outlives_sigkill_is_reported(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    child = await pipe.spawn(DEAF)
    with monkeypatch.context() as patch:
        patch.setattr(process_module, "_KILL_TIMEOUT", 0.1)
        patch.setattr(os, "killpg", lambda *_: None)
        with pytest.raises(
            ProcessStuckError, match=rf"child \(process {child.pid}\) is still there 0.1 s after SIGKILL"
        ):
            await child.stop(grace=0.1)
    assert child.exit is None
    assert await child.stop(grace=0) == Exit(None, "SIGKILL")


async def test_without_pidfds_everything_ends_as_well(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_open_pidfd", lambda _pid: None)
    child = await pipe.spawn(LEAVES_ONE_BEHIND + "time.sleep(60)")
    assert await child.stop(grace=5) == Exit(None, "SIGTERM")
    assert await pipe.ended()


async def test_a_child_that_has_ended_holds_no_descriptors() -> None:
    before = open_descriptors()
    child = await spawn("pass")
    during = open_descriptors()
    await child.wait()
    assert during > before == open_descriptors()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_name_and_process_id_are_known() -> None:
    child = await spawn("pass")
    assert child.name == "child"
    assert child.pid > 0
    await child.stop(grace=1)
