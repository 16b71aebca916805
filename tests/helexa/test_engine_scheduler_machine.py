"""The whole scheduler under any order of requests, steps and aborts, against a simulated memory."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from paged_memory import Simulation

from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import Budget

PIECES = st.sampled_from([[0] * 4, [0] * 9, [0, 1], [1, 0, 2], [1] * 6, [0, 1, 2, 3] * 4])
PROMPTS = st.lists(PIECES, min_size=1, max_size=4).map(lambda pieces: sum(pieces, list[int]()))


class SchedulerMachine(RuleBasedStateMachine):
    """Small pools, so that blocks run out; similar prompts, so that they are found; answers that outlast a turn."""

    @initialize(
        total=st.integers(2, 24),
        block_size=st.integers(1, 5),
        running=st.integers(1, 5),
        tokens=st.integers(0, 12),
        reuse=st.booleans(),
    )
    def begin(self, total: int, block_size: int, running: int, tokens: int, *, reuse: bool) -> None:
        self.simulation = Simulation(total, block_size, Budget(running=running, tokens=running + tokens, reuse=reuse))

    @rule(
        prompt=PROMPTS,
        tokens=st.sampled_from([1, 2, 5, 17, 40, None]),
        key=st.sampled_from("abc"),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        n=st.sampled_from([1, 1, 1, 2, 4]),
        stop=st.sampled_from([(), (), (0,), (1, 2)]),
    )
    def add(  # noqa: PLR0913  # the parameters of a request
        self, *, prompt: list[int], tokens: int | None, key: str, priority: int, n: int, stop: tuple[int, ...]
    ) -> None:
        fitting = prompt[: self.simulation.context - 1]
        self.simulation.add(fitting, tokens, key=key, priority=priority, n=n, stop=stop)

    @rule(count=st.integers(1, 12))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.simulation.step()

    @precondition(lambda self: self.simulation.live)
    @rule(which=st.integers(0, 100))
    def remove(self, which: int) -> None:
        live = list(self.simulation.live.values())
        self.simulation.remove(live[which % len(live)])

    @precondition(lambda self: self.simulation.live)
    @rule(which=st.integers(0, 100))
    def remove_while_a_step_runs(self, which: int) -> None:
        def abort(plan: StepPlan) -> None:
            number = plan.chunks[which % len(plan.chunks)].number
            self.simulation.remove(self.simulation.live[number])

        self.simulation.on_plan = abort
        self.simulation.step()
        self.simulation.on_plan = lambda _: None

    @invariant()
    def the_books_are_right(self) -> None:
        self.simulation.scheduler.check_integrity()

    def teardown(self) -> None:
        """Everything ends, and in steps that bear some proportion to what was asked for."""
        if hasattr(self, "simulation"):
            asked = sum(sequence.limit for sequence in self.simulation.live.values())
            self.simulation.drain(10 + 10 * asked)
            assert self.simulation.ended.keys() == self.simulation.stories.keys()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=100, stateful_step_count=30)
