"""A runner without a model: it writes what a plan's chunks compute into a simulated paged memory, and reads it back.

What stands at a position is a number made of the key and of every token up to there, as keys and values are. So a stale
block, one of another tenant, or one written twice does not read back as what the sequence needs, and the step fails.
"""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ids
from zlib import crc32

from attrs import define, field

from helexa.engine.protocol import Submit
from helexa.engine.scheduling.blocks import BlockManager
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget, Scheduler
from helexa.engine.scheduling.sequence import Sequence
from helexa.wire.sampling import SamplingParams

ALPHABET = 5
_PRIME = 2**61 - 1


def fold(state: int, token: int) -> int:
    """The state after one more token."""
    return (state * 1_000_003 + token + 1) % _PRIME


@define
class Story:
    """What a sequence has to be, told without the scheduler."""

    key: str
    index: int
    ids: list[int]
    states: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        ids, self.ids = self.ids, []
        for token in ids:
            self.append(token)

    def append(self, token: int) -> None:
        self.ids.append(token)
        self.states.append(fold(self.states[-1] if self.states else crc32(self.key.encode()), token))

    def next(self) -> int:
        """The token that the model picks after all of these."""
        return (self.states[-1] // 7 + self.index) % ALPHABET


def prompt(length: int, first: int = 0) -> list[int]:
    """Token ids that no other prompt with another ``first`` begins with."""
    return [first, *range(100, 99 + length)]


def shape(plan: StepPlan | None) -> list[tuple[int, int, int, bool]]:
    """Per chunk: the sequence, where it starts, how many tokens, and whether its logits are wanted."""
    assert plan is not None
    return [(chunk.number, chunk.start, len(chunk.ids), chunk.due) for chunk in plan.chunks]


def alone(key: str, prompt: Ids[int], index: int, limit: int, stop: frozenset[int] = frozenset()) -> list[int]:
    """The ids that a sequence ends with if nothing else is in the machine."""
    story = Story(key, index, list(prompt))
    while len(story.ids) < limit:
        story.append(story.next())
        if story.ids[-1] in stop:
            break
    return story.ids


@define
class PagedMemory:
    """Positions of blocks, and what was last written there."""

    block_size: int
    cells: dict[int, int] = field(factory=dict)

    def slots(self, chunk: Chunk, start: int) -> Iterator[int]:
        """Where the positions from ``start`` to the chunk's end lie."""
        assert chunk.end <= len(chunk.blocks) * self.block_size, "a block table that does not reach the chunk's end"
        for position in range(start, chunk.end):
            yield chunk.blocks[position // self.block_size] * self.block_size + position % self.block_size

    def run(self, plan: StepPlan, stories: dict[int, Story]) -> None:
        """All writes of a step, then all reads."""
        written: set[int] = set()
        for chunk in plan.chunks:
            story, slots = stories[chunk.number], list(self.slots(chunk, chunk.start))
            assert list(chunk.ids) == story.ids[chunk.start : chunk.end]
            assert written.isdisjoint(slots), "two chunks of a step write the same position"
            written.update(slots)
            self.cells.update(zip(slots, story.states[chunk.start : chunk.end], strict=True))
        for chunk in plan.chunks:
            found = [self.cells.get(slot) for slot in self.slots(chunk, 0)]
            assert found == stories[chunk.number].states[: chunk.end], f"sequence {chunk.number} reads what is not its"


@define(eq=False, repr=False)
class Simulation:
    """A scheduler and the memory it plans for; every step is checked.

    Attributes:
        on_plan: called between ``schedule`` and the run.
        computed: tokens computed so far.
        ended: why each sequence ended, by number.
    """

    total: int = 16
    block_size: int = 4
    budget: Budget = field(factory=Budget)
    context: int = 0
    on_plan: Callable[[StepPlan], None] = lambda _: None
    computed: int = 0
    steps: int = 0
    now: float = 0.0
    ended: dict[int, str] = field(factory=dict)
    stories: dict[int, Story] = field(factory=dict)
    live: dict[int, Sequence] = field(factory=dict)
    numbers: int = 0
    scheduler: Scheduler = field(init=False)
    memory: PagedMemory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = Scheduler(BlockManager(self.total, self.block_size), self.budget)
        self.memory = PagedMemory(self.block_size)
        self.context = self.context or self.total * self.block_size

    @property
    def blocks(self) -> BlockManager:
        return self.scheduler.blocks

    def add(  # noqa: PLR0913  # the parameters of a request
        self,
        prompt: Ids[int],
        tokens: int | None = 1,
        *,
        key: str = "",
        priority: int = 0,
        n: int = 1,
        stop: tuple[int, ...] = (),
    ) -> list[Sequence]:
        """Queue a request; its sequences."""
        sampling = SamplingParams(n=n, max_tokens=tokens, stop_token_ids=stop)
        submit = Submit(f"r{self.numbers}", "m", list(prompt), sampling, key, priority)
        return [self._add(submit, index) for index in range(n)]

    def _add(self, submit: Submit, index: int) -> Sequence:
        sequence = Sequence.of(submit, index, self.numbers, self.context, self.now)
        self.stories[self.numbers] = Story(submit.key, index, list(submit.prompt_ids))
        self.live[self.numbers] = sequence
        self.numbers += 1
        self.scheduler.add(sequence)
        return sequence

    def one(self, prompt: Ids[int], tokens: int | None = 1, *, key: str = "", priority: int = 0) -> Sequence:
        """Queue a request of one choice; its sequence."""
        (sequence,) = self.add(prompt, tokens, key=key, priority=priority)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Abort a sequence."""
        self.scheduler.remove(sequence)
        self.live.pop(sequence.number)
        self.ended[sequence.number] = "abort"
        self.scheduler.check_integrity()

    def step(self) -> StepPlan | None:
        """Plan, run and commit one step, and check all of it; ``None`` when there is nothing to do."""
        decoding, preempted = [each.number for each in self.running if each.pending == 1], self.scheduler.preemptions
        plan = self.scheduler.schedule()
        self.scheduler.check_integrity()
        if plan is None:
            assert not self.live, "sequences wait and nothing is planned"
            return None
        self._check(plan)
        if self.scheduler.preemptions == preempted:
            assert {chunk.number for chunk in plan.chunks[: len(decoding)]} == set(decoding), "decodes go first"
        self.on_plan(plan)
        self.memory.run(plan, self.stories)
        self._commit(plan)
        return plan

    @property
    def running(self) -> list[Sequence]:
        """The sequences that take part in steps."""
        return list(self.scheduler._running)

    def _check(self, plan: StepPlan) -> None:
        numbers = [chunk.number for chunk in plan.chunks]
        assert len(set(numbers)) == len(numbers), "two chunks of one sequence"
        assert set(numbers) <= {each.number for each in self.running}
        assert self.scheduler.running <= self.budget.running
        assert 0 < plan.tokens <= self.budget.tokens
        assert all(chunk.ids for chunk in plan.chunks)

    def _commit(self, plan: StepPlan) -> None:
        due = [number for number in plan.due if number in self.live]
        tokens = {number: self.stories[number].next() for number in plan.due}
        for number in due:
            self.stories[number].append(tokens[number])
        self.steps += 1
        self.computed += plan.tokens
        for sequence, reason in self.scheduler.commit(plan, tokens):
            self.ended[sequence.number] = reason
            self._check_end(self.live.pop(sequence.number), reason)
        self.scheduler.check_integrity()
        assert self.scheduler.running + self.scheduler.waiting == len(self.live)
        assert self.scheduler.prefix_hits <= self.scheduler.prefix_queries
        assert self.budget.reuse or not self.blocks.cached

    def _check_end(self, sequence: Sequence, reason: str) -> None:
        prompt = sequence.ids[: sequence.prompt_length]
        assert sequence.ids == alone(sequence.key, prompt, sequence.index, sequence.limit, sequence.stop_ids)
        assert reason == ("stop" if sequence.ids[-1] in sequence.stop_ids else "length")

    def drain(self, steps: int = 10_000) -> None:
        """Step until every sequence has ended.

        Raises:
            AssertionError: some have not within ``steps`` steps.
        """
        for _ in range(steps):
            if self.step() is None:
                assert self.blocks.available == self.blocks.total
                return
        raise AssertionError(f"{len(self.live)} sequences have not ended after {steps} steps: {self.live}")
