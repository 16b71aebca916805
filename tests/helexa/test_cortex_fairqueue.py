"""The fair queue: nobody starves, shares follow weights, and limits of one key are its own affair."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helexa.cortex.exchange.fairqueue import FairQueue, Line, Pace, Ticket, Wait

NOBODY = 0
KEYS = {"a": 1, "b": 1, "c": 3, "d": 20, None: 1}


def line(queue: FairQueue[Ticket], name: str | None, weight: int = 1, own: int | None = None) -> Line[Ticket]:
    return queue.line(name, weight, own)


def wait(queue: FairQueue[Ticket], name: str | None, weight: int = 1, own: int | None = None) -> Ticket:
    """Have one more request wait."""
    ticket = Ticket()
    assert not queue.enter(ticket, line(queue, name, weight, own), NOBODY, None)
    queue.push(ticket)
    return ticket


def pop(queue: FairQueue[Ticket]) -> Ticket:
    found = queue.pop(10**6, None)
    assert found is not None
    return found


def served(queue: FairQueue[Ticket], count: int) -> list[Any]:
    return [pop(queue).line.name for _ in range(count)]


def test_a_request_is_served_at_once_up_to_the_limit() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    assert [queue.enter(Ticket(), line(queue, "a"), 2, None) for _ in range(3)] == [True, True, False]
    assert (queue.in_flight, queue.waiting) == (2, 0)


def test_a_key_is_served_at_once_up_to_its_own_limit_and_others_are_not_held_up() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    assert [queue.enter(Ticket(), line(queue, "a", own=1), 9, None) for _ in range(2)] == [True, False]
    assert queue.enter(Ticket(), line(queue, "b"), 9, None)


def test_what_keys_may_by_default_holds_for_keys_that_say_nothing_and_not_for_requests_without_one() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    assert [queue.enter(Ticket(), line(queue, "silent"), 9, 1) for _ in range(2)] == [True, False]
    assert [queue.enter(Ticket(), line(queue, "has", own=2), 9, 1) for _ in range(3)] == [True, True, False]
    assert all(queue.enter(Ticket(), line(queue, None), 9, 1) for _ in range(4))


def test_a_key_waits_in_order_of_arrival() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    tickets = [wait(queue, "a") for _ in range(5)]
    assert [pop(queue) for _ in tickets] == tickets


def test_who_asks_for_little_does_not_wait_behind_who_asks_for_much() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for _ in range(1000):
        wait(queue, "busy")
    served(queue, 10)
    wait(queue, "modest")
    assert "modest" in served(queue, 2)


def test_shares_are_proportional_to_weights() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for name, weight in (("a", 1), ("b", 2), ("c", 5)):
        for _ in range(100):
            wait(queue, name, weight)
    names = served(queue, 80)
    assert {name: names.count(name) for name in "abc"} == {"a": 10, "b": 20, "c": 50}


def test_a_key_that_comes_back_has_not_saved_up_and_owes_no_more_than_its_last_request() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for _ in range(100):
        wait(queue, "busy")
    served(queue, 50)
    for _ in range(20):
        wait(queue, "late")
    names = served(queue, 20)
    assert abs(names.count("late") - names.count("busy")) <= 1


def test_a_key_at_its_own_limit_saves_nothing_up() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    held = Ticket()
    assert queue.enter(held, line(queue, "small", own=1), 9, None)
    for _ in range(100):
        wait(queue, "small", own=1)
        wait(queue, "busy")
    assert served(queue, 50) == ["busy"] * 50
    line(queue, "small", own=None)
    names = served(queue, 20)
    assert abs(names.count("small") - names.count("busy")) <= 2  # one request of each


def test_a_weight_that_is_changed_counts_for_those_that_wait_already() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for _ in range(100):
        wait(queue, "a")
        wait(queue, "b")
    line(queue, "a", weight=9)
    names = served(queue, 50)
    assert names.count("a") >= 44


def test_who_gives_up_has_cost_its_key_nothing() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    impatient = [wait(queue, "a") for _ in range(50)]
    for _ in range(4):
        wait(queue, "b")
    for ticket in impatient:
        queue.drop(ticket)
    wait(queue, "a")
    assert "a" in served(queue, 2)


def test_the_newest_of_the_key_that_waits_the_most_gives_way() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    tickets = [wait(queue, "a") for _ in range(4)]
    wait(queue, "b")
    assert queue.giving_way(line(queue, "c")) is tickets[-1]
    assert queue.giving_way(line(queue, "b")) is tickets[-1]
    assert queue.giving_way(line(queue, "a")) is None


@pytest.mark.parametrize(("weight", "gives"), [(1, True), (2, True), (3, False), (4, False)])
def test_who_gives_way_is_measured_by_its_weight(weight: int, *, gives: bool) -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for _ in range(6):
        wait(queue, "a", weight)
    wait(queue, "b")
    assert (queue.giving_way(line(queue, "b")) is not None) is gives


def test_nobody_gives_way_to_a_key_that_would_then_wait_as_much() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for name in "aab":
        wait(queue, name)
    assert queue.giving_way(line(queue, "b")) is None
    assert queue.giving_way(line(queue, "a")) is None


def test_once_nobody_waits_it_does_not_matter_who_was_served_more() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for _ in range(100):
        wait(queue, "greedy")
    for ticket in [pop(queue) for _ in range(100)]:
        queue.leave(ticket)
    for name in ("greedy", "greedy", "modest", "modest"):
        wait(queue, name)
    assert served(queue, 4) == ["greedy", "modest", "greedy", "modest"]


def test_keys_that_come_and_go_are_forgotten_and_those_that_are_there_are_not() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    held = Ticket()
    assert queue.enter(held, line(queue, "here"), 9, None)
    waits = wait(queue, "waits")
    for number in range(10_000):
        passing = Ticket()
        assert queue.enter(passing, line(queue, f"key {number}"), 9, None)
        queue.leave(passing)
    assert len(queue._lines) <= 512
    assert line(queue, "here") is held.line
    assert line(queue, "waits") is waits.line


def test_a_key_that_is_behind_is_not_forgotten_for_others_that_pass() -> None:
    queue: FairQueue[Ticket] = FairQueue()
    for name in ("a", "a", "b", "b"):
        wait(queue, name)
    behind = pop(queue)
    queue.leave(behind)
    queue.drop(behind.line.waiting[0])
    for number in range(1000):
        line(queue, f"key {number}")
    wait(queue, "a")
    assert served(queue, 3) == ["b", "b", "a"]


_CROWDS = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60)


@given(_CROWDS, st.sampled_from("abcde"))
def test_as_many_go_first_as_was_foretold(crowd: list[tuple[str, bool]], newcomer: str) -> None:
    queue: FairQueue[Ticket] = FairQueue()
    weights: dict[str, int] = {"a": 1, "b": 1, "c": 3, "d": 20, "e": 2}
    for name, pops in crowd:
        wait(queue, name, weights[name])
        if pops:
            pop(queue)
    ahead = queue.ahead(line(queue, newcomer, weights[newcomer]))
    ticket = wait(queue, newcomer, weights[newcomer])
    first = [pop(queue) for _ in range(ahead)]
    assert ticket not in first
    assert pop(queue) is ticket


class Fairness(RuleBasedStateMachine):
    """Any order of events: bounds hold, places are never idle, no key gets ahead of another that waits all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Ticket] = FairQueue()
        self.most = 2
        self.default: int | None = None
        self.own: dict[str | None, int | None] = dict.fromkeys(KEYS)
        self.waiting: dict[str | None, list[Ticket]] = {name: [] for name in KEYS}
        self.in_flight: list[Ticket] = []
        self.got: dict[tuple[str | None, str | None], tuple[int, int]] = {}

    def line_of(self, name: str | None) -> Line[Ticket]:
        return self.queue.line(name, KEYS[name], self.own[name])

    def limit(self, name: str | None) -> int:
        own = self.own[name] if name is None or self.own[name] is not None else self.default
        return 10**9 if own is None else own

    def has(self, name: str | None) -> int:
        return sum(ticket.line.name == name for ticket in self.in_flight)

    def could_go(self, name: str | None) -> bool:
        return bool(self.waiting[name]) and self.has(name) < self.limit(name)

    def settle(self) -> None:
        """Serve whoever's turn it is, checking each against the model."""
        while True:
            rivals = [name for name in KEYS if self.could_go(name)]
            self.got = {pair: counts for pair, counts in self.got.items() if set(pair) <= set(rivals)}
            found = self.queue.pop(self.most, self.default)
            if found is None:
                assert not rivals or len(self.in_flight) >= self.most, "a place is left idle"
                return
            assert len(self.in_flight) < self.most, "more are served than may"
            name = found.line.name
            assert name in rivals, "a key has more in flight than it may"
            assert self.waiting[name].pop(0) is found, "out of the order of arrival"
            self.in_flight.append(found)
            self.count(name, rivals)

    def count(self, name: str | None, rivals: list[str | None]) -> None:
        for a, b in combinations(rivals, 2):
            got = self.got.get((a, b), (0, 0))
            got = (got[0] + (name == a), got[1] + (name == b))
            self.got[a, b] = got
            gap = abs(got[0] / KEYS[a] - got[1] / KEYS[b])
            assert gap <= 1 / KEYS[a] + 1 / KEYS[b] + 1e-6, f"{a} and {b} got {got}"

    @rule(name=st.sampled_from(list(KEYS)))
    def arrive(self, name: str | None) -> None:
        self.settle()
        ticket = Ticket()
        at_once = len(self.in_flight) < self.most and self.has(name) < self.limit(name) and not self.waiting[name]
        assert self.queue.enter(ticket, self.line_of(name), self.most, self.default) is at_once
        if at_once:
            self.in_flight.append(ticket)
        else:
            self.queue.push(ticket)
            self.waiting[name].append(ticket)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(ticket)
        self.queue.leave(ticket)
        self.settle()

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from([each for found in self.waiting.values() for each in found]))
        self.waiting[ticket.line.name].remove(ticket)
        self.queue.drop(ticket)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(name=st.sampled_from(list(KEYS)))
    def give_way(self, name: str | None) -> None:
        newcomer = self.line_of(name)
        lost = self.queue.giving_way(newcomer)
        shares = {each: len(found) / KEYS[each] for each, found in self.waiting.items()}
        if lost is None:
            assert all(share <= (len(self.waiting[name]) + 1) / KEYS[name] + 1e-9 for share in shares.values())
        else:
            assert shares[lost.line.name] == max(shares.values())
            assert self.waiting[lost.line.name].pop() is lost
            self.queue.drop(lost)

    @rule(most=st.integers(1, 6))
    def allow(self, most: int) -> None:
        self.most = most

    @rule(default=st.none() | st.integers(1, 4))
    def allow_keys(self, default: int | None) -> None:
        self.default = default

    @rule(name=st.sampled_from(list(KEYS)), own=st.none() | st.integers(1, 4))
    def allow_key(self, name: str | None, own: int | None) -> None:
        self.own[name] = own if name is not None else None
        self.line_of(name)

    @invariant()
    def counts(self) -> None:
        assert self.queue.in_flight == len(self.in_flight)
        assert self.queue.waiting == sum(map(len, self.waiting.values()))
        held = {ticket.line.name for ticket in self.in_flight} | {name for name, found in self.waiting.items() if found}
        assert held <= set(self.queue._lines)
        assert all(self.queue._lines[name].in_flight == self.has(name) for name in held)
        assert set(self.queue._crowded) == {name for name, found in self.waiting.items() if found}


