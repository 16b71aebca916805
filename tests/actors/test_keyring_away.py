"""The keyring while its database is away, slow or asked by nobody any more, and when it crashes itself."""

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from fleets import Clock
from http_parts import until
from structlog.testing import capture_logs

from actors import keyring as module
from actors.keyring import Create, Keyring, first_key
from actors.supervisor import Supervisor
from config import Account, Budget, Cortex, RestartPolicy
from helexa.cortex.access.auth import Key, sha256
from helexa.cortex.access.keys import Change, Record, Wanted
from helexa.cortex.access.keystore import KeyStore, Snapshot
from helexa.database import StoreError
from helexa.wire.errors import ApiError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked for news many times a second."""
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.002)


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    """Time that passes when a test says so: threads are at work here, which jumping by itself would not wait for."""
    return trio.testing.MockClock()


def knows(keyring: Keyring, key: str) -> bool:
    return keyring.find(sha256(key.encode())) is not None


async def refusal(change: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the error that a change meets."""
    with pytest.raises(ApiError) as raised:
        await change()  # type: ignore[misc]
    return raised.value.status, raised.value.code


async def reached(condition: Callable[[], bool]) -> None:
    """Wait for what a thread brings about, while time stands still."""
    for _ in range(100_000):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    pytest.fail("it never came")


@define(eq=False)
class Away:
    """A database that is away until it is not."""

    store: KeyStore
    away: bool = False
    looks: int = 0
    gate: threading.Event = field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.gate.set()

    def look(self, known: int | None) -> Snapshot | None:
        self.looks += 1
        self.check()
        return self.store.look(known)

    def insert(self, record: Record) -> int:
        self.check()
        return self.store.insert(record)

    def exchange(self, identity: str, digest: str, hint: str, now: float) -> int:
        self.check()
        return self.store.exchange(identity, digest, hint, now)

    def alter(self, identity: str, changes: Mapping[str, Any]) -> int:
        self.check()
        return self.store.alter(identity, changes)

    def set_account(self, name: str, budgets: Iterable[Budget]) -> int:
        self.check()
        return self.store.set_account(name, budgets)

    def drop_account(self, name: str) -> int:
        self.check()
        return self.store.drop_account(name)

    def revoke(self, identity: str, now: float) -> int:
        self.check()
        return self.store.revoke(identity, now)

    def close(self) -> None:
        self.store.close()

    def check(self) -> None:
        self.gate.wait(10)
        if self.away:
            raise StoreError("OperationalError: nobody there")


@pytest.fixture
def away(path: Path) -> Away:
    return Away(KeyStore(f"sqlite:///{path}"))


@pytest.mark.usefixtures("quick")
async def test_with_the_database_away_known_keys_work_and_changes_are_refused(
    nursery: trio.Nursery, away: Away
) -> None:
    keyring = Keyring(away, Clock())  # type: ignore[arg-type]
    await nursery.start(keyring.run)
    made = await keyring.create(Wanted("ci"))
    away.away = True
    with capture_logs() as logs:
        for change in (
            lambda: keyring.create(Wanted("b")),
            lambda: keyring.rotate("ci"),
            lambda: keyring.change("ci", Change({"weight": 2})),
            lambda: keyring.revoke("ci"),
            lambda: keyring.set_account(Account("team")),
            lambda: keyring.drop_account("team"),
        ):
            assert await refusal(change) == (503, "service_unavailable")
        looks = away.looks
        await until(lambda: away.looks > looks + 1)
        assert knows(keyring, made.key)
        assert keyring.records() == (made.record,)
        away.away = False
        await until(lambda: len(logs) > 1)
    assert [log["event"] for log in logs] == ["keys.database_away", "keys.database_back"], "each once"
    assert logs[0]["error"] == "OperationalError: nobody there"
    assert knows(keyring, (await keyring.rotate("ci")).key)


@pytest.mark.usefixtures("quick")
async def test_a_start_without_the_database_serves_and_tries_again(nursery: trio.Nursery, away: Away) -> None:
    away.away = True
    keyring = Keyring(away, Clock())  # type: ignore[arg-type]
    await nursery.start(keyring.run)
    assert not keyring.loaded.is_set()
    with pytest.raises(ApiError, match="cannot be looked up yet"):
        keyring.find("0")
    away.away = False
    await keyring.loaded.wait()
    assert keyring.find("0") is None
    assert keyring.records() == ()


DECLARED = Key("static", "team", frozenset({"inference"}), id="declared/static")


