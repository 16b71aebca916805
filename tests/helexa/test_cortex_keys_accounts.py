"""Accounts and usage over HTTP, and who pays for the requests of a key."""

import math
import time
from typing import Any

import orjson
import pytest
from attrs import evolve
from http_parts import Call, scope_of
from hypothesis import given
from hypothesis import strategies as st
from keyrings import DECLARED, NOW, FakeKeyring, FakeLedger, ask, record
from structlog.testing import capture_logs

from config import Account, Budget, Duration
from helexa.cortex.access import key_routes, keys
from helexa.cortex.access.accounts import Accounts
from helexa.cortex.access.auth import Key
from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Sums
from helexa.web.quart_errors import json_app

TOKENS, MONEY = Budget(tokens=100, per=Duration(60.0)), Budget(usd=2.0)
UNKNOWN = dict.fromkeys(("spent", "reserved", "left"))


def fleet(**settings: Any) -> FakeKeyring:
    """Accounts of the topology, of the database, of both, and of keys alone."""
    kept = (record("a", account="team/a"), record("b"), record("c", account="gone", revoked=NOW))
    return FakeKeyring(
        kept,
        topology=(Account("team", (TOKENS,)), Account("both", (TOKENS,))),
        database=(Account("both", (MONEY,)), Account("team/a", (MONEY,)), Account("idle", ())),
        **settings,
    )


async def found(fake: FakeKeyring, path: str, ledger: FakeLedger | None = None, query: bytes = b"") -> dict[str, Any]:
    call = await ask(fake, "GET", path, ledger=ledger, query=query)
    assert call.status == 200
    return orjson.loads(call.answer)


async def test_every_account_is_listed_with_its_keys_and_its_budgets() -> None:
    ledger = FakeLedger({("account:team", "tokens"): (30, 20), ("account:both", "tokens"): (1, 0)})
    accounts = (await found(fleet(), "/fleet/accounts", ledger))["accounts"]
    assert [(each["name"], each["source"], each["keys"]) for each in accounts] == [
        ("b", None, ["b"]),
        ("both", "topology", []),
        ("idle", "database", []),
        ("team", "topology", ["static"]),
        ("team/a", "database", ["a"]),
    ]
    budgets = {each["name"]: each["budgets"] for each in accounts}
    assert budgets["team"] == [{"tokens": 100, "per": 60.0, "spent": 30, "reserved": 20, "left": 50}]
    assert budgets["both"] == [{"tokens": 100, "per": 60.0, "spent": 1, "reserved": 0, "left": 99}], "the topology's"
    assert budgets["team/a"] == [{"usd": 2.0, "per": None, "spent": 0.0, "reserved": 0.0, "left": 2.0}]
    assert (budgets["b"], budgets["idle"], len(ledger.looks)) == ([], [], 1)


@pytest.mark.parametrize(("name", "source"), [("team/a", "database"), ("team", "topology"), ("b", None)])
async def test_one_account_is_shown(name: str, source: str | None) -> None:
    shown = await found(fleet(), f"/fleet/accounts/{name}", FakeLedger(away=True))
    assert (shown["name"], shown["source"]) == (name, source)
    assert all(budget["left"] is None for budget in shown["budgets"])


@pytest.mark.parametrize("name", ["nobody", "gone", "team/", "Team", "a b"])
async def test_an_account_that_nobody_knows_is_not_found(name: str) -> None:
    call = await ask(fleet(), "GET", f"/fleet/accounts/{name}")
    assert (call.status, call.error["code"]) == (404, "account_not_found")


async def test_an_accounts_budgets_are_set_and_shown() -> None:
    fake = FakeKeyring()
    call = await ask(fake, "PUT", "/fleet/accounts/team/a", {"budgets": [{"tokens": 100, "per": 60}, {"usd": 2}]})
    assert fake.asked == [("set_account", Account("team/a", (TOKENS, MONEY)))]
    assert orjson.loads(call.answer) == {
        "name": "team/a",
        "source": "database",
        "keys": [],
        "budgets": [{"tokens": 100, "per": 60.0, **UNKNOWN}, {"usd": 2.0, "per": None, **UNKNOWN}],
    }
    assert (await ask(fake, "PUT", "/fleet/accounts/team/a", {"budgets": []})).status == 200
    assert fake.asked[-1] == ("set_account", Account("team/a", ()))


