"""A table whose rows come anew every second, and which changes only where they differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from attrs import frozen
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist

Cell: TypeAlias = str | Text


@frozen
class Column:
    """A column.

    Attributes:
        key: what rows call its cell.
        title: its head.
        width: characters; ``None``: as wide as its widest cell.
        right: whether its cells end at the right, as figures do.
    """

    key: str
    title: str
    width: int | None = None
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


class LiveTable(DataTable[Cell]):
    """Rows that are shown again and again. Cursor and scroll position stay where the operator left them.

    Rows are kept whole; those that a filter hides are not in the table.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("g", "scroll_top", "Top", show=False),
        Binding("G", "scroll_bottom", "Bottom", show=False),
    ]

    def __init__(self, columns: Sequence[Column], **options: Any) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, **options)
        self._plan = tuple(columns)
        self._all: tuple[Row, ...] = ()
        self._wanted: tuple[str, ...] = ()
        self._drawn: dict[str, tuple[Cell, ...]] = {}

    def on_mount(self) -> None:
        """Make the columns."""
        self._make_columns()

    def _make_columns(self) -> None:
        for column in self._plan:
            self.add_column(
                Text(column.title, justify="right" if column.right else "left"), key=column.key, width=column.width
            )

    @property
    def current(self) -> str | None:
        """The key of the row that the cursor is on."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(Coordinate(self.cursor_row, 0)).row_key.value

    def filter(self, text: str) -> None:
        """Show only rows that hold each of the words."""
        self._wanted = tuple(text.lower().split())
        self.show_rows(self._all)

    def show_rows(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> None:
        """Show these, in their order; from now on in other columns, where some are given."""
        anew = columns is not None and tuple(columns) != self._plan
        self._plan = self._plan if columns is None else tuple(columns)
        self._all = tuple(rows)
        shown = {row.key: self._cells(row) for row in self._all if row.matches(self._wanted)}
        if list(shown) == list(self._drawn) and not anew:
            self._update(shown)
        else:
            self._rebuild(shown, anew=anew)
        self._drawn = shown

    def _cells(self, row: Row) -> tuple[Cell, ...]:
        return tuple(_cell(row.cells.get(column.key, ""), column) for column in self._plan)

    def _update(self, shown: Mapping[str, tuple[Cell, ...]]) -> None:
        for key, cells in shown.items():
            for column, cell, before in zip(self._plan, cells, self._drawn[key], strict=True):
                if cell != before:
                    self.update_cell(key, column.key, cell, update_width=column.width is None)

    def _rebuild(self, shown: Mapping[str, tuple[Cell, ...]], *, anew: bool) -> None:
        """Rows have come, gone or changed places; or they have new columns."""
        current, at, top = self.current, self.cursor_row, round(self.scroll_y)
        height = max(1, self.scrollable_content_region.height - self.header_height)
        with self.app.batch_update():
            self.clear(columns=anew)
            if anew:
                self._make_columns()
            for key, cells in shown.items():
                self.add_row(*cells, key=key)
            row = self._place(current, at)
            self.move_cursor(row=row, animate=False, scroll=False)
            self.scroll_to(y=scrolled(top, height, at, row), animate=False, immediate=True)

    def _place(self, key: str | None, otherwise: int) -> int:
        """The row of a key; where it was, if that is gone."""
        try:
            return self.get_row_index(key or "")
        except RowDoesNotExist:
            return min(otherwise, max(0, self.row_count - 1))


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


def _cell(value: Cell, column: Column) -> Cell:
    text = Text(value) if isinstance(value, str) else value  # the table takes the brackets of a str for markup
    return Text.assemble(text, justify="right") if column.right else text
