"""Rows of figures with headings in between that have the whole width: `rich.table` has no cell over several columns."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from attrs import frozen
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.text import Text

_GAP: Final = 2
"""Characters between columns."""
_NARROWEST: Final = 12
"""What is left of the first column where there is room for nothing; lines are folded then, and figures never cut."""


@frozen
class Heading:
    """A text over the whole width, folded where that is too narrow."""

    text: Text
    indent: int = 0


@frozen
class Row:
    """A text in each column; ``indent`` is that of the first, which stands above the others if it is too long."""

    cells: tuple[Text, ...]
    indent: int = 0


Line: TypeAlias = Heading | Row


@frozen
class Listing:
    """Headings and rows under one set of columns.

    Attributes:
        heads: of the columns, two at least; what stands under one with ``>`` is aligned at the right.
        lines: from top to bottom.
    """

    heads: tuple[str, ...]
    lines: tuple[Line, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the lines that `rich` draws below each other."""
        widths = self._widths(options.max_width)
        yield Text()
        yield from self._drawn(self._top, widths)
        yield Text("─" * min(options.max_width, sum(widths) + _GAP * (len(widths) - 1)))
        for line in self.lines:
            yield from self._drawn(line, widths)
        yield Text()

    @property
    def _top(self) -> Row:
        return Row(tuple(Text(head.lstrip(">"), style="bold") for head in self.heads))

    def _widths(self, room: int) -> list[int]:
        """As wide as what stands there; the first column, where names are, gives way."""
        rows = [self._top, *(line for line in self.lines if isinstance(line, Row))]
        first = max(row.indent + row.cells[0].cell_len for row in rows)
        columns = list(zip(*(row.cells for row in rows), strict=True))
        others = [max(cell.cell_len for cell in column) for column in columns[1:]]
        left = room - sum(others) - _GAP * len(others)
        return [min(first, max(left, _NARROWEST)), *others]

    def _drawn(self, line: Line, widths: Sequence[int]) -> Iterator[RenderableType]:
        if isinstance(line, Heading):
            yield _indented(line.text, line.indent)
            return
        figures = self._figures(line, widths)
        room = sum(widths) + _GAP * len(widths[1:]) - figures.cell_len
        name = Text.assemble(" " * line.indent, line.cells[0])
        if name.cell_len + _GAP > room:
            yield _indented(line.cells[0], line.indent)
            name = Text()
        name.pad_right(room - name.cell_len)
        name.append_text(figures).rstrip()
        yield name

    def _figures(self, row: Row, widths: Sequence[int]) -> Text:
        """All columns but the first, which may go on where the second one has nothing yet."""
        found = Text()
        for head, cell, width in list(zip(self.heads, row.cells, widths, strict=True))[1:]:
            to_right = head.startswith(">")
            before = (width - cell.cell_len if to_right else 0) + _GAP
            found.append_text(Text.assemble(" " * (before if found else 0), cell))
            found.pad_right(0 if to_right else width - cell.cell_len)
        return found


def _indented(text: Text, indent: int) -> Padding:
    return Padding(text, (0, 0, 0, indent), expand=False)