@pytest.mark.parametrize(
    ("name", "body", "code", "param"),
    [
        ("a", {}, "missing_required_parameter", "budgets"),
        ("a", {"budgets": None}, "missing_required_parameter", "budgets"),
        ("a", {"budgets": [{"tokens": -1}]}, "invalid_value", "budgets[0].tokens"),
        ("a", {"budgets": [{"usd": 1}, {"usd": 1}]}, "invalid_value", "budgets[1]"),
        ("a", {"budgets": [], "name": "b"}, "unknown_parameter", "name"),
        ("a", b"", "invalid_json", None),
        ("a b", {"budgets": []}, "invalid_value", "name"),
        ("a//b", {"budgets": []}, "invalid_value", "name"),
        ("x" * 201, {"budgets": []}, "invalid_value", "name"),
    ],
)
async def test_what_are_no_budgets_of_an_account_is_refused(name: str, body: Any, code: str, param: str | None) -> None:
    fake = FakeKeyring()
    call = await ask(fake, "PUT", f"/fleet/accounts/{name}", body)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert fake.asked == []


async def test_an_accounts_budgets_are_dropped() -> None:
    fake = fleet()
    call = await ask(fake, "DELETE", "/fleet/accounts/team/a")
    assert (call.status, orjson.loads(call.answer), fake.asked) == (
        200,
        {"name": "team/a"},
        [("drop_account", "team/a")],
    )


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (keys.no_account("x"), 404, "account_not_found"),
        (keys.account_is_declared("x"), 409, "account_declared"),
        (keys.unchangeable(), 503, "service_unavailable"),
    ],
)
async def test_a_refusal_is_a_sentence_and_a_code(error: keys.ApiError, status: int, code: str) -> None:
    fake = FakeKeyring(error=error)
    with capture_logs() as logs:
        for call in (
            await ask(fake, "PUT", "/fleet/accounts/x", {"budgets": []}),
            await ask(fake, "DELETE", "/fleet/accounts/x"),
        ):
            assert (call.status, call.error["code"], call.error["message"]) == (status, code, str(error))
            assert call.error["message"].endswith(".")
    assert logs == [], "what was not done is not noted"


async def test_a_log_says_who_changed_which_account() -> None:
    app = json_app("keys")
    key_routes.add_routes(app, FakeKeyring())
    with capture_logs() as logs:
        scope = {**scope_of("PUT", "/fleet/accounts/team/a"), "helexa.key": DECLARED}
        await Call(scope, b'{"budgets": []}').run(app)
        await Call(scope_of("DELETE", "/fleet/accounts/team/a")).run(app)
    assert [(log["event"], log["account"], log["by"]) for log in logs] == [
        ("account.set", "team/a", "static"),
        ("account.dropped", "team/a", None),
    ]


DAY = 86_400.0


