"""Budgets as operators type and read them: ``5000000tokens/1d``, ``20usd``, ``600requests/1m``."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import typer

from config import Budget, Duration, InvalidValueError, format_duration, parse_duration
from config.problems import show

NONE: Final = "none"
"""Typed in place of a list, it empties the list."""
_COUNT: Final = r"[0-9]+(?:_[0-9]+)*"
_BUDGET: Final = re.compile(
    rf"(?:(?P<count>{_COUNT}) ?(?P<what>token|request)s?|(?P<usd>{_COUNT}(?:\.[0-9]+)?) ?usd)(?:/(?P<per>.+))?"
)
_EXAMPLES: Final = "such as 5000000tokens/1d, 600requests/1m or 20usd"


def budget(text: str) -> dict[str, Any] | None:
    """The budget that a request has for this text; ``None``: it says that there is to be none.

    Raises:
        typer.BadParameter: it is not a budget.
    """
    if text == NONE:
        return None
    match = _BUDGET.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{show(text)} is not a budget: write one {_EXAMPLES}, or none")
    try:
        return _plain(_budget(match))
    except InvalidValueError as error:
        raise typer.BadParameter(f"{show(text)} is not a budget: {error}") from None
    except ValueError:  # Python refuses to read integers of thousands of digits
        raise typer.BadParameter(f"{show(text)} has too many digits for a budget") from None


def _budget(match: re.Match[str]) -> Budget:
    per = None if match["per"] is None else parse_duration(match["per"])
    if match["usd"] is not None:
        return Budget(usd=float(match["usd"]), per=per)
    amount = int(match["count"])
    return Budget(tokens=amount, per=per) if match["what"] == "token" else Budget(requests=amount, per=per)


def _plain(found: Budget) -> dict[str, Any]:
    return {found.unit: getattr(found, found.unit), "per": found.per}


def listed(given: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Those that were given; with ``none`` among them there are none.

    Raises:
        typer.BadParameter: ``none`` stands beside others.
    """
    found = [each for each in given if each is not None]
    if found and len(found) < len(given):
        raise typer.BadParameter("'none' stands beside budgets: keep one of the two")
    return found


def budget_text(shown: dict[str, Any]) -> str:
    """A budget of an answer, with where it stands."""
    unit = next(name for name in ("tokens", "requests", "usd") if name in shown)
    text = amount_text(unit, shown[unit]) + _per(shown["per"])
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


def _per(seconds: float | None) -> str:
    return "" if seconds is None else f" per {format_duration(Duration(seconds))}"
