"""Measures: rounds outside, tasks inside, so that what the machine does meanwhile meets them all alike."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from time import time_ns
from typing import Final

import trio
from attrs import define, field

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring.guards import Guard, NeuronGuard
from helexa.bench.measuring.session import Flight, Host, Session
from helexa.bench.measuring.targets import Access, Facts, look
from helexa.bench.measuring.tasks import Quiet, Task, Watch
from helexa.bench.measuring.work import UNREADABLE, Work, unreadable
from helexa.bench.records import Run

__all__ = ["Guard", "NeuronGuard", "Quiet", "Task", "Watch", "measure", "new_batch"]

GUARD_SECONDS: Final = 0.25
"""Between two questions to the guard."""
USERS_CAME: Final = "Others needed what was being measured."
BROKEN_OFF: Final = "Measuring was broken off."
_last_batch = [0]


def new_batch() -> str:
    """A unique id; later ones sort behind earlier ones. Runs of the batch are called ``<batch>-<number>``.

    Two of one process sort in their order even if the clock was set back in between.
    """
    _last_batch[0] = now = max(time_ns() // 1_000_000, _last_batch[0] + 1)
    moment = datetime.fromtimestamp(now // 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}{now % 1000:03d}-{token_hex(3)}"


async def measure(  # noqa: PLR0913 - what, how often, and what to call it
    tasks: Sequence[Task],
    rounds: int,
    watch: Watch | None = None,
    *,
    batch: str,
    label: str = "",
    guard: Guard | None = None,
) -> list[Run]:
    """Measure every task, so many rounds of each.

    What a target does wrong is recorded in samples and runs, never raised. When this is cancelled, ``watch.ended`` is
    still called with what there is of each run: ``Run.broken_off`` with the rounds it has, ``yielded`` if it has none.

    Args:
        tasks: what; tasks of one target share its connections.
        rounds: how often each.
        watch: is told of progress.
        batch: see `new_batch`.
        label: what the operator calls it.
        guard: asked every 0.25 s; once it says that others are there, everything that has not ended yet is broken off
            at once, and is ``yielded``.

    Returns:
        One run per task, in their order.
    """
    works = [Work(task, f"{batch}-{number:04d}", batch, label) for number, task in enumerate(tasks)]
    measurement = _Measurement(works, rounds, watch or Quiet(), guard)
    try:
        await measurement.run()
    finally:
        measurement.close(BROKEN_OFF, keep=True)
    return [work.run for work in works]


@define(eq=False)
class _Measurement:
    """One call of `measure`."""

    _works: Sequence[Work]
    _rounds: int
    _watch: Watch
    _guard: Guard | None
    _flight: Flight = field(factory=Flight)
    _warmed: dict[tuple[Access, str, str], Work | None] = field(factory=dict)
    """The work that found out that a model does not answer, by what was asked of it; ``None``: it does."""
    _others: bool = False

    def close(self, reason: str, *, keep: bool) -> None:
        """End what has not ended."""
        for work in self._works:
            work.broken_off(reason, keep=keep)
            work.tell(self._watch)

    async def run(self) -> None:
        """Measure; makes way once the guard says so."""
        async with trio.open_nursery() as nursery:
            if self._guard is not None:
                nursery.start_soon(self._make_way, self._guard, nursery.cancel_scope)
            async with AsyncExitStack() as clients:
                await self._measure(clients)
            nursery.cancel_scope.cancel()
        if self._others:
            self.close(USERS_CAME, keep=False)

    async def _make_way(self, guard: Guard, scope: trio.CancelScope) -> None:
        while True:
            if await guard.others(self._flight.peak):
                break
            await trio.sleep(GUARD_SECONDS)
        self._others = True
        scope.cancel()

    async def _measure(self, clients: AsyncExitStack) -> None:
        for access in dict.fromkeys(work.task.access for work in self._works):
            await self._look(access, clients)
        await self._each(self._works, self._prepare)
        for number in range(self._rounds):
            # A drift within a round would favour those that always come first.
            ordered = self._works if number % 2 == 0 else list(reversed(self._works))
            await self._each(ordered, partial(self._round, number))

    async def _each(self, works: Sequence[Work], do: Callable[[Work], Awaitable[None]]) -> None:
        for work in works:
            if not work.over:
                with work.timed():
                    await do(work)
                work.tell(self._watch)

    async def _look(self, access: Access, clients: AsyncExitStack) -> None:
        """Ask a target what it is, once, and give every work on it its session."""
        works = [work for work in self._works if work.task.access == access]
        try:
            host = Host(await clients.enter_async_context(access.client()), self._flight)
            facts = await look(access)
        except (TargetError, *UNREADABLE) as error:
            reason = str(error) if isinstance(error, TargetError) else unreadable(error)
            for work in works:
                work.failed(reason)
        else:
            for work in works:
                _introduce(work, facts, host)
        for work in works:
            work.tell(self._watch)

    async def _prepare(self, work: Work) -> None:
        """Warm the model up, once for all its works that ask alike, and let the scenario prepare."""
        asked = (work.task.access, work.task.model, work.task.scenario.asks)
        if asked not in self._warmed:
            await work.warm()
            self._warmed[asked] = work if work.over else None
        elif (first := self._warmed[asked]) is not None:
            work.like(first)
        if not work.over and work.cold:
            await work.look_again()
        if not work.over:
            await work.prepare()

    async def _round(self, number: int, work: Work) -> None:
        self._watch.began(work.task, number)
        samples = await work.round(number)
        if samples:
            self._watch.sampled(work.task, samples)
        if number == self._rounds - 1:
            work.done()


def _introduce(work: Work, facts: Facts, host: Host) -> None:
    """Give a work its session, unless it turns out that it cannot be measured."""
    model, target = facts.model(work.task.model), facts.target
    if model is None:
        work.failed(f"{target.name} has no model {work.task.model!r}.")
    elif target.kind == "neuron" and model.status != "loaded":
        # A neuron loads nothing by itself, and whether something has to make room for it is not ours to decide.
        work.skipped(f"{work.task.model} is not loaded on {target.name}: it is {model.status}.")
    else:
        work.meet(facts, Session(model, host, work.id))
