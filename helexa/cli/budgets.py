"""Budgets among the options of commands."""

from collections.abc import Sequence
from typing import Any, Final

import typer

from config import InvalidValueError
from config.budget_texts import budget_text, dollars, plain_budget, read_budget

__all__ = ["NONE", "budget", "budget_text", "dollars", "listed"]
NONE: Final = "none"
"""Typed in place of a list, it empties the list."""


def budget(text: str) -> dict[str, Any] | None:
    """The budget that a request has for this text; ``None``: it says that there is to be none.

    Raises:
        typer.BadParameter: it is not a budget.
    """
    if text == NONE:
        return None
    try:
        return plain_budget(read_budget(text))
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from None


def listed(given: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Those that were given; with ``none`` among them there are none.

    Raises:
        typer.BadParameter: ``none`` stands beside others.
    """
    found = [each for each in given if each is not None]
    if found and len(found) < len(given):
        raise typer.BadParameter("'none' stands beside budgets: keep one of the two")
    return found
