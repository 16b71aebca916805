"""Terminals that can do less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.glyphs import SIGNS, has_unicode, sign
from tui.terminals import has_colours, in_ascii


@given(text=st.text())
def test_ascii_is_as_wide_as_what_it_stands_for(text: str) -> None:
    found = in_ascii(text)
    assert found.isascii()
    if text.isprintable():
        assert len(found) == cell_len(text)


@pytest.mark.parametrize(("text", "plain"), [("╭──╮", "+--+"), ("größe", "gro?e"), ("日本", "????"), ("● up", "* up")])
def test_what_looks_alike_stands_for_it(text: str, plain: str) -> None:
    assert in_ascii(text) == plain


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "vt100"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "vt100", "COLORTERM": "truecolor"}, True),
        ({"TERM": "dumb", "TEXTUAL_DRIVER": "web"}, True),
        ({"TERM": "one-that-nobody-knows"}, True),
    ],
)
def test_a_terminal_has_the_colours_that_it_and_the_operator_say(
    environment: dict[str, str],
    colours: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TERM", "NO_COLOR", "COLORTERM", "TEXTUAL_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_colours() is colours


def test_ascii_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_ASCII", "1")
    assert not has_unicode()
    assert all(sign(name).plain.isascii() for name in SIGNS)


def test_signs_of_good_busy_bad_and_off_differ_in_shape_and_not_in_colour_alone() -> None:
    for shape in ("glyph", "plain"):
        by_shape: dict[str, set[str]] = {}
        for found in SIGNS.values():
            by_shape.setdefault(getattr(found, shape), set()).add(found.style)
        mixed = {glyph: styles for glyph, styles in by_shape.items() if len(styles - {"dim"}) > 1}
        assert set(mixed) <= {"v"}  # draining, which is no verdict, and a regression, on no screen together
