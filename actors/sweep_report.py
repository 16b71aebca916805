"""What the benchmark loop tells of itself: what it does, what it waits for, how its targets are."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import structlog
from attrs import define

from helexa.bench.measuring.runner import Task
from helexa.bench.measuring.targets import Facts
from helexa.bench.records import Cell, Outcome, Run, Sample, Target

State: TypeAlias = Literal["starting", "looking", "measuring", "waiting", "outside hours", "database away"]
_log = structlog.get_logger()


@define(eq=False)
class _Known:
    """A target, as it was when it was last looked at."""

    target: Target
    error: str | None = None
    seen_at: float | None = None
    busy: bool = False
    build: dict[str, Any] | None = None
    cells: int = 0
    due: int = 0

    def shown(self) -> dict[str, Any]:
        said = {"name": self.target.name, "kind": self.target.kind, "url": self.target.url}
        rest = ("error", "seen_at", "busy", "build", "cells", "due")
        return said | {name: getattr(self, name) for name in rest}


@define(eq=False)
class _Doing:
    """A run that goes on."""

    cell: Cell
    since: float
    rounds: int
    round: int = 0

    def shown(self) -> dict[str, Any]:
        cell = self.cell
        what = {"target": cell.target, "model": cell.model, "scenario": cell.scenario}
        done = {"round": self.round + 1, "rounds": self.rounds, "since": self.since}
        return what | {"parameters": dict(cell.parameters)} | done


class Report:
    """Written by the loop, and by what measures for it (`runner.Watch`); read by whoever asks.

    Args:
        rounds: of each run.
        targets: all that are looked at.
        now: Unix time in seconds.

    Attributes:
        state: what the loop does.
    """

    def __init__(self, rounds: int, targets: Iterable[Target], now: Callable[[], float]) -> None:
        self.state: State = "starting"
        self._rounds = rounds
        self._now = now
        self._known = {target.name: _Known(target) for target in targets}
        self._doing: _Doing | None = None
        self._next_at: float | None = None
        self._counts: dict[Outcome, int] = dict.fromkeys(("ok", "failed", "skipped", "yielded"), 0)
        self._last_error: dict[str, Any] | None = None
        self._database: str | None = None

    def shown(self) -> dict[str, Any]:
        """All of it as plain JSON; times are Unix times in seconds."""
        return {
            "state": self.state,
            "measuring": None if self._doing is None else self._doing.shown(),
            "next_at": self._next_at,
            "runs": dict(self._counts),
            "database": self._database,
            "last_error": self._last_error,
            "targets": [known.shown() for known in self._known.values()],
        }

    def waiting(self, seconds: float) -> None:
        """Nothing is done for so long; infinity: for ever."""
        self._next_at = None if seconds == float("inf") else self._now() + seconds

    def seen(self, target: str, facts: Facts) -> None:
        """A target has said what it is."""
        known = self._known[target]
        if known.error is not None:
            _log.info("bench.target_back", target=target)
        known.error, known.busy, known.seen_at = None, not facts.idle, self._now()
        known.build = {"id": facts.build.id, "name": facts.build.name}

    def away(self, target: str, problem: str) -> None:
        """A target has not; logged once for each problem."""
        known = self._known[target]
        if known.error != problem:
            _log.warning("bench.target_away", target=target, error=problem)
        known.error = problem

    def counted(self, target: str, cells: int, due: int) -> None:
        """So many cells can be measured there, and so many of them still have to be."""
        known = self._known[target]
        known.cells, known.due = cells, due

    def measuring(self, cell: Cell) -> None:
        """A run begins."""
        self.state, self._next_at = "measuring", None
        self._doing = _Doing(cell, self._now(), self._rounds)

    def measured(self, cell: Cell, outcome: Outcome, reason: str) -> None:
        """It has ended."""
        self.state, self._doing = "looking", None
        self._counts[outcome] += 1
        what = {"target": cell.target, "model": cell.model, "scenario": cell.scenario}
        if outcome == "failed" and reason:
            self._last_error = {"at": self._now(), "message": reason, **what}
        log = _log.warning if outcome == "failed" else _log.info
        log(f"bench.run_{outcome}", **what, **({"reason": reason} if reason else {}))

    def fault(self, message: str) -> None:
        """A run could not be made, by a fault of ours."""
        self._last_error = {"at": self._now(), "message": message}

    def database_away(self, message: str, unsaved: int) -> None:
        """Nothing can be read or kept; logged once for each problem."""
        self.state = "database away"
        if self._database != message:
            _log.error("bench.database_away", error=message, unsaved=unsaved)
        self._database = message

    def database_back(self) -> None:
        """It does what it is asked."""
        if self._database is not None:
            _log.info("bench.database_back")
        self._database = None

    def began(self, task: Task, round: int) -> None:  # noqa: A002, ARG002 - as `runner.Watch` calls it
        """A round of the run begins."""
        if self._doing is not None:
            self._doing.round = round

    def sampled(self, task: Task, samples: Sequence[Sample]) -> None:
        """Nothing is shown of single samples."""

    def ended(self, task: Task, run: Run) -> None:
        """The run comes back from what measures."""
