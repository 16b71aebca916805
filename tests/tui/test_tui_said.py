"""Texts that stand at a place."""

import asyncio
from typing import Any

from rich.text import Text
from textual.app import App, ComposeResult
from textual.widgets import Static

from tui.widgets.said import say


class Place(Static):
    """Remembers which of its texts the screen was laid out for."""

    def __init__(self) -> None:
        super().__init__()
        self.laid_out: list[bool] = []

    def update(self, content: Any = "", *, layout: bool = True) -> None:
        self.laid_out.append(layout)
        super().update(content, layout=layout)


class Screenful(App[None]):
    def compose(self) -> ComposeResult:
        yield Place()


def laid_out(*texts: Text | None) -> tuple[list[bool], str, int]:
    """Of texts one after the other: for which there was a layout, what is shown at last, and in how many lines."""
    found: list[tuple[list[bool], str, int]] = []

    async def run() -> None:
        app = Screenful()
        async with app.run_test(size=(20, 10)) as pilot:
            place = app.query_one(Place)
            for text in texts:
                say(place, text)
                await pilot.pause()
            shown = [place.render_line(y).text.rstrip() for y in range(place.size.height)] if place.display else []
            found.append((place.laid_out, "\n".join(shown), place.size.height if place.display else 0))

    asyncio.run(run())
    return found[0]


def test_a_text_is_said_once() -> None:
    assert laid_out(Text("one"), Text("one")) == ([True], "one", 1)


def test_other_words_in_as_many_lines_leave_the_layout_alone() -> None:
    assert laid_out(Text("one\ntwo"), Text("three\nfour")) == ([True, False], "three\nfour", 2)


def test_another_colour_is_another_text() -> None:
    assert laid_out(Text("one"), Text("one", "red"))[0] == [True, False]
    assert laid_out(Text("one"), Text.assemble(("one", "red")))[0] == [True, False]


def test_more_lines_are_laid_out() -> None:
    assert laid_out(Text("one"), Text("one\ntwo")) == ([True, True], "one\ntwo", 2)


def test_a_line_that_is_folded_is_laid_out_and_so_is_the_one_after_it() -> None:
    told, shown, lines = laid_out(Text("one"), Text("word " * 6), Text("two"))
    assert (told, shown, lines) == ([True, True, True], "two", 1)
    assert laid_out(Text("one"), Text("word " * 6))[2] == 2


def test_a_line_of_wide_letters_is_folded_by_its_cells() -> None:
    assert laid_out(Text("one"), Text("字" * 12))[2] == 2


def test_nothing_to_say_hides_the_place_until_there_is_something() -> None:
    assert laid_out(Text("one"), None)[2] == 0
    assert laid_out(Text("one"), None, Text("one"))[1:] == ("one", 1)
