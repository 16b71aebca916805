"""One model's step loop: schedule, run, sample, commit."""

from collections.abc import Callable, Iterable
from itertools import count
from threading import Thread
from time import monotonic

from attrs import define, evolve

from helexa.engine.blocks import BlockManager
from helexa.engine.constraints import Compilation, GrammarCompiler
from helexa.engine.loading import LoadedModel
from helexa.engine.plan import StepPlan
from helexa.engine.protocol import Failed, Finished, ModelLoad, Report, Submit, TokenDelta
from helexa.engine.sampling import Sampled, Sampler
from helexa.engine.scheduler import Budget, Scheduler
from helexa.engine.sequence import Sequence

Refusal = tuple[str, str]
"""Error code of the API, and the reason."""


@define(eq=False)
class _Steps:
    """What steps have taken and brought so far. Written by the thread that steps, read by another."""

    count: int = 0
    seconds: float = 0.0
    tokens: int = 0
    picked: int = 0

    def add(self, seconds: float, tokens: int, picked: int) -> None:
        self.count += 1
        self.seconds += seconds
        self.tokens += tokens
        self.picked += picked


@define(eq=False)
class _Compiling:
    """A request whose grammar is not ready yet. ``choices``: those that have not been aborted."""

    submit: Submit
    compilation: Compilation
    choices: list[int]


