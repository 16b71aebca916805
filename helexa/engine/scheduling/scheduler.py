"""Which tokens the next step computes: continuous batching over a paged cache. Pure and synchronous.

Continuous batching: Yu et al., "Orca", OSDI 2022. Prefill in chunks beside decodes: Agrawal et al., "Sarathi-Serve",
OSDI 2024. The order within a step:

1. Decodes, best rank first. One that finds no block takes those of the worst-ranked sequence, which goes back to the
   queue and is computed again later (*preemption by recompute*; the prefix cache keeps most of its work).
2. Prefills under way, in order of arrival, as far as the token budget goes.
3. Waiting sequences, by priority and fairness between keys, while there are places, tokens, and blocks for the whole
   prompt. So a prefill never runs out of blocks half-way.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from attrs import frozen

from helexa.engine.scheduling.blocks import BlockManager
from helexa.engine.scheduling.fairness import DECODE_WEIGHT, PREFILL_WEIGHT, Service, WaitingQueue
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.sequence import Account, Sequence

TURN = 16
TURN_SHARE = 64
"""Tokens that a sequence generates before it gives way to another key: this many, or its length by this."""
LEAST_SCORED = 16
"""Tokens of prompts that a step finds log probabilities of, also where all places are taken."""


@frozen
class Budget:
    """What a step, and the queue, may hold.

    Attributes:
        running: sequences that run at once.
        tokens: tokens that one step computes; at least ``running``.
        waiting: sequences that wait at once.
        patience: seconds that a sequence waits before it is given up.
        reuse: look for prompts in the cache.
    """

    running: int = 64
    tokens: int = 512
    waiting: int = 1024
    patience: float = 300.0
    reuse: bool = True

    @classmethod
    def for_device(cls, kind: str) -> "Budget":
        """What a kind of device, by torch's name, computes in a step that nobody has to wait for.

        A GPU is idle below some hundred tokens a step. A CPU is not, and each decode in a step waits for its prefills.
        """
        return cls(running=256, tokens=2048) if kind == "cuda" else cls()


class Scheduler:
    """Owns the sequences and their blocks. ``schedule`` and ``commit`` alternate; the rest goes in between.

    Args:
        blocks: the pool, whose only user this is.
        budget: the bounds.
    """

    def __init__(self, blocks: BlockManager, budget: Budget) -> None:
        self.blocks = blocks
        self.budget = budget
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._service = Service()
        self._queue = WaitingQueue(self._service)
        self._running: list[Sequence] = []  # by arrival in the running set
        self._plan: list[Chunk] = []
        self._left = 0  # of the step's token budget
        self._scorable: int | None = None  # tokens of prompts that the step may still score, once that is asked

    @property
    def running(self) -> int:
        """Sequences that take part in steps."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that do not yet, or not any more."""
        return len(self._queue)

    def sequences(self, request: str) -> list[Sequence]:
        """The live choices of a request."""
        return [each for each in [*self._running, *self._queue] if each.request == request]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. The caller has checked that there is room, and that it fits an empty pool."""
        present = self._present()
        if sequence.account not in present:
            self._service.enter(sequence.account, present)
        self._queue.push(sequence)

    def _present(self) -> set[Account]:
        return {each.account for each in self._running} | self._queue.accounts

    def remove(self, sequence: Sequence) -> None:
        """Forget a live sequence; it has no part in the next step."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            self._queue.remove(sequence)

    def expire(self, now: float) -> list[Sequence]:
        """The sequences that have waited too long without ever running; still queued, for the caller to remove."""
        deadline = now - self.budget.patience
        return [each for each in self._queue if each.cached_tokens is None and each.arrived < deadline]

    def schedule(self) -> StepPlan | None:
        """Plan the next step; ``None`` when there is nothing to do."""
        self._plan, self._left, self._scorable = [], self.budget.tokens, None
        self._make_way()
        for sequence in sorted((each for each in self._running if each.pending == 1), key=self._rank):
            if sequence in self._running:  # it may have been preempted for a better one
                self._decode(sequence)
        for sequence in [each for each in self._running if each.pending > 1]:
            self._prefill(sequence)
        self._admit()
        return StepPlan(tuple(self._plan)) if self._plan else None

    def commit(self, plan: StepPlan, tokens: Mapping[int, int]) -> list[tuple[Sequence, str]]:
        """Take the tokens that a step brought, by sequence number.

        Returns:
            The sequences that ended by it, with the reason; they are forgotten.
        """
        ended = []
        due = set(plan.due)
        for sequence in [each for each in self._running if each.number in due]:
            if (reason := sequence.append(tokens[sequence.number])) is not None:
                ended.append((sequence, reason))
                self.remove(sequence)
        return ended

    def check_integrity(self) -> None:
        """Compare the pool's books with the sequences' block tables.

        Raises:
            RuntimeError: they differ.
        """
        self.blocks.check_integrity(each.blocks for each in self._running)
        for sequence in self._queue:
            if sequence.blocks or sequence.computed:
                raise RuntimeError(f"sequence {sequence.number} waits and holds {len(sequence.blocks)} blocks")

    # Ranking: who keeps its blocks when they run out

    def _rank(self, sequence: Sequence) -> tuple[int, float, int]:
        """Lower is better."""
        return -sequence.priority, self._service.of(sequence.account), sequence.number

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._release(sequence)
        self._queue.push(sequence)
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0

    # Planning

    def _decode(self, sequence: Sequence) -> None:
        if self._left and self._grow(sequence):
            self._plan_chunk(sequence, 1, DECODE_WEIGHT)

    def _grow(self, sequence: Sequence) -> bool:
        """Have a block for its next position; false if it had to give up its own instead."""
        size = self.blocks.block_size
        if len(sequence.blocks) * size > sequence.computed:
            return True
        while not self.blocks.available:
            planned = {chunk.number for chunk in self._plan}
            victim = max((each for each in self._running if each.number not in planned), key=self._rank)
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.blocks += self.blocks.allocate(1, after=sequence.blocks[-1])
        return True

    def _prefill(self, sequence: Sequence) -> None:
        count = min(sequence.pending, self._left)
        if sequence.reported is not None:
            count = self._bounded(sequence, count)
        if count:
            self._plan_chunk(sequence, count, PREFILL_WEIGHT)

    def _bounded(self, sequence: Sequence, count: int) -> int:
        """So many tokens at most that a step has no more rows of logits than sequences may run, or hardly more.

        That is what there is memory for, and a prefill in smaller pieces takes no more of it.
        """
        if self._scorable is None:
            places = min(self.budget.running, self.blocks.total)
            self._scorable = max(LEAST_SCORED, places - self.running - self.waiting)
        start = sequence.computed
        last = max(start, sequence.reusable) + self._scorable
        count = count if last >= sequence.prompt_length - 1 else min(count, last - start)
        self._scorable -= sequence.scored(start, start + count)
        return count

    def _plan_chunk(self, sequence: Sequence, count: int, weight: int) -> None:
        start, end = sequence.computed, sequence.computed + count
        ids = sequence.ids[start:end]
        scored = 0 if sequence.reported is None else sequence.scored(start, end)
        sequence.computed = end
        self._left -= count
        self._service.serve(sequence.account, count, weight)
        due = end == len(sequence.ids)
        self._plan.append(Chunk(sequence.number, ids, start, sequence.blocks, due, scored))
        self._publish(sequence, start)

    def _publish(self, sequence: Sequence, start: int) -> None:
        """Let the blocks that this step fills be found: whoever is planned after it may already read them."""
        size = self.blocks.block_size
        first, full = start // size, sequence.computed // size
        if self.budget.reuse and full > first:
            hashes = sequence.hash_until(full, size)
            for index in range(first, full):
                self.blocks.publish(sequence.blocks[index], hashes[index])

    # Admission

    def _admit(self) -> None:
        while self._left and len(self._running) < self.budget.running:
            sequence = self._queue.head()
            if sequence is None or not self._fits(sequence, found := self._lookup(sequence)):
                return
            self._start(sequence, found)
            self._prefill(sequence)

    def _make_way(self) -> None:
        """Preempt one sequence for the head of the queue, if that one is entitled to its place.

        It is when it has the higher priority, or when its key has nothing running and one that was served more has more
        than an equal share of what lacks. Otherwise a key could hold every place for as long as its answers are long.
        One per step: before anything is planned, since what is planned cannot be taken back.
        """
        head = self._queue.head()
        if head is None or not self._running:
            return
        if len(self._running) >= self.budget.running:
            victim = self._debtor(head, lambda _: 1, self.budget.running)
        elif not self._fits(head, self._lookup(head)):
            victim = self._debtor(head, lambda each: len(each.blocks), self.blocks.total)
        else:
            return
        if victim is not None:
            self._preempt(victim)

    def _debtor(self, head: Sequence, held: Callable[[Sequence], int], total: int) -> Sequence | None:
        """Who has to give way to ``head``, going by how much of ``total`` each sequence holds."""
        worst = max(self._running, key=self._rank)
        if worst.priority < head.priority:
            return worst
        shares = Counter[str]()
        for sequence in self._running:
            shares[sequence.key] += held(sequence)
        greedy, most = shares.most_common(1)[0]
        if head.key in shares or most * (len(shares) + 1) <= total:
            return None
        if self._service.of((head.priority, greedy)) <= self._service.of(head.account):
            return None  # the one preempted would be the queue's head, and take its place back at once
        theirs = [each for each in self._running if each.account == (head.priority, greedy)]
        return max(filter(_had_turn, theirs), key=self._rank, default=None)

    def _lookup(self, sequence: Sequence) -> list[int]:
        """The cached blocks of its beginning; none whose logits are wanted, as its last token's always are."""
        if not self.budget.reuse:
            return []
        found = []
        size = self.blocks.block_size
        for digest in sequence.hash_until(sequence.reusable // size, size):
            if (block := self.blocks.find(digest)) is None:
                break
            found.append(block)
        return found

    def _fits(self, sequence: Sequence, found: list[int]) -> bool:
        """Whether there are blocks for all its tokens, and one more for each that already runs."""
        revived = sum(self.blocks.is_idle(block) for block in found)
        needed = self._blocks_for(len(sequence.ids)) - len(found)
        spare = len(self._running)
        return needed + revived + spare <= self.blocks.available

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.blocks.block_size)

    def _start(self, sequence: Sequence, found: list[int]) -> None:
        self._queue.remove(sequence)
        self._running.append(sequence)
        sequence.began = len(sequence.ids)
        for block in found:
            self.blocks.share(block)
        sequence.blocks = list(found)
        sequence.computed = len(found) * self.blocks.block_size
        if sequence.cached_tokens is None:  # later finds are its own work, come back to after a preemption
            sequence.cached_tokens = sequence.computed
            self.prefix_queries += sequence.prompt_length
            self.prefix_hits += sequence.computed
        more = self._blocks_for(len(sequence.ids)) - len(found)
        room = self._blocks_for(sequence.limit) - len(found)
        sequence.blocks += self.blocks.allocate(more, after=found[-1] if found else None, room=room)


def _had_turn(sequence: Sequence) -> bool:
    """Whether it got far enough, since it last began, to be worth the work of computing it again.

    Without this, two keys that each need most of the pool would take it from one another at every step, and neither
    would come to its first token. One that has only a place so far, since other prompts are scored before it, loses
    nothing by giving it up.
    """
    return not sequence.computed or len(sequence.ids) - sequence.began >= max(TURN, len(sequence.ids) // TURN_SHARE)
