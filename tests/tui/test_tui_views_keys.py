"""What the Keys screen says of keys, and what its form asks for: without a terminal."""

from typing import Any

import catalogues as c
import pytest
from consoles import NOW
from hypothesis import given
from hypothesis import strategies as st

from tui.views import keys
from tui.views.keyform import FIELDS, SCOPES, FormError, wanted
from tui.views.keyring import Budget, Key, Keyring, fullest
from tui.world import World


def world(**answers: Any) -> World:
    found = World()
    for feed, data in {"fleet": c.FLEET, **answers}.items():
        found.take(feed, data, NOW)
    return found


KNOWN = world(keys=c.KEYS, accounts=c.ACCOUNTS, usage=c.USAGE)
RING = Keyring.of(KNOWN)


def row(name: str, ring: Keyring = RING, *, revoked: bool = False) -> dict[str, str]:
    (found,) = [row for row in keys.rows(ring, revoked=revoked) if str(row.cells["name"]) == name]
    return {column: str(cell) for column, cell in found.cells.items()}


def test_the_budget_that_ends_first_is_shown_be_it_the_accounts() -> None:
    assert row("nightly")["budget"].endswith(" 98% $")
    assert row("app")["budget"].endswith(" 20% requests")
    assert row("operator")["budget"] == "no limit"


def test_what_a_key_has_spent_comes_from_its_usage() -> None:
    assert (row("nightly")["usd"], row("nightly")["requests"], row("nightly")["tokens"]) == (
        "3.50",
        "1,200",
        "4,600,000",
    )
    assert row("app")["usd"] == "0.012"
    assert row("operator")["usd"] == "0.00"


def test_what_nobody_tells_is_not_taken_for_nothing() -> None:
    ring = Keyring.of(world(keys=c.KEYS))
    assert row("nightly", ring)["usd"] == ""
    unknown = Keyring.of(world(keys={"keys": [c.key("k", c.budget("tokens", 5, None))]}))
    assert row("k", unknown)["budget"].endswith("? tokens")


def test_times_are_told_as_distances() -> None:
    assert (row("nightly")["expires"], row("old")["expires"], row("app")["expires"]) == ("in 3d", "24h ago", "never")


def test_revoked_keys_are_shown_only_where_they_are_wanted_and_counted_otherwise() -> None:
    assert len(keys.rows(RING, revoked=False)) == 4
    assert "revoked" in row("lost", revoked=True)["state"]
    assert keys.hint(RING, KNOWN, revoked=False) == "1 revoked key is hidden: v"
    assert keys.hint(RING, KNOWN, revoked=True) == ""


def test_a_name_that_was_given_again_is_another_row() -> None:
    again = {"keys": [c.key("k"), c.key("k", state="revoked", revoked=1.0), c.key("k", state="revoked", revoked=2.0)]}
    rows = keys.rows(Keyring.of(world(keys=again)), revoked=True)
    assert len({row.key for row in rows}) == 3


def test_all_that_is_known_of_a_key_is_told() -> None:
    key = next(key for key in RING.keys if key.name == "nightly")
    told = keys.details(RING, key).plain
    for part in (
        "92%  4,600,000 of 5,000,000 tokens per 1d",
        "17%  3.50 of 20.00 USD",
        "98%  49.00 of 50.00 USD",
        "owner=[ops]",
        "1,200 requests, 3.50 USD",
        "ends in x7Qa",
        "(in 3d)",
    ):
        assert part in told


def test_what_is_set_aside_counts_as_used() -> None:
    assert Budget("tokens", 100, None, 50, 25).part == 0.75
    assert Budget("tokens", 0, None, 0).part == 1.0
    assert Budget("tokens", 10, None, 90).part == 1.0


def test_of_budgets_that_nobody_knows_about_any_is_told() -> None:
    unknown = Budget("tokens", 5)
    assert fullest([unknown]) is unknown
    assert fullest([unknown, Budget("usd", 5, None, 1)]) == Budget("usd", 5, None, 1)
    assert fullest([]) is None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (Key("k", "active", "topology"), "topology file"),
        (Key("k", "revoked", "database"), "revoked already"),
        (Key("k", "active", "database"), None),
        (Key("k", "expired", "database"), None),
    ],
)
def test_only_keys_that_were_made_and_not_revoked_can_be_changed(key: Key, words: str | None) -> None:
    told = keys.may_change(key)
    assert told is None if words is None else words in (told or "")


