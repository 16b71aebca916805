"""Fleets for the end-to-end tests: real processes with the bundled model.

Most of them are forked with their imports behind them. They are started from nothing, as users do, in `test_operator`,
in `test_bench_serve` and by the console; what takes the place of a process that was killed is, too, but for spares.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from fleet_forks import is_helexa
from forked_fleets import serving
from forks import ForkServer, can_fork, forking
from harness import Fleet, make_fleet


@pytest.fixture(scope="session")
def fleet_server() -> Iterator[ForkServer | None]:
    """Forks whatever is to run helexa; there is none where processes cannot be handed from one parent to another."""
    if not can_fork():
        yield None
        return
    with serving() as server:
        yield server


@pytest.fixture
def forked(fleet_server: ForkServer | None) -> Iterator[None]:
    """What this test starts of helexa's has its imports behind it when it begins."""
    with nullcontext() if fleet_server is None else forking(fleet_server, is_helexa):
        yield


@pytest.fixture(scope="module")
def forked_fleets(fleet_server: ForkServer | None) -> Iterator[None]:
    """The same for all that this module starts."""
    with nullcontext() if fleet_server is None else forking(fleet_server, is_helexa):
        yield


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, fleet_server: ForkServer | None) -> Iterator[Fleet]:
    """One fleet for the tests of all modules; none of them breaks it, or changes what it is."""
    with nullcontext() if fleet_server is None else forking(fleet_server, is_helexa):
        running = make_fleet(tmp_path_factory.mktemp("fleet")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that the test may break; whatever is left of it is ended."""
    running = make_fleet(tmp_path).start()
    family = running.family()
    yield running
    for process in family:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            os.kill(process.pid, signal.SIGKILL)
    running.process.wait(10)
