"""The keyring: what is known at once, what goes on while the database is away, and gateways that share one."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
import trio.testing
from attrs import define, field
from fleets import Clock
from http_parts import until
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import keyring as module
from actors.keyring import INTERVAL_SECONDS, Keyring, first_key
from helexa.cortex.access.auth import ALL_SCOPES, Key, sha256
from helexa.cortex.access.keys import Made, Wanted
from helexa.cortex.access.keystore import KeyStore
from helexa.wire.errors import ApiError

DECLARED = Key("static", "static", frozenset({"inference"}))


def keyring_of(path: Path, clock: Callable[[], float] | None = None) -> Keyring:
    return Keyring(KeyStore(f"sqlite:///{path}"), clock or Clock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture
async def keyring(nursery: trio.Nursery, path: Path) -> Keyring:
    found = keyring_of(path)
    await nursery.start(found.run)
    return found


@pytest.fixture
async def other(nursery: trio.Nursery, path: Path, keyring: Keyring) -> Keyring:
    """Another gateway of the same fleet."""
    found = keyring_of(path)
    await nursery.start(found.run)
    return found


def knows(keyring: Keyring, key: str) -> bool:
    return keyring.find(sha256(key.encode())) is not None


async def refusal(change: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the error that a change meets."""
    with pytest.raises(ApiError) as raised:
        await change()  # type: ignore[misc]
    return raised.value.status, raised.value.code


async def test_a_new_key_is_known_before_its_maker_is_answered(keyring: Keyring) -> None:
    wanted = Wanted("ci", "team", ("audio",), ("m/*",), {"a": "b"}, 60.0)
    made = await keyring.create(wanted)
    found = keyring.find(sha256(made.key.encode()))
    assert found == Key("ci", "team", frozenset({"audio"}), ("m/*",), 160.0, made.record.id)
    assert keyring.records() == (made.record,)
    assert keyring.record("ci") == made.record
    assert made.record.created == 100.0
    assert made.key.endswith(made.record.hint)


async def test_an_exchanged_key_is_refused_at_once_and_all_else_stays(keyring: Keyring) -> None:
    old = await keyring.create(Wanted("ci", models=("m",), life=60.0))
    new = await keyring.rotate("ci")
    assert not knows(keyring, old.key)
    assert keyring.find(sha256(new.key.encode())) == old.record.key()
    assert (new.record.id, new.record.rotated, new.record.created) == (old.record.id, 100.0, 100.0)
    assert new.record.hint == new.key[-4:]


async def test_a_revoked_key_is_refused_at_once_and_for_good(keyring: Keyring) -> None:
    made = await keyring.create(Wanted("ci"))
    revoked = await keyring.revoke("ci")
    assert revoked.revoked == 100.0
    assert not knows(keyring, made.key)
    assert await keyring.revoke("ci") == revoked, "again is fine"
    assert await refusal(lambda: keyring.rotate("ci")) == (409, "key_revoked")
    assert keyring.record("ci") == revoked
    again = await keyring.create(Wanted("ci"))
    assert keyring.record("ci") == again.record, "of two of one name the live one is meant"
    assert len(keyring.records()) == 2


async def test_what_was_made_is_there_after_a_restart(nursery: trio.Nursery, path: Path, keyring: Keyring) -> None:
    kept, gone = await keyring.create(Wanted("a")), await keyring.create(Wanted("b"))
    await keyring.revoke("b")
    later = keyring_of(path)
    await nursery.start(later.run)
    assert (knows(later, kept.key), knows(later, gone.key)) == (True, False)
    assert later.records() == keyring.records()


async def test_refusals(keyring: Keyring) -> None:
    await keyring.create(Wanted("ci"))
    assert await refusal(lambda: keyring.create(Wanted("ci"))) == (409, "key_exists")
    assert await refusal(lambda: keyring.rotate("nobody")) == (404, "key_not_found")
    assert await refusal(lambda: keyring.revoke("nobody")) == (404, "key_not_found")
    with pytest.raises(ApiError, match="There is no key 'nobody'"):
        keyring.record("nobody")


