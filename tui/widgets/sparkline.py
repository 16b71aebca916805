"""Courses of figures: in one line of text, or as a chart of several. Pure."""

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Final

from rich.text import Text

_STEPS: Final = "▁▂▃▄▅▆▇█"
_PLAIN: Final = "_.-~=+*#"
_FAINT: Final = "bright_black"


def latest(values: Sequence[float | None] | None, count: int) -> list[float | None]:
    """The last so many of a course, the newest last, without copying what comes before."""
    return list(islice(reversed(values), count))[::-1] if values else []


def sparkline(
    values: Iterable[float | None], width: int, style: str, *, unicode: bool, top: float | None = None
) -> Text:
    """A character for each of the latest readings, the newest at the right and brightest.

    Nothing at all is a faint line at the bottom, so that an idle device is quiet; unknown is a gap.

    Args:
        values: readings, none of them negative, the oldest first.
        width: characters.
        style: for Rich.
        unicode: whether there is more than ASCII.
        top: what is drawn highest; ``None``: the largest value.
    """
    shown = list(values)[-width:] if width else []
    highest = max((each for each in shown if each is not None), default=0.0) if top is None else top
    steps = [_step(each, highest) for each in shown]
    before = [
        (" " if step is None else (_STEPS if unicode else _PLAIN)[step], f"{style} dim" if step else _FAINT)
        for step in steps
    ]
    last = [(sign, style if step else _FAINT) for (sign, _), step in zip(before[-1:], steps[-1:], strict=True)]
    return _runs(width, [*before[:-1], *last])


def _runs(width: int, cells: Sequence[tuple[str, str]]) -> Text:
    """Signs and their styles at the right of a line; those of one style in one piece, as each piece costs time."""
    text = Text(" " * (width - len(cells)))
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        text.append("".join(sign for sign, _ in run), style)
    return text


def _step(value: float | None, top: float) -> int | None:
    if value is None:
        return None
    if value <= 0 or top <= 0:
        return 0
    return min(len(_STEPS) - 1, 1 + int(value / top * (len(_STEPS) - 1)))


def chart(
    values: Iterable[float | None], size: tuple[int, int], style: str, *, unicode: bool, top: float | None = None
) -> list[Text]:
    """The same over several lines, the first at the top; the heights are brightest, a baseline stands for nothing.

    Args:
        values: readings, none of them negative, the oldest first.
        size: characters of a line, and lines.
        style: for Rich.
        unicode: whether there is more than ASCII.
        top: what is drawn highest; ``None``: the largest value.
    """
    width, height = size
    shown = list(values)[-width:] if width else []
    highest = max((each for each in shown if each is not None), default=0.0) if top is None else top
    heights = [None if each is None else _eighths(each, highest, height) for each in shown]
    return [_line(heights, row, width, style, unicode=unicode) for row in reversed(range(height))]


def _eighths(value: float, top: float, height: int) -> int:
    """How high a column is, in eighths of a line; what is there at all is seen."""
    if value <= 0 or top <= 0:
        return 0
    return max(1, min(8 * height, round(value / top * 8 * height)))


def _line(heights: Sequence[int | None], row: int, width: int, style: str, *, unicode: bool) -> Text:
    """One line of a chart; ``row`` counts from the bottom."""
    return _runs(width, [_cell(eighths, row, style, unicode=unicode) for eighths in heights])


def _cell(eighths: int | None, row: int, style: str, *, unicode: bool) -> tuple[str, str]:
    if eighths is None:
        return " ", ""
    part = min(8, eighths - 8 * row)
    if part > 0:
        is_top = eighths <= 8 * (row + 1)
        return (_STEPS[part - 1] if unicode else "#" if part > 4 else "."), style if is_top else f"{style} dim"  # noqa: PLR2004 - half of eight
    return ("▁" if unicode else "_", _FAINT) if row == 0 else (" ", "")
