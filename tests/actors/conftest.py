"""Fixtures for tests of actors that own processes."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import psutil
import pytest
from fork_server import scripts
from forks import ForkServer, can_fork, forking, is_script
from structlog.testing import capture_logs


@pytest.fixture(scope="session")
def script_server() -> Iterator[ForkServer | None]:
    if not can_fork():
        yield None
        return
    server = ForkServer.start(scripts)
    yield server
    server.stop()


@pytest.fixture
def forked_scripts(script_server: ForkServer | None) -> Iterator[None]:
    """Scripts that stand in for engines begin with the protocol behind them: a fifth of a second for each."""
    with nullcontext() if script_server is None else forking(script_server, is_script):
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
