"""One task in the making: from the first request to its run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter, time
from typing import Final

from attrs import define, evolve, field

from helexa.bench.client.exchanges import TargetError, one_line
from helexa.bench.measuring import energy
from helexa.bench.measuring.scenario import Scenario, Skipped
from helexa.bench.measuring.session import LONGEST, Session
from helexa.bench.measuring.targets import LOOK, Facts, look, power
from helexa.bench.measuring.tasks import Task, Watch
from helexa.bench.records import Build, Cell, Metric, Outcome, Run, Sample

FAILED_ROUNDS: Final = 2
"""So many in a row without a value, and the rest is not tried: what hangs would hang for hours."""
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading an answer of an unexpected shape ends in; a server may answer anything."""


@define(eq=False)
class Work:
    """A task, and what has come of it so far. Owned by the measurement that it is part of.

    Attributes:
        task: what is measured.
        id: of the run.
    """

    task: Task
    id: str
    _batch: str
    _label: str
    _session: Session | None = None
    _facts: Facts | None = None
    _samples: list[Sample] = field(factory=list)
    _outcome: Outcome | None = None
    _reason: str = ""
    _started_at: float = field(factory=time)
    _seconds: float = 0.0
    _in_vain: int = 0
    _told: bool = False

    @property
    def over(self) -> bool:
        """Whether no more will come of it."""
        return self._outcome is not None

    def meet(self, facts: Facts, session: Session) -> None:
        """Take note of what the target is; skipped if the scenario is not for the model."""
        self._facts, self._session = facts, session
        why_not = self.task.scenario.unfit(session.model)
        if why_not is not None:
            self.skipped(why_not)

    @property
    def cold(self) -> bool:
        """Whether its model was not loaded when its target was last looked at."""
        return self._met.model.status != "loaded"

    @property
    def _met(self) -> Session:
        assert self._session is not None  # whoever has none is over
        return self._session

    def failed(self, reason: str) -> None:
        """The target did wrong."""
        self._end("failed", reason)

    def skipped(self, reason: str) -> None:
        """It cannot be measured there."""
        self._end("skipped", reason)

    def broken_off(self, reason: str, *, keep: bool) -> None:
        """It ends early; what it has makes it ``Run.broken_off`` if that is to be kept, and there is some."""
        self._end("ok" if keep and self._measured else "yielded", reason)

    def like(self, other: "Work") -> None:
        """It ends as another one did that asked the same of its model."""
        if other._outcome is not None:  # noqa: SLF001 - of its own kind
            self._end(other._outcome, other._reason)  # noqa: SLF001 - likewise

    def done(self) -> None:
        """All rounds are through."""
        if self._measured:
            self._end("ok", "")
        else:
            self.failed(self._last_error)

    @property
    def _last_error(self) -> str:
        return next((sample.error for sample in reversed(self._samples) if sample.error), "Nothing came.")

    @property
    def _measured(self) -> bool:
        return any(sample.values for sample in self._samples)

    def _end(self, outcome: Outcome, reason: str) -> None:
        if not self.over:
            self._outcome, self._reason = outcome, one_line(reason, LONGEST)

    def tell(self, watch: Watch) -> None:
        """Tell of the end, once it has come."""
        if self.over and not self._told:
            self._told = True
            watch.ended(self.task, self.run)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What happens inside is part of the run's time."""
        if not self._seconds:
            self._started_at = time()
        began = perf_counter()
        try:
            yield
        finally:
            self._seconds += perf_counter() - began

    async def warm(self) -> None:
        """Ask once, uncounted. A gateway may have to load the model for it; it is known better afterwards."""
        with self._judged():
            await self.task.scenario.warm(self._met)

    async def look_again(self) -> None:
        """See how a model is that has just been loaded."""
        with self._judged():
            facts = await look(self.task.access)
            model = facts.model(self.task.model)
            if model is not None:
                self.meet(facts, evolve(self._met, model=model))

    async def prepare(self) -> None:
        """Let the scenario prepare."""
        with self._judged():
            await self.task.scenario.prepare(self._met)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """What goes wrong inside ends the work."""
        try:
            yield
        except Skipped as error:
            self.skipped(str(error))
        except TargetError as error:
            self.failed(str(error))
        except UNREADABLE as error:
            self.failed(unreadable(error))

    async def round(self, number: int) -> Sequence[Sample]:
        """Measure once; the samples it gave, a failed one if that is what came of it."""
        self._met.begin()
        try:
            samples = await self._metered(number)
        except Skipped as error:
            self.skipped(str(error))
            return ()
        except TargetError as error:
            samples = [self._met.sample(number, {}, str(error))]
        except UNREADABLE as error:
            samples = [self._met.sample(number, {}, unreadable(error))]
        self._keep(samples)
        return samples

    def _keep(self, samples: Sequence[Sample]) -> None:
        self._samples += samples
        self._in_vain = 0 if any(sample.values for sample in samples) else self._in_vain + 1
        if self._in_vain >= FAILED_ROUNDS and not self.over:
            self._give_up()

    def _give_up(self) -> None:
        """It would go on like this; what it has is no whole run."""
        if self._measured:
            self._end("ok", f"{FAILED_ROUNDS} rounds in a row failed: {self._last_error}")
        else:
            self.done()

    async def _metered(self, number: int) -> Sequence[Sample]:
        """A round, and what it drew where that is told."""
        session = self._met
        measured = partial(self.task.scenario.round, session, number)
        if self._facts is None or not self._facts.powered:
            return await measured()
        access = self.task.access
        async with access.client(LOOK) as client:
            samples, joules = await energy.metered(partial(power, access, client, session.model), measured)
        return energy.added(samples, joules, session.tokens)

    @property
    def run(self) -> Run:
        """What there is so far."""
        task, scenario = self.task, self.task.scenario
        target = task.access.target
        return Run(
            self.id,
            self._batch,
            self._started_at,
            self._seconds,
            target,
            Cell(target.name, task.model, scenario.name, scenario.parameters),
            self._facts.build_of(task.model) if self._facts else Build(),
            _metrics(scenario, self._samples),
            self._outcome or "yielded",
            self._reason,
            self._label,
            tuple(self._samples),
        )


def _metrics(scenario: Scenario, samples: Sequence[Sample]) -> tuple[Metric, ...]:
    powered = any(energy.ENERGY.name in sample.values for sample in samples)
    return (*scenario.metrics, energy.ENERGY) if powered else scenario.metrics


def unreadable(error: Exception) -> str:
    """A sentence for what reading an answer of an unexpected shape has ended in."""
    return f"The answer cannot be read: {type(error).__name__}: {error}"
