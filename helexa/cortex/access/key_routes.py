"""The operators' routes for keys. A key is in no answer but the one that made it, and a hash in none."""

import time
from collections.abc import Iterable
from typing import Any

from quart import Response
from quart_trio import QuartTrio

from helexa.cortex.access import account_routes, shown
from helexa.cortex.access.answering import answer, fields, note, spent_of
from helexa.cortex.access.auth import Key
from helexa.cortex.access.key_fields import read_change, read_wanted
from helexa.cortex.access.keys import Keys, Made, NoLedger, Record, Spending
from helexa.cortex.access.shown import Shown, Spent


def add_routes(app: QuartTrio, keyring: Keys, ledger: Spending | None = None) -> None:
    """Add them, and those for accounts and usage.

    Args:
        app: takes the routes.
        keyring: keeps keys and accounts.
        ledger: knows what was used; ``None``: nobody does.
    """
    ledger = ledger or NoLedger()
    _reading(app, keyring, ledger)
    _changing(app, keyring, ledger)
    account_routes.add_routes(app, keyring, ledger)


def _reading(app: QuartTrio, keyring: Keys, ledger: Spending) -> None:
    @app.get("/fleet/keys")
    async def list_keys() -> Response:
        return answer({"keys": await _shown(ledger, [*keyring.declared(), *keyring.records()])})

    @app.get("/fleet/keys/<name>")
    async def show_key(name: str) -> Response:
        return answer(await _one(ledger, _named(keyring, name)))


def _named(keyring: Keys, name: str) -> Key | Record:
    """The key of that name that is good for something, if there is one."""
    declared = next((key for key in keyring.declared() if key.name == name), None)
    live = any(record.name == name and record.revoked is None for record in keyring.records())
    return declared if declared is not None and not live else keyring.record(name)


async def _shown(ledger: Spending, found: Iterable[Key | Record]) -> list[Shown]:
    """Keys with where their budgets stand, all from one look."""
    keys, now = list(found), time.time()
    limits = [limit for key in keys if _counts(key) for limit in shown.key_limits(key.id, key.budgets)]
    spent = await spent_of(ledger, limits)
    return [_plain(key, now, spent) for key in keys]


async def _one(ledger: Spending, key: Key | Record) -> Shown:
    return (await _shown(ledger, [key]))[0]


def _counts(key: Key | Record) -> bool:
    """Revoked ones are kept for ever, and there may be thousands."""
    return isinstance(key, Key) or key.revoked is None


def _plain(key: Key | Record, now: float, spent: Spent) -> Shown:
    return shown.shown_declared(key, spent) if isinstance(key, Key) else shown.shown(key, now, spent)


def _changing(app: QuartTrio, keyring: Keys, ledger: Spending) -> None:
    @app.post("/fleet/keys")
    async def create_key() -> Response:
        made = await keyring.create(read_wanted(await fields()))
        note("key.created", key=made.record.name)
        return await _once(made, ledger)

    @app.patch("/fleet/keys/<name>")
    async def change_key(name: str) -> Response:
        change = read_change(await fields())
        record = await keyring.change(name, change)
        note("key.changed", key=name, changed=sorted(change.values))
        return answer(await _one(ledger, record))

    @app.post("/fleet/keys/<name>/rotate")
    async def rotate_key(name: str) -> Response:
        made = await keyring.rotate(name)
        note("key.rotated", key=name)
        return await _once(made, ledger)

    @app.delete("/fleet/keys/<name>")
    async def revoke_key(name: str) -> Response:
        record = await keyring.revoke(name)
        note("key.revoked", key=name)
        return answer(await _one(ledger, record))


async def _once(made: Made, ledger: Spending) -> Response:
    """The only answer with a key in it."""
    payload: dict[str, Any] = {**await _one(ledger, made.record), "key": made.key}
    response = answer(payload)
    response.headers["cache-control"] = "no-store"
    return response
