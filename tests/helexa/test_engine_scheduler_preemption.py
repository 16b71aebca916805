"""Sequences that lose their blocks or leave, at any time: nobody else's tokens change, and nothing is lost."""

import pytest
from paged_memory import Simulation, alone, prompt, shape

from helexa.engine.scheduling.plan import StepPlan
from helexa.engine.scheduling.scheduler import Budget

# Running out of blocks


def test_a_prompt_waits_until_there_are_blocks_for_all_of_it() -> None:
    simulation = Simulation(total=8, budget=Budget(tokens=4, running=4))
    simulation.one(prompt(16, 0), 8)
    simulation.one(prompt(16, 1), 1)
    while simulation.live.keys() == {0, 1}:
        simulation.step()
        assert simulation.scheduler.running <= 1
    simulation.drain()
    assert simulation.scheduler.preemptions == 0


def test_a_prompt_waits_until_those_that_run_have_a_block_each_to_grow_into() -> None:
    simulation = Simulation(total=8, budget=Budget(tokens=64, running=4))
    simulation.one(prompt(15, 0), 6)
    simulation.one(prompt(15, 1), 6)
    simulation.step()
    assert simulation.scheduler.running == 1
    simulation.drain()
    assert simulation.scheduler.preemptions == 0


def test_when_blocks_run_out_the_latest_goes_back_and_each_gets_the_tokens_it_would_get_alone() -> None:
    simulation = Simulation(total=8, budget=Budget(tokens=64, running=4))
    first, second = simulation.one(prompt(8, 0), 24), simulation.one(prompt(8, 1), 24)
    while not simulation.scheduler.preemptions:
        simulation.step()
    assert simulation.running == [first]
    simulation.drain()
    assert simulation.ended == {0: "length", 1: "length"}
    for sequence, first_id in ((first, 0), (second, 1)):
        assert sequence.ids == alone("", prompt(8, first_id), 0, 32)


def test_a_preempted_sequence_finds_what_it_had_computed_and_reports_no_hits_for_it() -> None:
    simulation = Simulation(total=8, budget=Budget(tokens=64, running=4))
    first, second = simulation.one(prompt(8, 0), 24), simulation.one(prompt(8, 1), 24)
    while not simulation.scheduler.preemptions:
        simulation.step()
    before = second.ids[:]
    simulation.remove(first)
    chunk = shape(simulation.step())[0]
    assert chunk[1] > 8
    assert chunk[1] + chunk[2] == len(before)
    simulation.drain()
    assert second.cached_tokens == 0
    assert (simulation.scheduler.prefix_hits, simulation.scheduler.prefix_queries) == (0, 16)


def test_a_sequence_that_was_planned_is_not_preempted_in_the_same_step() -> None:
    simulation = Simulation(total=6, budget=Budget(tokens=64, running=6))
    for first in range(3):
        simulation.one(prompt(7, first), 17)
    simulation.drain()  # the simulation checks that whoever is planned still runs
    assert simulation.scheduler.preemptions > 0


@pytest.mark.parametrize("total", [8, 9])
def test_of_a_lower_and_a_higher_priority_the_lower_one_loses_its_blocks(total: int) -> None:
    """Also where one block is left and both need one: the better is asked first, though it came later."""
    simulation = Simulation(total=total, budget=Budget(tokens=64, running=4))
    simulation.one(prompt(8, 0), 23, priority=0)
    simulation.step()
    important = simulation.one(prompt(9, 1), 22, priority=1)
    while not simulation.scheduler.preemptions:
        simulation.step()
    assert simulation.running == [important]
    simulation.drain()
    assert list(simulation.ended) == [1, 0]


def test_sequences_that_share_their_prompt_are_preempted_without_harm_to_one_another() -> None:
    simulation = Simulation(total=10, budget=Budget(tokens=64, running=8))
    choices = simulation.add(prompt(20), 20, n=4)
    simulation.drain()
    assert simulation.scheduler.preemptions > 0
    assert [len(each.ids) for each in choices] == [40] * 4


