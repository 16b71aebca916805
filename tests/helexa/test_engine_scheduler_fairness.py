"""Fairness between keys: who asks for much waits behind who asks for little, and nobody waits for ever."""

from random import Random

import pytest
from paged_memory import Simulation, prompt

from helexa.engine.protocol import Submit
from helexa.engine.scheduling.fairness import Service, WaitingQueue
from helexa.engine.scheduling.scheduler import TURN, Budget
from helexa.engine.scheduling.sequence import Sequence

A, B, C = (0, "a"), (0, "b"), (0, "c")


def sequence(number: int, key: str = "", priority: int = 0) -> Sequence:
    return Sequence.of(Submit(f"r{number}", "m", [1], key=key, priority=priority), 0, number, 8, 0.0)


def served(simulation: Simulation, key: str) -> int:
    """Tokens generated for a key."""
    stories = simulation.stories.items()
    ours = [number for number, story in stories if story.key == key]
    return sum(len(simulation.stories[number].ids) for number in ours)


# Counters


def test_service_is_counted_by_weight() -> None:
    service = Service()
    service.serve(A, 10, 1)
    service.serve(A, 3, 2)
    assert (service.of(A), service.of(B)) == (16, 0)


def test_a_newcomer_begins_level_with_the_least_served_of_those_present() -> None:
    service = Service()
    service.serve(A, 50, 1)
    service.serve(B, 80, 1)
    service.enter(C, {A, B})
    assert service.of(C) == 50


def test_a_key_that_comes_back_keeps_what_it_owes() -> None:
    service = Service()
    service.serve(A, 50, 1)
    service.serve(B, 80, 1)
    service.enter(B, {A})
    assert service.of(B) == 80


def test_what_a_key_owes_is_remembered_while_it_is_away() -> None:
    service = Service()
    service.serve(A, 50, 1)
    service.serve(B, 80, 1)
    service.enter(C, {A})
    service.enter(B, {A, C})
    assert service.of(B) == 80


def test_a_key_that_is_there_already_does_not_lose_its_turn_by_asking_for_more() -> None:
    simulation = Simulation()
    for key in "ab":
        simulation.one(prompt(4), 3, key=key)
    simulation.scheduler._service.serve(A, 50, 1)
    simulation.scheduler._service.serve(B, 10, 1)
    simulation.one(prompt(4), 3, key="b")
    assert simulation.scheduler._service.of(B) == 10


def test_a_generated_token_counts_as_two_of_a_prompt() -> None:
    simulation = Simulation(budget=Budget(running=1, tokens=3))
    simulation.one(prompt(8), 5, key="a")
    simulation.drain()
    assert simulation.scheduler._service.of(A) == 8 + 2 * 4


def test_a_key_that_was_away_has_saved_nothing_up() -> None:
    service = Service()
    service.serve(A, 5, 1)
    service.serve(B, 80, 1)
    service.enter(A, {B})
    assert service.of(A) == 80


def test_a_key_that_is_alone_begins_at_nothing_and_the_others_are_forgotten() -> None:
    service = Service()
    service.serve(A, 50, 1)
    service.serve(B, 80, 1)
    service.enter(A, set())
    assert (service.of(A), service.of(B)) == (0, 0)


def test_keys_of_another_priority_are_no_measure() -> None:
    service = Service()
    low = (-1, "z")
    service.serve(A, 50, 1)
    service.enter(B, {A, low})
    assert service.of(B) == 50
    service.serve(low, 7, 1)
    service.enter((5, "b"), {A, B, low})
    assert [service.of(account) for account in (A, B, low, (5, "b"))] == [50, 50, 7, 0]


def test_counters_of_keys_that_are_gone_do_not_pile_up() -> None:
    simulation = Simulation(budget=Budget(running=2, tokens=64))
    for number in range(300):
        simulation.one([number], 2, key=f"k{number}")
        simulation.step()
    simulation.drain()
    assert len(simulation.scheduler._service._counters) <= 20


# The queue


def queue(*sequences: Sequence, **served: float) -> WaitingQueue:
    service = Service()
    for key, tokens in served.items():
        service.serve((0, key), int(tokens), 1)
    waiting = WaitingQueue(service)
    for each in sequences:
        waiting.push(each)
    return waiting


def order(waiting: WaitingQueue) -> list[int]:
    numbers = []
    while (head := waiting.head()) is not None:
        numbers.append(head.number)
        waiting.remove(head)
    return numbers


