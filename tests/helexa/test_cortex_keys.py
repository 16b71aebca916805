"""Keys over HTTP: what is asked for, what is answered, and what is in no answer."""

from typing import Any

import orjson
import pytest
from attrs import define, evolve, field
from http_parts import Call, scope_of
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from helexa.cortex.access import auth, key_routes, keys
from helexa.cortex.access.auth import ALL_SCOPES
from helexa.cortex.access.keys import Made, Record, Wanted, new_key, read_wanted, record_of
from helexa.web.quart_errors import json_app
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

NOW = 1000.0
SECRET = "hx-" + "s" * 36 + "wxyz"
DECLARED = auth.Key("static", "team", frozenset({"inference", "fleet:read"}))


@define(eq=False)
class Fake:
    """Remembers what it was asked; an error is raised instead of an answer."""

    kept: tuple[Record, ...] = ()
    asked: list[tuple[Any, ...]] = field(factory=list)
    error: ApiError | None = None

    def records(self) -> tuple[Record, ...]:
        return self.kept

    def declared(self) -> tuple[auth.Key, ...]:
        return (DECLARED,)

    def record(self, name: str) -> Record:
        for record in self.kept:
            if record.name == name:
                return record
        raise keys.not_found(name)

    async def create(self, wanted: Wanted) -> Made:
        self.note("create", wanted)
        return Made(record_of(wanted, SECRET, "1", NOW), SECRET)

    async def rotate(self, name: str) -> Made:
        self.note("rotate", name)
        return Made(evolve(record(name), rotated=NOW), SECRET)

    async def revoke(self, name: str) -> Record:
        self.note("revoke", name)
        return evolve(record(name), revoked=NOW)

    def note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


def record(name: str = "ci", **settings: Any) -> Record:
    return evolve(record_of(Wanted(name), SECRET, "1", NOW), **settings)


async def ask(fake: Fake, method: str, path: str, body: Any = None) -> Call:
    app = json_app("keys")
    key_routes.add_routes(app, fake)
    data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    call = await Call(scope_of(method, path), data).run(app)
    assert auth.sha256(SECRET.encode()).encode() not in call.answer, "a hash is in no answer"
    return call


async def test_a_key_is_shown_by_the_answer_that_made_it() -> None:
    fake = Fake()
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
        "hint": "wxyz",
        "created": NOW,
        "rotated": None,
        "expires": NOW + 60,
        "revoked": None,
        "key": SECRET,
    }


async def test_a_name_is_enough() -> None:
    fake = Fake()
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
    ],
)
async def test_what_is_no_key_is_refused_with_the_field_at_fault(body: Any, code: str, param: str | None) -> None:
    fake = Fake()
    given_body = {"name": "ci", **body} if isinstance(body, dict) and body else body
    call = await ask(fake, "POST", "/fleet/keys", given_body)
    assert (call.status, call.error["code"], call.error["param"]) == (400, code, param)
    assert fake.asked == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["name", "account", "scopes", "models", "labels", "expires_in", "x"]), JSON))
def test_whatever_is_asked_for_is_a_key_or_the_clients_mistake(body: dict[str, Any]) -> None:
    status, wanted = 200, Wanted("none")
    try:
        wanted = read_wanted(Fields(body))
    except ApiError as error:
        status = error.status
    assert status in (200, 400)
    assert wanted.scopes
    assert set(wanted.scopes) <= set(ALL_SCOPES)


async def test_the_list_shows_no_key() -> None:
    kept = (record("a"), record("b", revoked=NOW), record("c", expires=NOW))
    call = await ask(Fake(kept), "GET", "/fleet/keys")
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
    fake = Fake((record("a"),))
    call = await ask(fake, "GET", "/fleet/keys/a")
    assert (call.status, orjson.loads(call.answer)["name"]) == (200, "a")
    assert SECRET.encode() not in call.answer
    declared = orjson.loads((await ask(fake, "GET", "/fleet/keys/static")).answer)
    assert (declared["source"], declared["scopes"]) == ("topology", ["fleet:read", "inference"])
    missing = await ask(fake, "GET", "/fleet/keys/nobody")
    assert (missing.status, missing.error["code"]) == (404, "key_not_found")


@pytest.mark.parametrize(("revoked", "source"), [(None, "database"), (NOW, "topology")])
async def test_of_two_of_one_name_the_live_one_of_the_database_is_shown(revoked: float | None, source: str) -> None:
    call = await ask(Fake((record("static", revoked=revoked),)), "GET", "/fleet/keys/static")
    assert orjson.loads(call.answer)["source"] == source


async def test_an_exchange_shows_the_new_key_and_a_revocation_none() -> None:
    fake = Fake()
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
    ]
    for method, path, *body in requests:
        call = await ask(Fake(error=error), method, path, *body)
        assert (call.status, call.error["code"], call.error["message"]) == (status, code, str(error))
        assert call.error["message"].endswith(".")
        assert (b"retry-after" in call.headers) == (status == 503)


async def test_a_log_says_who_changed_what_and_no_key() -> None:
    app = json_app("keys")
    key_routes.add_routes(app, Fake())
    scope = {**scope_of("POST", "/fleet/keys"), auth.KEY: DECLARED}
    with capture_logs() as logs:
        await Call(scope, b'{"name": "ci"}').run(app)
        await Call(scope_of("DELETE", "/fleet/keys/ci")).run(app)
    assert [(log["event"], log["key"], log["by"]) for log in logs] == [
        ("key.created", "ci", "static"),
        ("key.revoked", "ci", None),
    ]
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
    kept = record(account="a", scopes=("audio",), models=("m",), expires=5.0)
    assert kept.key() == auth.Key("ci", "a", frozenset({"audio"}), ("m",), 5.0)
