"""Prompts that are scored, as the scheduler sees them: rows of logits are few, and nobody waits for them."""

from collections.abc import Mapping

import pytest

from helexa.engine.protocol import ScoringParams, Submit
from helexa.engine.scheduling.blocks import BlockManager
from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import LEAST_SCORED, Budget, Scheduler
from helexa.engine.scheduling.sequence import Sequence
from helexa.wire.sampling import SamplingParams

PLAIN = SamplingParams(max_tokens=40)
SCORED = ScoringParams(max_tokens=1, prompt_logprobs=0)
BLOCK = 4


def sequence(number: int, length: int, params: SamplingParams, key: str = "") -> Sequence:
    ids = [number * 1000 + place for place in range(length)]
    return Sequence.of(Submit(f"r{number}", "m", ids, params, key), 0, number, 4096, 0.0)


def scheduler_of(*sequences: Sequence, budget: Budget, blocks: int = 1000) -> Scheduler:
    found = Scheduler(BlockManager(blocks, BLOCK), budget)
    for each in sequences:
        found.add(each)
    return found


def step(scheduler: Scheduler, live: Mapping[int, Sequence]) -> StepPlan | None:
    """One step, in which each token is a zero and what is scored is told."""
    plan = scheduler.schedule()
    if plan is not None:
        for chunk in plan.chunks:
            each = live[chunk.number]
            assert chunk.scored == each.scored(chunk.start, chunk.end)
            assert chunk.scored + chunk.due <= len(chunk.ids)
            if each.reported is not None:
                assert chunk.start <= max(each.reported, 1) - 1 or each.reported == each.prompt_length
                each.reported = max(each.reported, min(chunk.end + 1, each.prompt_length))
        scheduler.commit(plan, dict.fromkeys(plan.due, 0))
    scheduler.check_integrity()
    return plan


def numbered(*sequences: Sequence) -> dict[int, Sequence]:
    return {each.number: each for each in sequences}


@pytest.mark.parametrize("length", [1, 2, 16, 17, 18, 63, 64, 65, 200])
@pytest.mark.parametrize("tokens", [1, 24, 512])
def test_each_token_but_the_first_is_scored_once(length: int, tokens: int) -> None:
    one = sequence(1, length, SCORED)
    scheduler = scheduler_of(one, budget=Budget(running=1, tokens=tokens))
    rows = []
    while (plan := step(scheduler, numbered(one))) is not None:
        rows += [chunk.scored for chunk in plan.chunks]
        assert plan.tokens <= LEAST_SCORED + 1
    assert sum(rows) == length - 1
    assert max(rows) <= LEAST_SCORED


def test_an_idle_engine_scores_as_many_at_once_as_could_run() -> None:
    one = sequence(1, 300, SCORED)
    scheduler = scheduler_of(one, budget=Budget(running=64))
    plan = step(scheduler, numbered(one))
    assert plan is not None
    assert [chunk.scored for chunk in plan.chunks] == [63]


def test_a_small_pool_has_no_more_rows_than_blocks() -> None:
    """Fewer sequences can run there, and so less memory was kept for their logits."""
    one = sequence(1, 100, SCORED)
    scheduler = scheduler_of(one, budget=Budget(running=64), blocks=30)
    plan = step(scheduler, numbered(one))
    assert plan is not None
    assert plan.chunks[0].scored == 29


def test_others_prefill_beside_it_in_full() -> None:
    one, other = sequence(1, 300, SCORED), sequence(2, 400, PLAIN, "b")
    scheduler = scheduler_of(one, other, budget=Budget(running=8, tokens=512))
    plan = step(scheduler, numbered(one, other))
    assert plan is not None
    assert [(chunk.number, len(chunk.ids), chunk.scored) for chunk in plan.chunks] == [
        (1, LEAST_SCORED, 16),
        (2, 400, 0),
    ]


def test_one_after_another_is_scored() -> None:
    live = numbered(*(sequence(number, 40, SCORED) for number in range(1, 5)))
    scheduler = scheduler_of(*live.values(), budget=Budget(running=4, tokens=512))
    while (plan := step(scheduler, live)) is not None:
        assert sum(chunk.scored for chunk in plan.chunks) <= LEAST_SCORED
    assert {each.reported for each in live.values()} == {40}


def test_who_has_all_places_for_prompts_to_be_scored_gives_one_to_another_key() -> None:
    """Those that only wait for their turn to be scored lose nothing by it."""
    many = [sequence(number, 2000, SCORED, "a") for number in range(1, 5)]
    other = sequence(9, 5, PLAIN, "b")
    live = numbered(*many, other)
    scheduler = scheduler_of(*many, budget=Budget(running=4, tokens=512), blocks=4000)
    step(scheduler, live)
    assert scheduler.running == 4
    scheduler.add(other)
    step(scheduler, live)
    step(scheduler, live)
    assert other.generated > 0
    assert many[0].computed > 0
    assert scheduler.preemptions == 1


def test_what_was_told_may_be_found_in_the_cache_after_a_preemption() -> None:
    one = sequence(1, 100, SCORED)
    scheduler = scheduler_of(one, budget=Budget(running=1, tokens=512))
    for _ in range(3):
        step(scheduler, numbered(one))
    assert one.reported == 3 * LEAST_SCORED + 1
    scheduler.remove(one)
    scheduler.add(one)
    plan = step(scheduler, numbered(one))
    assert plan is not None
    assert plan.chunks[0].start == 3 * LEAST_SCORED
    assert plan.chunks[0].scored == LEAST_SCORED
