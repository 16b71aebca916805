"""How far measuring has come, as a picture on a terminal: a table of medians, and a bar.

Nothing is drawn while something is measured, not even by a thread: it would take the interpreter's lock from the
client that stamps what comes. So the picture stands still during a round, and the figures are true.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from helexa.cli.bench.progress import Board, Row, left

_AROUND: Final = 6
"""Lines of a terminal that are not rows of the table."""
_STYLES: Final = {"ok": "green", "skipped": "yellow", "yielded": "yellow", "failed": "red"}


class Picture:
    """Draws a board on stderr, and takes it away at the end. To be entered."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def draw(self, board: Board, row: Row) -> None:
        """Draw it anew."""
        most = max(1, self._console.height - _AROUND)
        self._live.update(render(board, row, most), refresh=True)


def render(board: Board, row: Row, most: int) -> RenderableType:
    """The picture, with at most so many lines of its table: those around the row that it is about."""
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("SCENARIO", overflow="ellipsis", no_wrap=True, ratio=2)
    table.add_column("ROUND", justify="right", no_wrap=True)
    table.add_column("MEDIANS", overflow="ellipsis", no_wrap=True, ratio=3)
    for each in _window(_lines(board.rows), row, most):
        if isinstance(each, str):
            table.add_row(Text(each, "bold"))
        else:
            table.add_row(Text(f"  {each.name[2]}"), f"{each.rounds}/{board.rounds}", _state(board, each))
    return Group(table, _bar(board))


def _lines(rows: Sequence[Row]) -> Iterator[Row | str]:
    """Rows, with a heading for those of one model of one target."""
    for (target, model), group in groupby(rows, key=lambda row: row.name[:2]):
        yield f"{target} · {model}"
        yield from group


def _window(lines: Iterable[Row | str], row: Row, most: int) -> Sequence[Row | str]:
    every = list(lines)
    at = next(index for index, each in enumerate(every) if each is row)
    start = max(0, min(at - most // 2, len(every) - most))
    return every[start : start + most]


def _state(board: Board, row: Row) -> Text:
    style = _STYLES[row.run.outcome] if row.run is not None else ""
    if row.trouble:
        return Text(row.trouble, style or "red")
    return Text(row.figures or ("…" if row is board.current else ""), style or ("bold" if row is board.current else ""))


def _bar(board: Board) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=board.total, completed=board.done, width=30)
    grid.add_row(bar, Text(f"{board.done}/{board.total}{left(board)}"))
    return grid
