"""Keys over HTTP: what is asked for, what is answered, and what is in no answer."""

from typing import Any

import orjson
import pytest
from attrs import evolve
from http_parts import Call, scope_of
from hypothesis import given
from hypothesis import strategies as st
from keyrings import DECLARED, NOW, SECRET, FakeKeyring, FakeLedger, ask, record
from structlog.testing import capture_logs

from config import Budget, Duration
from helexa.cortex.access import auth, key_routes, keys
from helexa.cortex.access.auth import ALL_SCOPES
from helexa.cortex.access.key_fields import read_change, read_wanted
from helexa.cortex.access.keys import CHANGEABLE, Made, Wanted, new_key
from helexa.web.quart_errors import json_app
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

NO_BUDGETS = [
    ({"budgets": {}}, "budgets"),
    ({"budgets": "5tokens"}, "budgets"),
    ({"budgets": [5]}, "budgets"),
    ({"budgets": [{}]}, "budgets[0]"),
    ({"budgets": [{"per": 60}]}, "budgets[0]"),
    ({"budgets": [{"tokens": 1}, {"tokens": 1, "usd": 2}]}, "budgets[1].usd"),
    ({"budgets": [{"tokens": 1}, {"tokens": 1}]}, "budgets[1]"),
    ({"budgets": [{"requests": n} for n in range(17)]}, "budgets"),
    ({"budgets": [{"tokens": -1}]}, "budgets[0].tokens"),
    ({"budgets": [{"tokens": 1.5}]}, "budgets[0].tokens"),
    ({"budgets": [{"tokens": True}]}, "budgets[0].tokens"),
    ({"budgets": [{"tokens": 2**63}]}, "budgets[0].tokens"),
    ({"budgets": [{"requests": "5"}]}, "budgets[0].requests"),
    ({"budgets": [{"usd": -0.01}]}, "budgets[0].usd"),
    ({"budgets": [{"usd": 1_000_001}]}, "budgets[0].usd"),
    ({"budgets": [{"usd": 1, "per": 0.5}]}, "budgets[0].per"),
    ({"budgets": [{"usd": 1, "per": 367 * 86_400}]}, "budgets[0].per"),
    ({"budgets": [{"usd": 1, "per": "1d"}]}, "budgets[0].per"),
]


async def test_a_key_is_shown_by_the_answer_that_made_it() -> None:
    fake = FakeKeyring()
    body = {"name": "ci", "account": "team/a", "scopes": ["audio"], "models": ["m/*"], "labels": {"a": "b"}}
    call = await ask(fake, "POST", "/fleet/keys", {**body, "expires_in": 60})
    wanted = Wanted("ci", "team/a", ("audio",), ("m/*",), {"a": "b"}, 60)
    assert (call.status, fake.asked) == (200, [("create", wanted)])
    assert call.headers[b"cache-control"] == b"no-store"
    found = orjson.loads(call.answer)
    assert found == {
        **{key: value for key, value in body.items() if key != "expires_in"},
        "state": "expired",  # its clock began at 1000
        "source": "database",
        "budgets": [],
        "weight": 1,
        "max_in_flight": None,
        "hint": "wxyz",
        "created": NOW,
        "rotated": None,
        "expires": NOW + 60,
        "revoked": None,
        "key": SECRET,
    }


