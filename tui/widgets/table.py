"""A table whose rows come anew every second."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from attrs import frozen
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.views.figures import fit
from tui.widgets.drawn import DrawnList

Cell: TypeAlias = str | Text


@frozen
class Column:
    """A column.

    Attributes:
        key: what rows call its cell.
        title: its head.
        width: characters.
        right: whether its cells end at the right, as figures do.
    """

    key: str
    title: str
    width: int
    right: bool = False


@frozen
class Row:
    """A row.

    Attributes:
        key: unique in the table; the cursor stays on it.
        cells: by column; what is missing is empty.
        words: what a filter looks at, in lower case; ``""``: the cells' text.
    """

    key: str
    cells: Mapping[str, Cell]
    words: str = ""

    def matches(self, wanted: Sequence[str]) -> bool:
        """Whether each of these, in lower case, is part of it."""
        words = self.words or " ".join(map(str, self.cells.values())).lower()
        return all(each in words for each in wanted)


class LiveTable(DrawnList):
    """Rows that are shown again and again. Cursor and scroll position stay where the operator left them.

    Args:
        columns: until rows come with others.

    Attributes:
        rows: those that a filter leaves, in their order.
        columns: those that are shown now.
    """

    TITLE_KIND = "livetable--title"
    CURSOR_KIND = "livetable--cursor"
    CURSOR_STAYS = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {TITLE_KIND, CURSOR_KIND, "livetable--even", "livetable--odd"}
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open", show=False)]

    @dataclass
    class Moved(Message):
        """The cursor is on another row, or on none."""

        table: "LiveTable"

        @property
        def control(self) -> "LiveTable":
            """The table, for selectors."""
            return self.table

    @dataclass
    class Opened(Message):
        """The operator wants to know more of the row that the cursor is on."""

        table: "LiveTable"

        @property
        def control(self) -> "LiveTable":
            """The table, for selectors."""
            return self.table

    def __init__(self, columns: Sequence[Column] = (), **options: Any) -> None:
        super().__init__(**options)
        self.rows: list[Row] = []
        self.columns = tuple(columns)
        self._all: tuple[Row, ...] = ()
        self._wanted: tuple[str, ...] = ()

    @property
    def current(self) -> str | None:
        """The key of the row that the cursor is on."""
        return self.rows[self.at].key if self.at < len(self.rows) else None

    def texts(self, row: Row) -> list[str]:
        """The cells of a row, in the order of the columns."""
        return [str(row.cells.get(column.key, "")) for column in self.columns]

    def filter(self, text: str) -> None:
        """Show only rows that hold each of the words."""
        self._wanted = tuple(text.lower().split())
        self.show_rows(self._all)

    def show_rows(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> None:
        """Show these, in their order, each key once; from now on in other columns, where some are given."""
        self.columns = self.columns if columns is None else tuple(columns)
        self._all = tuple(rows)
        current, before = self.current, self.at
        known = {row.key: row for row in self._all if row.matches(self._wanted)}
        self.rows = list(known.values())
        self.at = self._place(current)
        self.lay_out(sum(column.width + 2 for column in self.columns))
        self._keep_in_sight(before)
        if self.current != current:
            self.moved()

    def _place(self, key: str | None) -> int:
        """Where a row is; the cursor's place, if that is gone."""
        found = (number for number, row in enumerate(self.rows) if row.key == key)
        return next(found, max(0, min(self.at, len(self.rows) - 1)))

    def _keep_in_sight(self, before: int) -> None:
        height = max(1, self.scrollable_content_region.height - 1)
        wanted = scrolled(self.first, height, before, self.at)
        if wanted != self.first:
            self.scroll_to(y=wanted, animate=False, immediate=True, force=True)

    def go_to(self, key: str) -> bool:
        """Put the cursor on a row; whether there is such a row."""
        for number, row in enumerate(self.rows):
            if row.key == key:
                self.move(number)
                return True
        return False

    def count(self) -> int:
        """How many rows are shown."""
        return len(self.rows)

    def title_line(self, width: int) -> Text:
        """What the columns are."""
        del width
        return _joined((column.title, column) for column in self.columns)

    def line(self, number: int, width: int) -> tuple[Text, str]:
        """A row."""
        del width
        cells = self.rows[number].cells
        drawn = _joined((cells.get(column.key, ""), column) for column in self.columns)
        return drawn, "livetable--odd" if number % 2 else "livetable--even"

    def moved(self) -> None:
        """Tell of it."""
        self.post_message(self.Moved(self))

    def open(self) -> None:
        """Tell of it, if there is a row."""
        if self.rows:
            self.post_message(self.Opened(self))

    def action_open(self) -> None:
        """Enter."""
        self.open()


def scrolled(top: int, height: int, before: int, now: int) -> int:
    """The row at the top after the cursor's row has moved: as before, and the cursor in sight if it was.

    Args:
        top: the row that was there.
        height: rows in sight.
        before: the cursor's row.
        now: the one that it has got.
    """
    if not top <= before < top + height:
        return top
    return max(now - height + 1, min(top, now))


def _joined(cells: Iterable[tuple[Cell, Column]]) -> Text:
    """Cells side by side, each with a space before it and one behind."""
    line = Text()
    for cell, column in cells:
        own = cell if isinstance(cell, str) else cell.copy()  # what is cut here may be shown in full elsewhere
        line.append(" ").append_text(fit(own, column.width, right=column.right)).append(" ")
    return line
