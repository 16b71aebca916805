"""Budgets as people type and read them: ``5000000tokens/1d``, ``20usd``, ``600requests/1m``. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from config.budgets import Budget, BudgetUnit
from config.problems import InvalidValueError, show
from config.units import Duration, format_duration, parse_duration

EXAMPLES: Final = "such as 5000000tokens/1d, 600requests/1m or 20usd"
_COUNT: Final = r"[0-9]+(?:_[0-9]+)*"
_BUDGET: Final = re.compile(
    rf"(?:(?P<count>{_COUNT}) ?(?P<what>token|request)s?|(?P<usd>{_COUNT}(?:\.[0-9]+)?) ?usd)(?:/(?P<per>.+))?"
)


def read_budget(text: str) -> Budget:
    """The budget that a text stands for.

    Raises:
        InvalidValueError: it stands for none; the message is a sentence for whoever has typed it.
    """
    match = _BUDGET.fullmatch(text)
    if match is None:
        raise InvalidValueError(f"{show(text)} is not a budget: write one {EXAMPLES}")
    try:
        return _budget(match)
    except InvalidValueError as error:
        raise InvalidValueError(f"{show(text)} is not a budget: {error}") from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise InvalidValueError(f"{show(text)} has too many digits for a budget") from None


def _budget(match: re.Match[str]) -> Budget:
    per = None if match["per"] is None else parse_duration(match["per"])
    if match["usd"] is not None:
        return Budget(usd=float(match["usd"]), per=per)
    amount = int(match["count"])
    return Budget(tokens=amount, per=per) if match["what"] == "token" else Budget(requests=amount, per=per)


def plain_budget(found: Budget) -> dict[str, Any]:
    """A budget as requests have it."""
    return {found.unit: getattr(found, found.unit), "per": found.per}


def unit_of(shown: Mapping[str, Any]) -> BudgetUnit:
    """What a budget of an answer limits."""
    return next(unit for unit in get_args(BudgetUnit) if unit in shown)


def budget_text(shown: Mapping[str, Any]) -> str:
    """A budget of an answer, with where it stands."""
    unit = unit_of(shown)
    text = amount_text(unit, shown[unit]) + per_text(shown["per"])
    if shown["spent"] is None:
        return text
    parts = [f"{amount_text(unit, shown[name])} {name}" for name in ("spent", "left")]
    if shown["reserved"]:
        parts.insert(1, f"{amount_text(unit, shown['reserved'])} reserved")
    return f"{text} ({', '.join(parts)})"


def amount_text(unit: str, amount: float) -> str:
    """So many tokens or requests, or so many dollars."""
    return f"{dollars(amount)} USD" if unit == "usd" else f"{amount:,} {unit}"


def dollars(amount: float) -> str:
    """At least cents, and enough places to tell a small amount from nothing."""
    places = 2 if amount == 0 else max(2, 1 - math.floor(math.log10(abs(amount))))
    return f"{amount:,.{min(places, 12)}f}"


def per_text(seconds: float | None) -> str:
    """How often a budget begins anew; ``""``: it does not."""
    return "" if seconds is None else f" per {format_duration(Duration(seconds))}"