async def test_a_name_is_enough() -> None:
    fake = FakeKeyring()
    found = orjson.loads((await ask(fake, "POST", "/fleet/keys", {"name": "ci"})).answer)
    assert fake.asked == [("create", Wanted("ci", "ci", ("inference",), (), {}, None))]
    assert (found["account"], found["scopes"], found["models"], found["expires"]) == ("ci", ["inference"], [], None)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"[]", "invalid_json", None),
        ({}, "missing_required_parameter", "name"),
        ({"name": ""}, "invalid_value", "name"),
        ({"name": "a/b"}, "invalid_value", "name"),
        ({"name": "-x"}, "invalid_value", "name"),
        ({"name": "x" * 65}, "invalid_value", "name"),
        ({"name": "x\n"}, "invalid_value", "name"),
        ({"name": 5}, "invalid_value", "name"),
        ({"account": ""}, "invalid_value", "account"),
        ({"account": "a//b"}, "invalid_value", "account"),
        ({"scopes": "inference"}, "invalid_value", "scopes"),
        ({"scopes": []}, "invalid_value", "scopes"),
        ({"scopes": ["inference", "root"]}, "invalid_value", "scopes[1]"),
        ({"scopes": ["inference", "inference"]}, "invalid_value", "scopes[1]"),
        ({"models": []}, "invalid_value", "models"),
        ({"models": [""]}, "invalid_value", "models"),
        ({"models": ["m", "\n"]}, "invalid_value", "models[1]"),
        ({"models": ["m"] * 2}, "invalid_value", "models[1]"),
        ({"models": [f"m{n}" for n in range(101)]}, "invalid_value", "models"),
        ({"model": ["m"]}, "unknown_parameter", "model"),
        ({"key": "hx-mine"}, "unknown_parameter", "key"),
        ({"labels": ["a"]}, "invalid_value", "labels"),
        ({"labels": {"a": 1}}, "invalid_value", "labels"),
        ({"labels": {"": "x"}}, "invalid_value", "labels"),
        ({"labels": {"a": "x\r\ny"}}, "invalid_value", "labels"),
        ({"labels": {"a": "x" * 201}}, "invalid_value", "labels"),
        ({"labels": {str(n): "x" for n in range(33)}}, "invalid_value", "labels"),
        ({"expires_in": 0}, "invalid_value", "expires_in"),
        ({"expires_in": -5}, "invalid_value", "expires_in"),
        ({"expires_in": "30d"}, "invalid_value", "expires_in"),
        ({"expires_in": 1e30}, "invalid_value", "expires_in"),
        ({"expires_in": True}, "invalid_value", "expires_in"),
        ({"weight": 0}, "invalid_value", "weight"),
        ({"weight": 1001}, "invalid_value", "weight"),
        ({"weight": 1.5}, "invalid_value", "weight"),
        ({"weight": True}, "invalid_value", "weight"),
        ({"max_in_flight": 0}, "invalid_value", "max_in_flight"),
        ({"max_in_flight": "many"}, "invalid_value", "max_in_flight"),
        *((body, "invalid_value", param) for body, param in NO_BUDGETS),
        ({"budgets": [{"tokens": 1, "window": 5}]}, "unknown_parameter", "budgets[0].window"),
    ],
)
async def test_what_is_no_key_is_refused_with_the_field_at_fault(body: Any, code: str, param: str | None) -> None:
    fake = FakeKeyring()
    given_body = {"name": "ci", **body} if isinstance(body, dict) and body else body
    call = await ask(fake, "POST", "/fleet/keys", given_body)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert fake.asked == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


BODIES = st.dictionaries(st.sampled_from(["name", "account", "expires_in", "x", *CHANGEABLE]), JSON)
BUDGETS = st.dictionaries(st.sampled_from(["tokens", "requests", "usd", "per", "x"]), JSON)


@given(BODIES | st.fixed_dictionaries({"name": st.just("a"), "budgets": st.lists(BUDGETS, max_size=3)}))
def test_whatever_is_asked_for_is_a_key_or_the_clients_mistake(body: dict[str, Any]) -> None:
    status, wanted = 200, Wanted("none")
    try:
        wanted = read_wanted(Fields(body))
    except ApiError as error:
        status = error.status
    assert status in (200, 400)
    assert wanted.scopes
    assert set(wanted.scopes) <= set(ALL_SCOPES)


@given(BODIES)
def test_whatever_is_to_be_changed_can_be_or_is_the_clients_mistake(body: dict[str, Any]) -> None:
    try:
        change = read_change(Fields(body))
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - most bodies are no change
    else:
        assert change.values.keys() == body.keys()
        assert body.keys() <= set(CHANGEABLE)


