"""Keys that are changed while they are in use, accounts, and who pays: here and at gateways that share the database."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve, field
from fleets import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.keyring import Keyring
from config import Account, Budget, Duration
from helexa.cortex.access.auth import Key, sha256
from helexa.cortex.access.keys import Change, Made, Wanted
from helexa.cortex.access.keystore import KeyStore
from helexa.wire.errors import ApiError

DECLARED = Key("static", "team", frozenset({"inference"}), id="declared/static")
TOKENS, MONEY = Budget(tokens=100, per=Duration(60.0)), Budget(usd=0.5)


def keyring_of(path: Path) -> Keyring:
    return Keyring(KeyStore(f"sqlite:///{path}"), Clock())


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


async def refusal(change: Callable[[], Awaitable[object]]) -> tuple[int, str]:
    """Status and code of the error that a change meets."""
    with pytest.raises(ApiError) as raised:
        await change()
    return raised.value.status, raised.value.code


def key_of(keyring: Keyring, made: Made) -> Key:
    found = keyring.find(sha256(made.key.encode()))
    assert found is not None
    return found


def caps(keyring: Keyring, key: Key) -> list[tuple[str, str, int]]:
    return [(limit.subject, limit.unit, limit.cap) for limit in keyring.payer(key).limits]


async def test_a_changed_key_is_the_same_key_and_good_for_something_else(keyring: Keyring) -> None:
    made = await keyring.create(Wanted("ci", scopes=("audio",), labels={"a": "b"}))
    change = Change({"scopes": ("inference",), "budgets": (TOKENS, MONEY), "weight": 3, "max_in_flight": 2})
    record = await keyring.change("ci", change)
    assert record == evolve(made.record, scopes=("inference",), budgets=(TOKENS, MONEY), weight=3, max_in_flight=2)
    found = key_of(keyring, made)
    assert (found.scopes, found.budgets, found.weight, found.max_in_flight) == ({"inference"}, (TOKENS, MONEY), 3, 2)
    assert keyring.record("ci") == record


async def test_what_was_changed_is_there_after_a_restart_and_an_exchange(
    nursery: trio.Nursery, path: Path, keyring: Keyring
) -> None:
    await keyring.create(Wanted("ci", budgets=(MONEY,), weight=2))
    await keyring.change("ci", Change({"budgets": (TOKENS, MONEY), "models": ("m/*",), "labels": {"x": "y"}}))
    made = await keyring.rotate("ci")
    later = keyring_of(path)
    await nursery.start(later.run)
    assert later.records() == (made.record,)
    assert (made.record.budgets, made.record.weight, made.record.models) == ((TOKENS, MONEY), 2, ("m/*",))


async def test_a_change_of_nothing_changes_nothing(keyring: Keyring) -> None:
    made = await keyring.create(Wanted("ci"))
    assert await keyring.change("ci", Change({})) == made.record


async def test_changes_that_are_refused(keyring: Keyring) -> None:
    keyring.declare([DECLARED])
    change = Change({"weight": 2})
    assert await refusal(lambda: keyring.change("nobody", change)) == (404, "key_not_found")
    assert await refusal(lambda: keyring.change("static", change)) == (409, "key_declared")
    await keyring.create(Wanted("ci"))
    await keyring.revoke("ci")
    assert await refusal(lambda: keyring.change("ci", change)) == (409, "key_revoked")


async def test_two_gateways_may_change_two_things_of_one_key(keyring: Keyring, other: Keyring) -> None:
    await keyring.create(Wanted("ci"))
    await other._look()
    await keyring.change("ci", Change({"weight": 5}))
    await other.change("ci", Change({"budgets": (TOKENS,)}))
    await keyring._look()
    for gateway in (keyring, other):
        assert (gateway.record("ci").weight, gateway.record("ci").budgets) == (5, (TOKENS,))


async def test_what_another_gateway_revoked_is_not_changed(keyring: Keyring, other: Keyring) -> None:
    await keyring.create(Wanted("ci"))
    await other._look()
    await keyring.revoke("ci")
    assert await refusal(lambda: other.change("ci", Change({"weight": 2}))) == (409, "key_revoked")


async def test_who_pays_follows_the_key_and_its_account(keyring: Keyring) -> None:
    made = await keyring.create(Wanted("ci", account="team"))
    subject = f"key:{made.record.id}"
    assert caps(keyring, key_of(keyring, made)) == []
    await keyring.change("ci", Change({"budgets": (TOKENS,)}))
    assert caps(keyring, key_of(keyring, made)) == [(subject, "tokens", 100)]
    await keyring.set_account(Account("team", (MONEY,)))
    shared = ("account:team", "usd", 5 * 10**11)
    assert caps(keyring, key_of(keyring, made)) == [(subject, "tokens", 100), shared]
    made = await keyring.rotate("ci")
    assert caps(keyring, key_of(keyring, made)) == [(subject, "tokens", 100), shared], "an exchange frees nothing"
    keyring.declare([], [Account("team", (Budget(requests=1),))])
    assert caps(keyring, key_of(keyring, made))[1] == ("account:team", "requests", 1), "the topology's goes before"
    keyring.declare([], [])
    await keyring.drop_account("team")
    assert caps(keyring, key_of(keyring, made)) == [(subject, "tokens", 100)]


async def test_who_pays_is_asked_without_work(keyring: Keyring) -> None:
    key = key_of(keyring, await keyring.create(Wanted("ci")))
    assert keyring.payer(key) is keyring.payer(key)


async def test_accounts_are_kept_replaced_and_dropped(nursery: trio.Nursery, path: Path, keyring: Keyring) -> None:
    await keyring.set_account(Account("b", (TOKENS,)))
    await keyring.set_account(Account("a/b", ()))
    await keyring.set_account(Account("b", (MONEY, TOKENS)))
    expected = (Account("a/b", ()), Account("b", (MONEY, TOKENS)))
    later = keyring_of(path)
    await nursery.start(later.run)
    assert keyring.accounts() == later.accounts() == expected
    await keyring.drop_account("b")
    assert keyring.accounts() == expected[:1]
    assert await refusal(lambda: keyring.drop_account("b")) == (404, "account_not_found")


async def test_the_topologys_accounts_are_changed_in_the_topology(keyring: Keyring) -> None:
    team = Account("team", (TOKENS,))
    await keyring.set_account(Account("both", (MONEY,)))
    keyring.declare([], [team, Account("both")])
    assert keyring.declared_accounts() == (team, Account("both"))
    assert await refusal(lambda: keyring.set_account(team)) == (409, "account_declared")
    assert await refusal(lambda: keyring.drop_account("team")) == (409, "account_declared")
    await keyring.drop_account("both")
    assert keyring.accounts() == (), "one that the topology took later can still be dropped"


async def test_an_account_that_another_gateway_dropped_is_not_found(keyring: Keyring, other: Keyring) -> None:
    await keyring.set_account(Account("team", (TOKENS,)))
    await other._look()
    assert other.accounts() == keyring.accounts()
    await keyring.drop_account("team")
    assert await refusal(lambda: other.drop_account("team")) == (404, "account_not_found")
    assert other.accounts() == ()


BUDGETS = st.lists(
    st.builds(Budget, tokens=st.integers(0, 9)) | st.builds(Budget, requests=st.integers(0, 9)),
    max_size=2,
    unique=True,
)
STEPS = st.tuples(
    st.integers(0, 1), st.sampled_from(["key", "account", "drop"]), st.sampled_from(["a", "b"]), BUDGETS.map(tuple)
)


@define(eq=False)
class Table:
    """What several gateways have to agree with: the budgets of each key and of each account."""

    keys: dict[str, tuple[Budget, ...]] = field(factory=lambda: {"a": (), "b": ()})
    accounts: dict[str, tuple[Budget, ...]] = field(factory=dict)

    async def step(self, gateway: Keyring, what: str, name: str, budgets: tuple[Budget, ...]) -> None:
        match what:
            case "key":
                await gateway.change(name, Change({"budgets": budgets}))
                self.keys[name] = budgets
            case "account":
                await gateway.set_account(Account(name, budgets))
                self.accounts[name] = budgets
            case _ if self.accounts.pop(name, None) is not None:
                await gateway.drop_account(name)
            case _:
                assert (await refusal(lambda: gateway.drop_account(name)))[0] == 404

    def check(self, gateway: Keyring, made: dict[str, Made]) -> None:
        assert gateway.accounts() == tuple(Account(name, self.accounts[name]) for name in sorted(self.accounts))
        for name, budgets in self.keys.items():
            own, shared = tightest(budgets), tightest(self.accounts.get(name, ()))
            key = key_of(gateway, made[name])
            expected = {**{(f"key:{key.id}", unit): cap for unit, cap in own.items()}}
            expected |= {(f"account:{name}", unit): cap for unit, cap in shared.items()}
            assert {(subject, unit): cap for subject, unit, cap in caps(gateway, key)} == expected


def tightest(budgets: tuple[Budget, ...]) -> dict[str, int]:
    found: dict[str, Any] = {}
    for budget in budgets:
        cap = getattr(budget, budget.unit)
        found[budget.unit] = min(cap, found.get(budget.unit, cap))
    return found


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=10))
def test_gateways_that_share_a_database_agree_on_who_pays(
    steps: list[tuple[int, str, str, tuple[Budget, ...]]],
) -> None:
    with TemporaryDirectory() as directory:
        trio.run(check_steps, Path(directory) / "keys.db", steps, clock=trio.testing.MockClock())


async def check_steps(path: Path, steps: list[tuple[int, str, str, tuple[Budget, ...]]]) -> None:
    table, gateways = Table(), [keyring_of(path), keyring_of(path)]
    async with trio.open_nursery() as nursery:
        for gateway in gateways:
            await nursery.start(gateway.run)
        made = {name: await gateways[0].create(Wanted(name)) for name in table.keys}
        for index, *step in steps:
            await table.step(gateways[index], *step)  # type: ignore[arg-type]
            table.check(gateways[index], made)
        for gateway in gateways:
            await gateway._look()
            table.check(gateway, made)
        nursery.cancel_scope.cancel()
