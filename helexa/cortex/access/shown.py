"""Keys, accounts and what was used, as answers show them: times as Unix times, money in US dollars. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from config import Account, Budget, BudgetUnit
from helexa.cortex.access import auth
from helexa.cortex.access.keys import Record
from helexa.cortex.ledger.limits import PICODOLLARS, Limit, payer
from helexa.cortex.ledger.rows import Grouping, LimitId, Sums

Shown: TypeAlias = dict[str, Any]
_UNKNOWN: Final = (None, None)


@frozen
class Spent:
    """What is known of some limits.

    Attributes:
        found: what counts against each, and what is set aside, by ``Limit.id``; in its unit.
    """

    found: Mapping[LimitId, tuple[int, int]] = field(factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[Limit, int, int]]) -> "Spent":
        """From what ``Spending.spending`` answers."""
        return cls({limit.id: (spent, reserved) for limit, spent, reserved in rows})

    def budgets(self, budgets: Sequence[Budget], limits: Sequence[Limit]) -> list[Shown]:
        """Budgets with where they stand; ``None`` where that is not known. The limits are theirs, in their order."""
        return [self._budget(budget, limit) for budget, limit in zip(budgets, limits, strict=True)]

    def _budget(self, budget: Budget, limit: Limit) -> Shown:
        spent, reserved = self.found.get(limit.id, _UNKNOWN)
        left = None if spent is None or reserved is None else max(0, limit.cap - spent - reserved)
        amounts = {"spent": spent, "reserved": reserved, "left": left}
        unit = limit.unit
        return {
            unit: getattr(budget, unit),
            "per": budget.per,
            **{name: None if amount is None else _amount(unit, amount) for name, amount in amounts.items()},
        }


def _amount(unit: BudgetUnit, amount: int) -> float:
    return amount / PICODOLLARS if unit == "usd" else amount


def key_limits(identity: str, budgets: Iterable[Budget]) -> list[Limit]:
    """The limit that each budget of a key stands for."""
    return [payer(identity, "", "", (budget,), {}).limits[0] for budget in budgets]


def account_limits(account: Account) -> list[Limit]:
    """The limit that each budget of an account stands for."""
    name = account.name
    return [payer("", "", name, (), {name: (budget,)}).limits[0] for budget in account.budgets]


def shown(record: Record, now: float, spent: Spent) -> Shown:
    """A key; ``now`` as a Unix time."""
    return {
        "name": record.name,
        "state": record.state(now),
        "source": "database",
        "account": record.account,
        "scopes": list(record.scopes),
        "models": list(record.models),
        "labels": dict(record.labels),
        "budgets": spent.budgets(record.budgets, key_limits(record.id, record.budgets)),
        "weight": record.weight,
        "max_in_flight": record.max_in_flight,
        "hint": record.hint,
        "created": record.created,
        "rotated": record.rotated,
        "expires": record.expires,
        "revoked": record.revoked,
    }


def shown_declared(key: auth.Key, spent: Spent) -> Shown:
    """The same of a key of the topology, of which less is known."""
    return {
        "name": key.name,
        "state": "active",
        "source": "topology",
        "account": key.account,
        "scopes": sorted(key.scopes),
        "models": list(key.models),
        "labels": {},
        "budgets": spent.budgets(key.budgets, key_limits(key.id, key.budgets)),
        "weight": key.weight,
        "max_in_flight": key.max_in_flight,
        **dict.fromkeys(("hint", "created", "rotated", "expires", "revoked")),
    }


@frozen
class Booked:
    """An account and who is booked to it.

    Attributes:
        account: its name and budgets.
        source: where the budgets come from: ``topology`` or ``database``; ``None``: it has none.
        keys: names of the keys that are booked to it and not revoked.
    """

    account: Account
    source: str | None
    keys: tuple[str, ...]


def booked(declared: Iterable[Account], kept: Iterable[Account], keys: Iterable[tuple[str, str]]) -> dict[str, Booked]:
    """All accounts by their names, in the order of these.

    Args:
        declared: the topology's, which go before those of the same name that are kept.
        kept: the database's.
        keys: names of keys with the names of their accounts.
    """
    members: dict[str, list[str]] = {}
    for key, account in keys:
        members.setdefault(account, []).append(key)
    sources: tuple[tuple[str | None, Iterable[Account]], ...] = (
        (None, map(Account, members)),
        ("database", kept),
        ("topology", declared),
    )
    found = {each.name: (each, source) for source, accounts in sources for each in accounts}
    return {name: Booked(*found[name], tuple(sorted(members.get(name, ())))) for name in sorted(found)}


def shown_account(it: Booked, spent: Spent) -> Shown:
    """An account."""
    return {
        "name": it.account.name,
        "source": it.source,
        "keys": list(it.keys),
        "budgets": spent.budgets(it.account.budgets, account_limits(it.account)),
    }


def shown_usage(by: Grouping, since: float, until: float, rows: Sequence[Sums]) -> Shown:
    """What was used between two Unix times."""
    return {"by": by, "since": since, "until": until, "usage": [_sums(row) for row in rows]}


def _sums(row: Sums) -> Shown:
    return {
        "name": row.name,
        "requests": row.requests,
        "prompt_tokens": row.prompt,
        "cached_tokens": row.cached,
        "completion_tokens": row.completion,
        "usd": row.cost / PICODOLLARS,
    }