async def test_budgets_weight_and_requests_at_a_time_are_asked_for_and_shown() -> None:
    fake = FakeKeyring()
    budgets = [{"tokens": 0}, {"requests": 5, "per": 60}, {"usd": 1, "per": None}, {"usd": 0.25, "per": 1.5}]
    call = await ask(fake, "POST", "/fleet/keys", {"name": "ci", "budgets": budgets, "weight": 2, "max_in_flight": 4})
    ((_, wanted),) = fake.asked
    assert wanted.budgets == (
        Budget(tokens=0),
        Budget(requests=5, per=Duration(60.0)),
        Budget(usd=1.0),
        Budget(usd=0.25, per=Duration(1.5)),
    )
    assert (wanted.weight, wanted.max_in_flight) == (2, 4)
    found = orjson.loads(call.answer)
    unknown = dict.fromkeys(("spent", "reserved", "left"))
    assert found["budgets"] == [{"per": None, **each, **unknown} for each in budgets]
    assert (found["weight"], found["max_in_flight"]) == (2, 4)


PER_DAY = Budget(tokens=1000, per=Duration(86_400.0))
KEPT = record("a", id="7", budgets=(PER_DAY, Budget(usd=0.5), Budget(requests=5)))
STANDS = {("key:7", "tokens"): (300, 50), ("key:7", "usd"): (10**11, 0), ("key:7", "requests"): (9, 1)}


@pytest.mark.parametrize("path", ["/fleet/keys", "/fleet/keys/a"])
async def test_budgets_are_shown_with_where_they_stand(path: str) -> None:
    ledger = FakeLedger(STANDS)
    found = orjson.loads((await ask(FakeKeyring((KEPT,)), "GET", path, ledger=ledger)).answer)
    assert (found if "name" in found else found["keys"][1])["budgets"] == [
        {"tokens": 1000, "per": 86_400.0, "spent": 300, "reserved": 50, "left": 650},
        {"usd": 0.5, "per": None, "spent": 0.1, "reserved": 0.0, "left": 0.4},
        {"requests": 5, "per": None, "spent": 9, "reserved": 1, "left": 0},
    ]
    assert len(ledger.looks) == 1, "one look for all of them"


async def test_two_budgets_of_one_window_stand_at_the_same_each_with_its_own_rest() -> None:
    """Of the two the ledger keeps the tighter one."""
    kept = record("a", id="7", budgets=(Budget(tokens=1000), Budget(tokens=400)))
    found = orjson.loads((await ask(FakeKeyring((kept,)), "GET", "/fleet/keys/a", ledger=FakeLedger(STANDS))).answer)
    assert [budget["left"] for budget in found["budgets"]] == [650, 50]


async def test_budgets_of_the_topology_and_of_revoked_keys_are_shown_too() -> None:
    static, ledger = (
        evolve(DECLARED, budgets=(Budget(requests=3),)),
        FakeLedger({("key:declared/static", "requests"): (1, 1)}),
    )
    fake = FakeKeyring((evolve(KEPT, revoked=NOW),), static=(static,))
    first, second = orjson.loads((await ask(fake, "GET", "/fleet/keys", ledger=ledger)).answer)["keys"]
    assert first["budgets"] == [{"requests": 3, "per": None, "spent": 1, "reserved": 1, "left": 1}]
    assert [budget["spent"] for budget in second["budgets"]] == [None] * 3
    assert [limit.subject for limit in ledger.looks[0]] == ["key:declared/static"], "revoked keys are kept for ever"


@pytest.mark.parametrize("path", ["/fleet/keys", "/fleet/keys/a"])
async def test_keys_are_shown_while_nobody_knows_what_they_spent(path: str) -> None:
    call = await ask(FakeKeyring((KEPT,)), "GET", path, ledger=FakeLedger(away=True))
    found = orjson.loads(call.answer)
    (key,) = [each for each in found.get("keys", [found]) if each["name"] == "a"]
    assert (call.status, key["budgets"][0]["tokens"], key["budgets"][0]["left"]) == (200, 1000, None)


