"""Parts of the tests of the ledger's database."""

from typing import Any

from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Leased, Row, Want
from helexa.cortex.ledger.store import UsageStore

NOW = 1_700_000_000.0
HOUR = 3600.0


def row(identity: str = "r1", at: float = NOW, key: str = "a", **other: Any) -> Row:
    """A request of 100 + 50 tokens for 7000 picodollars, of the account "team"."""
    plain: dict[str, Any] = {
        "name": f"name of {key}",
        "account": "team",
        "model": "m",
        "node": "n1",
        "route": "/v1/chat/completions",
        "prompt": 100,
        "cached": 30,
        "completion": 50,
        "cost": 7000,
        "request_id": f"req_{identity}",
    }
    return Row(identity, at, f"key:{key}", **(plain | other))


def tokens(cap: int, period: float = 0.0, subject: str = "key:a") -> Limit:
    """A limit of tokens."""
    return Limit(subject, "tokens", cap, period)


def lease(store: UsageStore, limit: Limit, need: int, wish: int | None = None, **other: Any) -> Leased:
    """Ask for one lease; ``other`` is of gateway, have and now."""
    given: dict[str, Any] = {"gateway": "g1", "have": 0, "now": NOW} | other
    return store.lease(given["gateway"], [Want(limit, given["have"], need, wish)], given["now"]).leased[0]


def spent(store: UsageStore, limit: Limit, now: float = NOW) -> tuple[int, int]:
    """What counts of a limit, and what is leased of it."""
    (found,) = store.spending([limit], now)
    assert found.limit == limit
    return found.spent, found.leased
