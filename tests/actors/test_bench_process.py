"""The process of the benchmark loop, as `helexa up` runs it."""

import os
import sys
from pathlib import Path

import pytest
import trio

from actors.bench_process import READY_FD, BenchProcess
from actors.neuron_process import NeuronDiedError, ServiceDiedError


class Scripted(BenchProcess):
    """A loop that runs a program."""

    program = ""

    def _command(self, ready_fd: int) -> list[str]:  # noqa: ARG002 - told in its environment
        return [sys.executable, "-c", f"import os, sys; {self.program}"]


async def died(process: BenchProcess) -> str:
    with trio.fail_after(20), pytest.raises(ServiceDiedError) as caught:
        await process.run()
    assert not isinstance(caught.value, NeuronDiedError)
    return str(caught.value)


def test_its_command_is_what_an_operator_would_type() -> None:
    process = BenchProcess("/etc/fleet.toml", {"A": "b"})
    assert process.name == "bench"
    assert process._command(7)[-5:] == ["-m", "helexa", "bench", "serve", "/etc/fleet.toml"]
    assert process._environment(7)["A"] == "b"
    assert process._environment(7)[READY_FD] == "7"


async def test_it_is_told_in_its_environment_where_to_say_that_it_serves(no_process_is_left: None) -> None:
    process = Scripted("t.toml", os.environ)
    process.program = f"os.write(int(os.environ['{READY_FD}']), b'x'); sys.stdin.read()"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(process.run)
            nursery.cancel_scope.cancel()


async def test_one_that_ends_before_it_serves(no_process_is_left: None) -> None:
    process = Scripted("t.toml", os.environ)
    process.program = "sys.exit(2)"
    assert await died(process) == "the process of the benchmark loop exited with code 2 before it served"


async def test_a_real_one_whose_topology_is_not_there_ends_with_wrong_usage(
    no_process_is_left: None, tmp_path: Path
) -> None:
    assert "exited with code 2 before it served" in await died(BenchProcess(str(tmp_path / "absent.toml"), os.environ))
