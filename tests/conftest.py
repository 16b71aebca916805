"""Checkpoints that tests of several packages load; each process of the test run makes its own, once."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("helexa", deadline=None)  # the machine is busy with the other half of the tests
settings.load_profile("helexa")


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
