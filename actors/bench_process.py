"""Owns the benchmark loop's process on this host."""

from collections.abc import Mapping
from typing import Final

from actors import python
from actors.neuron_process import ServiceProcess

NAME: Final = "bench"
READY_FD: Final = "HELEXA_READY_FD"
"""The environment variable that tells the process where to say that it serves, and that it has a parent at all. Not an
option: operators type the same command, and are shown what it takes."""


def _nobody() -> None:
    """Nobody waits for it."""


class BenchProcess(ServiceProcess):
    """A process of `helexa bench serve`.

    Args:
        topology: the file it is to read.
        env: its environment.
    """

    def __init__(self, topology: str, env: Mapping[str, str]) -> None:
        super().__init__(NAME, "the process of the benchmark loop", env, _nobody)
        self._topology = topology

    def _command(self, ready_fd: int) -> list[str]:  # noqa: ARG002 - it is told in its environment
        return python.command("helexa", "bench", "serve", self._topology)

    def _environment(self, ready_fd: int) -> dict[str, str]:
        return {**self._env, READY_FD: str(ready_fd)}
