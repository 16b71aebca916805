"""Fixtures for tests of actors that own processes."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from fork_server import engines
from forks import ForkServer, can_fork, forking, is_engine
from structlog.testing import capture_logs


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer.start(engines)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def forked_engines(request: pytest.FixtureRequest) -> Iterator[None]:
    """Workers and ranks that this module has started begin with their imports behind them."""
    if not can_fork():
        yield
        return
    with forking(request.getfixturevalue("fork_server"), is_engine):
        yield


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) == before
