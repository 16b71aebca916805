"""A live table that can be large: rows that are the same objects as before are not looked at again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tui.widgets.table import Cell, Column, LiveTable, Row


class MatrixTable(LiveTable):
    """Takes its columns with its rows: they change with the nodes, and with the width of the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__((), **options)
        self._made: dict[str, tuple[Row, tuple[Cell, ...]]] = {}

    def show_rows(self, rows: Iterable[Row], columns: Sequence[Column] | None = None) -> None:
        """Show these, in their order, and keep nothing of those that are gone."""
        shown = tuple(rows)
        kept = () if columns is not None and tuple(columns) != self._plan else {row.key for row in shown}
        self._made = {key: made for key, made in self._made.items() if key in kept}
        super().show_rows(shown, columns)

    def _cells(self, row: Row) -> tuple[Cell, ...]:
        """The same ones again for a row that is the same object as before."""
        made = self._made.get(row.key)
        if made is None or made[0] is not row:
            made = self._made[row.key] = row, super()._cells(row)
        return made[1]

    def _update(self, shown: Mapping[str, tuple[Cell, ...]]) -> None:
        super()._update({key: cells for key, cells in shown.items() if cells is not self._drawn[key]})

    def go_to(self, key: str) -> bool:
        """Put the cursor on a row; whether there is such a row."""
        if key not in self._drawn:
            return False
        self.move_cursor(row=self.get_row_index(key), animate=False)
        return True
