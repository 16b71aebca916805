"""Budgets as the ledger keeps them: in whole units, each with the window that it counts over. Pure.

Money is counted in picodollars: a token at a price of so many US dollars per million costs a whole number of them, so
sums are exact, and a signed 64-bit column holds nine million dollars.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Final, Self

from attrs import frozen

from config import Budget, BudgetUnit, Cost

PICODOLLARS: Final = 10**12
"""Per US dollar."""
_MILLION: Final = 10**6
UNITS: Final[Mapping[BudgetUnit, int]] = {"tokens": 0, "requests": 1, "usd": 2}
"""The place of each unit where amounts of all three stand in a row."""
_BUCKETS: Final = 60
"""Parts of a rolling window: what leaves it does so in that many steps."""


@frozen
class Prices:
    """What a token costs, in picodollars."""

    input: int = 0
    output: int = 0

    @classmethod
    def of(cls, cost: Cost) -> Self:
        """The prices that a topology's cost, in US dollars per million tokens, stands for; fractions are rounded up."""
        return cls(_picodollars(cost.input), _picodollars(cost.output))

    def cost(self, prompt: int, completion: int) -> int:
        """What so many tokens cost, in picodollars."""
        return prompt * self.input + completion * self.output

    def at_least(self, other: "Prices") -> "Prices":
        """The higher of both, each by itself."""
        return Prices(max(self.input, other.input), max(self.output, other.output))


def _picodollars(per_million: float) -> int:
    return math.ceil(Fraction(repr(per_million)) * PICODOLLARS / _MILLION)


@frozen
class Amounts:
    """What was used, or is set aside: tokens, requests, picodollars."""

    tokens: int = 0
    requests: int = 0
    cost: int = 0

    def of(self, unit: BudgetUnit) -> int:
        """The amount that a limit of this unit is about."""
        return self.tokens if unit == "tokens" else self.requests if unit == "requests" else self.cost

    def add_to(self, sums: list[int]) -> None:
        """Count it in sums that stand in a row, see ``UNITS``; not ``+``, of which every sum would be a new object."""
        sums[0] += self.tokens
        sums[1] += self.requests
        sums[2] += self.cost

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.tokens + other.tokens, self.requests + other.requests, self.cost + other.cost)


@frozen
class Limit:
    """One budget of one subject.

    Attributes:
        subject: ``key:`` and a key's identity, or ``account:`` and an account's name.
        unit: what is limited.
        cap: in tokens, requests or picodollars.
        period: seconds that the rolling window is long; 0: all that was ever used counts.
    """

    subject: str
    unit: BudgetUnit
    cap: int
    period: float = 0.0

    @cached_property
    def id(self) -> tuple[str, BudgetUnit, float]:
        """What stays the same when its cap is changed."""
        return self.subject, self.unit, self.period

    @cached_property
    def width(self) -> int:
        """Seconds that one bucket of the window covers; 0: there is one bucket, for all time.

        A bucket counts until its youngest entry is older than the period, so what counts is never less than what was
        used in any stretch of that length, and at most one width more.
        """
        return math.ceil(self.period / _BUCKETS)


@frozen
class Payer:
    """Whose request it is.

    Attributes:
        key: the subject of the key.
        name: what logs call the key.
        account: the account's name.
        limits: those of the key, then those of the account.
    """

    key: str
    name: str
    account: str
    limits: tuple[Limit, ...] = ()

    @cached_property
    def subjects(self) -> tuple[str, str]:
        """Whom usage is booked to."""
        return self.key, account_subject(self.account)


def key_subject(identity: str) -> str:
    """The subject of a key; ``identity`` outlives its rotation."""
    return f"key:{identity}"


def account_subject(name: str) -> str:
    """The subject of an account."""
    return f"account:{name}"


def payer(
    identity: str, name: str, account: str, budgets: Sequence[Budget], accounts: Mapping[str, Iterable[Budget]]
) -> Payer:
    """Who pays for the requests of a key.

    Args:
        identity: the key's, see ``key_subject``.
        name: of the key.
        account: its account's name.
        budgets: its own.
        accounts: the budgets of accounts by their name.
    """
    key = key_subject(identity)
    own = [_limit(key, budget) for budget in budgets]
    shared = [_limit(account_subject(account), budget) for budget in accounts.get(account, ())]
    return Payer(key, name, account, tuple(_tightest([*own, *shared])))


def _limit(subject: str, budget: Budget) -> Limit:
    unit = budget.unit
    cap = Fraction(repr(budget.usd)) * PICODOLLARS if budget.usd is not None else Fraction(getattr(budget, unit))
    return Limit(subject, unit, math.floor(cap), float(budget.per or 0))


def _tightest(limits: Iterable[Limit]) -> Iterable[Limit]:
    """Of limits that differ in their caps alone, the one that matters."""
    found: dict[tuple[str, BudgetUnit, float], Limit] = {}
    for limit in limits:
        known = found.get(limit.id)
        if known is None or limit.cap < known.cap:
            found[limit.id] = limit
    return found.values()
