"""Engines on small models, stepped until nothing is left, and what transformers itself makes of the same prompts."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import torch
from attrs import define, evolve, field

from helexa.engine.core import Engine
from helexa.engine.networks.runner import Runner
from helexa.engine.protocol import Failed, Finished, Progress, Report, Submit, TokenDelta, TokenLogprob
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel, load_model
from helexa.wire.sampling import SamplingParams

NAME = "m"
PATIENCE = 60.0

Choice = tuple[str, int]
"""Request and index."""


def greedy(max_tokens: int | None, **more: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, **more)


def prompt(length: int, seed: int = 0) -> list[int]:
    ids: list[int] = torch.randint(2, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


@cache
def load(directory: Path) -> LoadedModel:
    """A model for any number of engines, one at a time: what an earlier one left in its cache is part of the test."""
    return load_model(str(directory), "cpu")


@cache
def _module(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory).eval()


@cache
def _continued(directory: Path, ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    found = _module(directory).generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    return tuple(found[0, len(ids) :].tolist())


def reference(model: LoadedModel, ids: Iterable[int], count: int) -> list[int]:
    """What transformers generates, greedily, from a module that helexa never saw."""
    return list(_continued(model.directory, tuple(ids), count))


@define
class Outcome:
    """What an engine has said, by choice. Notices what comes after an end, or twice."""

    tokens: dict[Choice, list[int]] = field(factory=dict)
    logprobs: dict[Choice, list[TokenLogprob]] = field(factory=dict)
    ends: dict[Choice, Finished] = field(factory=dict)
    failures: dict[str, Failed] = field(factory=dict)
    earlier: dict[Choice, int] = field(factory=dict)

    def note(self, deltas: Iterable[TokenDelta], reports: Iterable[Report]) -> None:
        for delta in deltas:
            choice = delta.request, delta.index
            assert choice not in self.ends, "tokens after the end"
            assert delta.request not in self.failures, "tokens after the failure"
            self.tokens.setdefault(choice, []).extend(delta.ids)
            self.logprobs.setdefault(choice, []).extend(delta.logprobs)
        for report in reports:
            self._end(report)

    def _end(self, report: Report) -> None:
        assert isinstance(report, Finished | Failed)
        assert report.request not in self.failures, "a second end"
        if isinstance(report, Failed):
            self.failures[report.request] = report
            return
        assert (report.request, report.index) not in self.ends, "a second end"
        earlier = self.earlier.get((report.request, report.index), 0)
        assert report.completion_tokens == earlier + len(self.of(report.request, report.index))
        self.ends[report.request, report.index] = report

    def of(self, request: str, index: int = 0) -> list[int]:
        """The tokens of a choice."""
        return self.tokens.get((request, index), [])

    def choices(self, request: str) -> list[list[int]]:
        return [tokens for (name, _), tokens in sorted(self.tokens.items()) if name == request]

    def reasons(self) -> dict[Choice, str]:
        return {choice: end.reason for choice, end in self.ends.items()}


@define
class Bench:
    """An engine, what it has said so far, and how to wait for what its threads do."""

    engine: Engine
    outcome: Outcome = field(factory=Outcome)
    alarm: Event = field(factory=Event)

    @classmethod
    def of(cls, model: LoadedModel, budget: Budget | None = None, clock: Callable[[], float] = lambda: 0.0) -> "Bench":
        alarm = Event()
        return cls(Engine(model, budget, alarm.set, clock), alarm=alarm)

    def submit(self, request: str, ids: list[int], params: SamplingParams, **more: Any) -> list[Report]:
        reports = self.engine.submit(Submit(request, NAME, ids, params, **more))
        self.outcome.note([], reports)
        return reports

    def note_resumed(self, request: str, progress: Iterable[Progress]) -> None:
        """What was generated elsewhere counts at the end."""
        self.outcome.earlier |= {(request, each.index): len(each.ids) for each in progress}

    def abort(self, request: str, index: int | None = None) -> list[Report]:
        reports = self.engine.abort(request, index)
        self.outcome.note([], reports)
        return reports

    def step(self, count: int = 1) -> list[TokenDelta]:
        """Some steps; the tokens of the last."""
        deltas: list[TokenDelta] = []
        for _ in range(count):
            deltas, reports = self.engine.step()
            self.outcome.note(deltas, reports)
            self.engine.check_integrity()
        return deltas

    def await_compiler(self) -> None:
        """Until a compilation is done."""
        while not self.engine.has_work:
            assert self.alarm.wait(PATIENCE), "the compiler wakes nobody"
            self.alarm.clear()

    def run(self) -> Outcome:
        """Step until nothing is left, and see that nothing is."""
        while self.engine.running or self.engine.waiting:
            self.await_compiler()
            self.step()
        assert_idle(self.engine)
        return self.outcome


def assert_idle(engine: Engine) -> None:
    """Nothing is left of any request: no sequence, no block, no state of the sampler's."""
    engine.check_integrity()
    load = engine.figures(NAME)
    assert (load.running, load.waiting, engine.has_work) == (0, 0, False)
    assert load.blocks_free + load.blocks_cached == load.blocks_total == engine.model.blocks
    assert engine._live == engine._compiling == engine._sampler._rows == {}


def generate(model: LoadedModel, ids: list[int], params: SamplingParams) -> tuple[list[int], Finished]:
    """One request, alone."""
    bench = Bench.of(model)
    assert bench.submit("r", ids, params) == []
    outcome = bench.run()
    return outcome.of("r"), outcome.ends["r", 0]


def with_pool(model: LoadedModel, blocks: int) -> LoadedModel:
    """The same model with fewer KV blocks."""
    return evolve(model, blocks=blocks, context_length=min(model.context_length, blocks * model.block_size))


@define(eq=False)
class WatchedRunner:
    """A runner that counts what it computes, and spoils the logits of the sequences in ``broken``."""

    inner: Runner
    broken: set[int] = field(factory=set)
    computed: Counter[int] = field(factory=Counter)
    forgotten: list[int] = field(factory=list)

    @classmethod
    def of(cls, model: LoadedModel) -> "tuple[WatchedRunner, LoadedModel]":
        runner = cls(model.runner)
        return runner, evolve(model, runner=runner)

    @property
    def vocabulary(self) -> int:
        return self.inner.vocabulary

    @property
    def reuses_prefixes(self) -> bool:
        return self.inner.reuses_prefixes

    def forward(self, plan: StepPlan) -> torch.Tensor:
        logits = self.inner.forward(plan)
        for chunk in plan.chunks:
            self.computed[chunk.number] += len(chunk.ids)
        spoilt = [place for place, number in enumerate(plan.due) if number in self.broken]
        return logits.clone().index_fill_(0, torch.tensor(spoilt, dtype=torch.int64), float("nan"))

    def forget(self, number: int) -> None:
        self.forgotten.append(number)
        self.inner.forget(number)
