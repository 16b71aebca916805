"""The breaker: closed, open, half-open; on a clock that the test turns."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from helexa.cortex.exchange.breaker import FAILURES, LONGEST_SECONDS, OPEN_SECONDS, Breaker, Pass


def fail(breaker: Breaker, times: int = FAILURES, now: float = 0.0) -> None:
    for _ in range(times):
        given = breaker.admit(now)
        assert given is not None
        breaker.settle(given, now, worked=False)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker()
    fail(breaker, FAILURES - 1)
    assert breaker.state(0) == "closed"
    fail(breaker, 1)
    assert (breaker.state(0), breaker.admit(OPEN_SECONDS - 0.01), breaker.wait(10)) == ("open", None, OPEN_SECONDS - 10)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(10):
        fail(breaker, FAILURES - 1)
        given = breaker.admit(0)
        assert given is not None
        breaker.settle(given, 0, worked=True)
    assert (breaker.state(0), breaker.wait(0)) == ("closed", 0)


def test_what_was_given_up_is_neither_failure_nor_success() -> None:
    breaker = Breaker()
    fail(breaker, FAILURES - 1)
    given = breaker.admit(0)
    assert given is not None
    breaker.settle(given, 0, worked=None)
    assert breaker.state(0) == "closed"
    fail(breaker, 1)
    assert breaker.state(0) == "open"


def test_half_open_exactly_one_request_goes_through_and_closes_it() -> None:
    breaker = Breaker()
    fail(breaker)
    assert breaker.state(OPEN_SECONDS) == "half-open"
    probe = breaker.admit(OPEN_SECONDS)
    assert probe is not None
    assert [breaker.admit(OPEN_SECONDS + late) for late in (0, 1, 1000)] == [None] * 3
    assert breaker.wait(OPEN_SECONDS) > 0
    breaker.settle(probe, OPEN_SECONDS, worked=True)
    assert breaker.state(OPEN_SECONDS) == "closed"
    fail(breaker, FAILURES - 1, OPEN_SECONDS)
    assert breaker.state(OPEN_SECONDS) == "closed"


def test_a_probe_that_was_given_up_lets_the_next_one_try() -> None:
    breaker = Breaker()
    fail(breaker)
    probe = breaker.admit(OPEN_SECONDS)
    assert probe is not None
    breaker.settle(probe, OPEN_SECONDS, worked=None)
    assert breaker.admit(OPEN_SECONDS) is not None


def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    breaker, now, waits = Breaker(), 0.0, []
    fail(breaker)
    for _ in range(6):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        fail(breaker, 1, now)
    assert waits == [30, 60, 120, 240, 300, 300]
    assert waits[0] == OPEN_SECONDS
    assert waits[-1] == LONGEST_SECONDS
    probe = breaker.admit(now + LONGEST_SECONDS)
    assert probe is not None
    breaker.settle(probe, now, worked=True)
    fail(breaker, now=now)
    assert breaker.wait(now) == OPEN_SECONDS


@pytest.mark.parametrize("worked", [True, False])
def test_what_was_sent_before_it_opened_tells_nothing_new(*, worked: bool) -> None:
    breaker = Breaker()
    late = breaker.admit(0)
    assert late is not None
    fail(breaker)
    breaker.settle(late, 1, worked=worked)
    assert (breaker.state(1), breaker.wait(1)) == ("open", OPEN_SECONDS - 1)


class Machine(RuleBasedStateMachine):
    """Requests come and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.out: list[Pass] = []

    @rule()
    def admit(self) -> None:
        state = self.breaker.state(self.now)
        given = self.breaker.admit(self.now)
        assert (given is not None) or state != "closed"
        assert (given is None) or state != "open"
        self.out += [] if given is None else [given]

    @rule(data=st.data(), worked=st.sampled_from([True, False, None]))
    def settle(self, data: st.DataObject, worked: bool | None) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        if self.out:
            given = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
            self.breaker.settle(given, self.now, worked=worked)

    @rule(seconds=st.sampled_from([0.5, 29.0, 31.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        assert sum(each.probe for each in self.out) <= 1

    @invariant()
    def waiting_is_bounded_and_helps(self) -> None:
        wait = self.breaker.wait(self.now)
        assert 0 <= wait <= LONGEST_SECONDS
        if not any(each.probe for each in self.out):
            later = self.now + wait
            assert self.breaker.state(math.nextafter(later, math.inf)) != "open"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50, stateful_step_count=40)