@pytest.mark.parametrize("width", [80, 120, 166, 250])
def test_the_columns_are_never_wider_than_the_terminal(width: int) -> None:
    found = keys.columns(RING, width)
    assert sum((column.width or 0) + 2 for column in found) <= width
    assert [column.key for column in found][:5] == ["name", "state", "budget", "usd", "expires"]


def test_why_there_is_nothing_to_see_is_said() -> None:
    denied = world()
    denied.take("keys", None, NOW, "This API key lacks the scope 'fleet:admin'.")
    assert "lacks the scope" in keys.trouble(denied)
    assert "has no keys" in keys.trouble(world(keys={"keys": []}))
    assert keys.trouble(world()) == ""
    partly = world(keys=c.KEYS)
    partly.take("usage", None, NOW, "the database is away")
    assert "no usage: the database is away" in keys.hint(Keyring.of(partly), partly, revoked=True)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["tokens", "usd", "per", "spent"]), inner)
    ),
    max_leaves=5,
)
NAMES = (
    "name",
    "state",
    "account",
    "scopes",
    "labels",
    "budgets",
    "weight",
    "max_in_flight",
    "expires",
    "usd",
    "requests",
)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ODD) | ODD, max_size=3) | ODD)
def test_whatever_a_fleet_answers_is_shown(answer: Any) -> None:
    found = world(keys={"keys": answer}, accounts={"accounts": answer}, usage={"usage": answer})
    ring = Keyring.of(found)
    keys.rows(ring, revoked=True)
    keys.columns(ring, 80)
    for key in ring.keys:
        keys.details(ring, key)


def test_a_form_with_a_name_alone_asks_for_a_key_as_usual() -> None:
    assert wanted({"name": " app "}, ["inference"]) == {"name": "app", "scopes": ["inference"]}


def test_all_that_is_typed_is_asked_for() -> None:
    typed = {
        "name": "app",
        "account": "web",
        "models": "team/*, big ,",
        "budgets": "5_000tokens/1d, 20usd",
        "expires_in": "30d",
        "max_in_flight": "8",
    }
    assert wanted(typed, SCOPES[:2]) == {
        "name": "app",
        "scopes": ["inference", "embeddings"],
        "account": "web",
        "models": ["team/*", "big"],
        "budgets": [{"tokens": 5000, "per": 86_400.0}, {"usd": 20.0, "per": None}],
        "expires_in": 30 * 86_400.0,
        "max_in_flight": 8,
    }


def test_a_key_that_never_expires_may_say_so() -> None:
    assert wanted({"name": "k", "expires_in": "never"}, ["inference"])["expires_in"] is None


@pytest.mark.parametrize(
    ("typed", "scopes", "field", "words"),
    [
        ({}, ["inference"], "name", "needs a name"),
        ({"name": "k"}, [], "scopes", "choose a scope"),
        ({"name": "k", "budgets": "5"}, ["inference"], "budgets", '"5" is not a budget'),
        ({"name": "k", "budgets": "5tokens/0s"}, ["inference"], "budgets", "out of range"),
        ({"name": "k", "budgets": "9" * 5000 + "tokens"}, ["inference"], "budgets", "too many digits"),
        ({"name": "k", "expires_in": "soon"}, ["inference"], "expires_in", "soon"),
        ({"name": "k", "expires_in": "0s"}, ["inference"], "expires_in", "before it could be used"),
        ({"name": "k", "max_in_flight": "0"}, ["inference"], "max_in_flight", "from 1 up"),
        ({"name": "k", "max_in_flight": "-3"}, ["inference"], "max_in_flight", "from 1 up"),
        ({"name": "k", "max_in_flight": "9" * 50}, ["inference"], "max_in_flight", "from 1 up"),
    ],
)
def test_what_cannot_be_asked_for_is_said_with_its_line(
    typed: dict[str, str], scopes: list[str], field: str, words: str
) -> None:
    with pytest.raises(FormError) as raised:
        wanted(typed, scopes)
    assert raised.value.field == field
    assert words in str(raised.value)


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.text(max_size=12)))
def test_whatever_is_typed_is_a_request_or_a_sentence(typed: dict[str, str]) -> None:
    told = ""
    try:
        told = wanted(typed, ["inference"])["name"]
    except FormError as error:
        told = f"{error.field}: {error}"
    assert told
