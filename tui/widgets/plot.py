"""The course of a figure as text: a line of braille dots, intervals, marks, and an axis with figures. Pure.

Drawn here rather than by a plotting library: what operators look for is one line, where a build begins, and which run
was judged worse; that takes a page of code, and follows the terminal's colours and its lack of Unicode.
"""

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field, frozen
from rich.text import Text

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, row by row (Unicode Standard, block U+2800)."""
_LINE, _FAINT, _POINT = "blue", "bright_black", "bold blue"
_LEAST: Final = 20
"""Characters of a line; half of them are the course's."""
_TICKS: Final = 8
"""Lines between two figures of the axis, about."""


@frozen
class Spot:
    """A point of the course.

    Attributes:
        value: drawn.
        low: end of its interval.
        high: the other end.
        mark: a character in place of the point's, and its style; ``None``: none.
        label: written under the axis where it is another than the one before.
    """

    value: float
    low: float
    high: float
    mark: tuple[str, str] | None = None
    label: str = ""


@define
class _Canvas:
    """Characters of the plot's inside, with their styles."""

    width: int
    height: int
    low: float
    high: float
    cells: dict[tuple[int, int], tuple[str, str]] = field(factory=dict)
    dots: dict[tuple[int, int], int] = field(factory=dict)

    def column(self, index: int, count: int) -> int:
        """Where a point stands, in characters."""
        return self.width // 2 if count == 1 else round(index * (self.width - 1) / (count - 1))

    def fine(self, value: float) -> int:
        """How far below the top a value is, in quarters of a line."""
        part = (self.high - value) / (self.high - self.low)
        return min(4 * self.height - 1, max(0, round(part * (4 * self.height - 1))))

    def row(self, value: float) -> int:
        """The same in lines."""
        return self.fine(value) // 4

    def put(self, x: int, y: int, character: str, style: str) -> None:
        """Write one."""
        self.cells[x, y] = character, style

    def dot(self, x: int, y: int) -> None:
        """A braille dot; two to a character beside each other, four above each other."""
        self.dots[x // 2, y // 4] = self.dots.get((x // 2, y // 4), 0) | _DOTS[y % 4][x % 2]

    def line(self, y: int) -> Text:
        """A line of the result."""
        text = Text()
        for x in range(self.width):
            dots = self.dots.get((x, y))
            text.append(*self.cells.get((x, y), (" ", "") if dots is None else (chr(0x2800 + dots), _LINE)))
        return text


def plot(
    spots: Sequence[Spot], width: int, height: int, written: Callable[[float], str], *, unicode: bool
) -> list[Text]:
    """Draw a course, its points evenly apart whatever the time between them.

    Args:
        spots: the oldest first; of more than fit, the newest are drawn.
        width: characters of a line, with the axis.
        height: lines, with the one for labels.
        written: says a value in words, for the axis.
        unicode: whether there is more than ASCII.
    """
    if not spots or height < 3 or width < _LEAST:  # noqa: PLR2004 - less is no plot
        return []
    low, high = _range(spots)
    ticks = _ticks(low, high, height - 1, written)
    margin = max(len(each) for each in ticks.values()) + 2
    if width - margin < _LEAST // 2:
        return []
    shown = spots[-(width - margin) :]
    canvas = _Canvas(width - margin, height - 1, low, high)
    _draw(canvas, shown, unicode=unicode)
    lines = [_axis(ticks.get(y, ""), margin, unicode=unicode).append_text(canvas.line(y)) for y in range(height - 1)]
    return [*lines, Text(" " * margin).append_text(_labels(canvas, shown))]


def _range(spots: Sequence[Spot]) -> tuple[float, float]:
    """The least and the largest value that are drawn, with some room, so that noise is not as high as the plot."""
    low, high = min(min(each.low, each.value) for each in spots), max(max(each.high, each.value) for each in spots)
    room = max((high - low) * 0.08, max(abs(high), abs(low)) * 0.02) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float, height: int, written: Callable[[float], str]) -> dict[int, str]:
    """What is written beside which line."""
    count = max(2, height // _TICKS + 2)
    rows = {round(each * (height - 1) / (count - 1)) for each in range(count)}
    return {row: written(high - (row + 0.5) / height * (high - low)) for row in rows}


def _axis(said: str, margin: int, *, unicode: bool) -> Text:
    line = ("┤" if said else "│") if unicode else "|"
    return Text.assemble((f"{said:>{margin - 2}} ", "dim"), (line, _FAINT))


def _draw(canvas: _Canvas, spots: Sequence[Spot], *, unicode: bool) -> None:
    columns = [canvas.column(index, len(spots)) for index in range(len(spots))]
    _draw_builds(canvas, spots, columns, unicode=unicode)
    _draw_line(canvas, spots, columns, unicode=unicode)
    apart = len(spots) < 2 or columns[1] - columns[0] > 1  # noqa: PLR2004 - two points have a distance
    for x, spot in zip(columns, spots, strict=True):
        if apart:
            _draw_interval(canvas, spot, x, unicode=unicode)
            canvas.put(x, canvas.row(spot.value), "●" if unicode else "*", _POINT)
        if spot.mark is not None:
            canvas.put(x, canvas.row(spot.value), *spot.mark)


def _draw_builds(canvas: _Canvas, spots: Sequence[Spot], columns: Sequence[int], *, unicode: bool) -> None:
    """A faint line where a build follows another."""
    for index in range(1, len(spots)):
        if spots[index].label != spots[index - 1].label:
            x = (columns[index] + columns[index - 1] + 1) // 2
            for y in range(canvas.height):
                canvas.put(x, y, "╎" if unicode else ":", _FAINT)


def _draw_interval(canvas: _Canvas, spot: Spot, x: int, *, unicode: bool) -> None:
    for y in range(canvas.row(spot.high), canvas.row(spot.low) + 1):
        canvas.put(x, y, "│" if unicode else "|", _FAINT)


def _draw_line(canvas: _Canvas, spots: Sequence[Spot], columns: Sequence[int], *, unicode: bool) -> None:
    for index in range(1, len(spots)):
        begin, end = columns[index - 1], columns[index]
        first, last = canvas.fine(spots[index - 1].value), canvas.fine(spots[index].value)
        steps = max(2 * (end - begin), abs(last - first), 1)
        for step in range(steps + 1):
            x, y = 2 * begin + round(step * 2 * (end - begin) / steps), first + round(step * (last - first) / steps)
            if unicode:
                canvas.cells.pop((x // 2, y // 4), None)  # the course counts more than where a build begins
                canvas.dot(x, y)
            else:
                canvas.put(x // 2, y // 4, ".", _LINE)


def _labels(canvas: _Canvas, spots: Sequence[Spot]) -> Text:
    """Each label under its first point, where the one before leaves room for it."""
    line, before = "", None
    for index, spot in enumerate(spots):
        if spot.label == before:
            continue
        before = spot.label
        at = min(canvas.column(index, len(spots)), max(0, canvas.width - len(spot.label)))
        if at > len(line) or not line:
            line = line.ljust(at) + spot.label
    return Text(line[: canvas.width], "dim")
