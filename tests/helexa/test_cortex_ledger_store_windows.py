"""Windows that roll: what counts, until when, and windows that are asked for when much was used already."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledger_stores import HOUR, NOW, lease, row, spent, tokens
from postgres import Server, serving

from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Want
from helexa.cortex.ledger.store import UsageStore

DAY = 86_400.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/helexa.db"
    return request.getfixturevalue("server").empty()


@pytest.fixture
def store(url: str) -> Iterator[UsageStore]:
    found = UsageStore(url)
    yield found
    found.close()


def table(store: UsageStore, statement: str) -> list[tuple[object, ...]]:
    with store._database.transaction(reading=True) as connection:
        return [tuple(each) for each in connection.exec_driver_sql(statement)]


@pytest.mark.parametrize("tracked", [True, False], ids=["window kept", "window unknown"])
def test_use_counts_for_a_period_and_at_most_one_bucket_more(store: UsageStore, *, tracked: bool) -> None:
    limit = tokens(1000, 600.0)  # buckets of 10 s; NOW lies at the beginning of one
    if tracked:
        lease(store, limit, 1, 1)
        store.close_gateway("g1")
    store.flush("g1", [row("1", at=NOW), row("2", at=NOW + 9.999), row("3", at=NOW + 10, prompt=0)], {}, NOW + 10)
    assert spent(store, limit, NOW + 10) == (350, 0)
    assert spent(store, limit, NOW + 609.9) == (350, 0), "the last of the first bucket is just that old"
    assert spent(store, limit, NOW + 610) == (50, 0)
    assert spent(store, limit, NOW + 620) == (0, 0)


def test_it_is_told_when_how_much_is_free_again(store: UsageStore) -> None:
    limit = tokens(300, 60.0)
    lease(store, limit, 1, 300)
    store.flush("g1", [row("1", at=NOW), row("2", at=NOW + 5.5)], {limit.id: 0}, NOW + 6)
    found = lease(store, limit, 10, now=NOW + 6)
    assert (found.granted, found.frees) == (0, ((NOW + 61, 150), (NOW + 66, 150)))
    assert lease(store, limit, 10, now=NOW + 60.9).granted == 0
    assert lease(store, limit, 10, now=NOW + 61).granted == 150
    assert lease(store, tokens(300), 1).frees == (), "what was ever used counts for ever"


def test_a_row_that_was_written_late_counts_from_when_it_was_used(store: UsageStore) -> None:
    limit = tokens(1000, HOUR)
    lease(store, limit, 1, 1000)
    store.flush("g1", [row(at=NOW - HOUR + 120)], {limit.id: 0}, NOW)
    assert spent(store, limit, NOW) == (150, 0)
    assert spent(store, limit, NOW + 181) == (0, 0)


@pytest.mark.parametrize("subject", ["key:a", "account:team"])
def test_a_window_that_is_new_knows_what_was_used_before(store: UsageStore, subject: str) -> None:
    rows = [row(str(n), at=NOW - n * 1000) for n in range(200)]
    store.flush("g1", [*rows, row("x", key="b", account="other")], {}, NOW)
    for unit, each in (("tokens", 150), ("requests", 1), ("usd", 7000)):
        limit = Limit(subject, unit, 10**9, DAY)
        before = spent(store, limit, NOW)
        assert before == (88 * each, 0), "86,400 seconds, and the bucket of 1,440 that they began in"
        assert lease(store, limit, 1, 1).spent == before[0]
        assert spent(store, limit, NOW) == (before[0], 1)
    store.flush("g1", [row("later", at=NOW)], {}, NOW)
    assert spent(store, Limit(subject, "tokens", 1, DAY), NOW)[0] == 89 * 150


def test_a_longer_window_of_the_same_buckets_is_made_of_what_both_know(store: UsageStore) -> None:
    store.flush("g1", [row(str(n), at=NOW - n) for n in range(0, 200, 2)], {}, NOW)
    short, long = tokens(10**6, 61.0), tokens(10**6, 120.0)
    assert short.width == long.width == 2
    assert lease(store, short, 1, 1).spent == 32 * 150
    assert lease(store, long, 1, 1).spent == 61 * 150
    store.flush("g1", [row("more", at=NOW)], {}, NOW)
    assert spent(store, short)[0] == 33 * 150
    assert spent(store, long)[0] == 62 * 150


def test_sums_outlive_the_rows_that_they_were_made_of(store: UsageStore) -> None:
    limit = tokens(10**6, DAY)
    lease(store, limit, 1, 1)
    store.flush("g1", [row(str(n), at=NOW - n * 600) for n in range(100)], {}, NOW)
    while store.prune(NOW, 3 * HOUR):
        pass
    assert store.usage(0, NOW + 1, "key", 5)[0].requests == 19
    assert spent(store, limit)[0] == spent(store, tokens(0))[0] == 100 * 150
    longer = tokens(10**6, DAY + 30)
    assert longer.width != limit.width
    assert lease(store, longer, 1, 1).spent == 19 * 150, "no better is known"


def test_buckets_that_count_no_more_are_forgotten(store: UsageStore) -> None:
    limit, other = tokens(10**6, 60.0), tokens(10**6, HOUR, "account:team")
    store.lease("g1", [Want(limit, 0, 1, 1), Want(other, 0, 1, 1)], NOW)
    store.flush("g1", [row("1", at=NOW), row("2", at=NOW + 50)], {}, NOW + 50)
    store.prune(NOW + 61, math.inf)
    kept = "SELECT subject, width, start FROM helexa_spend WHERE width > 0 ORDER BY subject"
    assert table(store, kept) == [
        ("account:team", 60, int(NOW) - 20),
        ("account:team", 60, int(NOW) + 40),
        ("key:a", 1, int(NOW) + 50),
    ]
    store.prune(NOW + 2 * HOUR, math.inf)
    assert table(store, kept) == []
    assert spent(store, tokens(0), NOW + 2 * HOUR)[0] == 300


def test_a_window_that_nobody_asks_for_is_forgotten_and_made_anew_on_demand(store: UsageStore) -> None:
    limit = tokens(10**6, DAY)
    lease(store, limit, 1, 1)
    store.close_gateway("g1")
    later = NOW + 9 * DAY
    store.flush("g1", [row(at=later)], {}, later)
    windows = "SELECT subject, width FROM helexa_windows"
    store.prune(later, DAY)
    assert table(store, windows) == [("key:a", 1440)], "its rows are not kept for long enough"
    store.prune(later, 30 * DAY)
    assert table(store, windows) == []
    assert spent(store, limit, later) == (150, 0)
    store.flush("g1", [row("2", at=later)], {}, later)
    assert lease(store, limit, 1, 1, now=later).spent == 300


def test_a_window_that_is_asked_for_stays(store: UsageStore) -> None:
    limit = tokens(10**6, 60.0)
    for day in range(20):
        lease(store, limit, 1, 1, now=NOW + day * DAY)
        store.prune(NOW + day * DAY, math.inf)
    assert table(store, "SELECT asked FROM helexa_windows") != []
    assert float(str(table(store, "SELECT asked FROM helexa_windows")[0][0])) > NOW + 17 * DAY


def test_limits_that_differ_in_unit_or_period_are_leased_apart(store: UsageStore) -> None:
    limits = [
        tokens(100),
        tokens(100, 61.0),
        tokens(100, 62.0),
        Limit("key:a", "requests", 100),
        tokens(100, subject="key:b"),
    ]
    found = store.lease("g1", [Want(limit, 0, n, n) for n, limit in enumerate(limits, start=1)], NOW)
    assert [each.limit for each in found.leased] == limits
    assert [spent(store, limit)[1] for limit in limits] == [1, 2, 3, 4, 5]


@pytest.fixture
def large(url: str) -> str:
    """A ledger of 100,000 rows, of the last 1,000 hours."""
    store = UsageStore(url)
    for first in range(0, 100_000, 20_000):
        rows = [row(f"g0-{n:09}", at=NOW - n * 36.0, key=f"k{n % 50}") for n in range(first, first + 20_000)]
        store.flush("g0", rows, {}, NOW)
    store.close()
    return url


def counting(rows: range) -> int:
    """How many of these rows of the ledger above lie in buckets that count in a window of 40 days."""
    width = 40 * 1440
    return sum((int(NOW) - n * 36) // width * width + width + 40 * DAY > NOW for n in rows)


def test_a_start_on_a_large_ledger_takes_no_time(large: str, new: Callable[[str], UsageStore]) -> None:
    limits = [
        tokens(10**12, 40 * DAY, "key:k1"),
        tokens(10**12, 40 * DAY, "account:team"),
        tokens(10**12, DAY, "key:z"),
    ]
    begun = time.perf_counter()
    store = new(large)
    store.open("g1", [row("g1-1", at=NOW)], NOW)
    found = store.lease("g1", [Want(limit, 0, 1, 1) for limit in limits], NOW)
    took = time.perf_counter() - begun
    expected = [counting(range(1, 100_000, 50)), counting(range(100_000)) + 1, 0]
    assert [each.spent for each in found.leased] == [150 * count for count in expected]
    assert took < 2.0


@pytest.fixture
def new() -> Iterator[Callable[[str], UsageStore]]:
    found: list[UsageStore] = []

    def make(url: str) -> UsageStore:
        found.append(UsageStore(url))
        return found[-1]

    yield make
    for store in found:
        store.close()
