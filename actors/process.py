"""Child processes that end when they should: stopped in order, killed when they do not listen, gone with their parent.

A child learns that its parent died from its stdin, a pipe that ends with the parent whatever killed it; the child's
side is `helexa.lifeline`. Linux's PR_SET_PDEATHSIG looks like less work, but it is tied to the *thread* that forked,
and trio forks in worker threads that end when they have been idle: the signal would come to healthy children.
"""

import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE
from typing import Final, Self

import structlog
import trio
from attrs import frozen

_KILL_TIMEOUT: Final = 5.0
"""Seconds a killed process may take to end; longer means that it is stuck in the kernel, in a driver as a rule."""

_log = structlog.get_logger()


class ProcessStuckError(Exception):
    """A process is still there although it was sent SIGKILL; only the kernel can end it."""


@frozen
class Exit:
    """How a process ended; `str()` says it as the rest of a sentence that begins with the process.

    Attributes:
        code: The exit code; None when a signal ended it.
        signal: The signal's name, such as "SIGKILL"; None when it exited by itself.
    """

    code: int | None
    signal: str | None

    @classmethod
    def from_returncode(cls, returncode: int) -> Self:
        """Read a return code as `subprocess` gives it: negative for a signal."""
        if returncode >= 0:
            return cls(returncode, None)
        try:
            return cls(None, signal.Signals(-returncode).name)
        except ValueError:  # a real-time signal, most of which have no name
            return cls(None, f"signal {-returncode}")

    def __str__(self) -> str:
        return f"killed by {self.signal}" if self.signal is not None else f"exited with code {self.code}"


class ChildProcess:
    """A child process in a session, and so a process group, of its own.

    Made by `spawn`. Whoever spawned it awaits `stop` in the end, or `wait` to its return. Nothing else reaps the child:
    until it is reaped its process ID, which is also its group's, cannot name anything else, so that signals cannot go
    astray.
    """

    def __init__(self, name: str, process: trio.Process) -> None:
        self._name = name
        self._process = process
        self._pidfd = _open_pidfd(process.pid)
        self._exit: Exit | None = None
        self._waiting = trio.Lock()  # an fd has one waiting task at most

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        name: str,
    ) -> Self:
        """Start a program; stdout and stderr are inherited, stdin is the lifeline.

        A session of its own keeps the terminal's Ctrl-C from it: that reaches the root process, which stops its
        children in order. A cancelled call leaves no process behind.

        Args:
            argv: The program and its arguments.
            env: The whole environment; None inherits.
            pass_fds: File descriptors it shall inherit; the caller keeps its own and closes them.
            name: What logs and errors call it.

        Raises:
            OSError: It cannot be started.
        """
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=PIPE,
            env=None if env is None else dict(env),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
        child = cls(name, process)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()  # a fork once begun is finished; the caller never saw it
        except trio.Cancelled:
            await child.stop(grace=0)
            raise
        return child

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return self._name

    @property
    def pid(self) -> int:
        """Its process ID, which is its group's and its session's as well."""
        return self._process.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended, once `wait` or `stop` has seen it end."""
        return self._exit

    async def wait(self) -> Exit:
        """Wait for its end, kill what it left in its process group, and reap it. Any number of tasks may wait."""
        async with self._waiting:
            if self._exit is None:
                await self._wait_dead()
                self._kill_group()  # nobody else would ever stop what its leader left behind
                self._exit = Exit.from_returncode(await self._process.wait())
                await self._release()
        return self._exit

    async def stop(self, grace: float) -> Exit:
        """SIGTERM, wait for `grace` seconds, SIGKILL to the whole process group. Again is fine.

        It runs to its end even when the caller is cancelled, which takes `grace` plus a few seconds at most. With a
        `grace` of 0 there is no SIGTERM.

        Raises:
            ProcessStuckError: SIGKILL did not end it.
        """
        with trio.CancelScope(shield=True):
            if self._exit is None and grace > 0:
                self._terminate()
                await self._wait_for(grace)
            if self._exit is None:
                await self._kill(grace)
        assert self._exit is not None
        return self._exit

    async def _kill(self, grace: float) -> None:
        if grace > 0:
            _log.warning("process ignores SIGTERM and is killed", process=self._name, pid=self.pid, grace=grace)
        self._kill_group()
        await self._wait_for(_KILL_TIMEOUT)
        if self._exit is None:
            raise ProcessStuckError(
                f"{self._name} (process {self.pid}) is still there {_KILL_TIMEOUT:g} s after SIGKILL; "
                "it is stuck in the kernel, perhaps in a device driver"
            )

    async def _wait_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.wait()

    async def _wait_dead(self) -> None:
        """Wait for the process to end, without reaping it where the system can tell (Linux)."""
        if self._pidfd is not None:
            await trio.lowlevel.wait_readable(self._pidfd)
        else:
            await self._process.wait()

    async def _release(self) -> None:
        if self._pidfd is not None:
            self._pidfd.close()
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    def _terminate(self) -> None:
        # not `Process.terminate`: it reaps a process that has just ended, and what is left of its group is missed
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty; macOS says EPERM when all are zombies
            os.killpg(self.pid, signal.SIGKILL)


def _open_pidfd(pid: int) -> io.FileIO | None:
    if sys.platform != "linux":
        return None
    try:
        return io.FileIO(os.pidfd_open(pid))
    except OSError:  # kernels before 5.3, some sandboxes
        return None