async def test_an_expired_key_is_not_exchanged(nursery: trio.Nursery, path: Path) -> None:
    clock = Clock()
    keyring = keyring_of(path, clock)
    await nursery.start(keyring.run)
    made = await keyring.create(Wanted("ci", life=1.0))
    clock.now += 1.0
    assert await refusal(lambda: keyring.rotate("ci")) == (409, "key_expired")
    assert knows(keyring, made.key), "the gate is to say that it has expired"
    assert (await keyring.revoke("ci")).revoked is not None


async def test_the_topologys_keys_are_changed_in_the_topology(keyring: Keyring) -> None:
    keyring.declare([DECLARED])
    assert keyring.declared() == (DECLARED,)
    for change in (lambda: keyring.create(Wanted("static")), lambda: keyring.rotate("static")):
        assert await refusal(change) == (409, "key_declared")
    assert await refusal(lambda: keyring.revoke("static")) == (409, "key_declared")


async def test_a_key_whose_name_the_topology_takes_later_can_still_be_revoked(keyring: Keyring) -> None:
    made = await keyring.create(Wanted("static"))
    keyring.declare([DECLARED])
    await keyring.revoke("static")
    assert not knows(keyring, made.key)
    assert await refusal(lambda: keyring.revoke("static")) == (409, "key_declared")