def test_without_reuse_sequences_that_run_out_of_blocks_end_as_well() -> None:
    simulation = Simulation(total=8, budget=Budget(tokens=5, running=4, reuse=False))
    for first in range(4):
        simulation.one(prompt(8, first), 24)
    simulation.drain()
    assert simulation.ended == dict.fromkeys(range(4), "length")


# Leaving


@pytest.mark.parametrize("steps", range(6))
def test_a_request_can_be_removed_at_any_time(steps: int) -> None:
    simulation = Simulation(budget=Budget(tokens=4, running=2))
    doomed = simulation.one(prompt(13), 9)
    other = simulation.one(prompt(13), 9)
    for _ in range(steps):
        simulation.step()
    simulation.remove(doomed)
    assert all(chunk[0] == other.number for chunk in shape(simulation.step()))
    simulation.drain()
    assert simulation.ended == {0: "abort", 1: "length"}


def test_a_preempted_sequence_can_be_removed() -> None:
    simulation = Simulation(total=8)
    simulation.one(prompt(8, 0), 24)
    second = simulation.one(prompt(8, 1), 24)
    while not simulation.scheduler.preemptions:
        simulation.step()
    simulation.remove(second)
    simulation.drain()
    assert simulation.scheduler.preemptions == 1


def test_one_that_is_removed_while_its_step_runs_gets_no_token_and_whoever_reads_its_blocks_is_served() -> None:
    simulation = Simulation(total=64)
    first = simulation.one(prompt(17), 4)
    simulation.one(prompt(17), 4)
    simulation.on_plan = lambda _: simulation.remove(first) if first.number in simulation.live else None
    simulation.step()
    assert first.generated == 0
    simulation.drain()
    assert simulation.ended == {0: "abort", 1: "length"}


def test_one_that_comes_while_a_step_runs_is_in_the_next() -> None:
    simulation = Simulation(total=64)
    simulation.one(prompt(5, 0), 3)

    def come(_: StepPlan) -> None:
        simulation.on_plan = lambda _: None
        simulation.one(prompt(5, 1), 3)

    simulation.on_plan = come
    assert [len(shape(simulation.step())) for _ in range(2)] == [1, 2]
    simulation.drain()


def test_only_those_that_waited_too_long_and_never_ran_expire() -> None:
    simulation = Simulation(total=8, budget=Budget(running=2, patience=10))
    simulation.one(prompt(8, 0), 24)
    preempted = simulation.one(prompt(8, 1), 24)
    late = simulation.one(prompt(8, 2), 1)
    while not simulation.scheduler.preemptions:
        simulation.step()
    simulation.now = 5.0
    patient = simulation.one(prompt(8, 3), 1)
    assert simulation.scheduler.expire(10.0) == []
    assert simulation.scheduler.expire(10.1) == [late]
    assert simulation.scheduler.expire(15.1) == [late, patient]
    assert preempted in simulation.scheduler._queue
    assert simulation.scheduler.waiting == 3


def test_the_live_choices_of_a_request_are_found_whether_they_run_or_wait() -> None:
    simulation = Simulation(budget=Budget(running=2, tokens=64))
    choices = simulation.add(prompt(4), 3, n=3)
    simulation.one(prompt(4, 1), 3)
    simulation.step()
    assert simulation.scheduler.sequences("r0") == choices
    simulation.remove(choices[0])
    assert simulation.scheduler.sequences("r0") == choices[1:]
    assert simulation.scheduler.sequences("nobody") == []


def test_the_check_finds_one_that_waits_and_holds_blocks() -> None:
    simulation = Simulation(budget=Budget(running=1, tokens=64))
    simulation.one(prompt(4, 0), 3)
    waiting = simulation.one(prompt(4, 1), 3)
    simulation.step()
    waiting.blocks = simulation.blocks.allocate(1)
    with pytest.raises(RuntimeError):
        simulation.scheduler.check_integrity()
    simulation.blocks.release(waiting.blocks)
    with pytest.raises(RuntimeError, match="sequence 1 waits and holds 1 blocks"):
        simulation.scheduler.check_integrity()
