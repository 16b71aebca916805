"""What a gateway's ledger tells of itself, as figures that a test writes."""

from collections.abc import Mapping

from attrs import frozen

from helexa.cortex.ledger.limits import PICODOLLARS, Amounts, Limit


@frozen
class OneLimit:
    limit: Limit
    name: str
    left: int


@frozen
class Books:
    spent: Mapping[str, Amounts]
    limits: tuple[OneLimit, ...] = ()
    open: int = 0
    journal: int = 0
    trouble: str | None = None


DAY = 86_400.0
BOOKS = Books(
    {"alice": Amounts(500, 3, PICODOLLARS // 4)},
    (
        OneLimit(Limit("key:1", "tokens", 1_000, DAY), "alice", 400),
        OneLimit(Limit("account:lab", "usd", 20 * PICODOLLARS), "lab", 5 * PICODOLLARS),
    ),
    open=2,
    journal=7,
)
