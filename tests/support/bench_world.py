"""A fleet for tests of the benchmark loop: targets that do as they are told, and a database that is away on command."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from actors.sweeper import Place, Sweeper, Tools
from config import Bench
from helexa.bench.measuring.runner import Guard, Task, Watch
from helexa.bench.measuring.targets import Access, Facts, ModelFacts
from helexa.bench.records import Build, Cell, Metric, Outcome, Run, Sample, Target
from helexa.bench.scenarios import Scenario
from helexa.bench.storage.store import Store
from helexa.database import StoreError

METRIC = Metric("ttft", "TTFT", "s", "lower", primary=True)
BUILD = Build("helexa 1", {"commit": "1"})
RUN_SECONDS = 20.0
HALF_HOUR = 1800.0


@frozen
class Chat(Scenario):
    name = "chat"
    title = "chat"
    metrics = (METRIC,)
    tokens: int = 1

    def unfit(self, model: ModelFacts) -> str | None:  # noqa: ARG002 - as scenarios are asked
        return "it has no room" if self.tokens > 1000 else None

    async def round(self, session: Any, round: int) -> Sequence[Sample]:  # noqa: A002 - as scenarios call it
        raise NotImplementedError


class Books(Store):
    """A real store that is away when a test says so."""

    away: str | None = None
    full: str | None = None

    def _check(self, problem: str | None) -> None:
        if problem is not None:
            raise StoreError(problem)

    def count(self, cell: Cell, build_id: str) -> int:
        self._check(self.away)
        return super().count(cell, build_id)

    def add_all(self, runs: Any) -> int:
        self._check(self.away or self.full)
        return super().add_all(runs)


@define(eq=False)
class World:
    """Targets, what is measured of them, and when."""

    facts: dict[str, Facts | Exception] = field(factory=dict)
    outcomes: Callable[[Task], Outcome] = lambda _: "ok"
    measured: list[tuple[float, str]] = field(factory=list)
    looks: list[tuple[float, str]] = field(factory=list)
    batches: list[str] = field(factory=list)
    guarded: list[str] = field(factory=list)
    minute: int = 0
    fault: Exception | None = None

    async def look(self, access: Access) -> Facts:
        self.looks.append((trio.current_time(), access.target.name))
        found = self.facts[access.target.name]
        if isinstance(found, Exception):
            raise found
        return found

    async def measure(  # noqa: PLR0913 - as the real one
        self,
        tasks: Sequence[Task],
        rounds: int,
        watch: Watch | None = None,
        *,
        batch: str,
        label: str = "",
        guard: Guard | None = None,
    ) -> list[Run]:
        (task,) = tasks
        assert watch is not None
        assert (guard is None) == (task.access.target.kind == "openai")
        self.measured.append((trio.current_time(), f"{task.access.target.name}/{task.model}/{spelled(task)}"))
        self.batches.append(batch)
        if self.fault is not None:
            raise self.fault
        for number in range(rounds):
            watch.began(task, number)
            await trio.sleep(RUN_SECONDS / rounds)
            watch.sampled(task, [])
        run = self.run_of(task, f"{batch}-0000", batch, label)
        watch.ended(task, run)
        return [run]

    def run_of(self, task: Task, name: str, batch: str, label: str) -> Run:
        outcome = self.outcomes(task)
        facts = self.facts[task.access.target.name]
        assert isinstance(facts, Facts)
        cell = Cell(task.access.target.name, task.model, task.scenario.name, task.scenario.parameters)
        samples = (Sample(0, trio.current_time(), {"ttft": 1.0}),) if outcome == "ok" else ()
        reason = "" if outcome == "ok" else "said so"
        build = facts.build_of(task.model)
        at, target = trio.current_time(), task.access.target
        return Run(name, batch, at, 1.0, target, cell, build, (METRIC,), outcome, reason, label, samples)

    @asynccontextmanager
    async def guard(self, access: Access) -> AsyncIterator[Guard]:
        self.guarded.append(access.target.name)
        yield Nobody()

    def tools(self) -> Tools:
        async def at_once(work: Callable[[], Any]) -> Any:
            return work()

        return Tools(self.look, self.measure, self.guard, at_once, trio.current_time, lambda: self.minute)

    def busy(self, name: str, *, loading: bool = False) -> None:
        model = ModelFacts("m", "loading" if loading else "loaded", running=0 if loading else 1)
        self.facts[name] = evolve(self.facts[name], models=(model,))

    def idle(self, name: str) -> None:
        self.facts[name] = evolve(self.facts[name], models=(ModelFacts("m"),))

    @property
    def what(self) -> list[str]:
        return [each for _, each in self.measured]


class Nobody:
    async def others(self, own: int) -> bool:  # noqa: ARG002 - as guards are asked
        return False


def spelled(task: Task) -> str:
    return f"{task.scenario.name}{task.scenario.parameters['tokens']}"


def place(name: str, kind: Any = "neuron", models: tuple[str, ...] | None = None) -> Place:
    return Place(Access(Target(name, kind, f"http://{name}:1")), models)


def facts_of(name: str, *models: ModelFacts, build: Build = BUILD) -> Facts:
    return Facts(Target(name, "neuron", f"http://{name}:1"), build, models or (ModelFacts("m"),))


def sweeper(
    world: World, books: Books, *places: Place, scenarios: tuple[int, ...] = (1, 2), **settings: Any
) -> Sweeper:
    bench = Bench(**{"samples_per_build": 2, "rounds": 2, **settings})
    return Sweeper(books, bench, places or (place("a"),), [Chat(tokens) for tokens in scenarios], world.tools())


async def sweep_for(loop: Sweeper, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await loop.run()