async def test_a_change_says_what_is_different_and_leaves_the_rest() -> None:
    fake = FakeKeyring()
    body = {"scopes": ["audio"], "models": ["m*"], "labels": {}, "budgets": [{"tokens": 5}], "weight": 3}
    call = await ask(fake, "PATCH", "/fleet/keys/ci", body)
    ((what, name, values),) = fake.asked
    assert (call.status, what, name) == (200, "change", "ci")
    budgets = (Budget(tokens=5),)
    assert values == {"scopes": ("audio",), "models": ("m*",), "labels": {}, "budgets": budgets, "weight": 3}
    assert orjson.loads(call.answer)["weight"] == 3
    assert SECRET.encode() not in call.answer


async def test_null_is_what_a_key_has_that_says_nothing() -> None:
    fake = FakeKeyring()
    await ask(fake, "PATCH", "/fleet/keys/ci", dict.fromkeys(CHANGEABLE))
    fresh = Wanted("ci")
    assert fake.asked == [("change", "ci", {name: getattr(fresh, name) for name in CHANGEABLE})]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ([], "invalid_json", None),
        ({"name": "b"}, "unknown_parameter", "name"),
        ({"account": "b"}, "unknown_parameter", "account"),
        ({"expires_in": 5}, "unknown_parameter", "expires_in"),
        ({"budget": []}, "unknown_parameter", "budget"),
        ({"scopes": []}, "invalid_value", "scopes"),
        ({"scopes": ["root"]}, "invalid_value", "scopes[0]"),
        ({"models": []}, "invalid_value", "models"),
        ({"weight": 0}, "invalid_value", "weight"),
        *((body, "invalid_value", param) for body, param in NO_BUDGETS),
    ],
)
async def test_what_is_no_change_is_refused_with_the_field_at_fault(body: Any, code: str, param: str | None) -> None:
    fake = FakeKeyring()
    call = await ask(fake, "PATCH", "/fleet/keys/ci", body)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert fake.asked == []


async def test_the_list_shows_no_key() -> None:
    kept = (record("a"), record("b", revoked=NOW), record("c", expires=NOW))
    call = await ask(FakeKeyring(kept), "GET", "/fleet/keys")
    assert SECRET.encode() not in call.answer
    found = orjson.loads(call.answer)["keys"]
    assert [(key["name"], key["state"], key["source"], key["hint"]) for key in found] == [
        ("static", "active", "topology", None),
        ("a", "active", "database", "wxyz"),
        ("b", "revoked", "database", "wxyz"),
        ("c", "expired", "database", "wxyz"),
    ]
    assert len({tuple(key) for key in found}) == 1, "each has the same fields"


async def test_one_key_is_shown_without_the_key() -> None:
    fake = FakeKeyring((record("a"),))
    call = await ask(fake, "GET", "/fleet/keys/a")
    assert (call.status, orjson.loads(call.answer)["name"]) == (200, "a")
    assert SECRET.encode() not in call.answer
    declared = orjson.loads((await ask(fake, "GET", "/fleet/keys/static")).answer)
    assert (declared["source"], declared["scopes"]) == ("topology", ["fleet:read", "inference"])
    missing = await ask(fake, "GET", "/fleet/keys/nobody")
    assert (missing.status, missing.error["code"]) == (404, "key_not_found")


@pytest.mark.parametrize(("revoked", "source"), [(None, "database"), (NOW, "topology")])
async def test_of_two_of_one_name_the_live_one_of_the_database_is_shown(revoked: float | None, source: str) -> None:
    call = await ask(FakeKeyring((record("static", revoked=revoked),)), "GET", "/fleet/keys/static")
    assert orjson.loads(call.answer)["source"] == source