class Engine:
    """Every accepted choice of a request ends in exactly one ``Finished``, or its request in one ``Failed``.

    None is accepted that cannot be served.

    Args:
        model: what to run.
        budget: bounds of a step and of the queue.
        wake: called from another thread when there is something to do that no ``submit`` announced.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        model: LoadedModel,
        budget: Budget | None = None,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.model = model
        budget = budget or Budget()
        self._budget = evolve(budget, reuse=budget.reuse and model.runner.reuses_prefixes)
        self._scheduler = Scheduler(BlockManager(model.blocks, model.block_size), self._budget)
        self._sampler = Sampler(model.runner.vocabulary, model.device)
        self._grammars = GrammarCompiler(model.directory, model.runner.vocabulary, model.eos_ids)
        self._compiling: dict[str, _Compiling] = {}
        self._live: dict[int, Sequence] = {}
        self._numbers = count(1)
        self._steps = _Steps()
        self._wake = wake
        self._clock = clock

    # State

    @property
    def running(self) -> int:
        """Sequences that take part in the next step."""
        return self._scheduler.running

    @property
    def waiting(self) -> int:
        """Sequences that do not yet."""
        compiling = list(self._compiling.values())  # a copy: ``figures`` counts while ``submit`` adds
        return self._scheduler.waiting + sum(len(each.choices) for each in compiling)

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything."""
        return bool(self._live) or any(each.compilation.done for each in self._compiling.values())

    def figures(self, model: str) -> ModelLoad:
        """How busy it is, under the name the neuron knows it by. May be called from another thread."""
        scheduler, blocks, steps = self._scheduler, self._scheduler.blocks, self._steps
        return ModelLoad(
            model,
            self.running,
            self.waiting,
            blocks.total,
            blocks.free,
            blocks.cached,
            scheduler.prefix_queries,
            scheduler.prefix_hits,
            scheduler.preemptions,
            steps.count,
            steps.seconds,
            steps.tokens,
            steps.picked,
        )

    def check_integrity(self) -> None:
        """Compare the books of the KV cache.

        Raises:
            RuntimeError: they do not agree.
        """
        self._scheduler.check_integrity()

    def close(self) -> None:
        """End the threads that compile grammars, without waiting for them: other models have steps to do."""
        Thread(target=self._grammars.close, daemon=True, name="grammars-close").start()

    # Requests

    def submit(self, submit: Submit) -> list[Report]:
        """Queue a request, or refuse it at once."""
        if (refusal := self._refusal(submit)) is not None:
            return [_failed(submit.request, refusal)]
        choices = list(range(submit.sampling.n))
        if submit.sampling.grammar is None:
            self._enqueue(submit, choices, None)
        else:
            compilation = self._grammars.compile(submit.sampling.grammar, self._wake)
            self._compiling[submit.request] = _Compiling(submit, compilation, choices)
        return []

    def _refusal(self, submit: Submit) -> Refusal | None:
        """Why a request cannot be served, ever or now."""
        limit, length = self.model.context_length, len(submit.prompt_ids)
        if not 0 < length < limit:
            return "context_length_exceeded", f"prompt of {length} tokens, context of {limit}"
        # Checked here: the look-up of such an id ends the process on a CPU, and breaks the context of a GPU.
        lowest, highest, known = min(submit.prompt_ids), max(submit.prompt_ids), self.model.vocabulary
        if lowest < 0 or highest >= known:
            return "upstream_error", f"prompt with token ids from {lowest} to {highest}, vocabulary of {known}"
        if self.waiting + submit.sampling.n > self._budget.waiting:
            return "rate_limit_exceeded", f"{self.waiting} sequences are already waiting"
        return None

    def _enqueue(self, submit: Submit, choices: Iterable[int], compilation: Compilation | None) -> None:
        now = self._clock()
        for index in choices:
            sequence = Sequence.of(submit, index, next(self._numbers), self.model.context_length, now)
            self._live[sequence.number] = sequence
            seed = submit.sampling.seed
            params = evolve(submit.sampling, seed=None if seed is None else seed + index)
            matcher = None if compilation is None else compilation.matcher()
            self._sampler.add(sequence.number, params, submit.prompt_ids, matcher)
            self._scheduler.add(sequence)

    def abort(self, request: str, index: int | None = None) -> list[Report]:
        """Forget a request, or one choice of it; it has no part in the next step."""
        if (compiling := self._compiling.get(request)) is not None:
            return self._abort_compiling(compiling, index)
        wanted = [each for each in self._of(request) if index in (None, each.index)]
        for sequence in wanted:
            self._scheduler.remove(sequence)
        return [self._end(sequence, "abort") for sequence in wanted]

    def _abort_compiling(self, compiling: _Compiling, index: int | None) -> list[Report]:
        submit, choices = compiling.submit, compiling.choices
        gone = [choice for choice in choices if index in (None, choice)]
        compiling.choices = [choice for choice in choices if choice not in gone]
        if not compiling.choices:
            del self._compiling[submit.request]
        return [Finished(submit.request, "abort", len(submit.prompt_ids), 0, choice) for choice in gone]

    def abort_all(self) -> list[Report]:
        """Forget every request."""
        requests = dict.fromkeys([*self._compiling, *(each.request for each in self._live.values())])
        return [report for request in requests for report in self.abort(request)]

    def _of(self, request: str) -> list[Sequence]:
        return [each for each in self._live.values() if each.request == request]

    # Steps

    def step(self) -> tuple[list[TokenDelta], list[Report]]:
        """Advance what is running; the new tokens, and the ends that came with them or before."""
        began = self._clock()
        ends = [*self._begin_compiled(), *self._expire()]
        plan = self._scheduler.schedule()
        if plan is None:
            return [], ends
        logits = self.model.runner.forward(plan)
        sampled = self._sampler.sample(logits, plan.due)
        deltas, finished = self._commit(plan, dict(zip(plan.due, sampled, strict=True)))
        self._steps.add(self._clock() - began, plan.tokens, len(deltas))
        return deltas, [*ends, *finished]

    def _begin_compiled(self) -> list[Report]:
        """Queue the requests whose grammars are ready; one that did not compile fails."""
        ends: list[Report] = []
        for request, compiling in list(self._compiling.items()):
            if compiling.compilation.done:
                del self._compiling[request]
                if (refusal := compiling.compilation.refusal) is not None:
                    ends.append(_failed(request, refusal))
                else:
                    self._enqueue(compiling.submit, compiling.choices, compiling.compilation)
        return ends

    def _expire(self) -> list[Report]:
        # Only a request none of whose choices has begun: the others wait for their siblings, not for strangers.
        late = [each for each in self._scheduler.expire(self._clock()) if each.index == 0]
        reason = f"no place became free within {self._budget.patience:g} s"
        return self._fail({each.request: ("rate_limit_exceeded", reason) for each in late})

    def _fail(self, refusals: dict[str, Refusal]) -> list[Report]:
        """End whole requests: a choice that cannot go on takes its siblings with it."""
        for sequence in [each for each in self._live.values() if each.request in refusals]:
            self._scheduler.remove(sequence)
            self._end(sequence, "abort")
        return [_failed(request, refusal) for request, refusal in refusals.items()]

    def _commit(self, plan: StepPlan, sampled: dict[int, Sampled]) -> tuple[list[TokenDelta], list[Report]]:
        broken = {number: each.error for number, each in sampled.items() if each.error is not None}
        failed = self._fail({self._live[number].request: error for number, error in broken.items()})
        sampled = {number: each for number, each in sampled.items() if number in self._live}
        deltas = [_delta(self._live[number], each) for number, each in sampled.items()]
        ended = dict(self._scheduler.commit(plan, {number: each.token for number, each in sampled.items()}))
        for sequence in [self._live[number] for number, each in sampled.items() if each.done]:
            if sequence not in ended:  # its grammar has come to its end, although no stop token did
                self._scheduler.remove(sequence)
            ended[sequence] = "stop"  # at the very limit too: nothing is missing
        return deltas, [*failed, *(self._end(sequence, reason) for sequence, reason in ended.items())]

    def _end(self, sequence: Sequence, reason: str) -> Finished:
        """Forget a sequence that the scheduler has forgotten."""
        del self._live[sequence.number]
        self._sampler.remove(sequence.number)
        self.model.runner.forget(sequence.number)
        cached = sequence.cached_tokens or 0
        return Finished(
            sequence.request, reason, sequence.prompt_length, sequence.generated, sequence.index, cached_tokens=cached
        )


def _failed(request: str, refusal: Refusal) -> Failed:
    code, reason = refusal
    return Failed(request, code, reason.rstrip("."))  # half a sentence, as the protocol has it


def _delta(sequence: Sequence, sampled: Sampled) -> TokenDelta:
    logprobs = [] if sampled.logprob is None else [sampled.logprob]
    return TokenDelta(sequence.request, [sampled.token], sequence.index, logprobs)
