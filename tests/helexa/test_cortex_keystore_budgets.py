"""What keys and accounts may use, as it is kept: the same of SQLite and of a real PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from postgres import Server, serving

from config import Account, Budget
from helexa.cortex.access import keystore
from helexa.cortex.access.keys import Record
from helexa.cortex.access.keystore import KeyStore, NoSuchAccountError, NoSuchKeyError, Snapshot
from helexa.database import Component, Database, StoreError

RECORD = Record("1", "ab" * 32, "ci", "team/a", ("inference",), (), {}, "wxyz", 1000.25)
BUDGETS = (Budget(tokens=2**63 - 1, per=86_400.0), Budget(usd=0.1), Budget(requests=0, per=1.5))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/keys.db"
    return request.getfixturevalue("server").empty()


@pytest.fixture
def new_store(url: str) -> Iterator[Callable[[], KeyStore]]:
    found: list[KeyStore] = []

    def make() -> KeyStore:
        found.append(KeyStore(url))
        return found[-1]

    yield make
    for store in found:
        store.close()


def seen(store: KeyStore) -> Snapshot:
    found = store.look(None)
    assert found is not None
    return found


def change(url: str, statement: str, *values: str) -> None:
    """What somebody does by hand."""
    database = Database(url, Component("keys", keystore._MIGRATIONS))
    with closing(database), database.transaction() as connection:
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        connection.exec_driver_sql(statement.replace("?", mark), values)


def test_each_change_of_a_key_is_that_alone(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    store.insert(RECORD)
    expected = RECORD
    changes = {
        "budgets": BUDGETS,
        "weight": 5,
        "max_in_flight": 2,
        "scopes": ("fleet:read", "inference"),
        "models": ("m/*", "%s ?"),
        "labels": {"who": "'; DROP TABLE helexa_keys --"},
    }
    for revision, (name, value) in enumerate(changes.items(), start=2):
        assert store.alter("1", {name: value}) == revision
        expected = evolve(expected, **{name: value})
        assert seen(new_store()).records == (expected,)
    assert store.alter("1", {"max_in_flight": None, "budgets": (), "weight": 1}) == 8
    assert seen(store).records == (evolve(expected, max_in_flight=None, budgets=(), weight=1),)


def test_changes_of_different_things_at_once_are_all_kept(new_store: Callable[[], KeyStore]) -> None:
    one, two = new_store(), new_store()
    one.insert(RECORD)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(one.alter, "1", {"weight": n}) for n in range(1, 6)]
        jobs += [pool.submit(two.alter, "1", {"max_in_flight": n}) for n in range(1, 6)]
    assert sorted(job.result() for job in jobs) == list(range(2, 12))
    kept = seen(two).records[0]
    assert 1 <= kept.weight <= 5
    assert kept.max_in_flight in range(1, 6)


@pytest.mark.parametrize("identity", ["1", "2", "' OR '1'='1"])
def test_what_is_revoked_or_unknown_is_not_altered(new_store: Callable[[], KeyStore], identity: str) -> None:
    store = new_store()
    store.insert(RECORD)
    store.revoke("1", 5.0)
    before = seen(store)
    with pytest.raises(NoSuchKeyError):
        store.alter(identity, {"weight": 2})
    assert seen(store) == before


@pytest.mark.parametrize("name", ["id", "hash", "name", "account", "revoked", "created"])
def test_what_makes_a_key_what_it_is_cannot_be_altered(new_store: Callable[[], KeyStore], name: str) -> None:
    store = new_store()
    store.insert(RECORD)
    with pytest.raises(AssertionError):
        store.alter("1", {name: "x"})


def test_accounts_come_back_as_they_were_in_the_order_of_their_names(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    assert store.set_account("team/b", BUDGETS) == 1
    assert store.set_account("team/a", [Budget(requests=5)]) == 2
    assert store.set_account("team/b", iter(BUDGETS[1:])) == 3
    assert store.set_account("none", ()) == 4
    expected = (Account("none"), Account("team/a", (Budget(requests=5),)), Account("team/b", BUDGETS[1:]))
    assert seen(new_store()) == Snapshot(4, (), expected)
    assert store.look(4) is None


def test_an_account_that_is_dropped_is_gone(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    store.set_account("a", BUDGETS)
    assert store.drop_account("a") == 2
    assert seen(store) == Snapshot(2, ())
    for name in ("a", "' OR '1'='1", "%"):
        with pytest.raises(NoSuchAccountError):
            store.drop_account(name)
    assert store.look(2) is None, "a refusal changes nothing"


def test_gateways_that_set_one_account_at_once_all_succeed(new_store: Callable[[], KeyStore]) -> None:
    stores = [new_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(lambda n: stores[n % 4].set_account("a", [Budget(tokens=n)]), range(24)))
    assert sorted(revisions) == list(range(1, 25))
    (account,) = seen(stores[0]).accounts
    assert account == Account("a", (Budget(tokens=revisions.index(24)),)), "the last one counts"


def test_keys_of_the_first_schema_have_no_budgets(
    new_store: Callable[[], KeyStore], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(keystore, "_MIGRATIONS", keystore._MIGRATIONS[:1])
        row = (
            """INSERT INTO helexa_keys VALUES ('1', ?, 'ci', 'team/a', '["inference"]', '[]', '{}', 'wxyz', 1000.25)"""
        )
        columns = "id, hash, name, account, scopes, models, labels, hint, created"
        change(url, row.replace("helexa_keys", f"helexa_keys ({columns})"), "ab" * 32)
    assert seen(new_store()) == Snapshot(0, (RECORD,))


@pytest.mark.parametrize(
    "text",
    ["{", "null", "3", '["x"]', '[{"tokens": -1}]', '[{"tokens": 1, "usd": 2}]', '[{"pounds": 1}]', '[{"per": 5}]'],
)
def test_budgets_that_somebody_broke_by_hand_are_named(new_store: Callable[[], KeyStore], url: str, text: str) -> None:
    store = new_store()
    store.insert(RECORD)
    store.set_account("team", ())
    change(url, "UPDATE helexa_accounts SET budgets = ?", text)
    with pytest.raises(StoreError, match="the row of the account 'team' is not as helexa writes it"):
        store.look(None)
    change(url, "UPDATE helexa_keys SET budgets = ?", text)
    with pytest.raises(StoreError, match="the row of the key 'ci' is not as helexa writes it"):
        store.look(None)


def test_an_error_shows_no_row_that_was_refused(new_store: Callable[[], KeyStore], url: str) -> None:
    new_store().set_account("a name", ())
    for values in ("'a name', 'x'", "'other name', NULL"):
        with pytest.raises(StoreError, match=r"(?i)constraint") as raised:
            change(url, f"INSERT INTO helexa_accounts VALUES ({values})")
        assert " name" not in str(raised.value)
