"""What the fork server makes are processes like those that programs begin: nothing of the server is left in them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from forks import ForkServer, can_fork, forking

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes are handed from parent to parent on Linux alone")
SCRIPT = """
import json, os, signal, sys
pipe = int(sys.argv[1])
listed = sorted(map(int, os.listdir("/proc/self/fd")))  # by way of one that is gone by now
fds = [each for each in listed if os.path.exists(f"/proc/self/fd/{each}")]
facts = {
    "argv": sys.argv, "fds": fds, "session": os.getsid(0) == os.getpid(), "directory": os.getcwd(),
    "environment": dict(os.environ), "parent": os.getppid(), "torch": "torch" in sys.modules,
    "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
}
os.write(pipe, json.dumps(facts).encode())
print("said")
sys.stdin.read()
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def _forked(fork_server: ForkServer) -> Iterator[None]:
    with forking(fork_server, lambda command: command[1].endswith("script.py")):
        yield


@pytest.fixture
def script(tmp_path: Path) -> str:
    found = tmp_path / "script.py"
    found.write_text(SCRIPT)
    return str(found)


def begin(script: str, directory: Path, told: int) -> "subprocess.Popen[bytes]":
    command, environment = [sys.executable, script, str(told)], {"ONLY": "this"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        pass_fds=[told],
        cwd=directory,
        start_new_session=True,
    )


def test_a_fork_is_a_child_with_what_it_was_given_and_nothing_else(script: str, tmp_path: Path) -> None:
    hear, tell = os.pipe()
    with begin(script, tmp_path, tell) as process:
        facts = json.loads(os.read(hear, 1 << 16))
        child = psutil.Process(process.pid)
        assert [each for each in child.cmdline() if each] == [sys.executable, script, str(tell)]
        assert child.ppid() == facts.pop("parent") == os.getpid()
        out, _ = process.communicate()
    for fd in (hear, tell):
        os.close(fd)
    assert (out, process.returncode) == (b"said\n", 7)
    assert facts == {
        "argv": [script, str(tell)],
        "fds": sorted({0, 1, 2, tell}),
        "session": True,
        "directory": str(tmp_path),
        "environment": {"ONLY": "this"},
        "torch": True,
        "interrupts": True,
    }


def test_the_end_of_a_fork_is_told_as_it_was(script: str, tmp_path: Path) -> None:
    hear, tell = os.pipe()
    with begin(script, tmp_path, tell) as process:
        assert os.read(hear, 1 << 16)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    for fd in (hear, tell):
        os.close(fd)


def test_other_programs_are_begun_as_ever(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys; print('torch' in sys.modules)"], capture_output=True, check=True
    )
    assert said.stdout == b"False\n"
