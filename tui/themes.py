"""Colours. The signs of a status differ in shape as well, see ``tui.glyphs``."""

from typing import Any, Final

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
