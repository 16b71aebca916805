"""Measures what a build of a model has not been measured on yet, while nobody uses it.

Nothing is ever loaded for it, and nobody waits for it: a target is left alone until it has been idle for a moment, and
as soon as somebody comes what is being measured is broken off. Whatever a target, the database or a scenario does, the
loop goes on.
"""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar

import structlog
import trio
from attrs import define, evolve, frozen

from actors.actor import Actor, error_line
from actors.sweep_report import Report
from config import Bench
from helexa.bench import sweep
from helexa.bench.client.http import TargetError
from helexa.bench.measuring import runner, targets
from helexa.bench.measuring.runner import Guard, NeuronGuard, Task, Watch
from helexa.bench.measuring.targets import Access, Facts, ModelFacts
from helexa.bench.records import Cell, Outcome, Run
from helexa.bench.scenarios import Scenario
from helexa.bench.storage.store import Store
from helexa.bench.sweep import Name, Rest, Want
from helexa.database import StoreError

IDLE_SECONDS: Final = 5.0
"""For so long nobody must have used a target before it is measured."""
PATIENCE_SECONDS: Final = 15.0
"""For so long it is looked at before it counts as busy; what was just measured is told of for a moment longer."""
GLANCE_SECONDS: Final = 1.0
"""Between two looks meanwhile."""
LOOK_SECONDS: Final = 30.0
"""For a look: a target that sends a byte now and then would keep it going for an hour."""
RETRY_SECONDS: Final = 60.0
"""After the database was away, and between two looks at the clock outside the hours."""
PRUNE_SECONDS: Final = 86_400.0
LABEL: Final = "loop"
"""Of its batches."""
T = TypeVar("T")
_log = structlog.get_logger()


@frozen
class Place:
    """A target, and what is measured there.

    Attributes:
        access: how it is reached.
        models: their names; ``None``: those that it has loaded.
    """

    access: Access
    models: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The target's."""
        return self.access.target.name


class Measure(Protocol):
    """See `runner.measure`."""

    async def __call__(  # noqa: PLR0913 - as there
        self,
        tasks: Sequence[Task],
        rounds: int,
        watch: Watch | None = None,
        *,
        batch: str,
        label: str = "",
        guard: Guard | None = None,
    ) -> list[Run]:
        """Measure."""


def _minute_of_day() -> int:
    now = time.localtime()
    return now.tm_hour * 60 + now.tm_min


@frozen
class Tools:
    """What the loop works with; tests bring their own.

    Attributes:
        look: asks a target what it is.
        measure: measures.
        guard: knows whether others use a target while it is being measured.
        in_thread: has work that blocks done.
        now: Unix time in seconds, for people and for what is kept.
        minute: of the day by the host's clock, counted from midnight.
    """

    look: Callable[[Access], Awaitable[Facts]] = targets.look
    measure: Measure = runner.measure
    guard: Callable[[Access], AbstractAsyncContextManager[Guard]] = NeuronGuard
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = trio.to_thread.run_sync
    now: Callable[[], float] = time.time
    minute: Callable[[], int] = _minute_of_day


@define
class _Batch:
    """The runs of one round over everything: each is measured by itself, and they belong together."""

    name: str
    _runs: int = 0

    def next_id(self) -> str:
        self._runs += 1
        return f"{self.name}-{self._runs:04d}"


