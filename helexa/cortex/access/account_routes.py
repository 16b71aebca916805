"""The operators' routes for accounts, and for what was used."""

import time
from collections.abc import Iterable
from typing import Final, get_args

from quart import Response, request
from quart_trio import QuartTrio

from config import InvalidValueError, parse_duration
from helexa.cortex.access import keys, shown
from helexa.cortex.access.answering import answer, fields, note, spent_of
from helexa.cortex.access.key_fields import check_names, read_account
from helexa.cortex.access.keys import Keys, Spending
from helexa.cortex.access.shown import Booked, Shown
from helexa.cortex.ledger.rows import Grouping
from helexa.wire import errors
from helexa.wire.fields import Fields

_MOST_ROWS: Final = 1000
_LATEST: Final = 4_102_444_800.0
"""The year 2100, as a Unix time."""


def add_routes(app: QuartTrio, keyring: Keys, ledger: Spending) -> None:
    """Add them.

    Args:
        app: takes the routes.
        keyring: keeps the accounts.
        ledger: knows what was used.
    """
    _reading(app, keyring, ledger)
    _changing(app, keyring, ledger)
    _usage(app, ledger)


def _reading(app: QuartTrio, keyring: Keys, ledger: Spending) -> None:
    @app.get("/fleet/accounts")
    async def list_accounts() -> Response:
        return answer({"accounts": await _shown(ledger, _booked(keyring).values())})

    @app.get("/fleet/accounts/<path:name>")
    async def show_account(name: str) -> Response:
        return await _one(keyring, ledger, name)


def _booked(keyring: Keys) -> dict[str, Booked]:
    members = [(key.name, key.account) for key in keyring.declared()]
    members += [(record.name, record.account) for record in keyring.records() if record.revoked is None]
    return shown.booked(keyring.declared_accounts(), keyring.accounts(), members)


async def _shown(ledger: Spending, found: Iterable[Booked]) -> list[Shown]:
    accounts = list(found)
    spent = await spent_of(ledger, [limit for each in accounts for limit in shown.account_limits(each.account)])
    return [shown.shown_account(each, spent) for each in accounts]


async def _one(keyring: Keys, ledger: Spending, name: str) -> Response:
    it = _booked(keyring).get(name)
    if it is None:
        raise keys.no_account(name)
    return answer((await _shown(ledger, [it]))[0])


def _changing(app: QuartTrio, keyring: Keys, ledger: Spending) -> None:
    @app.put("/fleet/accounts/<path:name>")
    async def set_account(name: str) -> Response:
        await keyring.set_account(read_account(name, await fields()))
        note("account.set", account=name)
        return await _one(keyring, ledger, name)

    @app.delete("/fleet/accounts/<path:name>")
    async def drop_account(name: str) -> Response:
        await keyring.drop_account(name)
        note("account.dropped", account=name)
        return answer({"name": name})


def _usage(app: QuartTrio, ledger: Spending) -> None:
    @app.get("/fleet/usage")
    async def usage() -> Response:
        now, asked = time.time(), Fields(dict(request.args))
        check_names(asked, ("by", "since", "until"))
        by: Grouping = asked.choice("by", get_args(Grouping), "key")
        since, until = _time(asked, "since", 0.0, now), _time(asked, "until", now, now)
        rows = await ledger.usage(since, until, by, _MOST_ROWS)
        return answer(shown.shown_usage(by, since, until, rows))


def _time(asked: Fields, name: str, default: float, now: float) -> float:
    """A Unix time, written as one or as a length of time ago.

    Raises:
        ApiError: 400; it is neither.
    """
    text: str = asked.text(name, "")
    if not text:
        return default
    found = _number(text)
    if found is None:
        found = now - _ago(name, text)
    if not 0 <= found <= _LATEST:
        raise errors.invalid_value(name, "expected a time between 1970 and 2100")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() else None
    except ValueError:
        return None


def _ago(name: str, text: str) -> float:
    try:
        return parse_duration(text)
    except InvalidValueError:
        raise errors.invalid_value(name, "expected a Unix time, or how long ago, such as 7d or 12h") from None
