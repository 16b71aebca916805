"""One model's step loop: schedule, run, sample, commit."""

from collections.abc import Callable, Iterable
from itertools import chain, count, pairwise
from threading import Thread
from time import monotonic

import structlog
from attrs import define, evolve
from torch import Tensor

from helexa.engine import mishaps
from helexa.engine.protocol import Failed, Finished, ModelLoad, Report, ScoringParams, Submit, TokenDelta
from helexa.engine.sampling.constraints import Compilation, GrammarCompiler
from helexa.engine.sampling.sampler import NO_TOKEN, Sampled, Sampler
from helexa.engine.sampling.scoring import Scores, score
from helexa.engine.scheduling.blocks import BlockManager
from helexa.engine.scheduling.pace import Pace, Steps
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.scheduler import Budget, Scheduler
from helexa.engine.scheduling.sequence import Sequence
from helexa.engine.weights.loading import LoadedModel

_log = structlog.get_logger()
Refusal = tuple[str, str]
"""Error code of the API, and the reason."""
_GOOD_STEPS, _MOST_GOOD_STEPS = 16, 1024
"""After so many since one that was too large, steps may be twice as large again; each that is doubles the number."""


@define(eq=False)
class _Compiling:
    """A request whose grammar is not ready yet. ``choices``: those that have not been aborted."""

    submit: Submit
    compilation: Compilation
    choices: list[int]


