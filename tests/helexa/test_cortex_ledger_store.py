"""What was used, and leases of what is left: the same promises of SQLite and of a real PostgreSQL."""

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve
from ledger_stores import HOUR, NOW, lease, row, spent, tokens
from postgres import Server, serving

from helexa import database
from helexa.cortex.access.keystore import KeyStore
from helexa.cortex.ledger import store as store_module
from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Leased, Sums, Want
from helexa.cortex.ledger.store import DEAD_SECONDS, LATELY_SECONDS, UsageStore
from helexa.database import StoreError, StoreSettingError


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
def new_store(url: str) -> Iterator[Callable[[], UsageStore]]:
    found: list[UsageStore] = []

    def make() -> UsageStore:
        found.append(UsageStore(url))
        return found[-1]

    yield make
    for store in found:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], UsageStore]) -> UsageStore:
    return new_store()


def test_what_is_leased_is_kept_from_others_until_it_comes_back(new_store: Callable[[], UsageStore]) -> None:
    one, two, limit = new_store(), new_store(), tokens(1000)
    assert lease(one, limit, 10, 600) == Leased(limit, 600, 600, 0, 0, 400)
    assert lease(two, limit, 500, 500, gateway="g2") == Leased(limit, 0, 0, 0, 600, 400)
    assert lease(two, limit, 10, 500, gateway="g2") == Leased(limit, 400, 400, 0, 600, 0)
    assert one.flush("g1", (), {limit.id: 100}, NOW) == {limit.id: 100}
    assert lease(two, limit, 1, 5, gateway="g2", have=400) == Leased(limit, 405, 5, 0, 100, 495)
    assert spent(one, limit) == (0, 505)


def test_what_rows_used_is_spent_in_the_same_moment_as_it_is_leased_no_more(store: UsageStore) -> None:
    limits = [
        tokens(1000),
        Limit("key:a", "requests", 5),
        Limit("key:a", "usd", 10_000),
        tokens(800, subject="account:team"),
        tokens(300, 60.0),
    ]
    store.lease("g1", [Want(limit, 0, 1, limit.cap) for limit in limits], NOW)
    keep = {limit.id: limit.cap - use for limit, use in zip(limits, (150, 1, 7000, 150, 150), strict=True)}
    assert store.flush("g1", [row()], keep, NOW) == keep
    assert [spent(store, limit) for limit in limits] == [(150, 850), (1, 4), (7000, 3000), (150, 650), (150, 150)]
    assert spent(store, tokens(1, subject="key:b")) == (0, 0)


def test_a_row_is_booked_once_however_often_it_comes(new_store: Callable[[], UsageStore]) -> None:
    store = new_store()
    first, second, third = (row(name) for name in ("r1", "r2", "r3"))
    store.flush("g1", [first, first], {}, NOW)
    store.flush("g1", [second, first], {}, NOW)
    new_store().open("g2", [second, third, third], NOW)
    assert spent(store, tokens(0)) == (450, 0)
    assert spent(store, Limit("account:team", "requests", 0)) == (3, 0)


def test_a_flush_that_is_repeated_changes_nothing_more(store: UsageStore) -> None:
    limit = tokens(1000)
    lease(store, limit, 1, 1000)
    for _ in range(3):
        assert store.flush("g1", [row()], {limit.id: 850}, NOW) == {limit.id: 850}
    assert spent(store, limit) == (150, 850)


def test_a_lease_whose_answer_got_lost_is_not_held_against_who_asks_again(store: UsageStore) -> None:
    limit = tokens(1000)
    lease(store, limit, 100, 1000)
    assert lease(store, limit, 100, 1000) == Leased(limit, 1000, 1000, 0, 0, 0)


def test_a_flush_raises_no_lease_and_none_below_nothing(store: UsageStore) -> None:
    limit, other = tokens(1000), tokens(1000, 60.0)
    lease(store, limit, 1, 100)
    assert store.flush("g1", (), {limit.id: 500, other.id: 500}, NOW) == {limit.id: 100}
    assert store.flush("g1", (), {limit.id: -5}, NOW) == {}
    assert spent(store, limit) == (0, 0)


def test_use_beyond_the_cap_is_booked_and_leaves_nothing(store: UsageStore) -> None:
    limit = tokens(200)
    lease(store, limit, 1, 200)
    store.flush("g1", [row(prompt=500)], {limit.id: 0}, NOW)
    assert lease(store, limit, 1) == Leased(limit, 0, 0, 550, 0, 0)
    assert lease(store, evolve(limit, cap=551), 1) == Leased(evolve(limit, cap=551), 1, 1, 550, 0, 0)


def test_a_cap_that_was_lowered_takes_no_lease_away(store: UsageStore) -> None:
    limit = tokens(1000)
    lease(store, limit, 1, 600)
    lowered = tokens(100)
    assert lease(store, lowered, 1, have=600) == Leased(lowered, 600, 0, 0, 0, 0)
    assert lease(store, lowered, 1, gateway="g2") == Leased(lowered, 0, 0, 0, 600, 0)