async def test_before_the_keys_were_read_nothing_is_said_of_any(path: Path) -> None:
    keyring = keyring_of(path)
    for ask in (lambda: keyring.find("0"), keyring.records, lambda: keyring.record("ci")):
        with pytest.raises(ApiError) as raised:
            ask()
        assert raised.value.status == 503


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    """Time that passes when a test says so: threads are at work here, which jumping by itself would not wait for."""
    return trio.testing.MockClock()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked for news many times a second."""
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.002)


@pytest.mark.usefixtures("quick")
async def test_another_gateways_changes_are_found_without_being_asked_for(keyring: Keyring, other: Keyring) -> None:
    made = await keyring.create(Wanted("ci"))
    await until(lambda: knows(other, made.key))
    await other.revoke("ci")
    await until(lambda: not knows(keyring, made.key))


async def reached(condition: Callable[[], bool]) -> None:
    """Wait for what a thread brings about, while time stands still."""
    for _ in range(100_000):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    pytest.fail("it never came")


async def test_changes_that_never_stop_do_not_hide_those_of_others(
    mock_clock: trio.testing.MockClock, keyring: Keyring, other: Keyring
) -> None:
    made = await other.create(Wanted("theirs"))
    for number in range(5):
        await keyring.create(Wanted(f"k{number}"))
        mock_clock.jump(INTERVAL_SECONDS / 2)
    await reached(lambda: knows(keyring, made.key))


async def test_a_name_that_another_gateway_has_taken_is_taken(keyring: Keyring, other: Keyring) -> None:
    made = await other.create(Wanted("ci"))
    assert await refusal(lambda: keyring.create(Wanted("ci"))) == (409, "key_exists")
    assert knows(other, made.key)


async def test_two_gateways_may_revoke_the_same_key(keyring: Keyring, other: Keyring) -> None:
    await keyring.create(Wanted("ci"))
    await other._look()
    first = await keyring.revoke("ci")
    assert await other.revoke("ci") == first


async def test_what_another_gateway_revoked_is_not_exchanged(keyring: Keyring, other: Keyring) -> None:
    await keyring.create(Wanted("ci"))
    await other._look()
    await keyring.revoke("ci")
    assert await refusal(lambda: other.rotate("ci")) == (409, "key_revoked")


async def test_a_key_made_anew_elsewhere_is_exchanged_as_it_is_now(keyring: Keyring, other: Keyring) -> None:
    """And not as this gateway still knows it: that one could do more."""
    await keyring.create(Wanted("ci", scopes=ALL_SCOPES))
    await other._look()
    await keyring.revoke("ci")
    await keyring.create(Wanted("ci", scopes=("audio",)))
    made = await other.rotate("ci")
    assert made.record.scopes == ("audio",)
    assert other.find(sha256(made.key.encode())) == made.record.key()


STEPS = st.tuples(st.integers(0, 1), st.sampled_from(["create", "rotate", "revoke"]), st.sampled_from(["a", "b"]))


@define(eq=False)
class Table:
    """What several gateways have to agree with: the good key of each name, and those that were good."""

    live: dict[str, str] = field(factory=dict)
    ever: set[str] = field(factory=set)
    dead: set[str] = field(factory=set)

    def expected(self, what: str, name: str) -> int:
        """The status of a change."""
        if name in self.live:
            return 409 if what == "create" else 200
        if name in self.ever:
            return 409 if what == "rotate" else 200
        return 200 if what == "create" else 404

    async def change(self, gateway: Keyring, what: str, name: str) -> int:
        try:
            found = await getattr(gateway, what)(Wanted(name) if what == "create" else name)
        except ApiError as error:
            return error.status
        if name in self.live:
            self.dead.add(self.live.pop(name))
        if isinstance(found, Made):
            self.live[name] = found.key
            self.ever.add(name)
        return 200

    def check(self, gateway: Keyring) -> None:
        assert all(knows(gateway, key) for key in self.live.values())
        assert not any(knows(gateway, key) for key in self.dead)
        assert {record.name for record in gateway.records() if record.revoked is None} == set(self.live)


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=12))
def test_gateways_that_share_a_database_agree_with_a_plain_table(steps: list[tuple[int, str, str]]) -> None:
    with TemporaryDirectory() as directory:
        trio.run(check_steps, Path(directory) / "keys.db", steps, clock=trio.testing.MockClock())


async def check_steps(path: Path, steps: list[tuple[int, str, str]]) -> None:
    table, gateways = Table(), [keyring_of(path), keyring_of(path)]
    async with trio.open_nursery() as nursery:
        for gateway in gateways:
            await nursery.start(gateway.run)
        for index, what, name in steps:
            expected = table.expected(what, name)
            assert await table.change(gateways[index], what, name) == expected
            table.check(gateways[index])
        for gateway in gateways:
            await gateway._look()
            table.check(gateway)
        assert gateways[0].records() == gateways[1].records()
        nursery.cancel_scope.cancel()


async def test_a_fleet_without_any_key_gets_one_that_may_do_everything(keyring: Keyring) -> None:
    key = await first_key(keyring)
    assert key is not None
    found = keyring.find(sha256(key.encode()))
    assert found is not None
    assert (found.name, found.account, found.scopes) == ("admin", "admin", frozenset(ALL_SCOPES))
    assert await first_key(keyring) is None, "and only one"


async def test_a_fleet_with_a_key_gets_none(keyring: Keyring) -> None:
    keyring.declare([DECLARED])
    assert await first_key(keyring) is None
    keyring.declare([])
    await keyring.create(Wanted("ci", life=0.001))
    assert await first_key(keyring) is None
    await keyring.revoke("ci")
    assert await first_key(keyring) is not None, "of a fleet that nobody could use"


@pytest.mark.usefixtures("quick")
async def test_of_gateways_that_start_together_one_makes_the_first_key(keyring: Keyring, other: Keyring) -> None:
    found: list[str | None] = []

    async def ask(one: Keyring) -> None:
        found.append(await first_key(one))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, keyring)
        nursery.start_soon(ask, other)
    (key,) = [each for each in found if each is not None]
    for gateway in (keyring, other):
        await gateway._look()
        assert knows(gateway, key)
        assert len(gateway.records()) == 1
