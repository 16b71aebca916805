"""Plans: who computes what in a step. Every step also runs against a simulated memory, see `paged_memory`."""

import pytest
from paged_memory import ALPHABET, Simulation, alone, prompt, shape

from helexa.engine.scheduling.scheduler import Budget
from helexa.engine.scheduling.sequence import Sequence


def generated(sequence: Sequence) -> list[int]:
    return sequence.ids[sequence.prompt_length :]


# Batching


def test_a_prompt_is_computed_in_one_step_and_each_further_token_in_another() -> None:
    simulation = Simulation()
    simulation.one(prompt(5), 3)
    assert [shape(simulation.step()) for _ in range(3)] == [[(0, 0, 5, True)], [(0, 5, 1, True)], [(0, 6, 1, True)]]
    assert simulation.step() is None
    assert simulation.ended == {0: "length"}


def test_nothing_to_do_is_no_plan() -> None:
    assert Simulation().step() is None


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget_and_only_the_last_is_due() -> None:
    simulation = Simulation(budget=Budget(tokens=10, running=4))
    simulation.one(prompt(25), 1)
    plans = [shape(simulation.step()) for _ in range(3)]
    assert plans == [[(0, 0, 10, False)], [(0, 10, 10, False)], [(0, 20, 5, True)]]


def test_decodes_go_first_and_prefills_share_what_is_left_of_the_budget() -> None:
    simulation = Simulation(total=64, budget=Budget(tokens=8, running=4))
    simulation.one(prompt(3, 0), 9)
    simulation.one(prompt(3, 1), 9)
    simulation.step()
    simulation.one(prompt(9, 2), 9)
    simulation.one(prompt(5, 3), 9)
    assert shape(simulation.step()) == [(0, 3, 1, True), (1, 3, 1, True), (2, 0, 6, False)]
    assert shape(simulation.step()) == [(0, 4, 1, True), (1, 4, 1, True), (2, 6, 3, True), (3, 0, 3, False)]
    assert shape(simulation.step())[-1] == (3, 3, 2, True)


def test_a_prefill_under_way_goes_before_one_that_comes_later() -> None:
    simulation = Simulation(budget=Budget(tokens=10, running=4))
    simulation.one(prompt(25, 0), 1)
    simulation.step()
    simulation.one(prompt(2, 1), 1, priority=9)
    assert shape(simulation.step()) == [(0, 10, 10, False)]
    assert shape(simulation.step()) == [(0, 20, 5, True), (1, 0, 2, True)]


def test_no_more_run_than_there_are_places() -> None:
    simulation = Simulation(budget=Budget(running=2, tokens=64))
    for first in range(5):
        simulation.one(prompt(3, first), 2)
    simulation.step()
    assert (simulation.scheduler.running, simulation.scheduler.waiting) == (2, 3)
    simulation.drain()
    assert list(simulation.ended) == [0, 1, 2, 3, 4]


def test_a_prompt_of_one_token_and_one_that_fills_its_blocks_exactly_are_served() -> None:
    simulation = Simulation()
    simulation.one([1], 9)
    simulation.one(prompt(8), 9)
    simulation.drain()
    assert simulation.ended == {0: "length", 1: "length"}


def test_a_request_for_one_token_ends_with_its_prefill() -> None:
    simulation = Simulation()
    simulation.one(prompt(8), 1)
    simulation.step()
    assert simulation.ended == {0: "length"}
    assert simulation.scheduler.running == 0


def test_a_stop_token_ends_a_sequence_and_is_its_last_token() -> None:
    simulation = Simulation()
    (sequence,) = simulation.add(prompt(4), None, stop=(2, 3))
    simulation.drain()
    assert simulation.ended == {0: "stop"}
    assert [token in (2, 3) for token in generated(sequence)] == [False] * (sequence.generated - 1) + [True]


def test_a_stop_token_within_the_prompt_ends_nothing() -> None:
    simulation = Simulation()
    (sequence,) = simulation.add([77, 77, 77], 4, stop=(77,))
    simulation.drain()
    assert sequence.generated == 4