def test_who_is_alone_gets_all_and_others_get_a_part(new_store: Callable[[], UsageStore]) -> None:
    store, limit = new_store(), tokens(1000)
    assert lease(store, limit, 100).granted == 1000
    store.flush("g1", (), {limit.id: 0}, NOW)
    assert lease(store, limit, 200, gateway="g2") == Leased(limit, 300, 300, 0, 0, 700)
    later = NOW + LATELY_SECONDS + 1
    assert lease(store, limit, 10, gateway="g2", have=300, now=later) == Leased(limit, 1000, 700, 0, 0, 0)
    found = store.lease("g1", [Want(limit, 0, 1)], later)
    assert not found.alone
    assert found.leased[0].others == 1000


def test_whoever_flushes_nothing_still_shows_that_it_lives(store: UsageStore) -> None:
    store.lease("g2", [], NOW)
    store.flush("g1", (), {}, NOW + LATELY_SECONDS)
    assert not store.lease("g2", [], NOW + LATELY_SECONDS + 1).alone
    assert store.lease("g2", [], NOW + 3 * LATELY_SECONDS).alone


def test_a_start_drops_the_leases_of_before_and_books_what_was_left(new_store: Callable[[], UsageStore]) -> None:
    store, limit = new_store(), tokens(1000)
    lease(store, limit, 1, 300)
    lease(store, limit, 1, 300, gateway="g2")
    new_store().open("g1", [row()], NOW)
    assert spent(store, limit) == (150, 300)


def test_a_gateway_that_ends_gives_everything_back_and_is_no_company(store: UsageStore) -> None:
    limit, other = tokens(1000), tokens(1000, subject="key:b")
    store.lease("g1", [Want(limit, 0, 1, 5), Want(other, 0, 1, 5)], NOW)
    lease(store, limit, 1, 7, gateway="g2")
    store.close_gateway("g1")
    assert [spent(store, limit), spent(store, other)] == [(0, 7), (0, 0)]
    assert store.lease("g2", [], NOW).alone


def test_a_dead_gateway_loses_its_leases_and_gets_back_what_nobody_took(store: UsageStore) -> None:
    limit = tokens(1000)
    lease(store, limit, 1, 600)
    assert store.lease("g2", [Want(limit, 0, 500)], NOW + DEAD_SECONDS).dropped == ()
    found = store.lease("g2", [Want(limit, 0, 500, 700)], NOW + DEAD_SECONDS + 1)
    assert found.dropped == ("g1",)
    assert found.leased == (Leased(limit, 700, 700, 0, 0, 300),)
    assert store.flush("g1", (), {limit.id: 600}, NOW + DEAD_SECONDS + 1) == {}, "a flush brings nothing back"
    again = lease(store, limit, 0, 0, have=600, now=NOW + DEAD_SECONDS + 2)
    assert again == Leased(limit, 300, 0, 0, 700, 0), "it was not dead, but others have most of what it had"
    assert spent(store, limit) == (0, 1000)


def test_the_gateway_that_asks_is_not_dead(store: UsageStore) -> None:
    limit = tokens(1000)
    lease(store, limit, 1, 600)
    found = store.lease("g1", [Want(limit, 600, 1, 1)], NOW + 5 * DEAD_SECONDS)
    assert found.dropped == ()
    assert found.leased[0].held == 601


def test_sums_by_key_account_model_and_node(store: UsageStore) -> None:
    rows = [
        row("1"),
        row("2", at=NOW + 1, model="big", node="provider:x", cost=10_000),
        row("3", key="b", account="other", cached=0),
        row("4", key="c", name="name of a", prompt=1, completion=1, cost=0),
        row("before", at=NOW - 1),
        row("after", at=NOW + 2),
    ]
    store.flush("g1", rows, {}, NOW + 2)

    def sums(by: str, most: int = 10) -> tuple[Sums, ...]:
        return store.usage(NOW, NOW + 2, by, most)  # type: ignore[arg-type]

    both = (2, 200, 60, 100, 17_000)
    assert sums("key") == (
        Sums("name of a", "key:a", *both),
        Sums("name of b", "key:b", 1, 100, 0, 50, 7000),
        Sums("name of a", "key:c", 1, 1, 30, 1, 0),
    )
    assert sums("key", 1) == sums("key")[:1]
    assert [(each.name, each.subject, each.cost) for each in sums("account")] == [
        ("team", "account:team", 17_000),
        ("other", "account:other", 7000),
    ]
    assert [(each.name, each.subject, each.cost) for each in sums("model")] == [("m", "", 14_000), ("big", "", 10_000)]
    assert [each.name for each in sums("node")] == ["n1", "provider:x"]
    assert store.usage(NOW + 50, NOW + 60, "key", 10) == ()