@pytest.mark.parametrize(
    ("query", "since", "until", "by"),
    [
        (b"", 0.0, -0.0, "key"),
        (b"by=account&since=7d", -7 * DAY, -0.0, "account"),
        (b"by=node&since=1000.5&until=12h", 1000.5, -DAY / 2, "node"),
        (b"by=model&since=&until=1e5", 0.0, 1e5, "model"),
    ],
)
async def test_usage_is_asked_for_by_what_and_from_when(query: bytes, since: float, until: float, by: str) -> None:
    """Times below zero are counted from now on."""
    ledger = FakeLedger(sums=(Sums("ci", "key:1", 3, 100, 40, 20, 5 * 10**10), Sums("", "", 1)))
    shown = await found(FakeKeyring(), "/fleet/usage", ledger, query)
    ((asked_since, asked_until, *rest),) = ledger.asked
    assert rest == [by, 1000]
    for at, expected in ((asked_since, since), (asked_until, until)):
        from_now = math.copysign(1, expected) < 0
        assert at == pytest.approx(time.time() + expected if from_now else expected, abs=60)
    assert (shown["since"], shown["until"], shown["by"]) == (asked_since, asked_until, by)
    tokens = {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 20}
    assert shown["usage"][0] == {"name": "ci", "requests": 3, **tokens, "usd": 0.05}
    assert len(shown["usage"]) == 2


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        (b"by=day", "invalid_value", "by"),
        (b"by=", "invalid_value", "by"),
        (b"since=yesterday", "invalid_value", "since"),
        (b"since=-5", "invalid_value", "since"),
        (b"since=nan", "invalid_value", "since"),
        (b"since=inf", "invalid_value", "since"),
        (b"since=never", "invalid_value", "since"),
        (b"since=99999d", "invalid_value", "since"),
        (b"until=1e99", "invalid_value", "until"),
        (b"until=x", "invalid_value", "until"),
        (b"since=%D9%A1", "invalid_value", "since"),
        (b"since=%ff", "invalid_value", "since"),
        (b"form=7d", "unknown_parameter", "form"),
        (b"key=hx-x", "unknown_parameter", "key"),
    ],
)
async def test_what_is_no_question_about_usage_is_refused(query: bytes, code: str, param: str) -> None:
    ledger = FakeLedger()
    call = await ask(FakeKeyring(), "GET", "/fleet/usage", ledger=ledger, query=query)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert call.error["message"].endswith(".")
    assert ledger.asked == []


async def test_usage_that_cannot_be_read_is_not_shown_as_none() -> None:
    call = await ask(FakeKeyring(), "GET", "/fleet/usage", ledger=FakeLedger(away=True))
    assert (call.status, call.error["code"]) == (503, "service_unavailable")


async def test_a_fleet_without_a_ledger_has_used_nothing() -> None:
    assert (await found(FakeKeyring(), "/fleet/usage"))["usage"] == []


KEY = Key("ci", "team", frozenset({"inference"}), id="7", budgets=(TOKENS,))
OWN = Limit("key:7", "tokens", 100, 60.0)
SHARED = Limit("account:team", "usd", 2 * 10**12)


def test_a_key_pays_with_its_own_budgets_and_its_accounts() -> None:
    accounts = Accounts()
    assert accounts.payer(KEY).limits == (OWN,)
    accounts.keep([Account("team", (MONEY,)), Account("other", (TOKENS,))])
    found_payer = accounts.payer(KEY)
    assert (found_payer.key, found_payer.name, found_payer.account) == ("key:7", "ci", "team")
    assert found_payer.limits == (OWN, SHARED)
    assert accounts.payer(KEY) is found_payer, "it is made once"


def test_an_account_of_the_topology_goes_before_that_of_the_database_even_without_budgets() -> None:
    accounts = Accounts()
    accounts.keep([Account("team", (MONEY,))])
    accounts.declare([Account("team", ())])
    assert accounts.payer(KEY).limits == (OWN,)
    accounts.declare([])
    assert accounts.payer(KEY).limits == (OWN, SHARED)


def test_a_key_without_an_identity_is_known_by_its_name() -> None:
    assert Accounts().payer(evolve(KEY, id="", budgets=())).subjects == ("key:ci", "account:team")


STEPS = st.lists(
    st.tuples(st.sampled_from(["declare", "keep"]), st.lists(st.sampled_from(["team", "other"]), unique=True))
    | st.tuples(st.just("rekey"), st.integers(0, 3)),
    max_size=8,
)


@given(STEPS)
def test_who_pays_is_always_as_if_it_were_worked_out_anew(steps: list[tuple[str, Any]]) -> None:
    accounts, key, declared, kept = Accounts(), KEY, [], []  # type: ignore[var-annotated]
    for number, (what, value) in enumerate(steps):
        made = [Account(name, (Budget(requests=number),)) for name in value] if what != "rekey" else []
        if what == "declare":
            accounts.declare(declared := made)
        elif what == "keep":
            accounts.keep(kept := made)
        else:
            key = evolve(KEY, budgets=(Budget(tokens=value),))
        fresh = Accounts()
        fresh.keep(kept)
        fresh.declare(declared)
        assert accounts.payer(key) == fresh.payer(key)