def test_a_sequence_without_a_bound_of_its_own_ends_at_the_context() -> None:
    simulation = Simulation(total=16, block_size=4, context=20)
    sequence = simulation.one(prompt(5), None)
    simulation.drain()
    assert len(sequence.ids) == 20


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("length", [1, 2, 16, 47])
def test_a_lone_sequence_that_may_fill_the_pool_fills_it_and_is_never_preempted(block_size: int, length: int) -> None:
    simulation = Simulation(total=48 // block_size, block_size=block_size, budget=Budget(tokens=7, running=7))
    sequence = simulation.one(prompt(length), None)
    simulation.drain()
    assert len(sequence.ids) == 48
    assert simulation.scheduler.preemptions == 0


def test_a_sequence_gets_a_run_of_blocks_and_keeps_to_it_while_others_come_and_go() -> None:
    simulation = Simulation(total=200, budget=Budget(reuse=False))
    long = simulation.one(prompt(5), 40)
    for first in range(1, 20):
        simulation.one(prompt(6, first), 12)
        simulation.step()
    assert long.blocks == list(range(long.blocks[0], long.blocks[0] + len(long.blocks)))


# Finding what was computed before


def test_a_prompt_seen_before_is_not_computed_again() -> None:
    simulation = Simulation(total=64)
    simulation.one(prompt(17), 1)
    simulation.drain()
    again = simulation.one(prompt(17), 1)
    assert shape(simulation.step()) == [(1, 16, 1, True)]
    assert again.cached_tokens == 16
    assert (simulation.scheduler.prefix_hits, simulation.scheduler.prefix_queries) == (16, 34)


def test_the_last_token_of_a_prompt_is_always_computed_since_its_logits_are_wanted() -> None:
    simulation = Simulation(total=64)
    simulation.one(prompt(16), 1)
    simulation.drain()
    simulation.one(prompt(16), 1)
    assert shape(simulation.step()) == [(1, 12, 4, True)]


def test_a_prompt_finds_the_part_that_it_has_in_common_with_another() -> None:
    simulation = Simulation(total=64)
    simulation.one(prompt(16), 1)
    simulation.drain()
    simulation.one([*prompt(10), 5, 5, 5, 5], 1)
    assert shape(simulation.step()) == [(1, 8, 6, True)]


def test_the_next_turn_of_a_conversation_finds_the_answer_too() -> None:
    simulation = Simulation(total=64)
    first = simulation.one(prompt(7), 10)
    simulation.drain()
    second = simulation.one([*first.ids, 9, 9], 9)
    assert shape(simulation.step()) == [(1, 16, 3, True)]
    assert second.blocks == list(range(5)), "in a row with what was found"


def test_a_prompt_that_another_computes_in_the_same_step_is_shared_with_it() -> None:
    simulation = Simulation(total=64)
    first, second = simulation.one(prompt(17), 4), simulation.one(prompt(17), 4)
    assert shape(simulation.step()) == [(0, 0, 17, True), (1, 16, 1, True)]
    assert first.blocks[:4] == second.blocks[:4]
    assert first.blocks[4:] != second.blocks[4:]
    simulation.drain()


def test_identical_long_prompts_that_come_together_are_computed_once() -> None:
    simulation = Simulation(total=200, budget=Budget(tokens=32, running=8))
    simulation.one(prompt(6, 1), 30)
    simulation.step()
    for _ in range(5):
        simulation.one(prompt(150), 1)
    simulation.drain()
    decoded = 6 + 29
    assert simulation.computed <= decoded + 150 + 4 * simulation.blocks.block_size


def test_the_choices_of_a_request_share_its_prompt_and_go_their_own_ways() -> None:
    simulation = Simulation(total=64)
    choices = simulation.add(prompt(18), 6, n=4)
    simulation.step()
    assert simulation.computed == 18 + 3 * 2
    assert len({tuple(each.blocks[:4]) for each in choices}) == 1
    assert simulation.scheduler.sequences("r0") == choices
    simulation.drain()
    assert len({tuple(generated(each)) for each in choices}) == 4
    assert [each.cached_tokens for each in choices] == [0, 16, 16, 16]


def test_another_tenants_prompt_is_never_found() -> None:
    simulation = Simulation(total=64)
    simulation.one(prompt(17), 1, key="one")
    simulation.drain()
    other = simulation.one(prompt(17), 1, key="another")
    assert shape(simulation.step()) == [(1, 0, 17, True)]
    assert other.cached_tokens == 0


def test_what_an_aborted_request_had_computed_is_found() -> None:
    simulation = Simulation(total=64, budget=Budget(tokens=10, running=4))
    sequence = simulation.one(prompt(30), 1)
    simulation.step()
    simulation.remove(sequence)
    simulation.one(prompt(30), 1)
    assert shape(simulation.step()) == [(1, 8, 10, False)]
    simulation.drain()


def test_what_was_evicted_is_computed_again() -> None:
    simulation = Simulation(total=8)
    simulation.one(prompt(17), 1)
    simulation.drain()
    simulation.one(prompt(20, 1), 9)
    simulation.drain()
    again = simulation.one(prompt(17), 1)
    simulation.drain()
    assert again.cached_tokens is not None
    assert again.cached_tokens < 16


def test_without_reuse_nothing_is_published_and_nothing_is_found() -> None:
    simulation = Simulation(total=64, budget=Budget(reuse=False))
    sequences = [simulation.one(prompt(17), 3) for _ in range(2)]
    simulation.step()
    assert simulation.computed == 34
    simulation.drain()
    assert (simulation.blocks.free, simulation.blocks.cached) == (64, 0)
    assert [each.cached_tokens for each in sequences] == [0, 0]
    assert [each.hashes for each in sequences] == [[], []]
    assert simulation.scheduler.prefix_hits == 0


# The stand-in itself: a simulation that accepts everything would prove nothing


def test_the_simulated_memory_notices_a_table_that_leads_elsewhere() -> None:
    simulation = Simulation(total=64)
    first = simulation.one(prompt(9, 0), 9)
    simulation.one(prompt(9, 1), 9)
    simulation.step()
    first.blocks[0], first.blocks[1] = first.blocks[1], first.blocks[0]
    with pytest.raises(AssertionError, match="reads what is not its"):
        simulation.step()


def test_the_simulated_model_picks_all_tokens_of_its_alphabet() -> None:
    assert set(alone("", [1], 0, 100)[1:]) == set(range(ALPHABET))
