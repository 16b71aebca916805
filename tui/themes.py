"""Colours. The signs of a status differ in shape as well, see ``tui.glyphs``."""

from typing import Any, Final

from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

_OKABE_ITO: Final = {
    "primary": "#56B4E9",
    "secondary": "#0072B2",
    "accent": "#CC79A7",
    "success": "#009E73",
    "warning": "#E69F00",
    "error": "#D55E00",
}
"""Colours that people with any kind of colour blindness tell apart: M. Okabe and K. Ito, "Color Universal Design"."""


PLAIN: Final = "helexa-plain"
"""Without any colour: bold, underlined and reversed text alone."""


def _theme(name: str, background: str, surface: str, panel: str, *, dark: bool) -> Theme:
    colours: dict[str, Any] = {**_OKABE_ITO, "background": background, "surface": surface, "panel": panel}
    return Theme(name, dark=dark, **colours)


THEMES: Final = (
    _theme("helexa-dark", "#101418", "#171c22", "#1f262e", dark=True),
    _theme("helexa-light", "#ffffff", "#f4f6f8", "#e6eaee", dark=False),
    Theme(PLAIN, primary="#ffffff", background="#000000", surface="#000000", panel="#000000", dark=True),
)


def _terminal(background: str, foreground: str, *colours: str) -> TerminalTheme:
    """Colours by their eight names, then the grey that is called bright black."""
    grey, plain = _rgb(colours[-1]), [_rgb(each) for each in colours[:-1]]
    return TerminalTheme(_rgb(background), _rgb(foreground), plain, [grey, *plain[1:]])


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


ANSI_DARK: Final = _terminal(
    "#101418", "#d8dee4",
    "#101418", "#E8703A", "#2BB58C", "#E6A93C", "#56B4E9", "#CC79A7", "#8CCBEF", "#d8dee4", "#4A5662",
)  # fmt: skip
"""What text means that names its colours: those of Okabe and Ito, lighter or darker so that they can be read."""
ANSI_LIGHT: Final = _terminal(
    "#ffffff", "#20262c",
    "#20262c", "#B84A00", "#007A59", "#8F6200", "#0072B2", "#A0527F", "#0A7FA8", "#20262c", "#AEB7C0",
)  # fmt: skip
