"""What whoever waits for a measurement is shown."""

from collections.abc import Sequence
from io import StringIO
from typing import ClassVar

import pytest
from attrs import define, evolve, field, frozen
from bench_runs import failed, run
from rich.console import Console

from helexa.bench.measuring.runner import Task
from helexa.bench.measuring.scenario import Scenario
from helexa.bench.measuring.session import Session
from helexa.bench.measuring.targets import Access
from helexa.bench.records import Metric, Sample, Target
from helexa.cli.bench.picture import Picture, render
from helexa.cli.bench.progress import Board, Lines, Row, short

TTFT = Metric("ttft", "first token", "s", "lower", primary=True)
TOTAL = Metric("total", "total", "s", "lower")


@frozen
class Waiting(Scenario):
    """A scenario that is never run."""

    name: ClassVar[str] = "waiting"
    title: ClassVar[str] = "nothing"
    metrics: ClassVar[tuple[Metric, ...]] = (TTFT, TOTAL)
    tokens: int = 128

    async def round(self, session: Session, round: int) -> Sequence[Sample]:  # noqa: A002
        raise NotImplementedError


def tasks(count: int = 2) -> list[Task]:
    access = Access(Target("fleet", "cortex", "http://f"))
    return [Task(access, f"m{number}", Waiting(number)) for number in range(count)]


def sample(seconds: float) -> list[Sample]:
    return [Sample(0, 0.0, {"ttft": seconds, "total": 1.0})]


@define(eq=False)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@define(eq=False)
class Seen:
    """Rows that were to be drawn."""

    drawn: list[Row] = field(factory=list)

    def draw(self, board: Board, row: Row) -> None:
        del board
        self.drawn.append(row)


def test_rounds_are_counted_and_what_is_left_is_told_from_them() -> None:
    clock, [first, second] = Clock(), tasks()
    board = Board([first, second], 2, Seen(), clock)
    assert (board.done, board.total, board.seconds_left) == (0, 4, None)
    board.began(first, 0)
    assert board.current is board.rows[0]
    clock.now = 3.0
    board.sampled(first, sample(0.1))
    assert (board.done, board.seconds_left, board.current) == (1, 9.0, None)


def test_a_task_that_ended_early_leaves_no_rounds_to_wait_for() -> None:
    [first, second] = tasks()
    board = Board([first, second], 5, Seen())
    board.ended(first, failed("It is gone."))
    assert (board.done, board.total) == (5, 10)
    assert [found.reason for found in board.runs] == ["It is gone."]
    assert board.rows[0].trouble == "failed: It is gone."


def test_equal_tasks_are_counted_each_for_itself() -> None:
    [task] = tasks(1)
    again = evolve(task)
    board = Board([task, again], 2, Seen())
    board.sampled(again, sample(0.1))
    assert [row.rounds for row in board.rows] == [0, 1]


def test_the_medians_of_what_counts_are_shown() -> None:
    [task] = tasks(1)
    board = Board([task], 3, Seen())
    for seconds in (0.1, 0.3, 0.2):
        board.sampled(task, sample(seconds))
    assert board.rows[0].figures == "first token 200 ms"
    assert board.rows[0].trouble == ""


def test_a_scenario_is_named_by_what_is_unusual_about_it() -> None:
    assert short(Waiting()) == "waiting"
    assert short(Waiting(7)) == "waiting:tokens=7"


def test_the_newest_failure_is_shown() -> None:
    [task] = tasks(1)
    board = Board([task], 3, Seen())
    board.sampled(task, [Sample(0, 0.0, error="Old."), *sample(0.1), Sample(0, 0.0, error="New.")])
    assert board.rows[0].trouble == "New."


def test_a_pipe_gets_a_line_per_round_and_one_per_task() -> None:
    said: list[str] = []
    clock, [first, second] = Clock(), tasks()
    with Lines(said.append) as lines:
        board = Board([first, second], 2, lines, clock)
        for task in (first, second):
            board.began(task, 0)
            clock.now += 40.0
            board.sampled(task, sample(0.1))
        assert said == ["round 1 of 2 is done, about 1 min 20 s left"]
        for task in (second, first):
            board.sampled(task, sample(0.1))
            board.ended(task, run())
    assert said[1:] == [
        "fleet m1 waiting:tokens=1: first token 100 ms",
        "fleet m0 waiting:tokens=0: first token 100 ms",
    ]


def test_a_pipe_is_told_why_a_task_has_failed() -> None:
    said: list[str] = []
    [task] = tasks(1)
    board = Board([task], 2, Lines(said.append))
    board.ended(task, failed("It is gone."))
    assert said == ["fleet m0 waiting:tokens=0: failed: It is gone."]


def shown(board: Board, row: Row, width: int = 80, most: int = 20) -> list[str]:
    console = Console(file=StringIO(), width=width)
    with console.capture() as captured:
        console.print(render(board, row, most))
    return captured.get().splitlines()


def test_the_picture_fits_eighty_columns_and_keeps_the_figures() -> None:
    found = tasks(3)
    board = Board(found, 2, Seen(), Clock())
    board.began(found[0], 0)
    board.sampled(found[0], sample(0.0123))
    board.ended(found[1], failed("It is gone."))
    board.began(found[2], 0)
    lines = [line.split() for line in shown(board, board.rows[0])]
    assert lines[1] == ["fleet", "·", "m0"]
    assert lines[2] == ["waiting:tokens=0", "1/2", "first", "token", "12.3", "ms"]
    assert lines[4] == ["waiting:tokens=1", "0/2", "failed:", "It", "is", "gone."]
    assert lines[6] == ["waiting:tokens=2", "0/2", "…"]
    assert lines[-1][1] == "3/6,"


def test_what_is_too_long_for_the_picture_ends_with_an_ellipsis() -> None:
    [task] = tasks(1)
    board = Board([task], 2, Seen())
    board.ended(task, failed("It is gone, and " + "so on, " * 30))
    lines = shown(board, board.rows[0])
    assert all(len(line) <= 80 for line in lines)
    assert "failed: It is gone" in lines[2]
    assert lines[2].rstrip().endswith("…")


@pytest.mark.parametrize("at", [0, 1, 50, 98, 99])
def test_of_many_rows_those_around_the_newest_are_shown(at: int) -> None:
    board = Board(tasks(100), 2, Seen())
    lines = shown(board, board.rows[at], width=120, most=5)
    assert len(lines) == 7
    assert any(f" waiting:tokens={at} " in line for line in lines)


def test_a_terminal_is_left_as_it_was() -> None:
    found = tasks(2)
    with Picture() as picture:
        board = Board(found, 1, picture)
        board.began(found[0], 0)
        board.sampled(found[0], sample(0.1))
