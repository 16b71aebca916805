"""A table that is told its rows again and again: what it shows, and that cursor and view stay with the operator."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets._data_table import DataTable

from tui.widgets.table import Column, LiveTable, Row, scrolled

COLUMNS = (Column("name", "name"), Column("count", "count", right=True))


class Alone(App[None]):
    """A table by itself."""

    def compose(self) -> ComposeResult:
        yield LiveTable(COLUMNS)

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)


def run(steps: Callable[[Alone, Pilot[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        app = Alone()
        async with app.run_test(size=(40, 12)) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(main())


def rows(*names: object, count: int = 0) -> list[Row]:
    return [Row(str(name), {"name": str(name), "count": str(count)}) for name in names]


def shown(table: LiveTable) -> list[str]:
    return [str(table.get_row_at(index)[0]) for index in range(table.row_count)]


def test_only_cells_that_differ_are_written(monkeypatch: object) -> None:
    del monkeypatch

    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table, written = app.table, list[str]()
        table.show_rows(rows("a", "b"))
        original = table.update_cell

        def update(row: str, column: str, *arguments: object, **named: object) -> None:
            written.append(f"{row}.{column}")
            original(row, column, *arguments, **named)  # type: ignore[arg-type] - passed on

        table.update_cell = update  # type: ignore[method-assign,assignment] - listened to
        table.show_rows([*rows("a"), *rows("b", count=1)])
        assert written == ["b.count"]
        assert str(table.get_row_at(1)[1]) == "1"

    run(steps)


def test_the_cursor_stays_on_its_row_when_rows_come_go_and_change_places() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows("a", "b", "c"))
        table.move_cursor(row=1)
        for order in ("xabc", "cba", "bx", "yzb"):
            table.show_rows(rows(*order))
            assert table.current == "b"
            assert shown(table) == list(order)

    run(steps)


def test_the_cursor_of_a_row_that_is_gone_stays_where_it_was_or_on_the_last_row() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows("a", "b", "c"))
        table.move_cursor(row=2)
        table.show_rows(rows("a", "b"))
        assert table.current == "b"
        table.show_rows([])
        assert table.current is None
        table.show_rows(rows("z"))
        assert table.current == "z"

    run(steps)


def test_a_filter_holds_for_rows_that_come_later() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.filter("AB c")
        table.show_rows([Row("1", {"name": "ab"}, "ab c"), Row("2", {"name": "ab"}), Row("3", {"name": "cab"})])
        assert shown(table) == ["ab", "cab"]
        table.filter("")
        assert table.row_count == 3

    run(steps)


def test_two_rows_of_one_key_are_one() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        app.table.show_rows([*rows("a"), *rows("a", count=2)])
        assert shown(app.table) == ["a"]

    run(steps)


def test_what_the_operator_has_scrolled_to_stays_in_sight_while_rows_are_added_above() -> None:
    async def steps(app: Alone, pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows(*range(100)))
        table.move_cursor(row=50)
        await pilot.pause()
        table.show_rows(rows(*range(-30, 100)))
        await pilot.pause()
        height = table.scrollable_content_region.height - table.header_height
        assert table.current == "50"
        assert table.scroll_y <= table.cursor_row < table.scroll_y + height

    run(steps)


@given(top=st.integers(0, 50), height=st.integers(1, 20), before=st.integers(0, 70), now=st.integers(0, 70))
def test_a_cursor_in_sight_stays_in_sight_and_a_view_elsewhere_is_left_alone(
    top: int, height: int, before: int, now: int
) -> None:
    found = scrolled(top, height, before, now)
    if top <= before < top + height:
        assert found <= now < found + height
        assert found == top or not top <= now < top + height
    else:
        assert found == top


def test_figures_end_at_the_right() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        app.table.show_rows(rows("a", count=7))
        cell = app.table.get_row_at(0)[1]
        assert getattr(cell, "justify", None) == "right"

    run(steps)


def test_it_is_a_table_of_textual() -> None:
    assert issubclass(LiveTable, DataTable)
