"""Many mistakes at once: all are told, each once, and none that only follows from another."""

import copy
import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from config import HOMELAB, Problem, TopologyError, parse

EVERYTHING = """\
[cortex]
listen = 8080
metrics_listen = "127.0.0.1:13131"
[[neurons]]
name = "a"
preload = ["nope", "b/../c"]
[[neurons]]
listen = "127.0.0.1:1"
[[neurons]]
name = "z"
devices = ["cuda:0", 5]
listen = "127.0.0.1:2"
[[models]]
id = "b/../c"
quant = 4
[[models]]
id = "m"
tensor_parallel = true
priority = "10"
pinned_on = ["zz"]
[aliases]
m = "m"
[[entitlements.keys]]
name = "k"
window = { kind = "rolling" }
"""


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    with pytest.raises(TopologyError) as caught:
        parse(EVERYTHING, name="f")
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (2, "cortex.listen"),
        (4, "neurons.0.listen"),
        (6, "neurons.0.preload.0"),
        (7, "neurons.1.name"),
        (11, "neurons.2.devices.1"),
        (14, "models.0.id"),
        (15, "models.0.quant"),
        (18, "models.1.tensor_parallel"),
        (19, "models.1.priority"),
        (20, "models.1.pinned_on.0"),
        (22, "aliases.m"),
        (23, "entitlements.keys.0.key_env"),
        (25, "entitlements.keys.0.window.period"),
    ]
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]


def test_a_mistake_in_one_entry_does_not_shift_the_places_of_its_neighbours() -> None:
    text = '[[models]]\nquant = "int4"\n[[models]]\nid = "m"\npinned_on = ["x"]\n'
    with pytest.raises(TopologyError) as caught:
        parse(text, name="f")
    assert [problem.path for problem in caught.value.problems] == ["models.0.id", "models.1.pinned_on.0"]


def test_what_only_follows_from_another_mistake_is_not_told() -> None:
    """The alias is fine once the id is; the listeners do not clash once the address is one."""
    text = "cortex.listen = 1\ncortex.metrics_listen = '127.0.0.1:31313'\nmodels = [{ id = '/m' }]\naliases.x = '/m'"
    with pytest.raises(TopologyError) as caught:
        parse(text)
    assert [problem.path for problem in caught.value.problems] == ["cortex.listen", "models.0.id"]


def test_a_wrong_kind_or_source_does_not_make_the_rest_of_its_table_wrong() -> None:
    keys = "[[entitlements.keys]]\nname = 'k'\nkey_env = 5\nwindow = { kind = 'rollin', period = '1h' }"
    with pytest.raises(TopologyError) as caught:
        parse(keys)
    assert [problem.path for problem in caught.value.problems] == [
        "entitlements.keys.0.key_env",
        "entitlements.keys.0.window.kind",
    ]


def test_entries_that_are_no_tables_do_not_hide_the_others() -> None:
    with pytest.raises(TopologyError) as caught:
        parse("models = [{ id = 'm', quant = 3 }, 5]\naliases.x = 'm'\naliases.y = 'n'")
    assert [problem.path for problem in caught.value.problems] == ["models.0.quant", "models.1", "aliases.y"]


@pytest.mark.parametrize(
    "text",
    [
        "[[providers]]\nname = 'p'\napi_key = 'sk-live-1'",
        "[[providers]]\nname = 'p'\napi_key_env = 'sk-live-1'",
        "[[entitlements.keys]]\nname = 'k'\nkey = 'sk-live-1'",
        "[[entitlements.keys]]\nname = 'k'\nkey_hash = 'sk-live-1'",
        "[cortex]\nsecret_env = 'sk-live-1'",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(text: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(text)
    assert "sk-live" not in str(caught.value)


def test_long_values_are_cut_short() -> None:
    with pytest.raises(TopologyError) as caught:
        parse(f"cortex.listen = '{'x' * 500}'")
    assert f'"{"x" * 60}…" is not an address' in str(caught.value)


def test_absurd_nesting_is_a_problem_and_not_a_crash() -> None:
    with pytest.raises(TopologyError, match="is nested too deeply"):
        parse("x = " + "[" * 20_000)


def test_a_problem_reads_as_place_key_message_and_hint() -> None:
    assert str(Problem("f", 3, "a.b", "is wrong", "be right")) == "f:3: a.b: is wrong (be right)"
    assert str(Problem("f", None, "", "is wrong")) == "f: is wrong"


_homelab = tomllib.loads(HOMELAB.read_text())
_samples = (
    st.sampled_from(
        ["", "beast", "never", "1s", "127.0.0.1:1", 0, -1, 10**30, 1.5, True, [], {}, [{}], [5], ["a", "a"]]
    )
    | st.text(max_size=5)
    | st.dictionaries(
        st.sampled_from(["id", "name", "kind", "max", "x"]), st.integers() | st.text(max_size=3), max_size=2
    )
)
_junk = _samples.map(copy.deepcopy)  # what is drawn may be spoilt in its turn


def _spoil(node: Any, data: st.DataObject) -> None:
    """Replace, remove or add something at a random depth."""
    keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
    key = data.draw(st.sampled_from(keys)) if keys else None
    if key is not None and isinstance(node[key], dict | list) and data.draw(st.booleans()):
        _spoil(node[key], data)
    elif key is None or data.draw(st.booleans()):
        node.update({"added": data.draw(_junk)}) if isinstance(node, dict) else node.append(data.draw(_junk))
    elif data.draw(st.booleans()):
        del node[key]
    else:
        node[key] = data.draw(_junk)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_document_is_a_fleet_or_a_list_of_problems(data: st.DataObject) -> None:
    document = copy.deepcopy(_homelab)
    for _ in range(data.draw(st.integers(1, 5))):
        _spoil(document, data)
    try:
        parse(tomli_w.dumps(document))
    except TopologyError as error:
        told = [(problem.path, problem.message) for problem in error.problems]
        assert told  # either outcome is right; this one has to say something
        assert len(set(told)) == len(told)


_variables = st.lists(
    st.sampled_from(["CORTEX", "neurons", "models", "listen", "0", "beast", "cost", "devices", "ALIASES", "x", ""]),
    max_size=4,
).map(lambda parts: "__".join(["HELEXA", *parts]))


@settings(deadline=None, max_examples=200)
@given(
    st.data(),
    st.dictionaries(_variables, st.sampled_from(["1", "x", "[", "{}", "[]", "[{}]", "0.0.0.0:1"]), max_size=4),
)
def test_any_environment_is_an_override_or_a_list_of_problems(data: st.DataObject, env: dict[str, str]) -> None:
    document = copy.deepcopy(_homelab)
    _spoil(document, data)
    try:
        parse(tomli_w.dumps(document), env=env)
    except TopologyError as error:
        assert error.problems  # noqa: PT017  # either outcome is right; this one has to say something
