"""Budgets in whole units: prices, windows, and which limits hold for a key."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Budget, Cost, Duration
from helexa.cortex.ledger.limits import PICODOLLARS, Amounts, Limit, Prices, payer


@pytest.mark.parametrize(
    ("per_million", "picodollars"), [(0.0, 0), (1.0, 1_000_000), (0.15, 150_000), (0.0375, 37_500), (1e-9, 1)]
)
def test_a_price_is_a_whole_number_of_picodollars_and_never_nothing(per_million: float, picodollars: int) -> None:
    assert Prices.of(Cost(per_million, 0.0)) == Prices(picodollars, 0)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**7), st.integers(0, 10**7))
def test_money_is_exact(prompt: int, completion: int, price_in: int, price_out: int) -> None:
    spent = Prices.of(Cost(price_in / 100, price_out / 100)).cost(prompt, completion)
    dollars = Fraction(prompt * price_in + completion * price_out, 100 * 10**6)
    assert Fraction(spent, PICODOLLARS) == dollars


def test_amounts_add_up_and_answer_by_unit() -> None:
    total = Amounts(5, 1, 7) + Amounts(10, 1, 3)
    assert [total.of("tokens"), total.of("requests"), total.of("usd")] == [15, 2, 10]


@given(st.floats(1, 366 * 86_400))
def test_a_window_is_cut_into_buckets_of_whole_seconds_that_hardly_lengthen_it(period: float) -> None:
    width = Limit("key:a", "tokens", 5, period).width
    assert width >= 1
    assert width <= max(1, period / 60 + 1)


def test_a_balance_has_one_bucket() -> None:
    assert Limit("key:a", "tokens", 5).width == 0


def test_a_key_is_held_to_its_own_budgets_and_to_its_accounts() -> None:
    hour = Duration(3600)
    found = payer("7", "ci", "team", (Budget(tokens=9, per=hour), Budget(usd=0.1)), {"team": (Budget(requests=3),)})
    assert found.subjects == ("key:7", "account:team")
    assert found.limits == (
        Limit("key:7", "tokens", 9, 3600.0),
        Limit("key:7", "usd", PICODOLLARS // 10),
        Limit("account:team", "requests", 3),
    )


def test_of_two_budgets_that_differ_in_their_caps_the_tighter_one_holds() -> None:
    found = payer("7", "ci", "ci", (Budget(tokens=9), Budget(tokens=5), Budget(tokens=7)), {})
    assert found.limits == (Limit("key:7", "tokens", 5),)


def test_a_key_and_an_account_of_one_name_are_two_subjects() -> None:
    found = payer("ci", "ci", "ci", (Budget(tokens=9),), {"ci": (Budget(tokens=9),)})
    assert [limit.subject for limit in found.limits] == ["key:ci", "account:ci"]


def test_the_dearer_of_two_prices_is_taken_part_by_part() -> None:
    assert Prices(1, 5).at_least(Prices(3, 2)) == Prices(3, 5)
    assert Prices(3, 5).cost(2, 10) == 56
