"""A step that does not fit into the device's memory: it is taken again in smaller parts, and nobody's tokens change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attrs import define, evolve, field
from engine_runs import Bench, greedy, load, prompt, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.engine import core, mishaps
from helexa.engine.networks.runner import Runner
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.weights.loading import LoadedModel

BUDGET = Budget(running=4, tokens=64)
Fault = Callable[[], Exception]
FAULTS: dict[str, Fault] = {
    "a host's": MemoryError,
    "torch's": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "the allocator's": lambda: RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
}


@define(eq=False)
class Cramped:
    """A runner that takes so many tokens in a step, and then does half of its work before it fails.

    Attributes:
        room: tokens.
        never: sequences that it has no room for at all.
        fault: what it raises.
    """

    inner: Runner
    room: int = 1_000
    never: set[int] = field(factory=set)
    fault: Fault = MemoryError
    sizes: list[int] = field(factory=list)

    @property
    def vocabulary(self) -> int:
        return self.inner.vocabulary

    @property
    def reuses_prefixes(self) -> bool:
        return self.inner.reuses_prefixes

    def forward(self, plan: StepPlan) -> torch.Tensor:
        self.sizes.append(plan.tokens)
        if plan.tokens > self.room or any(chunk.number in self.never for chunk in plan.chunks):
            if len(plan.chunks) > 1:
                self.inner.forward(StepPlan(plan.chunks[: len(plan.chunks) // 2]))
            raise self.fault()
        return self.inner.forward(plan)

    def forget(self, number: int) -> None:
        self.inner.forget(number)


def cramped(directory: Path, budget: Budget = BUDGET) -> tuple[Cramped, Bench]:
    model = load(directory)
    runner = Cramped(model.runner)
    return runner, Bench.of(evolve(model, runner=runner), budget)


@pytest.fixture(autouse=True)
def collections(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """How often memory was collected, which takes its time where torch is loaded."""
    found: list[None] = []
    monkeypatch.setattr(mishaps, "collect", lambda: found.append(None))
    return found


@pytest.fixture
def small(llama: Path) -> LoadedModel:
    return load(llama)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_does_not_fit_is_taken_in_smaller_parts(
    llama: Path, small: LoadedModel, fault: str, collections: list[None]
) -> None:
    runner, bench = cramped(llama)
    runner.room, runner.fault = 20, FAULTS[fault]
    prompts = {f"r{n}": prompt(30 + n, seed=n) for n in range(3)}
    for name, ids in prompts.items():
        bench.submit(name, ids, greedy(12))
    outcome = bench.run()
    assert {name: outcome.of(name) for name in prompts} == {n: reference(small, ids, 12) for n, ids in prompts.items()}
    assert runner.sizes[:3] == [64, 32, 16]
    assert len(collections) >= 2


def test_what_the_failed_step_was_to_compute_is_found_in_no_cache(llama: Path, small: LoadedModel) -> None:
    """Blocks can be found from when they are planned; a second request with the same prompt would read nothing."""
    runner, bench = cramped(llama)
    runner.room = 0
    bench.submit("first", prompt(40), greedy(4))
    bench.step()
    bench.submit("second", prompt(40), greedy(4))
    runner.room = 1_000
    outcome = bench.run()
    assert outcome.of("first") == outcome.of("second") == reference(small, prompt(40), 4)


def test_what_runs_is_computed_again_from_its_start(llama: Path, small: LoadedModel) -> None:
    runner, bench = cramped(llama)
    bench.submit("r", prompt(20), greedy(20))
    bench.step(5)
    runner.room = 0
    bench.step()
    runner.room = 1_000
    assert bench.run().of("r") == reference(small, prompt(20), 20)


def test_a_request_whose_one_token_is_too_much_fails_and_the_others_go_on(llama: Path, small: LoadedModel) -> None:
    runner, bench = cramped(llama)
    bench.submit("before", prompt(20), greedy(12))
    bench.submit("greedy", prompt(25, seed=1), greedy(12))
    bench.submit("after", prompt(30, seed=2), greedy(12))
    bench.step()
    runner.never.add(2)
    outcome = bench.run()
    assert (set(outcome.failures), outcome.failures["greedy"].code) == ({"greedy"}, "upstream_error")
    assert "the device ran out of memory in its step (MemoryError)" in outcome.failures["greedy"].error
    assert outcome.of("before") == reference(small, prompt(20), 12)
    assert outcome.of("after") == reference(small, prompt(30, seed=2), 12)


def test_no_memory_at_all_ends_every_request_and_the_next_one_is_served(llama: Path, small: LoadedModel) -> None:
    runner, bench = cramped(llama)
    runner.room = 0
    for n in range(3):
        bench.submit(f"r{n}", prompt(20, seed=n), greedy(5, n=2))
    assert set(bench.run().failures) == {"r0", "r1", "r2"}
    runner.room = 1_000
    bench.submit("next", prompt(20), greedy(5))
    assert bench.run().of("next") == reference(small, prompt(20), 5)


def test_steps_grow_again_when_they_have_fitted_for_a_while(llama: Path) -> None:
    runner, bench = cramped(llama)
    runner.room = 40
    bench.submit("r", prompt(60), greedy(33))
    bench.step()
    assert bench.engine._scheduler.budget.tokens == 30
    runner.room = 1_000
    bench.step(2 * core._GOOD_STEPS - 1)
    assert bench.engine._scheduler.budget.tokens == 30
    bench.step()
    assert bench.engine._scheduler.budget.tokens == 60
    bench.run()
    bench.submit("s", prompt(60), greedy(2 * core._GOOD_STEPS))
    bench.run()
    assert bench.engine._scheduler.budget == BUDGET


def test_any_other_fault_of_a_step_is_the_worker_s_business(llama: Path) -> None:
    runner, bench = cramped(llama)
    runner.room, runner.fault = 0, lambda: RuntimeError("CUDA error: an illegal memory access was encountered")
    bench.submit("r", prompt(5), greedy(5))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        bench.step()


def test_memory_that_comes_and_goes_changes_no_token(llama: Path, small: LoadedModel) -> None:
    prompts = {f"r{n}": prompt(10 + 20 * n, seed=n) for n in range(4)}
    expected = {name: reference(small, ids, 8) for name, ids in prompts.items()}

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(1, 70), max_size=20))
    def check(rooms: list[int]) -> None:
        runner, bench = cramped(llama)
        for name, ids in prompts.items():
            bench.submit(name, ids, greedy(8))
        for room in rooms:
            runner.room = room
            bench.step()
        runner.room = 1_000
        outcome = bench.run()
        assert {name: outcome.of(name) for name in prompts} == expected

    check()
