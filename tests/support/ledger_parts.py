"""Parts of the tests of the ledger's actor."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field

from actors.ledger import Ledger
from config import Budget, Cortex
from helexa.cortex.ledger.charges import OpenCharge
from helexa.cortex.ledger.limits import Limit, Payer, Prices, payer
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.rows import Leases, LimitId, Row, Spending, Want
from helexa.cortex.ledger.store import UsageStore
from helexa.database import StoreError
from helexa.wire.errors import ApiError

NOW = 1_700_000_000.0
FREE = Prices()
T = TypeVar("T")


@define
class Clock:
    """The Unix time, which passes when a test says so."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class Away(UsageStore):
    """A real database that is away when a test says so, or whose answers get lost."""

    away: bool = False
    deaf: bool = False
    asked: int = 0

    def _ask(self, work: Callable[..., T], *arguments: Any) -> T:
        self.asked += 1
        if self.away:
            raise StoreError("it is away")
        found = work(*arguments)
        if self.deaf:
            raise StoreError("its answer got lost")
        return found

    def open(self, gateway: str, rows: Sequence[Row], now: float) -> None:
        self._ask(super().open, gateway, rows, now)

    def lease(self, gateway: str, wants: Sequence[Want], now: float) -> Leases:
        return self._ask(super().lease, gateway, wants, now)

    def flush(self, gateway: str, rows: Sequence[Row], keep: Mapping[LimitId, int], now: float) -> dict[LimitId, int]:
        return self._ask(super().flush, gateway, rows, keep, now)

    def spending(self, limits: Any, now: float) -> tuple[Spending, ...]:
        return self._ask(super().spending, limits, now)

    def close_gateway(self, gateway: str) -> None:
        self._ask(super().close_gateway, gateway)

    def prune(self, now: float, retention: float) -> int:
        return self._ask(super().prune, now, retention)


@define
class Settings:
    """Those of the gateway; they may be changed."""

    cortex: Cortex = field(factory=Cortex)

    def __call__(self) -> Cortex:
        return self.cortex


def payer_of(*budgets: Budget, key: str = "k1", account: str = "team", shared: Sequence[Budget] = ()) -> Payer:
    return payer(key, f"name-{key}", account, budgets, {account: shared})


def ask(prompt: int = 100, output: int = 50, *, limited: bool = True, prices: Prices = FREE) -> Ask:
    return Ask("req_1", "/v1/chat/completions", "m", prompt, output, limited, prices)


def use(charge: OpenCharge, prompt: int, completion: int, prices: Prices = FREE) -> None:
    """Serve a request from beginning to end."""
    charge.sent("n1", prices)
    charge.deliver(prompt, completion, 0)
    charge.settle()


def booked(path: Path) -> dict[str, int]:
    """Tokens by the name of the key, as the database has them."""
    store = UsageStore(f"sqlite:///{path}")
    sums = store.usage(0, NOW * 2, "key", 100)
    store.close()
    return {each.name: each.prompt + each.completion for each in sums}


def leased(path: Path, *limits: Limit) -> list[tuple[int, int]]:
    """What counts and what is leased of limits, as the database has them."""
    store = UsageStore(f"sqlite:///{path}")
    found = [(each.spent, each.leased) for each in store.spending(limits, NOW)]
    store.close()
    return found


async def refused(ledger: Ledger, whose: Payer, what: Ask) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await ledger.reserve(whose, what)
    return raised.value
