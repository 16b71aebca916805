"""Processes of ours without their imports: seconds of a processor for each, where a test starts one after another.

Real processes all the same, children of this one, with sockets, sessions and signals of their own. That the modules can
be imported from nothing, and that their memory is what is said of it, is tried where they are started as users do.
"""

import array
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faulty_worker
import fork_server
import pytest
from attrs import define, field

from actors import python

_MODULES = ("helexa.engine.worker", "helexa.engine.ranks")
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER."""
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_PADDING = "-" * 4000
_PATIENCE = 60.0
_SIGNATURE = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]  # the one seam there is


def can_fork() -> bool:
    """Whether processes can be handed from one parent to another here."""
    return sys.platform == "linux"


@define(eq=False)
class ForkServer:
    """A process that has imported all, and forks; owns it until ``stop``."""

    process: "subprocess.Popen[bytes]"
    sock: socket.socket
    _asking: threading.Lock = field(factory=threading.Lock)

    @classmethod
    def start(cls, kind: Callable[[], None]) -> "ForkServer":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", fork_server.__file__, str(theirs.fileno()), kind.__name__, _PADDING]
            environment = {**python.environment(), "OPENBLAS_NUM_THREADS": "1"}  # it begins others when it is imported
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is ours
            )
        ours.settimeout(_PATIENCE)
        assert ours.recv(32) == fork_server.READY
        return cls(process, ours)

    def fork(self, job: dict[str, Any], fds: list[int]) -> int:
        """Have a job run by a new child of this process; its number."""
        message = json.dumps(job).encode()
        assert len(message) < fork_server.LARGEST
        inherited = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        with self._asking, _next_reaper():
            self.sock.sendmsg([message], inherited)
            return int(self.sock.recv(32))

    def stop(self) -> None:
        self.sock.close()
        assert self.process.wait(_PATIENCE) == 0


@contextmanager
def _next_reaper() -> Iterator[None]:
    """Whoever loses its parent among this process's descendants becomes its child."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def forking(server: ForkServer, is_its: Callable[[Sequence[str]], bool]) -> Iterator[None]:
    """Within it, command lines that are the server's are run by forks of it; all others are started as ever."""

    class Popen(subprocess.Popen):  # type: ignore[type-arg]  # a class of bytes or text, as it is called
        def _execute_child(self, *values: Any) -> None:
            asked = _SIGNATURE.bind(self, *values).arguments
            if isinstance(asked["args"], str) or not is_its(asked["args"]):
                super()._execute_child(*values)  # type: ignore[misc]  # of the standard library, and private
                return
            self.pid = server.fork(*_job(asked))
            self._child_created = True
            self._close_pipe_fds(*(asked[name] for name in _PIPES))  # type: ignore[attr-defined]  # likewise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        yield


def is_engine(command: Sequence[str]) -> bool:
    """Whether a worker or a rank is to be run."""
    if command[0] != sys.executable:
        return False
    return command[1] == faulty_worker.__file__ or (list(command[1:3]) == ["-P", "-m"] and command[3] in _MODULES)


def is_script(command: Sequence[str]) -> bool:
    """Whether a script that lies in the command line is to be run."""
    return list(command[:2]) == [sys.executable, "-c"]


def _job(asked: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """What ``Popen`` was asked for, and the descriptors that go with it."""
    assert asked["preexec_fn"] is None
    given = [asked[name] if asked[name] != -1 else own for own, name in enumerate(("p2cread", "c2pwrite", "errwrite"))]
    environment = os.environ if asked["env"] is None else asked["env"]
    job = {
        "arguments": list(map(str, asked["args"][1:])),
        "environment": {os.fsdecode(key): os.fsdecode(value) for key, value in environment.items()},
        "directory": str(asked["cwd"] or Path.cwd()),
        "session": bool(asked["start_new_session"]),
        "fds": [0, 1, 2, *asked["pass_fds"]],
    }
    return job, [*given, *asked["pass_fds"]]
