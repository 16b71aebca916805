"""Fleets for the end-to-end tests: real processes with the bundled model."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fork_server import gateways
from forks import ForkServer, can_fork, forking, is_gateway
from harness import Fleet, make_fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for the tests of all modules; none of them breaks it, or changes what it is."""
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


@pytest.fixture(scope="module")
def forked_gateways() -> Iterator[None]:
    """Gateways of `budget_parts` that this module kills and begins again do so with their imports behind them."""
    if not can_fork():
        yield
        return
    server = ForkServer.start(gateways)
    with forking(server, is_gateway):
        yield
    server.stop()
