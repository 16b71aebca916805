"""What a client is told of its budgets: why a request is refused, and how much is left. Pure."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from config import BudgetUnit
from config.units import Duration, format_duration
from helexa.cortex.ledger import quota
from helexa.cortex.ledger.book import Held, Purse
from helexa.cortex.ledger.limits import PICODOLLARS, UNITS, Limit, Payer
from helexa.cortex.ledger.ports import Ask
from helexa.wire import errors
from helexa.wire.errors import ApiError

SOON_SECONDS: Final = 2
"""For requests under way to end and give back what they do not use; nobody knows when that is."""
AWAY_SECONDS: Final = 5
_NEVER: Final = math.inf
_CENT: Final = PICODOLLARS // 100

_HEADER_NAMES: Final = tuple(
    (UNITS[unit], tuple(f"x-ratelimit-{what}-{unit}".encode() for what in ("limit", "remaining", "reset")))
    for unit in ("requests", "tokens")
)


def refusal(payer: Payer, ask: Ask, short: Sequence[Purse], now: float) -> ApiError:
    """Why a request is not let in: of the limits that it is short of, the one that it has to wait for the longest."""
    return _worst(payer, [(purse, _least(purse.limit.unit, ask)) for purse in short], now)


def refusal_of(payer: Payer, held: Held, now: float) -> ApiError:
    """Why a request cannot be served with less than it asked for: it needs more than it was given."""
    amounts = held.share.amounts
    needs = [(purse, amounts[purse.unit] + 1) for purse in held.purses if purse.limit.unit != "requests"]
    return _worst(payer, needs, now) if needs else errors.rate_limited("The request is too large.", SOON_SECONDS)


def _worst(payer: Payer, needs: Sequence[tuple[Purse, int]], now: float) -> ApiError:
    waits = [(wait(purse, need, now), index, purse, need) for index, (purse, need) in enumerate(needs)]
    seconds, _, purse, need = max(waits)
    whose = f"The budget of {_said(purse.limit)} of {_owner(payer, purse.limit)}"
    unit = purse.limit.unit
    if need > purse.limit.cap:
        return _quota(f"{whose} is too small for this request, which needs {_amount(unit, need)} at least.")
    if seconds == _NEVER:
        return _quota(f"{whose} is used up: {_amount(unit, _used(purse))} were used, and this request needs more.")
    retry = max(1, math.ceil(seconds))
    if _fits(purse, need):
        return errors.rate_limited(f"{whose} is set aside for requests that are being served.", retry)
    return errors.rate_limited(f"{whose} is used up for now; enough of it is free again in {retry} s.", retry)


def wait(purse: Purse, need: int, now: float) -> float:
    """Seconds until so much of a limit is likely to be left; infinite: never."""
    limit = purse.limit
    if need > limit.cap:
        return _NEVER
    if _fits(purse, need):
        return SOON_SECONDS
    if not limit.period:
        return _NEVER
    missing = need - (limit.cap - _used(purse))
    for at, amount in purse.frees:
        missing -= amount
        if missing <= 0:
            return max(0.0, at - now)
    return limit.period + limit.width  # what is not booked yet


def away() -> ApiError:
    """The database has to be asked, and does not answer."""
    return errors.unavailable("What is left of this key's budget cannot be found out right now.", AWAY_SECONDS)


def unrecordable() -> ApiError:
    """What requests use cannot be kept safe."""
    return errors.unavailable("What this request would use cannot be recorded right now.", AWAY_SECONDS)


def headers(purses: Iterable[Purse], now: float) -> list[tuple[bytes, bytes]]:
    """``x-ratelimit-*``, of each unit for the limit of which the least is left."""
    tightest: dict[int, tuple[int, Purse]] = {}
    for purse in purses:
        remaining, unit = purse.remaining, purse.unit
        if unit not in tightest or remaining < tightest[unit][0]:
            tightest[unit] = remaining, purse
    found: list[tuple[bytes, bytes]] = []
    for unit, names in _HEADER_NAMES:
        if unit in tightest:
            found += _headers(names, *tightest[unit], now)
    return found


def _headers(names: tuple[bytes, ...], remaining: int, purse: Purse, now: float) -> list[tuple[bytes, bytes]]:
    limit, left, again = names
    found = [(limit, b"%d" % purse.limit.cap), (left, b"%d" % remaining)]
    if purse.limit.period:
        found.append((again, _go_duration(math.ceil(1000 * reset(purse, now)))))
    return found


def reset(purse: Purse, now: float) -> float:
    """Seconds until all of a window is free again, if no more is used; at most, where that is not known exactly."""
    if purse.spent + purse.in_use == 0:
        return 0.0
    if purse.in_use or not purse.frees or sum(amount for _, amount in purse.frees) < purse.spent:
        return purse.limit.period + purse.limit.width
    return max(0.0, purse.frees[-1][0] - now)


@lru_cache(maxsize=1024)
def _go_duration(milliseconds: int) -> bytes:
    """As OpenAI writes it: ``1h0m0s``, ``250ms``."""
    if milliseconds < 1000:  # noqa: PLR2004 - in a second
        return b"%dms" % milliseconds if milliseconds else b"0s"
    minutes, rest = divmod(-(-milliseconds // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s").encode()


def _used(purse: Purse) -> int:
    return purse.spent + purse.pending[purse.unit]


def _fits(purse: Purse, need: int) -> bool:
    """Whether it would, if no request were being served, here and at other gateways."""
    return need <= purse.limit.cap - _used(purse)


def _least(unit: BudgetUnit, ask: Ask) -> int:
    return 1 if unit == "requests" else quota.least(ask) if unit == "tokens" else quota.least_cost(ask)


def _quota(message: str) -> ApiError:
    return ApiError(429, message, "insufficient_quota", "insufficient_quota")


def _owner(payer: Payer, limit: Limit) -> str:
    return f"the key '{payer.name}'" if limit.subject == payer.key else f"the account '{payer.account}'"


def _said(limit: Limit) -> str:
    amount = _amount(limit.unit, limit.cap)
    return f"{amount} per {format_duration(Duration(limit.period))}" if limit.period else amount


def _amount(unit: BudgetUnit, amount: int) -> str:
    if unit == "usd":
        dollars = amount / PICODOLLARS
        return f"${dollars:.2f}" if amount % _CENT == 0 else f"${dollars:.6f}"
    return f"{amount} {unit if amount != 1 else unit[:-1]}"
