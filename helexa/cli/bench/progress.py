"""How far measuring has come: counted as the runner tells it, and told on as lines. Pure, but for the clock."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from attrs import define, field

from helexa.bench.records import Metric, Run, Sample
from helexa.bench.report.figures import figure

if TYPE_CHECKING:
    from helexa.bench.measuring.runner import Task
    from helexa.bench.scenarios import Scenario


@define(eq=False)
class Row:
    """One task as far as it has come.

    Attributes:
        task: what is measured.
        samples: so far.
        rounds: that have ended.
        run: what has become of it; ``None``: more will come.
    """

    task: "Task"
    samples: list[Sample] = field(factory=list)
    rounds: int = 0
    run: Run | None = None

    @property
    def name(self) -> tuple[str, str, str]:
        """Target, model, scenario."""
        return self.task.access.target.name, self.task.model, short(self.task.scenario)

    @property
    def figures(self) -> str:
        """The medians of what counts, so far."""
        found = [(each, self._values(each)) for each in self.task.scenario.metrics if each.primary]
        return ", ".join(f"{metric.title} {figure(median(values), metric.unit)}" for metric, values in found if values)

    @property
    def trouble(self) -> str:
        """What went wrong, if something did."""
        if self.run is not None and self.run.reason:
            return f"{self.run.outcome}: {self.run.reason}"
        return next((sample.error for sample in reversed(self.samples) if sample.error), "")

    def _values(self, metric: Metric) -> list[float]:
        return [sample.values[metric.name] for sample in self.samples if metric.name in sample.values]


def short(scenario: "Scenario") -> str:
    """A scenario as the command line takes it, without what it would be told anyway."""
    usual = type(scenario)().parameters
    told = [f"{name}={value}" for name, value in scenario.parameters.items() if usual[name] != value]
    return f"{scenario.name}:{','.join(told)}" if told else scenario.name


class Shown(Protocol):
    """What draws the rows."""

    def draw(self, board: "Board", row: Row) -> None:
        """Something has happened to a row of the board."""


class Board:
    """Keeps count of tasks; a `helexa.bench.measuring.runner.Watch`.

    Args:
        tasks: that are measured.
        rounds: of each.
        shown: draws them.
        clock: seconds.

    Attributes:
        rows: one per task, in their order.
        rounds: of each.
        current: what is being measured; ``None``: nothing.
    """

    def __init__(
        self, tasks: "Sequence[Task]", rounds: int, shown: Shown, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rows = [Row(task) for task in tasks]
        self.rounds = rounds
        self.current: Row | None = None
        self._of = {id(row.task): row for row in self.rows}
        self._shown = shown
        self._clock = clock
        self._begun_at: float | None = None

    @property
    def runs(self) -> list[Run]:
        """What has ended, in the order of tasks."""
        return [row.run for row in self.rows if row.run is not None]

    @property
    def total(self) -> int:
        """Rounds of all tasks."""
        return self.rounds * len(self.rows)

    @property
    def done(self) -> int:
        """Those that have ended, or will never come."""
        return sum(self.rounds if row.run is not None else row.rounds for row in self.rows)

    @property
    def seconds_left(self) -> float | None:
        """If the rest goes on as it went; ``None``: that cannot be told yet."""
        if self._begun_at is None or not self.done:
            return None
        return (self._clock() - self._begun_at) / self.done * (self.total - self.done)

    def began(self, task: "Task", round: int) -> None:  # noqa: A002, ARG002 - as samples call it; rows count their own
        """A round begins."""
        if self._begun_at is None:
            self._begun_at = self._clock()
        self.current = self._of[id(task)]
        self._shown.draw(self, self.current)

    def sampled(self, task: "Task", samples: Sequence[Sample]) -> None:
        """A round has ended."""
        row = self._of[id(task)]
        row.samples += samples
        row.rounds += 1
        self.current = None
        self._shown.draw(self, row)

    def ended(self, task: "Task", run: Run) -> None:
        """No more will come of a task."""
        row = self._of[id(task)]
        row.run = run
        self.current = None
        self._shown.draw(self, row)


class Lines:
    """Says a line when a round of everything has ended, and when a task has: for logs and pipes.

    Args:
        say: shows a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rounds = 0
        self._ended: set[int] = set()

    def __enter__(self) -> Self:
        """Nothing is to be made ready."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Nothing is left to do."""

    def draw(self, board: Board, row: Row) -> None:
        """Say what is new."""
        rounds = min(board.rounds if each.run is not None else each.rounds for each in board.rows)
        if self._rounds < rounds < board.rounds:
            self._rounds = rounds
            self._say(f"round {rounds} of {board.rounds} is done{left(board)}")
        if row.run is not None and id(row) not in self._ended:
            self._ended.add(id(row))
            self._say(f"{' '.join(row.name)}: {row.trouble or row.figures or row.run.outcome}")


def left(board: Board) -> str:
    """How long the rest may take, as the end of a sentence."""
    seconds = board.seconds_left
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f", about {f'{minutes} min ' if minutes else ''}{rest} s left"
