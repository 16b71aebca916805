"""A table that is told its rows again and again: what it shows, and that cursor and view stay with the operator."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from tui.widgets.table import Column, LiveTable, Row, scrolled

COLUMNS = (Column("name", "name", 9), Column("count", "count", 6, right=True))


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
    return [table.texts(row)[0] for row in table.rows]


def pictured(table: LiveTable) -> list[str]:
    return [table.render_line(y).text for y in range(table.size.height)]


def test_only_rows_that_differ_are_drawn_anew() -> None:
    async def steps(app: Alone, pilot: Pilot[None]) -> None:
        table, drawn = app.table, list[int]()
        table.show_rows(rows("a", "b", "c"))
        await pilot.pause()
        original = table.refresh

        def refresh(*regions: Region, **named: Any) -> LiveTable:
            drawn.extend(region.y for region in regions)
            return original(*regions, **named)

        setattr(table, "refresh", refresh)  # noqa: B010 - listened to
        table.show_rows([*rows("a"), *rows("b", count=1), *rows("c")])
        assert drawn == [2]
        assert pictured(table)[2].split() == ["b", "1"]

    run(steps)


def test_the_cursor_stays_on_its_row_when_rows_come_go_and_change_places() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows("a", "b", "c"))
        table.move(1)
        for order in ("xabc", "cba", "bx", "yzb"):
            table.show_rows(rows(*order))
            assert table.current == "b"
            assert shown(table) == list(order)

    run(steps)


def test_the_cursor_of_a_row_that_is_gone_stays_where_it_was_or_on_the_last_row() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows("a", "b", "c"))
        table.move(2)
        table.show_rows(rows("a", "b"))
        assert table.current == "b"
        table.show_rows([])
        assert (table.current, table.at) == (None, 0)
        table.show_rows(rows("z"))
        assert (table.current, table.at) == ("z", 0)

    run(steps)


def test_a_filter_holds_for_rows_that_come_later() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        table = app.table
        table.filter("AB c")
        table.show_rows([Row("1", {"name": "ab"}, "ab c"), Row("2", {"name": "ab"}), Row("3", {"name": "cab"})])
        assert shown(table) == ["ab", "cab"]
        table.filter("")
        assert table.count() == 3

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
        table.move(50)
        await pilot.pause()
        table.show_rows(rows(*range(-30, 100)))
        await pilot.pause()
        height = table.scrollable_content_region.height - 1
        assert table.current == "50"
        assert table.first <= table.at < table.first + height

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


def test_figures_end_at_the_right_and_what_is_too_long_with_an_ellipsis() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        app.table.show_rows([Row("1", {"name": "a much too long name", "count": "7"})])
        assert pictured(app.table)[:2] == [" name        count".ljust(40), " a much t…       7".ljust(40)]

    run(steps)


def test_what_is_cut_in_a_cell_is_whole_in_its_row() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        name = Text("a much too long name", "bold")
        app.table.show_rows([Row("1", {"name": name})])
        assert pictured(app.table)[1].startswith(" a much t… ")
        assert name.plain == "a much too long name"
        assert app.table.texts(app.table.rows[0]) == ["a much too long name", ""]

    run(steps)


def test_nothing_in_a_cell_moves_the_terminal() -> None:
    async def steps(app: Alone, _pilot: Pilot[None]) -> None:
        app.table.show_rows([Row("1", {"name": "a\n\x1b[2Jb[red]"})])
        assert all(line.isprintable() for line in pictured(app.table))
        assert "[red]" in pictured(app.table)[1] or "[2J" in pictured(app.table)[1]

    run(steps)


def test_keys_go_through_rows_and_to_what_is_wider_than_the_screen() -> None:
    async def steps(app: Alone, pilot: Pilot[None]) -> None:
        table = app.table
        table.show_rows(rows(*range(100)), (Column("name", "NAME", 38), Column("count", "COUNT", 10, right=True)))
        await pilot.press("down", "j", "end", "k", "home", "pagedown")
        assert table.current == "10"
        assert pictured(table)[0].split() == ["NAME"]
        await pilot.press(*["right"] * 20)
        await pilot.pause()
        assert pictured(table)[0].split() == ["COUNT"]

    run(steps)


def test_enter_and_a_second_click_open_a_row() -> None:
    opened: list[str | None] = []

    class Opening(Alone):
        def on_live_table_opened(self, message: LiveTable.Opened) -> None:
            opened.append(message.control.current)

    async def main() -> None:
        app = Opening()
        async with app.run_test(size=(40, 12)) as pilot:
            await pilot.press("enter")
            app.table.show_rows(rows("a", "b"))
            await pilot.press("enter")
            await pilot.click(LiveTable, offset=(3, 2))
            assert app.table.current == "b"
            await pilot.click(LiveTable, offset=(3, 2))

    asyncio.run(main())
    assert opened == ["a", "b"]
