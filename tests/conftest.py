"""How the tests are run, and checkpoints that several packages load; each process of the run makes its own, once."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

settings.register_profile("helexa", deadline=None)  # the machine is busy with the other half of the tests
settings.load_profile("helexa")

# A run starts some hundred processes of helexa's: where no bytecode is written, each of them compiles all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a shell runs in the background begins with interrupts ignored: tests that press Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the collector of cycles: what is made then stays, and it would walk through it for ever after.

    A collection that a test asks for takes half a second otherwise.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have fleets run first, processes next: files that take a minute would keep one core waiting at the end."""
    items.sort(key=lambda item: _RANKS.get(item.path.parent.name, len(_RANKS)))


_RANKS = {"e2e": 0, "actors": 1}


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that a test runs in this process sets the log up, on a stderr that ends with the test."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small Qwen3 with a context of `QWEN_CONTEXT` tokens."""
    from checkpoints import make_qwen

    return make_qwen(tmp_path_factory.mktemp("checkpoints") / "qwen")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small Llama with a context of `LLAMA_CONTEXT` tokens."""
    from checkpoints import make_llama

    return make_llama(tmp_path_factory.mktemp("checkpoints") / "llama")


@pytest.fixture(scope="session")
def fork_server() -> Iterator[object]:
    """Forks engines, for whichever modules ask; see `forks`."""
    from fork_server import engines
    from forks import ForkServer

    server = ForkServer.start(engines)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def forked_engines(request: pytest.FixtureRequest) -> Iterator[None]:
    """Workers and ranks that this module has started begin with their imports behind them."""
    from forks import can_fork, forking, is_engine

    if not can_fork():
        yield
        return
    with forking(request.getfixturevalue("fork_server"), is_engine):
        yield
