"""How much a key or an account may use."""

import math
from typing import Any, Literal, TypeAlias

import attrs
from attrs import field, frozen
from attrs.validators import optional

from config import validators as v
from config.problems import InvalidValueError
from config.units import Duration, format_duration

WindowKind: TypeAlias = Literal["rolling", "balance"]
BudgetUnit: TypeAlias = Literal["tokens", "requests", "usd"]

LARGEST_COUNT = 2**63 - 1  # what a database column holds
_MOST_DOLLARS = 1_000_000.0
_LONGEST_PERIOD = Duration(366 * 86_400.0)


def _amount(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= _MOST_DOLLARS):
        hint = f"from 0 to {_MOST_DOLLARS:.0f} US dollars"
        raise InvalidValueError(f"{value} is not an amount", hint, (attribute.name,))


def _period(_: object, attribute: "attrs.Attribute[Any]", value: Duration) -> None:
    if not 1 <= value <= _LONGEST_PERIOD:
        raise InvalidValueError("is out of range", 'from "1s" to "366d"', (attribute.name,))


@frozen
class Window:
    """How a key's hard cap renews.

    Attributes:
        kind: `rolling`: tokens of the last `period` count; `balance`: all tokens ever count.
        period: Length of the rolling window, in seconds; None for a balance.
    """

    kind: WindowKind = "balance"
    period: Duration | None = field(default=None, validator=optional(_period))

    def __attrs_post_init__(self) -> None:
        """Refuse a rolling window without a period, and a balance with one."""
        if self.kind == "rolling" and self.period is None:
            raise InvalidValueError("is missing", 'a rolling window needs one, such as period = "1h"', ("period",))
        if self.kind == "balance" and self.period is not None:
            hint = 'add kind = "rolling" or leave it out'
            raise InvalidValueError("means nothing for a balance", hint, ("period",), because=("kind",))


@frozen
class Budget:
    """A limit on one of three things.

    Attributes:
        tokens: Tokens, of prompts and answers together.
        requests: Requests.
        usd: US dollars, as the `cost` of models and routes makes them.
        per: Length of the window that rolls: what was used longer ago counts no more. None: all that was ever used
            counts.
    """

    tokens: int | None = field(default=None, validator=optional(v.between(0, LARGEST_COUNT)))
    requests: int | None = field(default=None, validator=optional(v.between(0, LARGEST_COUNT)))
    usd: float | None = field(default=None, validator=optional(_amount))
    per: Duration | None = field(default=None, validator=optional(_period))

    def __attrs_post_init__(self) -> None:
        """Refuse a budget of nothing, and one of several things."""
        given = [unit for unit in ("tokens", "requests", "usd") if getattr(self, unit) is not None]
        if not given:
            hint = 'such as { tokens = 1_000_000, per = "1d" }; or requests, or usd'
            raise InvalidValueError("limits nothing", hint)
        if len(given) > 1:
            hint = "one budget for each, as each has a window of its own"
            raise InvalidValueError(f"stands beside {given[0]}", hint, (given[1],), because=(given[0],))

    def __str__(self) -> str:
        """As a sentence about a mistake has it."""
        window = "" if self.per is None else f" per {format_duration(self.per)}"
        return f"{getattr(self, self.unit)} {self.unit}{window}"

    @property
    def unit(self) -> BudgetUnit:
        """What it limits."""
        if self.tokens is not None:
            return "tokens"
        return "usd" if self.requests is None else "requests"
