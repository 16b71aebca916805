"""Signs of a status: each has a shape of its own beside its colour, for those who do not tell colours apart."""

import os
import sys
from typing import Final

from attrs import frozen
from rich.text import Text


@frozen
class Sign:
    """How a status looks.

    Attributes:
        glyph: where the terminal has Unicode.
        plain: where it has not.
        style: of Rich, in the terms of the theme's colours.
    """

    glyph: str
    plain: str
    style: str


_GOOD, _BUSY, _BAD, _OFF = "green", "yellow", "red", "dim"
SIGNS: Final[dict[str, Sign]] = {
    "up": Sign("●", "*", _GOOD),
    "loaded": Sign("●", "*", _GOOD),
    "running": Sign("●", "*", _GOOD),
    "active": Sign("●", "*", _GOOD),
    "decode": Sign("▶", ">", _GOOD),
    "loading": Sign("◐", "o", _BUSY),
    "starting": Sign("◐", "o", _BUSY),
    "recovering": Sign("↻", "~", _BUSY),
    "backoff": Sign("↻", "~", _BUSY),
    "draining": Sign("◒", "v", _BUSY),
    "prefill": Sign("▷", ")", _BUSY),
    "waiting": Sign("◌", ".", _BUSY),
    "queued": Sign("◌", ".", _BUSY),
    "reading": Sign("◌", ".", _OFF),
    "pinned": Sign("◆", "#", _GOOD),
    "fits": Sign("✓", "+", _GOOD),
    "later": Sign("◌", ".", _BUSY),
    "never": Sign("·", "-", _OFF),
    "unloaded": Sign("○", "-", _OFF),
    "stopped": Sign("○", "-", _OFF),
    "ended": Sign("✓", "+", _OFF),
    "expired": Sign("○", "-", _OFF),
    "revoked": Sign("✕", "x", _OFF),
    "failed": Sign("✕", "x", _BAD),
    "down": Sign("✕", "x", _BAD),
    "regression": Sign("▼", "v", _BAD),
    "improvement": Sign("▲", "^", _GOOD),
}
_UNKNOWN: Final = Sign("?", "?", _OFF)


def has_unicode() -> bool:
    """Whether this terminal can show more than ASCII; ``HELEXA_ASCII=1`` says it cannot."""
    if os.environ.get("HELEXA_ASCII", "0") not in ("", "0"):
        return False
    return "utf" in (getattr(sys.__stdout__, "encoding", None) or "").lower()


def sign(status: str, *, unicode: bool | None = None) -> Text:
    """The sign of a status."""
    found = SIGNS.get(status, _UNKNOWN)
    wide = has_unicode() if unicode is None else unicode
    return Text(found.glyph if wide else found.plain, style=found.style)


def named(status: str) -> Text:
    """The sign, and the status in words."""
    return Text.assemble(sign(status), " ", status)
