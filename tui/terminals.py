"""Terminals that can do less: ones without colours, and ones without Unicode."""

import os
import unicodedata
from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_FEWEST: Final = 8


def has_colours() -> bool:
    """Whether colours are wanted (https://no-color.org) and the terminal's description says that it shows some."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("COLORTERM") or os.environ.get("TEXTUAL_DRIVER"):
        return True
    return _colours(os.environ.get("TERM", "")) >= _FEWEST


@lru_cache
def _colours(terminal: str) -> int:
    """How many a kind of terminal shows; as many as are asked of it where nothing is known."""
    try:
        import curses  # not every Python has it

        curses.setupterm(terminal or "unknown", fd=_somewhere())
    except Exception:  # noqa: BLE001 - curses.error, which cannot be named where there is no curses
        return 0 if terminal == "dumb" else _FEWEST
    return curses.tigetnum("colors")


def _somewhere() -> int:
    """A descriptor for curses, which would otherwise ask ``sys.stdout``, that may have none."""
    return 1


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