def test_rows_are_forgotten_in_parts_and_sums_for_ever_are_not(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PRUNED_AT_ONCE", 2)
    store.flush("g1", [row(str(n), at=NOW - n) for n in range(6)], {}, NOW)
    assert store.prune(NOW, math.inf) == 0
    assert [store.prune(NOW, 2.0) for _ in range(3)] == [2, 1, 0]
    assert store.usage(0, NOW + 1, "key", 1)[0].requests == 3
    assert spent(store, tokens(0)) == (900, 0)


HOSTILE = ["\0", "a\0b", "\ud800", "x" * 100_000, "'); DROP TABLE helexa_usage; --", "%s ? :name", "\U0001f600" * 600]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_keeps_a_row_from_being_booked(store: UsageStore, text: str) -> None:
    store.flush("g1", [row("1", model=text, route=text, node=text, name=text, request_id=text), row("2")], {}, NOW)
    assert spent(store, Limit("key:a", "requests", 0)) == (2, 0)
    kept = [each.name for each in store.usage(0, NOW + 1, "model", 5)]
    assert len(kept) == 2
    assert max(map(len, kept)) <= 500


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -1, -(2**70)])
def test_no_number_keeps_a_row_from_being_booked(store: UsageStore, number: int) -> None:
    wrong = [row(str(n), prompt=number, completion=number, cached=number, cost=number) for n in range(3000)]
    store.flush("g1", wrong, {}, NOW)
    store.flush("g1", [row("good")], {}, NOW)
    for unit, least in (("tokens", 150), ("usd", 7000), ("requests", 3001)):
        assert least <= spent(store, Limit("key:a", unit, 1))[0] <= 2**63 - 1
        assert lease(store, Limit("key:a", unit, 2**63 - 1, HOUR), 0, 1).granted in (0, 1)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -5.0, 0.0, NOW + 1e9])
def test_a_time_that_cannot_be_is_now(store: UsageStore, at: float) -> None:
    store.flush("g1", [row(at=at)], {}, NOW)
    limit = tokens(0, 60.0)
    assert spent(store, limit) == (150, 0)
    assert spent(store, limit, NOW + 62) == (0, 0)


def test_amounts_as_large_as_a_column(store: UsageStore) -> None:
    limit = tokens(2**63 - 1)
    assert lease(store, limit, 2**63 - 1).held == 2**63 - 1
    assert lease(store, limit, 1, gateway="g2") == Leased(limit, 0, 0, 0, 2**63 - 1, 0)
    assert store.flush("g1", [row()], {limit.id: 2**63 - 151}, NOW) == {limit.id: 2**63 - 151}


def test_keys_and_usage_share_a_database(store: UsageStore, url: str) -> None:
    keys = KeyStore(url)
    assert keys.look(None) is not None
    store.flush("g1", [row()], {}, NOW)
    assert keys.look(0) is None
    keys.close()


def test_a_wrong_url_is_said_at_once() -> None:
    with pytest.raises(StoreSettingError, match=r"^cortex.database is not the URL of a PostgreSQL server\.$"):
        UsageStore("postgresql://u:secret@host:port/db")


def test_a_locked_database_is_a_sentence_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.01)
    store = UsageStore(f"sqlite:///{tmp_path}/x.db")
    store.flush("g1", [row()], {}, NOW)
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.flush("g1", [row("r2")], {}, NOW)
    assert spent(store, tokens(0)) == (150, 0), "readers do not wait"
    holder.execute("ROLLBACK")
    holder.close()
    store.flush("g1", [row("r2")], {}, NOW)
    assert spent(store, tokens(0)) == (300, 0)
    store.close()


def test_a_flush_that_fails_in_the_middle_books_nothing(store: UsageStore, url: str) -> None:
    limit = tokens(1000)
    lease(store, limit, 1, 1000)
    with store._database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE helexa_gateways RENAME TO elsewhere")
    with pytest.raises(StoreError, match="helexa_gateways") as raised:
        store.flush("g1", [row(name="secret name")], {limit.id: 850}, NOW)
    assert "secret" not in str(raised.value) + repr(raised.value.__cause__)
    with store._database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO helexa_gateways")
    assert spent(store, limit) == (0, 1000)
    store.flush("g1", [row()], {limit.id: 850}, NOW)
    assert spent(store, limit) == (150, 850)


def test_a_server_that_comes_and_goes_is_a_sentence_in_between(server: Server) -> None:
    store = UsageStore(server.empty())
    store.flush("g1", [row()], {}, NOW)
    server.control("stop", "-m", "immediate")
    try:
        with pytest.raises(StoreError, match="OperationalError"):
            store.flush("g1", [row("r2")], {}, NOW)
    finally:
        server.control("start")
    store.flush("g1", [row(), row("r2")], {}, NOW)
    assert spent(store, tokens(0)) == (300, 0)
    store.close()
