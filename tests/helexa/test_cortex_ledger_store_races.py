"""Gateways that share a limit from threads of their own: together they never use more than its cap, nor less."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from ledger_stores import NOW, row, spent, tokens
from postgres import Server, serving

from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Want
from helexa.cortex.ledger.store import UsageStore

USED = 150
"""Tokens of a row."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], UsageStore]]:
    url = f"sqlite:///{tmp_path}/helexa.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("server").empty()
    found: list[UsageStore] = []

    def make() -> UsageStore:
        found.append(UsageStore(url))
        return found[-1]

    yield make
    for store in found:
        store.close()


def use_up(store: UsageStore, gateway: str, limits: tuple[Limit, ...], wish: int | None) -> int:
    """Lease, use and book until there is nothing left; how many rows that made."""
    held = dict.fromkeys((limit.id for limit in limits), 0)
    made = 0
    store.open(gateway, (), NOW)
    while True:
        wants = [Want(limit, held[limit.id], USED - held[limit.id], wish) for limit in limits if held[limit.id] < USED]
        leased = store.lease(gateway, wants, NOW).leased
        held |= {each.limit.id: each.held for each in leased}
        if min(held.values()) < USED:
            return made
        can = min(held.values()) // USED
        rows = [row(f"{gateway}-{made + n}") for n in range(can)]
        held = {limit: amount - can * USED for limit, amount in held.items()}
        made += can
        flushed = store.flush(gateway, rows, held, NOW)
        assert flushed == {limit: amount for limit, amount in held.items() if amount}


@pytest.mark.parametrize("wish", [USED, 700, None], ids=["no more than needed", "some more", "what there is"])
def test_two_gateways_use_up_a_limit_to_the_last_row(new_store: Callable[[], UsageStore], wish: int | None) -> None:
    limits = tokens(40 * USED), tokens(35 * USED, 60.0, "account:team"), tokens(100 * USED, 3600.0)
    over, ended, seen = Event(), Event(), new_store()

    def watch() -> None:
        while not ended.is_set():
            if any(sum(spent(seen, limit)) > limit.cap for limit in limits):
                over.set()

    with ThreadPoolExecutor(3) as pool:
        watcher = pool.submit(watch)
        users = [pool.submit(use_up, new_store(), name, limits, wish) for name in ("g1", "g2")]
        try:
            made = [user.result() for user in users]
        finally:
            ended.set()
        watcher.result()
    left = 35 - sum(made)
    assert not over.is_set()
    assert spent(seen, limits[1])[0] == sum(made) * USED
    assert left == 0 or spent(seen, limits[1])[1] > 0, "what is left over is not enough without what somebody holds"
    for name in ("g1", "g2"):
        seen.close_gateway(name)
    assert use_up(seen, "g3", limits, None) == left


def test_rows_that_two_gateways_book_at_once_are_booked_once(new_store: Callable[[], UsageStore]) -> None:
    """One replays what the other was thought dead with."""
    rows = [row(str(n)) for n in range(50)]
    stores = [new_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: stores[n % 4].flush(f"g{n}", rows, {}, NOW), range(12)))
    assert spent(stores[0], Limit("key:a", "requests", 0)) == (50, 0)


def test_a_window_that_is_first_asked_for_while_rows_come_in_knows_them_all(
    new_store: Callable[[], UsageStore],
) -> None:
    one, two = new_store(), new_store()
    limits = [tokens(10**9, 60.0 * n) for n in range(1, 30)]
    with ThreadPoolExecutor(2) as pool:
        booking = [pool.submit(one.flush, "g1", [row(str(n))], {}, NOW) for n in range(60)]
        asking = pool.submit(lambda: [two.lease("g2", [Want(limit, 0, 1, 1)], NOW) for limit in limits])
        for job in [*booking, asking]:
            job.result()
    assert {spent(one, limit) for limit in limits} == {(60 * USED, 1)}
