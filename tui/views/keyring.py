"""Keys, accounts and what was used, as the gateway tells of them; leniently, as ``tui.shapes`` reads. Pure."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from config.budget_texts import amount_text, per_text, unit_of
from config.budgets import BudgetUnit
from tui.world import World


@frozen
class Budget:
    """A budget and where it stands; in its unit, ``None``: not known."""

    unit: BudgetUnit
    cap: float
    per: float | None = None
    spent: float | None = None
    reserved: float = 0.0

    @property
    def part(self) -> float | None:
        """How much of it is used or set aside, 0 to 1; nothing is left of one of nothing."""
        if self.spent is None:
            return None
        return 1.0 if self.cap <= 0 else min(1.0, (self.spent + self.reserved) / self.cap)

    def told(self) -> str:
        """As in ``5,000,000 tokens per 1d``."""
        return amount_text(self.unit, self.cap) + per_text(self.per)


@frozen
class Key:
    """An entry of ``/fleet/keys``."""

    name: str = "?"
    state: str = "?"
    source: str = ""
    account: str = ""
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(factory=dict)
    budgets: tuple[Budget, ...] = ()
    weight: int = 1
    max_in_flight: int | None = None
    hint: str | None = None
    created: float | None = None
    rotated: float | None = None
    expires: float | None = None
    revoked: float | None = None

    @property
    def id(self) -> str:
        """Unlike its name no other key's: names of revoked ones are given again."""
        return f"{self.name}\0{self.source}\0{self.revoked}"


@frozen
class Used:
    """An entry of ``/fleet/usage``."""

    name: str = "?"
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


@frozen
class Keyring:
    """What is known of keys.

    Attributes:
        keys: all of them, the revoked ones among them.
        accounts: their budgets, by name.
        used: by the name of the key; ``None``: not known.
        now: Unix time.
    """

    keys: tuple[Key, ...] = ()
    accounts: Mapping[str, tuple[Budget, ...]] = field(factory=dict)
    used: Mapping[str, Used] | None = None
    now: float = 0.0

    @classmethod
    def of(cls, world: World) -> "Keyring":
        """From what is known now."""
        keys = tuple(_key(each) for each in objects(world.raw.get("keys"), "keys"))
        accounts = {str(each.get("name")): _budgets(each) for each in objects(world.raw.get("accounts"), "accounts")}
        usage = [_used(each) for each in objects(world.raw.get("usage"), "usage")]
        known = {each.name: each for each in usage} if "usage" in world.raw else None
        return cls(keys, accounts, known, world.at or time.time())

    def key(self, identity: str | None) -> Key | None:
        """The key of that ``Key.id``."""
        return next((key for key in self.keys if key.id == identity), None)

    def limits(self, key: Key) -> tuple[Budget, ...]:
        """What a key may use: its own budgets, and those that it shares with the others of its account."""
        return (*key.budgets, *self.accounts.get(key.account, ()))


def objects(answer: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects of a list in an answer; what is none has none."""
    given = answer.get(name) if isinstance(answer, Mapping) else None
    return [each for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []


def _key(data: Mapping[str, Any]) -> Key:
    labels = data.get("labels")
    return Key(
        name=str(data.get("name", "?")),
        state=str(data.get("state", "?")),
        source=str(data.get("source") or ""),
        account=str(data.get("account") or ""),
        labels={str(name): str(text) for name, text in labels.items()} if isinstance(labels, Mapping) else {},
        budgets=_budgets(data),
        weight=int(_number(data.get("weight")) or 1),
        max_in_flight=None if (most := _number(data.get("max_in_flight"))) is None else int(most),
        hint=None if data.get("hint") is None else str(data["hint"]),
        scopes=_texts(data.get("scopes")),
        models=_texts(data.get("models")),
        created=_number(data.get("created")),
        rotated=_number(data.get("rotated")),
        expires=_number(data.get("expires")),
        revoked=_number(data.get("revoked")),
    )


def _list(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else ()


def _texts(given: Any) -> tuple[str, ...]:
    return tuple(map(str, _list(given)))


def _number(given: Any) -> float | None:
    """What can be reckoned with; JSON has no infinity, and readers of it make one of 1e999."""
    return given if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given) else None


def _budgets(data: Mapping[str, Any]) -> tuple[Budget, ...]:
    """Those that are understood; of a unit that a newer fleet has nothing can be said."""
    found = [each for each in _list(data.get("budgets")) if isinstance(each, Mapping)]
    known = [
        each for each in found if any(_number(each.get(unit)) is not None for unit in ("tokens", "requests", "usd"))
    ]
    return tuple(map(_budget, known))


def _budget(data: Mapping[str, Any]) -> Budget:
    unit = unit_of(data)
    spent, per = _number(data.get("spent")), _number(data.get("per"))
    return Budget(unit, _number(data.get(unit)) or 0, per, spent, _number(data.get("reserved")) or 0)


def _used(data: Mapping[str, Any]) -> Used:
    counts = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    figures = {name: int(_number(data.get(name)) or 0) for name in counts}
    return Used(str(data.get("name", "?")), **figures, usd=_number(data.get("usd")) or 0.0)


def fullest(budgets: Sequence[Budget]) -> Budget | None:
    """The budget that ends first; any, where nothing is known of what is used."""
    known = [budget for budget in budgets if budget.part is not None]
    return max(known, key=lambda budget: budget.part or 0.0) if known else next(iter(budgets), None)
