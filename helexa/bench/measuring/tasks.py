"""What is to be measured, and who is told how that goes on."""

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from helexa.bench.measuring.scenario import Scenario
from helexa.bench.measuring.targets import Access
from helexa.bench.records import Run, Sample


@frozen
class Task:
    """One scenario on one model of one target: it becomes one run."""

    access: Access
    model: str
    scenario: Scenario


class Watch(Protocol):
    """Is told how measuring goes on; for progress. Synchronous and quick: measuring waits for it."""

    def began(self, task: Task, round: int) -> None:  # noqa: A002 - as samples call it
        """A round of a task begins."""

    def sampled(self, task: Task, samples: Sequence[Sample]) -> None:
        """A round has ended with these; failed ones among them. Not called for a round that was broken off."""

    def ended(self, task: Task, run: Run) -> None:
        """No more will come of a task. Called once for each, also when `measure` is cancelled."""


class Quiet:
    """A watch that does nothing."""

    def began(self, task: Task, round: int) -> None:  # noqa: A002 - as samples call it
        """Nothing."""

    def sampled(self, task: Task, samples: Sequence[Sample]) -> None:
        """Nothing."""

    def ended(self, task: Task, run: Run) -> None:
        """Nothing."""
