"""Twenty keys with budgets of every kind, and what has to hold after a crowd has pressed against them."""

import time
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Final

import orjson
import trio
from budget_books import Booked, Books, discrepancies
from budget_clients import PROMPTS, Got, Order, Orders, ask, order_of
from budget_parts import PRICES, Entitled, Holder, Host, database_of
from budget_stress import Crowd

from config import Budget, Duration
from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.store import UsageStore

HOUR: Final = Duration(3600.0)
_ANY: Final = 2**63 - 1
FREE: Final = tuple(Holder(f"free-{number}") for number in range(6))
CAPPED: Final = (
    Holder("balance", (Budget(tokens=3000),)),
    Holder("hourly", (Budget(tokens=4000, per=HOUR),)),
    Holder("small", (Budget(tokens=900),)),
    Holder("nothing", (Budget(tokens=0),)),
    Holder("few", (Budget(requests=30),)),
    Holder("few-hourly", (Budget(requests=45, per=HOUR),)),
    Holder("dollars", (Budget(usd=0.01),)),
    Holder("dollars-hourly", (Budget(usd=0.02, per=HOUR),)),
    Holder("all-three", (Budget(tokens=9000), Budget(requests=60), Budget(usd=0.05, per=HOUR))),
    *(Holder(f"team-{number}", account="team") for number in range(3)),
    Holder("team-3", (Budget(requests=20),), account="team"),
)
SHORT: Final = Holder("short", (Budget(tokens=2000, per=Duration(2.0)), Budget(requests=12, per=Duration(1.0))))
"""Its windows pass while the crowd is there."""
TWENTY: Final = Entitled((*FREE, *CAPPED, SHORT), {"team": (Budget(tokens=6000),)})


CROWDED: Final = 'max_in_flight = 128\nmax_queue = 4096\nqueue_timeout = "5m"'
"""Of a gateway before a crowd: nobody is sent away for anything but a budget."""


def crowd_before(gateways: Sequence[Host], clients: int, seed: int) -> Crowd:
    """The twenty keys' clients, and the books of the gateways, which they share."""
    books = Books(database_of(gateways[0]))
    return Crowd(gateways, orders(TWENTY, clients, seed), books, sorted(TWENTY.limits(), key=str))


def orders(entitled: Entitled, clients: int, seed: int) -> list[Order]:
    """Requests of all keys alike, in a disorder that a seed decides."""
    random = Random(seed)
    drawn = Orders(random)
    found = [drawn.draw(entitled.names[number % len(entitled.names)]) for number in range(clients)]
    random.shuffle(found)
    return found


async def press(crowd: Crowd, kills: int, seed: int) -> None:
    """The crowd, with gateways killed in it; then use up what its keys with a cap have left."""
    await crowd.run(kills, Random(seed))
    crowd.got += await use_up(crowd.gateways, [holder.name for holder in CAPPED])


async def use_up(gateways: Sequence[Host], keys: Sequence[str]) -> list[Got]:
    """Have each key ask, by several clients at a time for much and then by one for little, until it is refused."""
    got: list[Got] = []
    async with trio.open_nursery() as nursery:
        for key in keys:
            for client in range(4):
                port, order = gateways[client % len(gateways)].port, much_of(key)
                nursery.start_soon(_until_refused, port, order, f"u{client}", got)
    for key in keys:  # one by one: nothing is set aside for others now, so it is the budget that refuses
        await _until_refused(gateways[0].port, last_of(key), "last", got)
    return got


async def _until_refused(port: int, order: Order, name: str, got: list[Got]) -> None:
    for number in count():
        latest = await ask(port, order, f"{name}.{order.key}.{number}")
        got.append(latest)
        if latest.status != 200:
            return


def much_of(key: str) -> Order:
    """What a key asks for while it has enough: as many tokens by fewer requests."""
    return order_of(key, "chat", PROMPTS[0], 24, choices=4)


def last_of(key: str) -> Order:
    """What a key asks for until it is refused."""
    return order_of(key, "chat", PROMPTS[0], 24)


def unusable(limit: Limit, order: Order) -> int:
    """The most that is left of a limit that refuses a request: an eighth of the bound of its prompt, and its answer."""
    prompt = (len(orjson.dumps(order.body)) + 512) // 8
    return {"tokens": prompt + order.most, "requests": 0, "usd": PRICES.cost(prompt, order.most)}[limit.unit]


def wrong_with(crowd: Crowd) -> list[str]:
    """All that is wrong after the end: rows against answers, caps, sums, leases, and budgets that got lost."""
    rows, leases = crowd.books.look()
    wrong = [*discrepancies(crowd.got, rows), *crowd.over, *crowd.books.over(crowd.limits)]
    wrong += [*missums(crowd.books.url, rows, time.time()), *left_over(rows)]
    return [*wrong, *(f"{limit}: {amount} are leased by nobody" for limit, amount in leases.items())]


def left_over(rows: Sequence[Booked]) -> list[str]:
    """Keys that are refused although none of their limits is at its end: something is set aside for nobody."""
    found = []
    for holder in CAPPED:
        limits = holder.payer(TWENTY.accounts).limits
        left = {limit: limit.cap - sum(row.counts(limit) for row in rows) for limit in limits}
        if all(left[limit] > unusable(limit, last_of(holder.name)) for limit in limits):
            found.append(f"{holder.name}: {left}")
    return found


def missums(url: str, rows: Sequence[Booked], now: float) -> list[str]:
    """Where the sums that the ledger decides by are not those of its rows; what is leased is not to be any more."""
    subjects = {row.key for row in rows} | {f"account:{row.account}" for row in rows}
    limits = [Limit(subject, unit, _ANY) for subject in sorted(subjects) for unit in ("tokens", "requests", "usd")]
    store = UsageStore(url)
    try:
        found = store.spending(limits, now)
    finally:
        store.close()
    sums = {limit: sum(row.counts(limit) for row in rows) for limit in limits}
    return [str(each) for each in found if (each.spent, each.leased) != (sums[each.limit], 0)]
