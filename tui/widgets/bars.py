"""Bars: how much of something is in use, in one line of text. Pure."""

from typing import Final

from rich.text import Text

TRACK: Final = "bright_black"
"""What the empty part of a bar looks like."""


def bar(part: float | None, width: int, style: str, *, unicode: bool) -> Text:
    """A bar of thin lines, half a character fine; the lines differ in weight too, for terminals without colours.

    Blocks would be finer, and those of rows that touch each other would run into one heavy field.

    Args:
        part: 0 to 1, what lies beyond counts as the end; ``None``, unknown: an empty bar without a line.
        width: characters.
        style: of the full part, for Rich.
        unicode: whether there is more than ASCII.
    """
    if part is None:
        return Text(" " * width)
    full, half = _halves(part, width)
    if not unicode:
        return Text.assemble(("=" * (full + half), style), ("." * (width - full - half), TRACK))
    line, joint = "━" * full, "╾" * half
    return Text.assemble((line + joint, style), ("─" * (width - full - half), TRACK))


def _halves(part: float, width: int) -> tuple[int, int]:
    """Whole characters, and whether half a one follows. What is in use at all is seen; full is only what is full."""
    halves = int(min(1.0, max(0.0, part)) * width * 2)
    if part > 0:
        halves = min(2 * width, max(1, halves))
    return divmod(halves, 2)


def grade(value: float | None, busy: float, bad: float, usual: str = "blue") -> str:
    """The style of a figure: as usual, from ``busy`` on a warning, from ``bad`` on an alarm."""
    if value is None or value < busy:
        return usual
    return "red" if value >= bad else "yellow"
