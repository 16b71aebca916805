"""An engine worker that fails as it is told to: ``python faulty_worker.py DIRECTORY --device cpu --fd 3``.

A file in the directory is a fault that happens once, in the next step or load, and takes the file with it. A prompt
that begins with ``POISON`` ends the process in every step that begins it.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attrs import define, evolve

from helexa.engine import worker
from helexa.engine.networks.runner import Runner
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.weights.loading import LoadedModel, LoadError

POISON = 301
"""A token id."""


def _raise(error: Exception) -> None:
    raise error


FAULTS: dict[str, Callable[[], Any]] = {
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": threading.Event().wait,
    "silence": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "broken": lambda: _raise(torch.AcceleratorError("CUDA error: an illegal memory access was encountered")),
    "memory": lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    "fault": lambda: _raise(ValueError("the model's code is wrong")),
}


@define(eq=False)
class FaultyRunner:
    """Fails before a step."""

    inner: Runner
    directory: Path

    @property
    def vocabulary(self) -> int:
        return self.inner.vocabulary

    @property
    def reuses_prefixes(self) -> bool:
        return self.inner.reuses_prefixes

    def forward(self, plan: StepPlan) -> torch.Tensor:
        if any(chunk.start == 0 and chunk.ids[0] == POISON for chunk in plan.chunks):
            FAULTS["segfault"]()
        fire(self.directory)
        return self.inner.forward(plan)

    def forget(self, number: int) -> None:
        self.inner.forget(number)


def fire(directory: Path) -> None:
    """Have what is armed happen."""
    for armed in directory.iterdir():
        armed.unlink()
        FAULTS[armed.name]()


def main() -> None:
    directory = Path(sys.argv.pop(1))
    load = worker.load_model

    def load_model(*arguments: Any, **named: Any) -> LoadedModel:
        try:
            fire(directory / "load")
        except Exception as error:
            raise LoadError(f"{type(error).__name__}: {error}") from error
        model = load(*arguments, **named)
        return evolve(model, runner=FaultyRunner(model.runner, directory / "step"))

    worker.load_model = load_model  # type: ignore[assignment]  # the one seam there is
    worker.main()


if __name__ == "__main__":
    main()
