"""The child's side of the lifeline, in real processes whose stdin is the pipe."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helexa import lifeline

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lifeline.__file__).parents[1])}

TERMINATE = "lambda: os.kill(os.getpid(), signal.SIGTERM)"
NOTHING = "lambda: None"
RAISES = "lambda: 1 / 0"
HANGS = "lambda: time.sleep(60)"
SLEEP = "time.sleep(60)"
NATIVE_CALL = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"  # runs for many minutes, without the GIL

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that watches its stdin and then does `main`."""
    children: list[subprocess.Popen[bytes]] = []

    def make(on_end: str, main: str = SLEEP, setup: str = "", grace: float = 0.2) -> subprocess.Popen[bytes]:
        program = (
            f"import hashlib, os, signal, sys, time; from helexa import lifeline; {setup}\n"
            f"lifeline.watch({on_end}, grace={grace}); print('ready', flush=True); {main}"
        )
        command = [sys.executable, "-c", program]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    yield make
    for child in children:
        child.kill()
        child.communicate()


def end(child: "subprocess.Popen[bytes]") -> int:
    """Let go of the lifeline, as the parent's death does."""
    assert child.stdin is not None
    child.stdin.close()
    child.stdin = None
    return child.wait(timeout=3)


def test_the_end_of_the_pipe_asks_for_an_orderly_end(start: Start) -> None:
    orderly = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    assert end(start(TERMINATE, setup=orderly, grace=10)) == 7


def test_a_process_that_does_not_end_is_ended_after_the_grace(start: Start) -> None:
    child = start(NOTHING, grace=0.3)
    begin = time.monotonic()
    assert end(child) == 1
    assert time.monotonic() - begin >= 0.3


def test_the_main_thread_is_in_a_long_native_call(start: Start) -> None:
    """No handler of a signal would run there: only another thread can end the process."""
    assert end(start(NOTHING, main=NATIVE_CALL)) == 1


@pytest.mark.parametrize("on_end", [RAISES, HANGS])
def test_a_callback_that_fails_or_hangs_does_not_save_the_process(start: Start, on_end: str) -> None:
    assert end(start(on_end)) == 1


def test_a_process_that_ends_in_time_keeps_its_exit_code(start: Start) -> None:
    child = start(NOTHING, main="sys.stdin.buffer.read() or time.sleep(0.05); sys.exit(4)", setup="", grace=10)
    assert end(child) == 4


def test_what_is_written_to_the_pipe_is_not_its_end(start: Start) -> None:
    child = start(NOTHING, grace=0)
    assert child.stdin is not None
    child.stdin.write(b"x" * 10_000)
    child.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.2)
    assert end(child) == 1


def test_a_descriptor_made_non_blocking_is_still_watched(start: Start) -> None:
    child = start(NOTHING, setup="os.set_blocking(0, False)", grace=0)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.2)
    assert end(child) == 1


def test_a_descriptor_that_is_not_open_counts_as_ended(start: Start) -> None:
    assert start(NOTHING, setup="os.close(0)", grace=0.1).wait(timeout=3) == 1


def test_another_descriptor_than_stdin_can_be_watched() -> None:
    read_fd, write_fd = os.pipe()
    program = f"import time; from helexa import lifeline; lifeline.watch(lambda: None, fd={read_fd}, grace=0); {SLEEP}"
    child = subprocess.Popen([sys.executable, "-c", program], pass_fds=[read_fd], env=ENVIRONMENT)
    os.close(read_fd)
    os.close(write_fd)
    assert child.wait(timeout=3) == 1


def test_watching_does_not_keep_a_process_alive(start: Start) -> None:
    assert start(NOTHING, main="pass").wait(timeout=3) == 0


def test_the_module_imports_nothing_heavy() -> None:
    program = "import sys, helexa.lifeline; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, text=True).stdout.split()
    assert {"trio", "torch", "attrs", "attr", "structlog", "asyncio"}.isdisjoint(loaded)
