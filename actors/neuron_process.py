"""Owns a process of this host that serves, as a neuron does: starts it, waits for that, replaces it when it dies."""

import abc
import os
from collections.abc import Callable, Mapping

import trio

from actors import python
from actors.actor import Actor
from actors.process import ChildProcess

READY_SECONDS = 60.0
STOP_SECONDS = 5.0


class ServiceDiedError(Exception):
    """The process ended, or never served."""


class NeuronDiedError(ServiceDiedError):
    """The neuron's process ended, or never served."""


class ServiceProcess(Actor):
    """A child process of helexa's own that says when it serves.

    Args:
        name: the actor's.
        subject: what the process is, as sentences about it begin.
        env: its environment.
        on_change: called whenever a process of its serves, and whenever one has ended.
    """

    died: type[ServiceDiedError] = ServiceDiedError
    """What is raised once it has ended."""

    def __init__(self, name: str, subject: str, env: Mapping[str, str], on_change: Callable[[], None]) -> None:
        self.name = name
        self._subject = subject
        self._env = python.environment(env)
        self._on_change = on_change

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run one process until it ends.

        Raises:
            ServiceDiedError: it ended; the supervisor starts the next one.
        """
        read_end, write_end = os.pipe()
        async with trio.lowlevel.FdStream(read_end) as ready:
            try:
                child = await ChildProcess.spawn(
                    self._command(write_end),
                    env=self._environment(write_end),
                    pass_fds=(write_end,),
                    name=self.name,
                )
            finally:
                os.close(write_end)  # so that the pipe ends with the child
            try:
                await self._wait_ready(ready, child)
                task_status.started()
                self._on_change()
                ended = await child.wait()
            finally:
                await child.stop(STOP_SECONDS)
                self._on_change()
        raise self.died(f"{self._subject} is gone: {ended}")

    @abc.abstractmethod
    def _command(self, ready_fd: int) -> list[str]:
        """Its command line, given where it is to say that it serves."""

    def _environment(self, ready_fd: int) -> dict[str, str]:  # noqa: ARG002 - for those that are told in this way
        return self._env

    async def _wait_ready(self, ready: trio.abc.ReceiveStream, child: ChildProcess) -> None:
        """Wait for the child's word that it serves.

        A look at its port instead would also be content with a stranger that listens there.
        """
        with trio.move_on_after(READY_SECONDS):
            if await ready.receive_some(1):
                return
            ended = await child.wait()
            raise self.died(f"{self._subject} {ended} before it served")
        raise self.died(f"{self._subject} did not serve within {READY_SECONDS:g} s")


class NeuronProcess(ServiceProcess):
    """A neuron child process.

    Args:
        name: the neuron's name in the topology.
        topology: the file it is to read; the same one this process has read.
        env: its environment.
        on_change: called whenever a process of its serves, and whenever one has ended.
    """

    died = NeuronDiedError

    def __init__(self, name: str, topology: str, env: Mapping[str, str], on_change: Callable[[], None]) -> None:
        super().__init__(f"neuron:{name}", f"the process of neuron '{name}'", env, on_change)
        self._neuron = name
        self._topology = topology

    def _command(self, ready_fd: int) -> list[str]:
        arguments = ("neuron", self._topology, "--name", self._neuron, "--ready-fd", str(ready_fd))
        return python.command("helexa", *arguments)