TestFairness = Fairness.TestCase


def test_without_any_ending_what_is_in_flight_is_taken_to_last_as_long_again() -> None:
    pace = Pace()
    pace.watch(100.0)
    assert pace.wait(4, 4, 100.0) == Wait(0.0)
    assert pace.wait(4, 4, 130.0) == Wait(30.0)
    assert pace.wait(1, 4, 130.0) == Wait(7.5)


def test_endings_come_at_the_rate_of_what_is_in_flight_over_how_long_it_takes() -> None:
    pace = Pace()
    for _ in range(10):
        pace.ended(2.0, 50.0)
    assert pace.mean == 2.0
    assert pace.wait(20, 4, 50.0) == Wait(10.0, known=True)
    assert pace.wait(0, 4, 50.0) == pace.wait(-3, 4, 50.0) == Wait(0.0, known=True)


def test_recent_requests_outweigh_those_of_long_ago() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.ended(1.0, 0.0)
    for _ in range(300):
        pace.ended(9.0, 0.0)
    assert pace.mean == pytest.approx(9.0, abs=0.1)


def test_a_standstill_is_noticed_and_delays_only_what_is_in_flight() -> None:
    pace = Pace()
    pace.ended(1.0, 0.0)
    assert pace.wait(6, 2, 40.0).seconds == (2 * 40.0 + 4 * 1.0) / 2


def test_quiet_before_anybody_waited_tells_nothing() -> None:
    pace = Pace()
    pace.ended(1.0, 0.0)
    pace.watch(3600.0)
    assert pace.wait(1, 1, 3600.5).seconds == 1.0
