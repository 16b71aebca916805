"""The lines of keys agree with the document, however it is written."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from config.positions import positions
from config.problems import Path

DOCUMENT = '''# a comment = 1
title = """
[not.a.table]
key = 1
"""                          # line 5
a.b."c.d" = 1                # line 6

[ x . "y z" ]                # line 8
list = [                     # line 9
  "]", # ]
  { k = 1, m.n = '}' },      # line 11
  [1,
   2],                       # line 13
]
when = 1979-05-27 07:32:00   # line 15
quotes = \'\'\'a''b\'\'\'\'\'           # line 16

[[n]]                        # line 18
[[n.m]]                      # line 19
[n.m.o]                      # line 20
[[n]]                        # line 21
[[n.m]]                      # line 22
"esc\\u0041ped" = "\\"#"       # line 23
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a", "b", "c.d"), 6),
        (("x", "y z"), 8),
        (("x", "y z", "list"), 9),
        (("x", "y z", "list", 0), 10),
        (("x", "y z", "list", 1, "m", "n"), 11),
        (("x", "y z", "list", 2, 1), 13),
        (("x", "y z", "when"), 15),
        (("x", "y z", "quotes"), 16),
        (("n",), 18),
        (("n", 0, "m", 0, "o"), 20),
        (("n", 1), 21),
        (("n", 1, "m", 0, "escAped"), 23),
    ],
)
def test_finds_the_line_of(path: Path, line: int) -> None:
    assert positions(DOCUMENT)[path] == line


def test_finds_every_path_of_the_document_and_no_other() -> None:
    assert set(positions(DOCUMENT)) == set(_paths(tomllib.loads(DOCUMENT)))


def test_counts_windows_line_ends_once() -> None:
    assert positions("a = 1\r\n\r\nb = 2\r\n") == {("a",): 1, ("b",): 3}


def _paths(node: Any, path: Path = ()) -> Iterator[Path]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from _paths(value, (*path, key))


_keys = st.text(max_size=4) | st.sampled_from(["a", "b-c", "1", "a.b", "#", '"', "'"])
_scalars = (
    st.integers(-(2**63), 2**63)
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["]", "}", "#", "'''", '"""', "\n[a]\nb = 1\n", "\\", "\r\n", "'", '"'])
    | st.datetimes()
    | st.times()
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=10,
)
_documents = st.dictionaries(_keys, _values, max_size=4)


@settings(deadline=None, max_examples=150)
@given(_documents, st.booleans())
def test_agrees_with_tomllib_on_which_paths_exist(document: dict[str, Any], multiline: bool) -> None:  # noqa: FBT001
    text = tomli_w.dumps(document, multiline_strings=multiline)
    assert set(positions(text)) == set(_paths(tomllib.loads(text)))


@settings(deadline=None, max_examples=150)
@given(_documents, st.data())
def test_agrees_with_tomllib_on_hand_written_styles(document: dict[str, Any], data: st.DataObject) -> None:
    lines = list(_write(document, (), data))
    text = "\n".join(lines)
    assert set(positions(text)) == set(_paths(tomllib.loads(text)))


def _write(table: dict[str, Any], path: tuple[str, ...], data: st.DataObject) -> Iterator[str]:
    """Write a table the way people do: dotted keys, inline tables, odd spaces, comments, tables out of order."""
    tables = [k for k, v in table.items() if isinstance(v, dict) and data.draw(st.booleans(), label="as table")]
    lists = [k for k, v in table.items() if _is_list_of_tables(v) and data.draw(st.booleans(), label="as tables")]
    for key in table.keys() - {*tables, *lists}:
        yield from _pair([key], table[key], data)
    for key in tables:
        yield f"[ {' . '.join(map(_key, (*path, key)))} ] # ]"
        yield from _write(table[key], (*path, key), data)
    for key in lists:
        for entry in table[key]:
            yield f"[[{'.'.join(map(_key, (*path, key)))}]]"
            yield from _write(entry, (*path, key), data)


def _pair(keys: list[str], value: Any, data: st.DataObject) -> Iterator[str]:
    if isinstance(value, dict) and value and data.draw(st.booleans(), label="dotted"):
        for key, inner in value.items():
            yield from _pair([*keys, key], inner, data)
        return
    yield ""
    yield f"\t{' .'.join(map(_key, keys))}= {_inline(value)} # x = 1"


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return tomli_w.dumps({key: 1}).rsplit(" = ", 1)[0]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " , ".join(f"{_key(key)} = {_inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[ # [\n" + ",\n".join(_inline(item) for item in value) + "\n]"
    return tomli_w.dumps({"k": value}).removeprefix("k = ").rstrip("\n")
