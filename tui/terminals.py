"""Terminals that can do less: ones without colours, and ones without Unicode."""

# ruff: noqa: RUF001 - what looks alike is the point

import os
import re
import unicodedata
from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_COLOURLESS: Final = re.compile(r"dumb|unknown|network|lpr|vt(52|1\d\d|220|320|420)\b.*|.+-m(ono)?")
"""What such terminals call themselves. Not asked of terminfo: Python's curses reads one entry in a process's life."""


def has_colours() -> bool:
    """Whether colours are wanted (https://no-color.org), and shown by what the terminal says it is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("COLORTERM") or os.environ.get("TEXTUAL_DRIVER"):
        return True
    return _COLOURLESS.fullmatch(os.environ.get("TERM", "")) is None


_ALIKE: Final = str.maketrans(
    {
        **dict.fromkeys("─━═╌╍┄┅▔▀▂", "-"),
        **dict.fromkeys("▁", "_"),
        **dict.fromkeys("│┃║╎╏┆┇▏▎▍▌▐▕▊▋▉", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋▛▜▙▟▖▗▘▝", "+"),
        **dict.fromkeys("█▇▆▓■", "#"),
        **dict.fromkeys("▅▄▃▒", "="),
        **dict.fromkeys("░·…⋯", "."),
        **dict.fromkeys("●•★⭘", "*"),
        **dict.fromkeys("○◌◯◐◑◒◓", "o"),
        **dict.fromkeys("▶▸►▷→›»", ">"),
        **dict.fromkeys("◀◂◄◁←‹«", "<"),
        **dict.fromkeys("▼▾▽↓", "v"),
        **dict.fromkeys("▲▴△↑", "^"),
        **dict.fromkeys("✕✗✖×", "x"),
        **dict.fromkeys("✓✔", "+"),
        **dict.fromkeys("–—‐‑−", "-"),
        **dict.fromkeys("‘’′", "'"),
        **dict.fromkeys("“”″", '"'),
        "↻": "~",
        "°": "'",
        "⏎": "<",
        "\N{NO-BREAK SPACE}": " ",
        "\N{NARROW NO-BREAK SPACE}": " ",
        "\N{THIN SPACE}": " ",
    }
)


@lru_cache(4096)
def in_ascii(text: str) -> str:
    """A text in ASCII, as many cells wide: with what looks alike, letters without accents, ``?`` for all else."""
    if text.isascii():
        return text
    return "".join(map(_one, text.translate(_ALIKE)))


def _one(letter: str) -> str:
    if letter.isascii():
        return letter
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    width = cell_len(letter)
    return plain if len(plain) == width else "?" * width


class Ascii(LineFilter):
    """Everything that is drawn, whoever draws it, in ASCII: borders and scroll bars as well as answers of models."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same line for such a terminal."""
        del background
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]