def test_the_head_is_of_the_highest_priority_then_of_the_least_served_key_then_the_oldest() -> None:
    waiting = queue(
        sequence(0, "a"), sequence(1, "b"), sequence(2, "b"), sequence(3, "a", 1), sequence(4, "c"), a=5, b=3, c=3
    )
    assert len(waiting) == 5
    assert order(waiting) == [3, 1, 2, 4, 0]
    assert len(waiting) == 0


def test_one_that_comes_back_takes_its_old_place() -> None:
    waiting = queue(sequence(1), sequence(2), sequence(0))
    assert order(waiting) == [0, 1, 2]


def test_everyone_who_waits_is_counted_listed_and_can_leave() -> None:
    sequences = [sequence(0, "a"), sequence(1, "b"), sequence(2, "a", 1)]
    waiting = queue(*sequences)
    assert sorted(each.number for each in waiting) == [0, 1, 2]
    assert waiting.accounts == {(0, "a"), (0, "b"), (1, "a")}
    waiting.remove(sequences[0])
    assert waiting.accounts == {(0, "b"), (1, "a")}
    assert len(waiting) == 2
    assert queue().head() is None


# Between keys


def steps_until_first_token(simulation: Simulation, wanted: Sequence) -> int:
    before = simulation.steps
    while not wanted.generated:
        simulation.step()
    return simulation.steps - before


@pytest.mark.parametrize("reuse", [True, False])
def test_a_key_with_a_thousand_waiting_requests_does_not_hold_up_another_key(*, reuse: bool) -> None:
    simulation = Simulation(total=400, budget=Budget(running=4, tokens=32, reuse=reuse))
    for first in range(1000):
        simulation.one(prompt(12, first), 200, key="much")
    for _ in range(100):
        simulation.step()
    little = simulation.one(prompt(12, 5000), 3, key="little")
    assert steps_until_first_token(simulation, little) <= TURN + 2
    assert simulation.scheduler.preemptions <= 1


def test_a_key_that_holds_most_blocks_gives_way_too() -> None:
    simulation = Simulation(total=64, budget=Budget(running=16, tokens=64))
    for first in range(50):
        simulation.one(prompt(40, first), 100, key="much")
    for _ in range(5):
        simulation.step()
    assert simulation.scheduler.running < 16
    little = simulation.one(prompt(60, 5000), 3, key="little")
    assert steps_until_first_token(simulation, little) <= 2 * TURN


def test_a_lone_key_has_the_machine_to_itself() -> None:
    simulation = Simulation(total=400, budget=Budget(running=4, tokens=32))
    for first in range(20):
        simulation.one(prompt(12, first), 50, key="much")
    simulation.drain()
    assert simulation.scheduler.preemptions == 0


@pytest.mark.parametrize("sizes", [((12, 20), (12, 20)), ((40, 4), (4, 40)), ((4, 8), (60, 30))])
def test_two_keys_that_ask_for_more_than_there_is_get_equal_service(sizes: tuple[tuple[int, int], ...]) -> None:
    simulation = Simulation(total=400, budget=Budget(running=4, tokens=32, reuse=False))
    for key, (length, tokens) in zip("ab", sizes, strict=True):
        for first in range(200):
            simulation.one(prompt(length, first), tokens, key=key)
    for _ in range(400):
        simulation.step()
    service = simulation.scheduler._service
    shares = service.of((0, "a")), service.of((0, "b"))
    assert min(shares) > 500
    assert max(shares) - min(shares) < 4 * (60 + 2 * 40)


def test_a_key_that_was_away_does_not_push_the_others_aside_when_it_comes_back() -> None:
    simulation = Simulation(total=400, budget=Budget(running=2, tokens=16, reuse=False))
    for first in range(300):
        simulation.one(prompt(4, first), 8, key="steady")
    simulation.one(prompt(4, 999), 1, key="back")
    for _ in range(300):
        simulation.step()
    before = served(simulation, "steady")
    for first in range(300):
        simulation.one(prompt(4, first), 8, key="back")
    for _ in range(100):
        simulation.step()
    assert served(simulation, "steady") - before > 60


def test_one_that_starves_at_a_low_priority_gives_newcomers_no_advantage() -> None:
    simulation = Simulation(total=64, budget=Budget(running=2, tokens=16, reuse=False))
    starving = simulation.one(prompt(8, 0), 4, key="low", priority=-1)
    old = [simulation.one(prompt(4, first), 8, key="old") for first in range(200)]
    for _ in range(300):
        simulation.step()
    ended = len(simulation.ended)
    new = [simulation.one(prompt(4, first), 8, key="new") for first in range(200)]
    for _ in range(200):
        simulation.step()
    ends = [sum(each.number in simulation.ended for each in group) for group in (old, new)]
    assert abs(ends[0] - ended - ends[1]) <= 4
    assert starving.generated == 0


