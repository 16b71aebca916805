"""What clients are told: sentences, codes, and waits that are true."""

import math
from typing import Any

import pytest

from config import Budget, Duration
from helexa.cortex.ledger import refusals
from helexa.cortex.ledger.book import Held, Purse
from helexa.cortex.ledger.limits import PICODOLLARS, Limit, Payer, Prices, payer
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.quota import Share

NOW = 1000.0
ASK = Ask("r", "/", "m", 100, 50, limited=True)
WHOSE = payer("k", "ci", "team", [Budget(tokens=1000, per=Duration(3600.0))], {"team": [Budget(usd=2.5)]})
WINDOW, DOLLARS = WHOSE.limits


def purse(limit: Limit = WINDOW, **settings: Any) -> Purse:
    return Purse(limit, ("tokens", "requests", "usd").index(limit.unit), **{"pending": [0, 0, 0], **settings})


def test_the_wait_is_until_enough_of_a_window_is_free() -> None:
    full = purse(spent=1000, frees=((NOW + 10, 40), (NOW + 20, 20), (NOW + 30, 940)))
    assert refusals.wait(full, 40, NOW) == 10
    assert refusals.wait(full, 41, NOW) == 20
    assert refusals.wait(full, 1000, NOW) == 30
    assert refusals.wait(full, 1001, NOW) == math.inf
    assert refusals.wait(full, 40, NOW + 11) == 0


def test_what_is_not_booked_yet_is_waited_for_as_long_as_the_window_is() -> None:
    assert refusals.wait(purse(pending=[1000, 0, 0]), 1, NOW) == 3600 + 60


def test_a_refusal_is_about_the_limit_that_has_to_be_waited_for_the_longest() -> None:
    window = purse(spent=1000, frees=((NOW + 9.2, 1000),))
    dollars = purse(DOLLARS, spent=2 * PICODOLLARS + PICODOLLARS // 2)
    ask = Ask("r", "/", "m", 100, 50, limited=True, prices=Prices(1, 1))
    first = refusals.refusal(WHOSE, ask, [window], NOW)
    assert (first.status, first.code, first.retry_after) == (429, "rate_limit_exceeded", 10)
    assert str(first) == (
        "The budget of 1000 tokens per 1h of the key 'ci' is used up for now; enough of it is free again in 10 s."
    )
    both = refusals.refusal(WHOSE, ask, [window, dollars], NOW)
    assert (both.status, both.code, both.retry_after) == (429, "insufficient_quota", None)
    assert str(both) == (
        "The budget of $2.50 of the account 'team' is used up: $2.50 were used, and this request needs more."
    )


def test_who_was_given_less_than_needed_is_told_so() -> None:
    held = Held(Share(40, 10, 0, full=False), (purse(spent=960, reserved=40, frees=((NOW + 5, 960),)),))
    error = refusals.refusal_of(WHOSE, held, NOW)
    assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 5)
    assert refusals.refusal_of(WHOSE, Held(Share(1, 1, 0, full=True)), NOW).status == 429


@pytest.mark.parametrize(
    ("cap", "said"), [(PICODOLLARS, "$1.00"), (PICODOLLARS // 2, "$0.50"), (PICODOLLARS // 1000, "$0.001000")]
)
def test_dollars_are_said_with_as_many_digits_as_they_need(cap: int, said: str) -> None:
    limit = Limit("key:k", "usd", cap)
    ask = Ask("r", "/", "m", 8, 0, limited=True, prices=Prices(2 * PICODOLLARS, 0))
    assert f"The budget of {said} of" in str(refusals.refusal(Payer("key:k", "ci", "a"), ask, [purse(limit)], NOW))


def test_failures_of_ours_are_said_to_be_ours() -> None:
    for error in (refusals.away(), refusals.unrecordable()):
        assert (error.status, error.code, error.retry_after) == (503, "service_unavailable", 5)


# Headers


def test_a_balance_has_no_time_at_which_it_is_full_again() -> None:
    found = dict(refusals.headers([purse(Limit("key:k", "tokens", 50), spent=60)], NOW))
    assert found == {b"x-ratelimit-limit-tokens": b"50", b"x-ratelimit-remaining-tokens": b"0"}


def test_money_is_in_no_header() -> None:
    assert refusals.headers([purse(DOLLARS)], NOW) == []


@pytest.mark.parametrize(
    ("settings", "reset"),
    [
        ({}, b"0s"),
        ({"spent": 10, "frees": ((NOW + 0.25, 10),)}, b"250ms"),
        ({"spent": 10, "frees": ((NOW + 1, 4), (NOW + 75.2, 6))}, b"1m16s"),
        ({"spent": 10, "frees": ((NOW - 1, 10),)}, b"0s"),
        ({"spent": 10, "frees": ((NOW + 1, 4),)}, b"1h1m0s"),
        ({"reserved": 1}, b"1h1m0s"),
        ({"pending": [1, 0, 0]}, b"1h1m0s"),
    ],
)
def test_the_reset_is_when_all_of_a_window_is_free_again(settings: dict[str, Any], reset: bytes) -> None:
    assert dict(refusals.headers([purse(**settings)], NOW))[b"x-ratelimit-reset-tokens"] == reset
