"""What the Keys screen shows: who may use the fleet, how much, and how much of that is used. Pure."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.text import Text

from config.budget_texts import dollars
from tui.glyphs import has_unicode, named
from tui.views.figures import span
from tui.views.keyring import Budget, Key, Keyring, Used, fullest, objects
from tui.widgets.bars import bar, grade
from tui.widgets.table import Cell, Column, Row
from tui.world import World

_BAR: Final = 10
_LONG_BAR: Final = 24
_BUSY, _FULL = 0.8, 1.0
_LIVE: Final = "active"
_ESSENTIAL: Final = (
    Column("state", "STATE", 10),
    Column("budget", "BUDGET", 25),
    Column("usd", "SPENT $", 9, right=True),
    Column("expires", "EXPIRES", 9),
)
_MORE: Final = (
    Column("account", "ACCOUNT", 16),
    Column("scopes", "SCOPES", 24),
    Column("models", "MODELS", 20),
    Column("requests", "REQUESTS", 9, right=True),
    Column("tokens", "TOKENS", 13, right=True),
    Column("hint", "KEY", 6),
    Column("source", "FROM", 8),
)
"""As many of these as there is room for."""


def columns(ring: Keyring, width: int) -> tuple[Column, ...]:
    """The columns that so many characters have room for, the essential ones at least."""
    name = max((len(key.name) for key in ring.keys), default=0)
    found = [Column("name", "NAME", min(max(8, name), max(16, width - 67))), *_ESSENTIAL]
    left = width - sum((column.width or 0) + 2 for column in found)
    for column in _MORE:
        left -= (column.width or 0) + 2
        if left >= 0:
            found.append(column)
    return tuple(found)


def rows(ring: Keyring, *, revoked: bool) -> list[Row]:
    """A row for each key; those that are revoked only where they are wanted: they are kept for ever."""
    shown = [key for key in ring.keys if revoked or key.state != "revoked"]
    return [_row(ring, key) for key in shown]


def _row(ring: Keyring, key: Key) -> Row:
    used = None if ring.used is None else ring.used.get(key.name, Used(key.name))
    cells: dict[str, Cell] = {
        "name": key.name,
        "state": named(key.state),
        "budget": _fullest(ring.limits(key)),
        "usd": "" if used is None else dollars(used.usd),
        "expires": when(key.expires, ring.now) if key.expires is not None else Text("never", "dim"),
        "account": key.account,
        "scopes": ", ".join(key.scopes),
        "models": ", ".join(key.models) or Text("all", "dim"),
        "requests": "" if used is None else f"{used.requests:,}",
        "tokens": "" if used is None else f"{used.prompt_tokens + used.completion_tokens:,}",
        "hint": "" if key.hint is None else f"…{key.hint}",
        "source": key.source,
    }
    return Row(key.id, cells, " ".join((*map(str, cells.values()), *key.labels, *key.labels.values())).lower())


def _fullest(budgets: Sequence[Budget]) -> Text:
    budget = fullest(budgets)
    if budget is None:
        return Text("no limit", "dim")
    unit = "$" if budget.unit == "usd" else budget.unit
    return Text.assemble(_bar(budget, _BAR), f" {_percent(budget)} {unit}")


def _percent(budget: Budget) -> str:
    return "   ?" if budget.part is None else f"{int(budget.part * 100):3d}%"


def _bar(budget: Budget, width: int) -> Text:
    return bar(budget.part, width, grade(budget.part, _BUSY, _FULL, "green"), unicode=has_unicode())


def when(moment: float, now: float) -> str:
    """A time as a distance: ``in 3d``, ``2h ago``."""
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def _date(moment: float, now: float) -> str:
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(max(moment, 0.0), 4e9)))
    return f"{date} UTC ({when(moment, now)})"


def details(ring: Keyring, key: Key, hint: str = "") -> Text:
    """All there is to say of a key, a fact a line; at the end what else there is to know."""
    lines = [Text.assemble((key.name, "bold"), "  ", named(key.state)), *_all_budgets(ring, key)]
    lines += [Text.assemble((f"{name:10}", "dim"), told) for name, told in _facts(ring, key) if told]
    lines += [Text(f"\n{hint}", "dim")] if hint else []
    return Text("\n").join(lines)


def _all_budgets(ring: Keyring, key: Key) -> Iterable[Text]:
    for budget in key.budgets:
        yield _budget_line("budget", budget)
    for budget in ring.accounts.get(key.account, ()):
        yield _budget_line("account", budget)
    if not key.budgets and not ring.accounts.get(key.account):
        yield Text.assemble(("budget    ", "dim"), "no limit")


def _budget_line(what: str, budget: Budget) -> Text:
    head = Text.assemble((f"{what:10}", "dim"), _bar(budget, _LONG_BAR), f" {_percent(budget)}  ")
    aside = f" ({_figure(budget, budget.reserved)} more set aside)" if budget.reserved else ""
    return Text.assemble(head, f"{_figure(budget, budget.spent)}{aside} of {budget.told()}")


def _figure(budget: Budget, amount: float | None) -> str:
    """An amount of what a budget counts, without its unit."""
    if amount is None:
        return "an unknown part"
    return dollars(amount) if budget.unit == "usd" else f"{amount:,.0f}"


def _facts(ring: Keyring, key: Key) -> Iterable[tuple[str, str]]:
    used = None if ring.used is None else ring.used.get(key.name, Used(key.name))
    yield "used", "" if used is None else f"{used.requests:,} requests, {dollars(used.usd)} USD"
    yield "tokens", "" if used is None else _tokens(used)
    yield "account", key.account
    yield "scopes", ", ".join(key.scopes)
    yield "models", ", ".join(key.models) or "all"
    yield "share", f"weight {key.weight}, {key.max_in_flight or 'as many as the fleet allows'} at a time"
    yield "key", "" if key.hint is None else f"ends in {key.hint}"
    yield "labels", ", ".join(f"{name}={text}" for name, text in key.labels.items())
    for name, moment in (
        ("created", key.created),
        ("rotated", key.rotated),
        ("expires", key.expires),
        ("revoked", key.revoked),
    ):
        yield name, "" if moment is None else _date(moment, ring.now)
    yield "from", "the topology file: it is changed there" if key.source == "topology" else ""


def _tokens(used: Used) -> str:
    return f"{used.prompt_tokens:,} read ({used.cached_tokens:,} cached), {used.completion_tokens:,} written"


def trouble(world: World) -> str:
    """Why there is nothing in the table; ``""``: there is something, or it is to come yet."""
    if (error := world.errors.get("keys")) is not None:
        return f"The keys cannot be read: {error}"
    if "keys" in world.raw and not objects(world.raw["keys"], "keys"):
        return "This fleet has no keys: n makes one. Whether it asks for any is up to entitlements.require_auth."
    return ""


def hint(ring: Keyring, world: World, *, revoked: bool) -> str:
    """What is not shown and could be, and what cannot be read; ``""``: nothing."""
    gone = sum(key.state == "revoked" for key in ring.keys)
    told = [f"no {feed}: {world.errors[feed]}" for feed in ("usage", "accounts") if feed in world.errors]
    told += [f"{gone} revoked {'key is' if gone == 1 else 'keys are'} hidden: v"] if gone and not revoked else []
    return "; ".join(told)


def may_change(key: Key) -> str | None:
    """Why a key cannot be exchanged or revoked here; ``None``: it can."""
    if key.source == "topology":
        return f"{key.name} is a key of the topology file: change it there."
    return None if key.state in (_LIVE, "expired") else f"{key.name} is {key.state} already."
