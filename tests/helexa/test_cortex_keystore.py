"""Keys in a database: the same promises of SQLite and of a real PostgreSQL, and what each can do wrong."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from postgres import Server, serving

from config import Budget
from helexa import database
from helexa.cortex.access import keystore
from helexa.cortex.access.keys import Record
from helexa.cortex.access.keystore import KeyStore, NameTakenError, NoSuchKeyError
from helexa.database import StoreError, StoreSettingError

RECORD = Record(
    "1",
    "ab" * 32,
    "ci",
    "team/a",
    ("inference", "fleet:read"),
    ("m/*", "[x]?"),
    {"who": 'Ünicode "quoted" \\ 100%', "%s": ":name"},
    "wxyz",
    1000.25,
    expires=1e12,
    budgets=(Budget(tokens=2**63 - 1, per=86_400.0), Budget(usd=0.1), Budget(requests=0, per=1.5)),
    weight=7,
    max_in_flight=3,
)


LATER = r"^its tables of keys have schema 3 of a later helexa, and this one knows 2 at most$"


def another(number: int, name: str) -> Record:
    return evolve(RECORD, id=str(number), hash=f"{number:064x}", name=name, created=1000.0 + number)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def stores() -> Iterator[list[KeyStore]]:
    """Stores to be closed at the end."""
    found: list[KeyStore] = []
    yield found
    for store in found:
        store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path, stores: list[KeyStore]) -> Callable[[], KeyStore]:
    """Makes stores of one database, as several gateways would have them. It is empty at first."""
    url = f"sqlite:///{tmp_path}/keys.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("server").empty()

    def make() -> KeyStore:
        stores.append(KeyStore(url))
        return stores[-1]

    return make


def records(store: KeyStore) -> tuple[Record, ...]:
    found = store.look(None)
    assert found is not None
    return found.records


def test_what_is_kept_comes_back_as_it_was(new_store: Callable[[], KeyStore]) -> None:
    first = new_store()
    assert first.look(None) == keystore.Snapshot(0, ())
    assert first.insert(RECORD) == 1
    other = evolve(RECORD, id="0", hash="c" * 64, name="b", labels={}, models=(), expires=None, created=1.0)
    other = evolve(other, budgets=(), weight=1, max_in_flight=None)
    assert new_store().insert(other) == 2
    assert new_store().look(0) == keystore.Snapshot(2, (other, RECORD)), "the oldest first"


def test_without_a_change_nothing_is_read(new_store: Callable[[], KeyStore]) -> None:
    one, two = new_store(), new_store()
    revision = one.insert(RECORD)
    assert two.look(revision) is None
    one.revoke("1", 5.0)
    changed = two.look(revision)
    assert changed is not None
    assert changed.revision == revision + 1


def test_a_name_is_free_again_once_its_key_is_revoked(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    store.insert(RECORD)
    with pytest.raises(NameTakenError):
        store.insert(another(2, "ci"))
    assert store.look(1) is None, "a refusal changes nothing"
    store.revoke("1", 5.0)
    store.insert(another(2, "ci"))
    store.revoke("2", 6.0)
    store.insert(another(3, "ci"))
    assert {record.id: record.revoked for record in records(store)} == {"1": 5.0, "2": 6.0, "3": None}


def test_an_exchange_leaves_all_but_the_key_as_it_was(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    store.insert(RECORD)
    store.exchange("1", "cd" * 32, "abcd", 7.5)
    assert records(store) == (evolve(RECORD, hash="cd" * 32, hint="abcd", rotated=7.5),)


@pytest.mark.parametrize("identity", ["1", "2", "' OR '1'='1", "%"])
def test_what_is_revoked_or_unknown_cannot_be_changed(new_store: Callable[[], KeyStore], identity: str) -> None:
    store = new_store()
    store.insert(RECORD)
    store.insert(another(3, "other"))
    store.revoke("1", 5.0)
    before = store.look(None)
    with pytest.raises(NoSuchKeyError):
        store.exchange(identity, "d" * 64, "x", 6.0)
    with pytest.raises(NoSuchKeyError):
        store.revoke(identity, 6.0)
    assert store.look(None) == before


def test_gateways_that_start_together_make_one_schema(new_store: Callable[[], KeyStore]) -> None:
    together = [new_store() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda store: store.look(None), together))
    assert set(found) == {keystore.Snapshot(0, ())}


def test_of_gateways_that_want_one_name_one_gets_it(new_store: Callable[[], KeyStore]) -> None:
    together = [new_store() for _ in range(6)]

    def insert(number: int) -> bool:
        try:
            together[number].insert(another(number, "admin"))
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(insert, range(6))) == 1
    assert together[0].look(None).revision == 1  # type: ignore[union-attr]


def test_no_change_of_many_at_once_is_lost(new_store: Callable[[], KeyStore]) -> None:
    together = [new_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(lambda n: together[n % 4].insert(another(n, f"k{n}")), range(24)))
    assert sorted(revisions) == list(range(1, 25))
    assert len(records(together[0])) == 24


def test_a_later_schema_is_left_alone(new_store: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*keystore._MIGRATIONS, ("ALTER TABLE helexa_keys ADD COLUMN later TEXT",))
    with monkeypatch.context() as patch:
        patch.setattr(keystore, "_MIGRATIONS", later)
        new_store().insert(RECORD)
    with pytest.raises(StoreError, match=LATER):
        new_store().look(None)


def test_an_earlier_schema_is_brought_up_to_date_with_its_keys(
    new_store: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store().insert(RECORD)
    later = (*keystore._MIGRATIONS, ("ALTER TABLE helexa_keys ADD COLUMN later TEXT",))
    monkeypatch.setattr(keystore, "_MIGRATIONS", later)
    for _ in range(2):
        assert records(new_store()) == (RECORD,)


def test_a_migration_that_fails_leaves_nothing_behind(
    new_store: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store().insert(RECORD)
    later = (*keystore._MIGRATIONS, ("ALTER TABLE helexa_keys ADD COLUMN later TEXT", "NONSENSE"))
    with monkeypatch.context() as patch:
        patch.setattr(keystore, "_MIGRATIONS", later)
        with pytest.raises(StoreError):
            new_store().look(None)
    assert records(new_store()) == (RECORD,)


def test_an_error_repeats_no_values(new_store: Callable[[], KeyStore]) -> None:
    store = new_store()
    store.look(None)
    with store._database._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE helexa_keys")
    with pytest.raises(StoreError, match="helexa_keys") as raised:
        store.insert(RECORD)
    assert RECORD.hash not in str(raised.value)
    assert RECORD.hash not in repr(raised.value.__cause__)


def test_a_row_that_somebody_broke_by_hand_is_named(tmp_path: Path, stores: list[KeyStore]) -> None:
    stores.append(KeyStore(f"sqlite:///{tmp_path}/keys.db"))
    stores[0].insert(RECORD)
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute("UPDATE helexa_keys SET labels = '{'")
    with pytest.raises(StoreError, match="the row of the key 'ci' is not as helexa writes it"):
        stores[0].look(None)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_file_is_its_owners_alone(tmp_path: Path, stores: list[KeyStore]) -> None:
    tmp_path.chmod(0o755)
    stores.append(KeyStore(f"sqlite:///{tmp_path}/new/keys.db"))
    stores[0].insert(RECORD)
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "new") == 0o700
    assert {path.name: mode(path) for path in (tmp_path / "new").iterdir()} == dict.fromkeys(
        ("keys.db", "keys.db-wal", "keys.db-shm"), 0o600
    )


def test_a_tilde_is_the_home_directory(tmp_path: Path, stores: list[KeyStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stores.append(KeyStore("sqlite:///~/a/b/keys.db"))
    assert stores[0].look(None) is not None
    assert (tmp_path / "a" / "b" / "keys.db").is_file()


def test_nobodys_home_directory_is_a_wrong_setting() -> None:
    with pytest.raises(StoreSettingError, match="leads to no home directory"):
        KeyStore("sqlite:///~no-such-user-here/keys.db")


@pytest.mark.parametrize("name", [":memory:", "a b.db", "x.db?mode=memory&uri=true", "50%25.db", "file:x"])
def test_whatever_follows_is_a_path(
    tmp_path: Path, stores: list[KeyStore], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stores.append(KeyStore(f"sqlite:///{name}"))
    stores[0].insert(RECORD)
    assert (tmp_path / name).read_bytes().startswith(b"SQLite format 3")


def test_a_locked_database_is_waited_for_and_then_away(
    tmp_path: Path, stores: list[KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.01)
    stores.append(KeyStore(f"sqlite:///{tmp_path}/keys.db"))
    stores[0].look(None)
    holder = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        stores[0].insert(RECORD)
    holder.execute("ROLLBACK")
    holder.close()
    assert stores[0].insert(RECORD) == 1


def test_a_journal_that_cannot_be_changed_now_is_changed_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite waits for other locks by itself; this one others have while they open or close the file."""
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    connection = sqlite3.connect(tmp_path / "x.db", timeout=0)
    with closing(holder), closing(connection):
        monkeypatch.setattr(database, "WAIT_SECONDS", 0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database._keep_log(connection)
        monkeypatch.setattr(database, "WAIT_SECONDS", 5)
        monkeypatch.setattr(database.time, "sleep", lambda _: holder.execute("ROLLBACK"))
        database._keep_log(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_writer_does_not_keep_readers_waiting(
    tmp_path: Path, stores: list[KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.01)
    stores.append(KeyStore(f"sqlite:///{tmp_path}/keys.db"))
    stores[0].insert(RECORD)
    holder = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert records(stores[0]) == (RECORD,)
    holder.close()


def test_a_place_that_cannot_be_written_is_a_sentence_and_mends(tmp_path: Path, stores: list[KeyStore]) -> None:
    (tmp_path / "file").write_text("")
    stores.append(KeyStore(f"sqlite:///{tmp_path}/file/keys.db"))
    with pytest.raises(StoreError, match=r"file/keys.db: (not a directory|file exists)"):
        stores[0].look(None)
    (tmp_path / "file").unlink()
    assert stores[0].insert(RECORD) == 1


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, stores: list[KeyStore]) -> None:
    (tmp_path / "notes.txt").write_text("dear diary, " * 100)
    stores.append(KeyStore(f"sqlite:///{tmp_path}/notes.txt"))
    with pytest.raises(StoreError, match="file is not a database"):
        stores[0].look(None)
    assert (tmp_path / "notes.txt").read_text() == "dear diary, " * 100


def test_without_the_driver_postgresql_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreSettingError, match=r"pip install 'helexa\[postgres\]'"):
        KeyStore("postgresql://someone:secret@host/db")


@pytest.mark.parametrize("url", ["postgresql://u:secret@host:port/db", "postgresql://u:secret@[::1/db"])
def test_a_url_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(StoreSettingError, match=r"^cortex.database is not the URL of a PostgreSQL server\.$") as raised:
        KeyStore(url)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@host/db", "mssql+pyodbc://u:secret@host/db", "sqlite://secret.db", "redis://u:secret@host"],
)
def test_another_databases_url_is_not_taken_for_postgresqls(url: str) -> None:
    with pytest.raises(StoreSettingError, match=r"^cortex.database is not the URL of a PostgreSQL server\.$") as raised:
        KeyStore(url)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_is_known_by_each_of_its_names(scheme: str, stores: list[KeyStore]) -> None:
    stores.append(KeyStore(f"{scheme}://someone@127.0.0.1:1/db"))
    with pytest.raises(StoreError, match="OperationalError"):
        stores[0].look(None)


def test_a_server_that_comes_and_goes_is_a_sentence_in_between(server: Server, stores: list[KeyStore]) -> None:
    stores.append(KeyStore(server.empty()))
    stores[0].insert(RECORD)
    server.control("stop", "-m", "immediate")
    try:
        with pytest.raises(StoreError, match="OperationalError"):
            stores[0].look(None)
    finally:
        server.control("start")
    assert records(stores[0]) == (RECORD,)


def test_a_restart_of_the_server_is_not_noticed(server: Server, stores: list[KeyStore]) -> None:
    stores.append(KeyStore(server.empty()))
    stores[0].insert(RECORD)
    server.control("restart", "-m", "fast")
    assert records(stores[0]) == (RECORD,)