def test_a_request_of_a_higher_priority_takes_a_place_at_once_and_a_lower_one_never_does() -> None:
    simulation = Simulation(total=64, budget=Budget(running=2, tokens=32))
    for first in range(3):
        simulation.one(prompt(4, first), 40, key="a")
    simulation.step()
    low = simulation.one(prompt(4, 8), 60, key="b", priority=-1)
    high = simulation.one(prompt(4, 9), 4, key="b", priority=1)
    assert steps_until_first_token(simulation, high) == 1
    assert simulation.scheduler.preemptions == 1
    simulation.drain()
    assert list(simulation.ended)[-1] == low.number


def test_a_request_of_a_higher_priority_gets_its_blocks_from_lower_ones() -> None:
    simulation = Simulation(total=16, budget=Budget(running=8, tokens=64))
    for first in range(4):
        simulation.one(prompt(12, first), 30, key="a")
    simulation.step()
    high = simulation.one(prompt(40, 9), 20, key="b", priority=1)
    assert steps_until_first_token(simulation, high) <= 4
    simulation.drain()


def test_equal_priorities_of_one_key_take_nothing_from_one_another() -> None:
    simulation = Simulation(total=64, budget=Budget(running=2, tokens=32))
    for first in range(6):
        simulation.one(prompt(4, first), 60, key="a")
    simulation.drain()
    assert simulation.scheduler.preemptions == 0


def test_a_key_that_runs_already_takes_no_place_of_another() -> None:
    simulation = Simulation(total=64, budget=Budget(running=4, tokens=32))
    little = simulation.one(prompt(4, 100), 60, key="little")
    for first in range(4):
        simulation.one(prompt(4, first), 40, key="much")
    simulation.step()
    simulation.one(prompt(4, 101), 3, key="little")
    while little.number in simulation.live:
        simulation.step()
    assert simulation.scheduler.preemptions == 0


def test_a_key_that_holds_no_more_than_its_share_of_the_blocks_keeps_them() -> None:
    simulation = Simulation(total=64, budget=Budget(running=4, tokens=64))
    modest = simulation.one(prompt(40, 0), 80, key="modest")
    simulation.step()
    large = simulation.one(prompt(220, 1), 3, key="large")
    simulation.drain()
    assert simulation.scheduler.preemptions == 0
    assert list(simulation.ended) == [modest.number, large.number]


# No thrashing


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize(("running", "total"), [(1, 64), (4, 64), (4, 40)])
def test_two_keys_that_each_need_most_of_the_machine_take_turns_and_both_end(
    running: int, total: int, *, reuse: bool
) -> None:
    """Giving way at every step, neither would ever come to the end of its prompt."""
    simulation = Simulation(total=total, budget=Budget(running=running, tokens=8, reuse=reuse))
    for first, key in enumerate("ab"):
        simulation.one(prompt(100, first), 60, key=key)
    simulation.drain(1000)
    assert simulation.scheduler.preemptions <= 2 * 60 / TURN


def test_nobody_gives_way_to_one_that_was_served_more() -> None:
    """The one preempted would be the head of the queue, and go back to where it was."""
    simulation = Simulation(total=64, budget=Budget(running=1, tokens=16, reuse=False))
    simulation.scheduler._service.serve((0, "rich"), 10_000, 1)
    simulation.one(prompt(20, 0), 60, key="poor")
    simulation.step()
    simulation.scheduler._service.serve((0, "rich"), 10_000, 1)
    simulation.one(prompt(20, 1), 3, key="rich")
    simulation.drain()
    assert simulation.scheduler.preemptions == 0
    assert list(simulation.ended) == [0, 1]


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("keys", ["a", "ab", "abcd"])
@pytest.mark.parametrize(("running", "length", "tokens"), [(8, 20, 60), (16, 8, 120), (2, 130, 100), (1, 100, 60)])
def test_under_overload_preemptions_stay_in_proportion_to_what_is_done(
    keys: str, running: int, length: int, tokens: int, *, reuse: bool
) -> None:
    random = Random(1)
    simulation = Simulation(total=64, budget=Budget(running=running, tokens=32, reuse=reuse))
    for first in range(24):
        asked = random.randint(length // 2, length), random.randint(tokens // 2, tokens)
        simulation.one(prompt(asked[0], first), asked[1], key=keys[first % len(keys)])
    simulation.drain()
    assert simulation.scheduler.preemptions <= 24 * 5