class Sweeper(Actor):
    """The loop.

    Args:
        store: where runs are kept; it is used in threads, and closed by whoever made it.
        bench: the settings.
        places: what is measured.
        scenarios: how.
        tools: see there.
    """

    def __init__(
        self,
        store: Store,
        bench: Bench,
        places: Sequence[Place],
        scenarios: Sequence[Scenario],
        tools: Tools | None = None,
    ) -> None:
        self.name = "sweeper"
        self._store = store
        self._bench = bench
        self._places = tuple(places)
        self._scenarios = tuple(scenarios)
        self._tools = tools or Tools()
        self._rests: dict[Name, Rest] = {}
        self._unsaved: list[Run] = []
        self._batch: _Batch | None = None
        self._measured: list[Name] = []
        self._pruned_at = -math.inf
        self.report = Report(bench.rounds, [place.access.target for place in places], self._tools.now)

    def status(self) -> dict[str, Any]:
        """What it does, what it waits for, and what went wrong; plain JSON."""
        return {**self.report.shown(), "unsaved": len(self._unsaved)}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Go round for ever. What it knows of failures, and what it could not save, outlives a crash."""
        task_status.started()
        while True:
            until = await self._turn()
            self.report.waiting(until - trio.current_time())
            await trio.sleep_until(until)

    async def _turn(self) -> float:
        """One round, if it is time for one; when the next one is."""
        self._batch = None
        if not self._may_begin():
            self.report.state = "outside hours"
            return trio.current_time() + RETRY_SECONDS
        try:
            await self._round()
        except StoreError as error:
            self._database_away(error)
            return trio.current_time() + RETRY_SECONDS
        self.report.state = "waiting"
        return sweep.next_round(self._rests, trio.current_time())

    async def _round(self) -> None:
        """See to every target once. What was measured rests from the end of it on, so that it comes back together.

        Raises:
            StoreError: the database is away.
        """
        try:
            await self._save()
            await self._prune()
            for place in self._places:
                await self._visit(place)
        finally:
            now = trio.current_time()
            rested = {name: sweep.rest_after("ok", None, self._bench.interval, now) for name in self._measured}
            self._rests = sweep.still_resting(self._rests, now) | rested
            self._measured.clear()

    def _may_begin(self) -> bool:
        return sweep.may_begin(self._bench.hours, self._tools.minute())

    async def _visit(self, place: Place) -> None:
        """Measure once everything that is due at one target.

        Raises:
            StoreError: the database is away.
        """
        name = sweep.target_name(place.name)
        if sweep.is_resting(name, self._rests, trio.current_time()):
            return
        self.report.state = "looking"
        facts = await self._look(place)
        if facts is not None and not await self._measure_all(place, facts):
            self._rests[name] = Rest(trio.current_time() + sweep.YIELDED_SECONDS)
        elif place.access.target.kind == "openai":  # others run it, and are not to be asked all the time
            self._rests[name] = Rest(trio.current_time() + min(self._bench.interval, sweep.LONGEST_SECONDS))

    async def _measure_all(self, place: Place, facts: Facts) -> bool:
        """Whether that is all for this round: else others use the target, or something is being loaded there.

        Raises:
            StoreError: the database is away.
        """
        for want, task in await self._due(place, facts):
            if not self._may_begin():
                return True
            if not await self._is_quiet(place) or await self._measure(want, task) == "yielded":
                return False
        return all(model.status != "loading" for model in facts.models)

    async def _due(self, place: Place, facts: Facts) -> list[tuple[Want, Task]]:
        tasks = self._tasks(place, facts)
        builds = [facts.build_of(task.model).id for task in tasks]
        wants = await self._in_thread(lambda: list(map(self._want, tasks, builds)))
        enough = self._bench.samples_per_build
        self.report.counted(place.name, len(wants), sum(want.done < enough for want in wants))
        task_of = {want.name: task for want, task in zip(wants, tasks, strict=True)}
        return [(want, task_of[want.name]) for want in sweep.due(wants, enough, self._rests, trio.current_time())]

    def _tasks(self, place: Place, facts: Facts) -> list[Task]:
        """What can be measured there."""
        return [
            Task(place.access, model.id, scenario)
            for model in _models(place, facts)
            for scenario in self._scenarios
            if scenario.unfit(model) is None
        ]

    def _want(self, task: Task, build: str) -> Want:
        cell = Cell(task.access.target.name, task.model, task.scenario.name, task.scenario.parameters)
        return Want(cell, build, self._store.count(cell, build))

    async def _look(self, place: Place) -> Facts | None:
        """What a target is now; ``None``: it cannot be told, which is noted."""
        try:
            with trio.fail_after(LOOK_SECONDS):
                facts = await self._tools.look(place.access)
        except TargetError as error:
            self.report.away(place.name, str(error))
        except trio.TooSlowError:
            self.report.away(place.name, f"it takes more than {LOOK_SECONDS:g} s to say what it is")
        except Exception as error:  # noqa: BLE001 - whatever a target answers, the others have no part in it
            _log.warning("bench.look_failed", target=place.name, exc_info=error)
            self.report.away(place.name, error_line(error))
        else:
            self.report.seen(place.name, facts)
            return facts
        return None

    async def _is_quiet(self, place: Place) -> bool:
        """Whether nobody has used a target for a moment; of servers outside nobody knows."""
        if place.access.target.kind == "openai":
            return True
        begin = since = trio.current_time()
        while trio.current_time() < begin + PATIENCE_SECONDS:
            facts = await self._look(place)
            if facts is None:
                return False
            if not facts.idle:
                since = trio.current_time() + GLANCE_SECONDS
            if trio.current_time() >= since + IDLE_SECONDS:
                return True
            await trio.sleep(GLANCE_SECONDS)
        return False

    async def _measure(self, want: Want, task: Task) -> Outcome:
        """One run, kept; how it went.

        Raises:
            StoreError: it could not be saved yet.
        """
        self.report.measuring(want.cell)
        run = await self._run_of(task)
        outcome = "failed" if run is None or run.broken_off else run.outcome  # half a run is not one of those wanted
        self.report.measured(want.cell, outcome, "" if run is None else run.reason)
        known_already = outcome == "skipped" and self._had_setbacks(want.name)
        self._note(want.name, outcome)
        if run is not None and not known_already:
            self._unsaved.append(run)
            await self._save()
        return outcome

    def _had_setbacks(self, name: Name) -> bool:
        rest = self._rests.get(name)
        return rest is not None and rest.setbacks > 0

    def _note(self, name: Name, outcome: Outcome) -> None:
        if outcome == "ok":
            self._measured.append(name)
        else:
            before, now = self._rests.get(name), trio.current_time()
            self._rests[name] = sweep.rest_after(outcome, before, self._bench.interval, now)

    async def _run_of(self, task: Task) -> Run | None:
        """The run; ``None``: there is none, by a fault of ours."""
        batch = self._batch = self._batch or _Batch(runner.new_batch())
        name = batch.next_id()  # not the batch's: prompts are made from it, and have to be others for each run
        try:
            async with self._guard(task.access) as guard:
                rounds = self._bench.rounds
                (run,) = await self._tools.measure([task], rounds, self.report, batch=name, label=LABEL, guard=guard)
        except Exception as error:  # noqa: BLE001 - a cell that nobody thought of must not end the loop for all others
            _log.error("bench.fault", model=task.model, scenario=task.scenario.name, exc_info=error)
            self.report.fault(error_line(error))
            return None
        return evolve(run, id=name, batch=batch.name)

    @asynccontextmanager
    async def _guard(self, access: Access) -> AsyncIterator[Guard | None]:
        """Who tells that others have come; of servers outside nobody can."""
        if access.target.kind == "openai":
            yield None
        else:
            async with self._tools.guard(access) as guard:
                yield guard

    async def _save(self) -> None:
        """Keep what was measured. Nothing more is measured before that has worked, so there is never much of it.

        Raises:
            StoreError: the database is away.
        """
        if self._unsaved:
            await self._in_thread(partial(self._store.add_all, tuple(self._unsaved)))
            self._unsaved.clear()

    async def _prune(self) -> None:
        if trio.current_time() < self._pruned_at + PRUNE_SECONDS:
            return
        await self._in_thread(self._prune_now)
        self._pruned_at = trio.current_time()

    def _prune_now(self) -> None:
        newest = self._store.summaries(limit=1)
        began = newest[0].started_at if newest else None
        oldest = sweep.oldest_kept(self._bench.retention, began, self._tools.now())
        gone = 0 if oldest is None else self._store.prune(oldest)
        if gone:
            _log.info("bench.pruned", runs=gone)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        found: T = await self._tools.in_thread(work)
        self.report.database_back()
        return found

    def _database_away(self, error: StoreError) -> None:
        self.report.database_away(str(error), len(self._unsaved))


def _models(place: Place, facts: Facts) -> list[ModelFacts]:
    """Those to be measured: of a server outside, all that are named, for not every one lists what it serves."""
    if place.models is not None:
        return [facts.model(name) or ModelFacts(name) for name in place.models]
    return [model for model in facts.models if model.status == "loaded"]