class Engine:
    """Every accepted choice of a request ends in exactly one ``Finished``, or its request in one ``Failed``.

    None is accepted that cannot be served. A step that does not fit into memory is taken again in smaller parts.

    Args:
        model: what to run.
        budget: bounds of a step and of the queue.
        wake: called from another thread when there is something to do that no ``submit`` announced.
        clock: seconds, monotonic.
        announce: told, before a step, of the requests that it is the first for.
    """

    def __init__(
        self,
        model: LoadedModel,
        budget: Budget | None = None,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
        announce: Callable[[list[str]], None] = lambda _: None,
    ) -> None:
        self.model = model
        budget = budget or Budget()
        self._budget = evolve(budget, reuse=budget.reuse and model.runner.reuses_prefixes)
        self._scheduler = Scheduler(BlockManager(model.blocks, model.block_size), self._budget)
        self._sampler = Sampler(model.runner.vocabulary, model.device)
        self._grammars = GrammarCompiler(model.directory, model.runner.vocabulary, model.eos_ids)
        self._compiling: dict[str, _Compiling] = {}
        self._live: dict[int, Sequence] = {}
        self._scoring: dict[int, int] = {}  # of those whose prompts are told: how many of the likeliest tokens as well
        self._numbers = count(1)
        self._steps = Steps(model.parts.get("warm up", 0.0))
        self._begun: set[str] = set()
        self._good_steps, self._trial = 0, _GOOD_STEPS
        self._wake = wake
        self._clock = clock
        self._announce = announce

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

    @property
    def pace(self) -> Pace:
        """How long the step under way may reasonably take. May be asked from another thread."""
        steps = self._steps
        return Pace(steps.planned, steps.longest, steps.largest)

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
        """Queue a request, or refuse it at once; one that is gone on with may turn out to be complete."""
        if (refusal := self._refusal(submit)) is not None:
            return [_failed(submit.request, refusal)]
        choices = [each.index for each in submit.progress] or list(range(submit.sampling.n))
        if submit.sampling.grammar is None:
            return self._enqueue(submit, choices, None)
        compilation = self._grammars.compile(submit.sampling.grammar, self._wake)
        self._compiling[submit.request] = _Compiling(submit, compilation, choices)
        return []

    def _refusal(self, submit: Submit) -> Refusal | None:
        """Why a request cannot be served, ever or now."""
        limit, length = self.model.context_length, len(submit.prompt_ids)
        if not 0 < length < limit:
            return "context_length_exceeded", f"prompt of {length} tokens, context of {limit}"
        # Checked here: the look-up of such an id ends the process on a CPU, and breaks the context of a GPU.
        ids = [submit.prompt_ids, *(each.ids for each in submit.progress if each.ids)]
        lowest, highest, known = min(map(min, ids)), max(map(max, ids)), self.model.vocabulary
        if lowest < 0 or highest >= known:
            return "upstream_error", f"prompt with token ids from {lowest} to {highest}, vocabulary of {known}"
        if self.waiting + submit.sampling.n > self._budget.waiting:
            return "rate_limit_exceeded", f"{self.waiting} sequences are already waiting"
        return None

    def _enqueue(self, submit: Submit, choices: Iterable[int], compilation: Compilation | None) -> list[Report]:
        told = {each.index: each.ids for each in submit.progress}
        ends = [self._begin(submit, index, told.get(index, []), compilation) for index in choices]
        return [end for end in ends if end is not None]

    def _begin(self, submit: Submit, index: int, told: list[int], compilation: Compilation | None) -> Finished | None:
        """Queue a choice; its end if what was generated of it, in a process that is gone, is all of it."""
        sequence = self._enlist(submit, index)
        generated = sequence.resume(told)
        seed = submit.sampling.seed
        params = evolve(submit.sampling, seed=None if seed is None else seed + index)
        matcher = None if compilation is None else compilation.matcher()
        self._sampler.add(sequence.number, params, submit.prompt_ids, matcher, generated)
        reasons = [sequence.append(token) for token in generated]
        # A grammar that has come to its end goes first, as it does in ``_commit``.
        if generated and matcher is not None and matcher.is_stopped() and not matcher.is_error():
            return self._end(sequence, "stop")
        if reasons and reasons[-1] is not None:
            return self._end(sequence, reasons[-1])
        self._scheduler.add(sequence)
        return None

    def _enlist(self, submit: Submit, index: int) -> Sequence:
        sequence = Sequence.of(submit, index, next(self._numbers), self.model.context_length, self._clock())
        self._live[sequence.number] = sequence
        if isinstance(submit.sampling, ScoringParams):
            self._scoring[sequence.number] = submit.sampling.prompt_logprobs
        return sequence

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
        """Advance what is running; the tokens to tell, and the ends that came with them or before."""
        began = self._clock()
        ends = [*self._begin_compiled(), *self._expire()]
        plan = self._scheduler.schedule()
        if plan is None:
            return [], ends
        self._steps.planned = plan.tokens
        self._tell_begun(plan)
        logits = self._forward(plan)
        if isinstance(logits, str):  # here, where nothing of the failed step is held on to any more
            return [], [*ends, *self._relieve(plan, logits)]
        scores = self._score(plan, logits) if self._scoring else Scores(plan.due, logits)
        sampled = self._sampler.sample(scores.logits, scores.due)
        deltas, finished = self._commit(plan, dict(zip(scores.due, sampled, strict=True)), scores.broken)
        self._steps.add(self._clock() - began, plan.tokens, len(deltas))
        self._widen()
        return [*scores.deltas, *deltas], [*ends, *finished]

    def _score(self, plan: StepPlan, logits: Tensor) -> Scores:
        return score(plan, logits, self._live, self._scoring)

    def _tell_begun(self, plan: StepPlan) -> None:
        requests = {self._live[chunk.number].request for chunk in plan.chunks}
        if fresh := requests - self._begun:
            self._begun |= fresh
            self._announce(sorted(fresh))

    def _forward(self, plan: StepPlan) -> Tensor | str:
        """The logits that are due; a reason if there was not enough memory for them."""
        try:
            return self.model.runner.forward(self._as_before(plan))
        except Exception as error:
            if not mishaps.is_out_of_memory(error):
                raise
            return mishaps.describe(error)

    def _as_before(self, plan: StepPlan) -> StepPlan:
        """The same step with generated tokens as chunks of their own, which they were when they were first computed.

        Several in one chunk would be faster to compute again, after a preemption or in another process. But attention
        rounds differently for one query and for many, and a sampled token may hang on that.
        """
        live = self._live
        if all(len(chunk.ids) == 1 or chunk.end <= live[chunk.number].prompt_length for chunk in plan.chunks):
            return plan
        parts = (_apart(chunk, live[chunk.number].prompt_length) for chunk in plan.chunks)
        return StepPlan(tuple(chain.from_iterable(parts)))

    # Memory that runs out

    def _relieve(self, plan: StepPlan, reason: str) -> list[Report]:
        """Start over what runs, in smaller steps; a request whose one token is too much, also then, fails."""
        mishaps.collect()
        _log.warning("step.out_of_memory", tokens=plan.tokens, sequences=len(plan.chunks), reason=reason)
        failed = []
        if plan.tokens == self._scheduler.budget.tokens == 1:
            refusal = "upstream_error", f"the device ran out of memory in its step ({reason})"
            failed = self._fail({self._live[plan.chunks[0].number].request: refusal})
        self._bound_steps(max(1, plan.tokens // 2))
        # Else one that never fits would throw the others back again and again: they get further each time.
        self._trial = min(2 * self._trial, _MOST_GOOD_STEPS)
        self._start_over()
        return failed

    def _bound_steps(self, tokens: int) -> None:
        self._good_steps = 0
        self._scheduler.budget = evolve(self._scheduler.budget, tokens=min(tokens, self._budget.tokens))

    def _widen(self) -> None:
        if (tokens := self._scheduler.budget.tokens) < self._budget.tokens:
            self._good_steps += 1
            if self._good_steps >= self._trial:
                self._bound_steps(2 * tokens)

    def _start_over(self) -> None:
        """Preempt all sequences, and forget what is cached: blocks can be found from when they are planned."""
        queued = sorted(self._live.values(), key=lambda each: each.number)
        for sequence in queued:
            self._scheduler.remove(sequence)
            self.model.runner.forget(sequence.number)
        self._scheduler.blocks = BlockManager(self.model.blocks, self.model.block_size)
        for sequence in queued:
            self._scheduler.add(sequence)

    def _begin_compiled(self) -> list[Report]:
        """Queue the requests whose grammars are ready; one that did not compile fails."""
        ends: list[Report] = []
        for request, compiling in list(self._compiling.items()):
            if compiling.compilation.done:
                del self._compiling[request]
                if (refusal := compiling.compilation.refusal) is not None:
                    ends.append(_failed(request, refusal))
                else:
                    ends += self._enqueue(compiling.submit, compiling.choices, compiling.compilation)
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

    def _commit(
        self, plan: StepPlan, sampled: dict[int, Sampled], broken: Iterable[str]
    ) -> tuple[list[TokenDelta], list[Report]]:
        errors = {self._live[number].request: each.error for number, each in sampled.items() if each.error is not None}
        failed = self._fail(errors | dict.fromkeys(broken, NO_TOKEN))
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
        self._scoring.pop(sequence.number, None)
        self._sampler.remove(sequence.number)
        self.model.runner.forget(sequence.number)
        self._begun.discard(sequence.request)
        cached = min(sequence.cached_tokens or 0, sequence.prompt_length)  # what was generated may be found, too
        return Finished(
            sequence.request, reason, sequence.prompt_length, sequence.generated, sequence.index, cached_tokens=cached
        )


def _apart(chunk: Chunk, prompt_length: int) -> list[Chunk]:
    """A chunk's part of the prompt, if it has any, and each generated token by itself."""
    head = max(0, prompt_length - chunk.start)
    ends = [*([head] if head else []), *range(head + 1, len(chunk.ids) + 1)]
    return [
        evolve(chunk, ids=chunk.ids[first:end], start=chunk.start + first, due=chunk.due and end == len(chunk.ids))
        for first, end in pairwise([0, *ends])
    ]


def _failed(request: str, refusal: Refusal) -> Failed:
    code, reason = refusal
    return Failed(request, code, reason.rstrip("."))  # half a sentence, as the protocol has it


def _delta(sequence: Sequence, sampled: Sampled) -> TokenDelta:
    logprobs = [] if sampled.logprob is None else [sampled.logprob]
    return TokenDelta(sequence.request, [sampled.token], sequence.index, logprobs)