async def test_before_accounts_are_known_their_keys_are_refused_unless_told_to_serve(
    nursery: trio.Nursery, away: Away
) -> None:
    """Else whoever restarts the gateway while its database is away could use more than the account's budgets."""
    away.away = True
    settings = [Cortex()]
    keyring = Keyring(away, Clock(), lambda: settings[0])  # type: ignore[arg-type]
    keyring.declare([DECLARED])
    await nursery.start(keyring.run)
    with pytest.raises(ApiError) as raised:
        keyring.payer(DECLARED)
    assert (raised.value.status, raised.value.retry_after) == (503, 2)
    with pytest.raises(ApiError, match="cannot be looked up yet"):
        keyring.accounts()
    settings[0] = Cortex(database_away="serve")
    assert keyring.payer(DECLARED).limits == ()
    settings[0] = Cortex()
    keyring.declare([DECLARED], [Account("team", (Budget(tokens=5),))])
    assert [limit.cap for limit in keyring.payer(DECLARED).limits] == [5], "an account of the topology is known"


@pytest.mark.usefixtures("quick")
async def test_what_an_account_may_use_counts_as_soon_as_it_is_known(nursery: trio.Nursery, away: Away) -> None:
    away.store.set_account("team", [Budget(tokens=7)])
    away.away = True
    keyring = Keyring(away, Clock(), lambda: Cortex(database_away="serve"))  # type: ignore[arg-type]
    await nursery.start(keyring.run)
    assert keyring.payer(DECLARED).limits == ()
    away.away = False
    await keyring.loaded.wait()
    assert [limit.cap for limit in keyring.payer(DECLARED).limits] == [7]


async def test_a_change_that_takes_for_ever_is_given_up(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery, away: Away
) -> None:
    keyring = Keyring(away, Clock())  # type: ignore[arg-type]
    await nursery.start(keyring.run)
    away.gate.clear()
    codes: list[tuple[int, str]] = []

    async def create() -> None:
        codes.append(await refusal(lambda: keyring.create(Wanted("ci"))))

    nursery.start_soon(create)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(module.STORE_SECONDS)
    await reached(lambda: bool(codes))
    away.gate.set()
    assert codes == [(503, "service_unavailable")]


async def test_a_key_that_nobody_waits_for_any_more_is_revoked(nursery: trio.Nursery, away: Away) -> None:
    """Nobody will ever know it, and its name would be taken."""
    keyring = Keyring(away, Clock())  # type: ignore[arg-type]
    await nursery.start(keyring.run)
    away.gate.clear()
    async with trio.open_nursery() as asking:
        asking.start_soon(keyring.create, Wanted("ci"))
        await trio.testing.wait_all_tasks_blocked()
        asking.cancel_scope.cancel()
    away.gate.set()
    await until(lambda: bool(keyring.records()) and keyring.record("ci").revoked is not None)
    assert (await keyring.create(Wanted("ci"))).record.revoked is None


async def test_a_change_that_nobody_waits_for_any_more_is_not_begun(nursery: trio.Nursery, away: Away) -> None:
    keyring = Keyring(away, Clock())  # type: ignore[arg-type]
    async with trio.open_nursery() as asking:
        asking.start_soon(keyring.create, Wanted("ci"))
        await trio.testing.wait_all_tasks_blocked()
        asking.cancel_scope.cancel()
    await nursery.start(keyring.run)
    await keyring.create(Wanted("later"))
    assert [record.name for record in keyring.records()] == ["later"]


async def test_a_crash_loses_no_key_and_no_change_that_waits(nursery: trio.Nursery, path: Path) -> None:
    class BombError(Exception):
        pass

    keyring = Keyring(KeyStore(f"sqlite:///{path}"), Clock())
    supervisor = Supervisor("test")
    await nursery.start(supervisor.run)
    await supervisor.start(keyring, RestartPolicy(backoff=0.001))  # type: ignore[arg-type]
    made = await keyring.create(Wanted("ci"))
    real, keyring._create = keyring._create, explode(BombError)  # type: ignore[method-assign]
    assert await refusal(lambda: keyring.create(Wanted("b"))) == (503, "service_unavailable")
    keyring._create = real  # type: ignore[method-assign]
    assert knows(keyring, made.key)
    assert knows(keyring, (await keyring.create(Wanted("c"))).key)
    await supervisor.stop("keyring")
    assert knows(keyring, made.key)
    assert await refusal(lambda: keyring.create(Wanted("d"))) == (503, "service_unavailable")


def explode(error: type[Exception]) -> Callable[[Create], object]:
    async def bomb(_message: Create) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return bomb


@pytest.mark.usefixtures("quick")
async def test_the_first_key_waits_for_the_database(nursery: trio.Nursery, away: Away) -> None:
    away.away = True
    keyring, found = Keyring(away, Clock()), []  # type: ignore[arg-type, var-annotated]

    async def ask() -> None:
        found.append(await first_key(keyring))

    await nursery.start(keyring.run)
    nursery.start_soon(ask)
    looks = away.looks
    await until(lambda: away.looks > looks + 1)
    assert found == []
    away.away = False
    await until(lambda: bool(found))
    assert knows(keyring, found[0])
