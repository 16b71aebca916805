"""Which models a key may use: patterns, aliases, and names made to get round them."""

import pytest

from helexa.cortex.access.auth import Key, check_model, permitted
from helexa.wire.errors import ApiError


@pytest.mark.parametrize(
    ("models", "name", "allowed"),
    [
        ((), "anything", True),
        (("m/x",), "m/x", True),
        (("m/x",), "M/X", False),
        (("m/x",), "m/x2", False),
        (("m/x",), "am/x", False),
        (("m/*",), "m/x/y", True),
        (("m/*",), "m/", True),
        (("m/?",), "m/xy", False),
        (("a", "m/*"), "m/x", True),
        (("[a-z]",), "a", False),
        (("m.x",), "mzx", False),
        (("m/x",), "m/x\n", False),
        (("real",), "alias", True),
        (("alias",), "alias", True),
        (("other",), "alias", False),
    ],
)
def test_a_key_may_use_the_models_that_its_patterns_name(models: tuple[str, ...], name: str, *, allowed: bool) -> None:
    key, aliases = Key("k", "k", frozenset(), models), {"alias": "real"}
    assert permitted(key, name, aliases) == allowed
    if allowed:
        check_model(key, name, aliases)
        return
    with pytest.raises(ApiError) as raised:
        check_model(key, name, aliases)
    assert (raised.value.status, raised.value.type, raised.value.code, raised.value.param) == (
        403,
        "permission_error",
        "model_not_permitted",
        "model",
    )


def test_without_a_key_every_model_is_permitted() -> None:
    assert permitted(None, "anything", {})


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not Key("k", "k", frozenset(), ("*a" * 100,)).allows("a" * 99 + "b" * 100_000)
