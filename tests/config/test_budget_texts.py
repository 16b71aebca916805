"""Budgets as they are typed and shown; what commands take of them is tested with these."""

import pytest

from config import Budget, Duration, InvalidValueError
from config.budget_texts import amount_text, budget_text, dollars, per_text, plain_budget, read_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5000000tokens/1d", Budget(tokens=5_000_000, per=Duration(86_400.0))),
        ("600 requests/1m", Budget(requests=600, per=Duration(60.0))),
        ("1token", Budget(tokens=1)),
        ("20.5usd", Budget(usd=20.5)),
        ("1_000usd/7d", Budget(usd=1000.0, per=Duration(604_800.0))),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget
    shown = plain_budget(budget) | {"spent": None, "reserved": None, "left": None}
    assert budget_text(shown).startswith(amount_text(budget.unit, shown[budget.unit]))


@pytest.mark.parametrize(
    "text", ["", "5", "tokens", "5tokens/", "5tokens/soon", "-5usd", "1.5tokens", "5usd/0s", "9" * 5000 + "usd"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="budget"):
        read_budget(text)


def test_small_amounts_are_not_shown_as_nothing() -> None:
    assert (dollars(0), dollars(0.0123), dollars(1234.5)) == ("0.00", "0.012", "1,234.50")


def test_how_often_a_budget_begins_anew_is_said() -> None:
    assert (per_text(None), per_text(3600.0)) == ("", " per 1h")
