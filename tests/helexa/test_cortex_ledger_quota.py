"""What a request gets of what is left: never more than that, never more than it asked for, and as much as can be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.quota import Left, Share, fitting, least, least_cost, least_of, whole

ASKS = st.builds(
    Ask,
    st.just("r"),
    st.just("/"),
    st.just("m"),
    st.integers(1, 10_000),
    st.integers(0, 10_000),
    st.booleans(),
    st.builds(Prices, st.integers(0, 50), st.integers(0, 50)),
)
AMOUNTS = st.one_of(st.just(math.inf), st.integers(-10, 30_000))
COSTS = st.one_of(st.just(math.inf), st.integers(-10, 2_000_000))
LEFT = st.builds(Left, AMOUNTS, st.integers(0, 2), COSTS)


def ask(prompt: int, output: int, *, limited: bool = False, prices: tuple[int, int] = (0, 0)) -> Ask:
    return Ask("r", "/", "m", prompt, output, limited, Prices(*prices))


@given(ASKS, LEFT)
def test_a_share_is_within_what_is_left_and_what_was_asked_for(what: Ask, left: Left) -> None:
    share = fitting(what, left)
    if share is not None:
        assert left.requests >= 1
        assert least(what) <= share.total <= min(left.tokens, what.prompt + what.output)
        assert share.cost <= left.cost
        assert 0 <= share.output <= what.output
        assert not what.limited or share.output == what.output
        assert share.full == (share == whole(what))


@given(ASKS, LEFT, st.floats(0, 1))
def test_no_way_of_using_a_share_costs_more_than_was_set_aside(what: Ask, left: Left, part: float) -> None:
    share = fitting(what, left)
    if share is None:
        return
    completion = share.output if what.limited else int(share.output * part)
    prompt = share.total - completion
    if what.limited or prompt <= what.prompt:
        assert what.prices.cost(prompt, completion) <= share.cost
        assert what.prices.cost(prompt // 2, completion) <= share.cost


@given(ASKS, LEFT, st.integers(0, 500))
def test_of_more_there_is_not_less(what: Ask, left: Left, more: int) -> None:
    share = fitting(what, left)
    richer = fitting(what, Left(left.tokens + more, left.requests, left.cost + more))
    assert share is None or (richer is not None and richer.total >= share.total)


@given(ASKS)
def test_all_is_given_where_nothing_is_limited(what: Ask) -> None:
    assert fitting(what, Left()) == whole(what)


@pytest.mark.parametrize(
    ("what", "left", "share"),
    [
        (ask(800, 200), Left(tokens=900), Share(900, 200, 0, full=False)),
        (ask(800, 200), Left(tokens=801), Share(801, 200, 0, full=False)),
        (ask(800, 200), Left(tokens=800), Share(800, 200, 0, full=False)),
        (ask(800, 200), Left(tokens=101), Share(101, 100, 0, full=False)),
        (ask(800, 200), Left(tokens=100), None),
        (ask(800, 200, limited=True), Left(tokens=999), Share(999, 200, 0, full=False)),
        (ask(800, 200, limited=True), Left(tokens=300), Share(300, 200, 0, full=False)),
        (ask(800, 200, limited=True), Left(tokens=299), None),
        (ask(800, 200, prices=(1, 2)), Left(cost=1000), Share(900, 100, 1000, full=False)),
        (ask(800, 200, prices=(1, 2)), Left(cost=802), Share(801, 1, 802, full=False)),
        (ask(800, 200, prices=(1, 2)), Left(cost=801), Share(400, 200, 800, full=False)),
        (ask(800, 200, limited=True, prices=(1, 2)), Left(cost=501), Share(301, 200, 501, full=False)),
        (ask(800, 200, limited=True, prices=(0, 2)), Left(cost=399), None),
        (ask(10, 0), Left(tokens=5), Share(5, 0, 0, full=False)),
        (ask(10, 10), Left(requests=0), None),
        (ask(10, 10), Left(tokens=-5), None),
    ],
)
def test_shares(what: Ask, left: Left, share: Share | None) -> None:
    assert fitting(what, left) == share


def test_amounts_beyond_what_a_float_holds_are_exact() -> None:
    cost = 2**60 + 1
    found = fitting(ask(1, 0, prices=(cost, 0)), Left(cost=cost))
    assert found is not None
    assert found.cost == cost
    assert fitting(ask(1, 0, prices=(cost + 1, 0)), Left(cost=cost)) is None


def test_the_least_that_is_of_use() -> None:
    assert (least(ask(800, 50)), least(ask(800, 50, limited=True)), least(ask(3, 0))) == (101, 150, 1)
    assert least_cost(ask(800, 50, limited=True, prices=(2, 3))) == 100 * 2 + 50 * 3
    assert least_cost(ask(800, 50, prices=(2, 3))) == 101 * 3


def test_the_tightest_limit_of_each_unit_counts() -> None:
    assert least_of([("tokens", 5), ("tokens", 3), ("usd", 7), ("requests", 2)]) == Left(3, 2, 7)
    assert least_of([]) == Left()
