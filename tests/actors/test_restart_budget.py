"""When a crashed actor is started again: the pure decision, against its definition."""

import random

from hypothesis import given
from hypothesis import strategies as st

from actors import RestartBudget
from config import RestartPolicy
from config.units import Duration


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def policy(restarts: int, window: float, backoff: float = 1.0) -> RestartPolicy:
    return RestartPolicy(max=restarts, window=Duration(window), backoff=Duration(backoff))


def test_no_restarts_at_all_when_none_are_allowed() -> None:
    assert RestartBudget(policy(0, 60), NoJitter()).crash(now=0, uptime=1000) is None


def test_a_restart_leaves_the_window_when_it_is_as_old_as_the_window() -> None:
    budget = RestartBudget(policy(1, 10), NoJitter())
    assert budget.crash(now=0, uptime=0) is not None
    assert budget.crash(now=9.9, uptime=0) is None
    assert budget.crash(now=10, uptime=0) is not None


def test_the_exponent_is_kept_when_the_actor_was_up_for_just_the_window() -> None:
    budget = RestartBudget(policy(9, 10), NoJitter())
    assert [budget.crash(now=at, uptime=up) for at, up in ((0, 0), (10, 10), (30, 10.1))] == [1, 2, 1]


def test_a_thousand_crashes_wait_no_longer_than_the_cap() -> None:
    """A power that went on doubling would not fit a float by then."""
    budget = RestartBudget(policy(5000, 10), NoJitter())
    assert [budget.crash(now=0, uptime=0) for _ in range(1100)][-1] == 30


def test_what_is_forgiven_neither_counts_nor_makes_the_next_wait_longer() -> None:
    budget = RestartBudget(policy(2, 60), NoJitter())
    assert [budget.forgive() for _ in range(100)] == [1] * 100
    assert [budget.crash(now=0, uptime=0), budget.forgive(), budget.crash(now=0, uptime=0)] == [1, 1, 2]
    assert budget.crash(now=0, uptime=0) is None
    assert RestartBudget(policy(2, 60, backoff=90.0), NoJitter()).forgive() == 30


@given(
    crashes=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30),
    restarts=st.integers(0, 4),
    window=st.integers(1, 30),
)
def test_the_budget_agrees_with_its_definition(crashes: list[tuple[int, int]], restarts: int, window: int) -> None:
    """A restart is granted while fewer than `max` were granted in the window that ends now."""
    budget = RestartBudget(policy(restarts, window), NoJitter())
    granted: list[int] = []
    now, exponent = 0, 0
    for gap, uptime in crashes:
        now += gap
        delay = budget.crash(now, uptime)
        if sum(now - window < at <= now for at in granted) >= restarts:
            assert delay is None
            return
        granted.append(now)
        exponent = 0 if uptime > window else exponent
        assert delay == min(2**exponent, 30)
        exponent += 1


@given(seed=st.integers(), backoff=st.floats(0.01, 100))
def test_jitter_stays_within_half_of_the_delay(seed: int, backoff: float) -> None:
    budget = RestartBudget(policy(1000, 10, backoff), random.Random(seed))
    for exponent in range(100):
        delay = budget.crash(0, 0)
        plain = min(backoff * 2**exponent, 30)
        assert delay is not None
        assert 0.5 * plain <= delay <= 1.5 * plain