async def test_an_exchange_shows_the_new_key_and_a_revocation_none() -> None:
    fake = FakeKeyring()
    rotated = await ask(fake, "POST", "/fleet/keys/ci/rotate")
    assert (rotated.status, orjson.loads(rotated.answer)["key"]) == (200, SECRET)
    assert rotated.headers[b"cache-control"] == b"no-store"
    revoked = await ask(fake, "DELETE", "/fleet/keys/ci")
    assert (revoked.status, orjson.loads(revoked.answer)["state"]) == (200, "revoked")
    assert SECRET.encode() not in revoked.answer
    assert fake.asked == [("rotate", "ci"), ("revoke", "ci")]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (keys.not_found("ci"), 404, "key_not_found"),
        (keys.taken("ci"), 409, "key_exists"),
        (keys.is_declared("ci"), 409, "key_declared"),
        (keys.is_over(record(), "expired"), 409, "key_expired"),
        (keys.is_over(record(), "revoked"), 409, "key_revoked"),
        (keys.unchangeable(), 503, "service_unavailable"),
        (keys.unknown_yet(), 503, "service_unavailable"),
    ],
)
async def test_every_refusal_is_a_sentence_and_a_code(error: ApiError, status: int, code: str) -> None:
    requests = [
        ("POST", "/fleet/keys", {"name": "ci"}),
        ("POST", "/fleet/keys/ci/rotate"),
        ("DELETE", "/fleet/keys/ci"),
        ("PATCH", "/fleet/keys/ci", {"weight": 2}),
    ]
    for method, path, *body in requests:
        call = await ask(FakeKeyring(error=error), method, path, *body)
        assert (call.status, call.error["code"], call.error["message"]) == (status, code, str(error))
        assert call.error["message"].endswith(".")
        assert (b"retry-after" in call.headers) == (status == 503)


async def test_a_log_says_who_changed_what_and_no_key() -> None:
    app = json_app("keys")
    key_routes.add_routes(app, FakeKeyring())
    scope = {**scope_of("POST", "/fleet/keys"), auth.KEY: DECLARED}
    with capture_logs() as logs:
        await Call(scope, b'{"name": "ci"}').run(app)
        await Call(scope_of("PATCH", "/fleet/keys/ci"), b'{"weight": 2, "models": null}').run(app)
        await Call(scope_of("DELETE", "/fleet/keys/ci")).run(app)
    assert [(log["event"], log["key"], log["by"]) for log in logs] == [
        ("key.created", "ci", "static"),
        ("key.changed", "ci", None),
        ("key.revoked", "ci", None),
    ]
    assert logs[1]["changed"] == ["models", "weight"]
    assert SECRET not in str(logs)


def test_a_key_is_long_random_and_one_word() -> None:
    found = {new_key() for _ in range(100)}
    assert len(found) == 100
    for key in found:
        assert key.startswith("hx-")
        assert len(key) == 43
        assert key[3:].isalnum()
        assert key.isascii()


def test_what_is_kept_of_a_key_is_shown_by_nobody_who_prints_it() -> None:
    made = Made(record(), SECRET)
    assert SECRET not in repr(made)
    assert made.record.hash == auth.sha256(SECRET.encode())
    assert made.record.hash not in repr(made)


@pytest.mark.parametrize(
    ("expires", "revoked", "state"),
    [(None, None, "active"), (NOW + 0.1, None, "active"), (NOW, None, "expired"), (NOW, 1.0, "revoked")],
)
def test_a_key_is_in_one_state(expires: float | None, revoked: float | None, state: str) -> None:
    assert record(expires=expires, revoked=revoked).state(NOW) == state


def test_the_gate_is_told_what_it_has_to_know() -> None:
    kept = record(account="a", scopes=("audio",), models=("m",), expires=5.0, budgets=(PER_DAY,), weight=2)
    assert kept.key() == auth.Key("ci", "a", frozenset({"audio"}), ("m",), 5.0, "1", (PER_DAY,), 2, None)
