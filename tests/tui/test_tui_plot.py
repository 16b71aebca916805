"""The plot of a course: what is where, in Unicode and without, and in any room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.plot import Spot, plot


def spot(value: float, label: str = "a", mark: tuple[str, str] | None = None) -> Spot:
    return Spot(value, value - 1, value + 1, mark, label)


def drawn(*spots: Spot, width: int = 40, height: int = 9, unicode: bool = False) -> list[str]:
    return [line.plain.rstrip() for line in plot(spots, width, height, lambda value: f"{value:.0f}", unicode=unicode)]


def test_a_rising_course_rises_from_left_to_right() -> None:
    lines = drawn(*map(spot, (10.0, 20.0, 30.0)))
    points = sorted((x, y) for y, line in enumerate(lines) for x, letter in enumerate(line) if letter == "*")
    assert len(points) == 3
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert points[-1][0] == 39  # the newest at the right end


def test_the_axis_tells_the_largest_value_on_top_and_the_least_at_the_bottom() -> None:
    lines = drawn(*map(spot, (10.0, 30.0)))
    figures = [int(line.split()[0]) for line in lines[:-1] if line.split()[0].isdigit()]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 28
    assert figures[-1] < 12


def test_a_build_is_named_once_under_its_first_run_and_parted_from_the_one_before() -> None:
    lines = drawn(*(spot(10.0, label) for label in ("one", "one", "two", "two")), width=60)
    assert lines[-1].split() == ["one", "two"]
    assert any(":" in line for line in lines)


def test_names_of_builds_that_would_run_into_each_other_are_left_out() -> None:
    lines = drawn(*(spot(10.0, f"build{number}") for number in range(12)), width=40)
    assert all(name.startswith("build") and len(name) <= 7 for name in lines[-1].split())


def test_a_mark_stands_in_place_of_the_point() -> None:
    lines = drawn(spot(10.0), spot(20.0, mark=("v", "red")))
    assert sum(line.count("v") for line in lines) == 1
    assert sum(line.count("*") for line in lines) == 1


def test_the_interval_of_a_lone_run_is_drawn_around_it() -> None:
    lines = drawn(spot(10.0))
    (x,) = (line.index("*") for line in lines if "*" in line)
    assert sum(line[x : x + 1] == "|" for line in lines) >= 2


def test_of_more_runs_than_there_are_columns_the_newest_are_drawn_and_a_marked_one_is_seen() -> None:
    spots = [spot(1000.0), *(spot(10.0) for _ in range(99)), spot(11.0, mark=("v", "red"))]
    assert any("v" in line for line in drawn(*spots))


@pytest.mark.parametrize(("width", "height"), [(19, 9), (40, 2), (0, 0)])
def test_too_little_room_is_no_plot(width: int, height: int) -> None:
    assert drawn(spot(1.0), width=width, height=height) == []


def test_an_axis_with_long_figures_leaves_no_room_for_a_plot() -> None:
    assert plot([spot(1.0)], 24, 9, lambda _: "1,234,567,890 tok/s", unicode=True) == []


def test_no_runs_are_no_plot() -> None:
    assert drawn() == []


@given(
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60), st.integers(20, 120), st.integers(3, 40), st.booleans()
)
def test_every_course_keeps_to_its_room(values: list[float], width: int, height: int, unicode: bool) -> None:  # noqa: FBT001 - drawn
    spots = [Spot(value, value, value, None, "b") for value in values]
    lines = plot(spots, width, height, lambda value: f"{value:.3g}", unicode=unicode)
    assert len(lines) in (0, height)
    assert all(line.cell_len <= width for line in lines)
    assert unicode or all(line.plain.isascii() for line in lines)
