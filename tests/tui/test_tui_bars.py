"""Bars, sparklines and charts as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.bars import bar, grade
from tui.widgets.sparkline import chart, latest, sparkline

PARTS = st.none() | st.floats(-2, 3)
READINGS = st.lists(st.none() | st.floats(0, 1e9), max_size=200)


@pytest.mark.parametrize("unicode", [True, False])
@given(part=PARTS, width=st.integers(0, 60))
def test_a_bar_is_as_wide_as_it_was_told(part: float | None, width: int, *, unicode: bool) -> None:
    assert bar(part, width, "blue", unicode=unicode).cell_len == width


def test_a_bar_is_half_a_character_fine() -> None:
    drawn = [bar(part, 4, "blue", unicode=True).plain for part in (0.0, 0.125, 0.5, 0.7, 1.0)]
    assert drawn == ["────", "╾───", "━━──", "━━╾─", "━━━━"]


def test_what_is_in_use_at_all_is_seen_and_only_what_is_full_is_full() -> None:
    assert bar(0.0001, 4, "blue", unicode=True).plain == "╾───"
    assert bar(0.999, 4, "blue", unicode=True).plain == "━━━╾"


def test_a_bar_in_ascii_tells_full_and_empty_apart() -> None:
    assert bar(0.5, 4, "blue", unicode=False).plain == "==.."


def test_what_is_unknown_has_no_bar() -> None:
    assert bar(None, 4, "blue", unicode=True).plain == "    "


@pytest.mark.parametrize(("value", "style"), [(None, "blue"), (0.5, "blue"), (0.9, "yellow"), (0.97, "red")])
def test_a_figure_has_the_style_of_its_grade(value: float | None, style: str) -> None:
    assert grade(value, 0.85, 0.97) == style


@pytest.mark.parametrize("unicode", [True, False])
@given(values=READINGS, width=st.integers(0, 80))
def test_a_sparkline_is_as_wide_as_it_was_told(values: list[float | None], width: int, *, unicode: bool) -> None:
    assert sparkline(values, width, "blue", unicode=unicode).cell_len == width


def test_the_newest_reading_is_at_the_right_and_brightest() -> None:
    line = sparkline([0.0, None, 1.0, 2.0], 6, "blue", unicode=True)
    assert line.plain == "  ▁ ▅█"
    assert [(span.start, str(span.style)) for span in line.spans][-2:] == [(4, "blue dim"), (5, "blue")]


def test_older_readings_than_there_is_room_for_are_not_shown() -> None:
    assert sparkline([9.0, 1.0, 1.0], 2, "blue", unicode=True).plain == "██"


def test_a_course_of_nothing_is_a_faint_line() -> None:
    assert sparkline([0.0, 0.0], 2, "blue", unicode=True).plain == "▁▁"


def test_a_top_makes_courses_comparable() -> None:
    assert sparkline([0.5], 1, "blue", unicode=True, top=1.0).plain == "▅"
    assert sparkline([7.0], 1, "blue", unicode=True, top=1.0).plain == "█"


@pytest.mark.parametrize("unicode", [True, False])
@given(values=READINGS, width=st.integers(0, 60), height=st.integers(1, 8))
def test_a_chart_has_as_many_lines_of_one_width(
    values: list[float | None], width: int, height: int, *, unicode: bool
) -> None:
    lines = chart(values, (width, height), "blue", unicode=unicode)
    assert [line.cell_len for line in lines] == [width] * height


def test_a_chart_grows_upwards() -> None:
    lines = chart([0.0, 0.25, 0.5, 1.0, None], (5, 2), "blue", unicode=True)
    assert [line.plain for line in lines] == ["   █ ", "▁▄██ "]


def test_only_the_latest_of_a_course_are_taken() -> None:
    assert latest([1.0, None, 3.0], 2) == [None, 3.0]
    assert latest(None, 2) == []
