"""Which providers may be asked: patterns, order, and what is forbidden whichever way a request comes."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Provider, Route, Topology
from helexa.cortex.exchange.outside import Denied, Outside, not_permitted, targets


def provider(name: str, **settings: Any) -> Provider:
    return Provider(name, base_url=f"http://{name}", **settings)


A, B, C = provider("a"), provider("b"), provider("c")


def decide(name: str, *routes: Route, providers: tuple[Provider, ...] = (A, B, C), **settings: Any) -> Any:
    topology = Topology(providers=providers, routes=routes, **settings)
    return targets(topology, name, topology.aliases.get(name, name))


def asked(found: Any) -> tuple[str, ...]:
    assert isinstance(found, Outside)
    return tuple(each.name for each in found.providers)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("claude-*", "claude-3", True),
        ("claude-*", "claude-", True),
        ("claude-*", "claude", False),
        ("claude-*", "my-claude-3", False),
        ("*", "", True),
        ("*/*", "a/b/c", True),
        ("gpt-?", "gpt-4", True),
        ("gpt-?", "gpt-45", False),
        ("gpt-[45]", "gpt-4", False),
        ("gpt-[45]", "gpt-[45]", True),
        ("a.c", "abc", False),
        ("GPT-*", "gpt-4", False),
        ("a*", "a\nb", True),
        ("**", "x", True),
    ],
)
def test_stars_and_question_marks_are_wildcards_and_all_else_is_itself(pattern: str, name: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert (decide(name, Route(pattern, ("a",))) is not None) is expected


def test_a_pattern_of_many_stars_is_no_trap() -> None:
    for pattern in ("*" * 200 + "b", "*a" * 50 + "*b", "a*" * 50 + "b"):
        began = time.process_time()
        assert decide("a" * 100_000, Route(pattern, ("a",))) is None
        assert time.process_time() - began < 1


def plain(pattern: str, name: str) -> bool:
    """Whether a pattern matches, by its definition."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(plain(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and plain(pattern[1:], name[1:])


@given(st.text("ab*?", max_size=7), st.text("ab", max_size=9))
def test_a_pattern_matches_what_its_definition_says(pattern: str, name: str) -> None:
    assert (decide(name, Route(pattern or "a", ("a",))) is not None) is plain(pattern or "a", name)


def test_the_first_route_that_matches_decides() -> None:
    routes = (Route("gpt-4*", ("b", "a")), Route("gpt-*", ("c",)), Route("*", ("a",)))
    assert [asked(decide(name, *routes)) for name in ("gpt-4o", "gpt-5", "x")] == [("b", "a"), ("c",), ("a",)]


def test_without_a_route_nobody_is_asked() -> None:
    assert decide("x") is None
    assert decide("x", Route("y", ("a",))) is None


def test_a_route_may_name_the_model_to_ask_for() -> None:
    found = decide("small", Route("small", ("a",), model="gpt-5-nano"))
    assert (found.model, found.route.pattern) == ("gpt-5-nano", "small")


def test_an_alias_is_the_model_it_stands_for() -> None:
    found = decide("large", Route("big*", ("a",)), aliases={"large": "big-1"})
    assert (asked(found), found.model) == (("a",), "big-1")
    assert decide("large", Route("large", ("a",)), aliases={"large": "big-1"}) is None


@pytest.mark.parametrize("name", ["gpt-4-secret", "GPT-4-SECRET", " gpt-4-secret ", "gpt-4-Secret-2"])
def test_what_a_route_denies_goes_nowhere_not_even_to_a_later_route(name: str) -> None:
    found = decide(name, Route("*", ("a",), deny=("gpt-4-secret*",)), Route("*", ("b",)))
    assert isinstance(found, Denied)
    error = not_permitted(found)
    assert (error.status, error.type, error.code, error.param) == (
        403,
        "permission_error",
        "model_not_permitted",
        "model",
    )
    assert f"'{name}'" in error.message


def test_an_alias_of_what_is_denied_is_denied_under_either_name() -> None:
    route = Route("*", ("a",), deny=("big-1", "nick"))
    for aliases in ({"large": "big-1"}, {"large": "nick"}):
        assert isinstance(decide("large", route, aliases=aliases), Denied)
    assert isinstance(decide("nick", route, aliases={"nick": "fine"}), Denied)


@pytest.mark.parametrize("rule", [{"deny": ("gpt-*",)}, {"allow": ("claude-*",)}])
def test_what_a_provider_may_not_have_is_not_sent_to_the_next_either(rule: dict[str, Any]) -> None:
    first, last = provider("a", **rule), provider("c", **rule)
    route = Route("*", ("a", "b"))
    assert isinstance(decide("gpt-4", route, providers=(first, B)), Denied)
    assert asked(decide("gpt-4", Route("*", ("b", "c", "a")), providers=(A, B, last))) == ("b",)
    assert asked(decide("claude-3", route, providers=(first, B))) == ("a", "b")


def test_what_a_provider_may_have_is_told_by_the_name_it_is_asked_for() -> None:
    only = provider("a", allow=("gpt-5-nano",))
    assert asked(decide("small", Route("small", ("a",), model="gpt-5-nano"), providers=(only,))) == ("a",)
    assert isinstance(decide("gpt-5-nano", Route("*", ("a",), model="gpt-5"), providers=(only,)), Denied)


@pytest.mark.parametrize("name", ["secret-1", "nick"])
def test_what_a_provider_denies_stays_denied_when_the_route_asks_by_another_name(name: str) -> None:
    """An operator who denies a name means it, whatever it is called on the way."""
    route, strict = Route("*", ("a",), model="harmless"), provider("a", deny=("secret*",))
    assert isinstance(decide(name, route, providers=(strict,), aliases={"nick": "secret-1"}), Denied)
