"""How an entry of a log looks, in one line and in full. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from tui.glyphs import Sign
from tui.views import safe
from tui.views.logs import Entry, clock, date, plain
from tui.views.sieve import LEVELS

_WIDE: Final = 120
"""From so many characters on, a line has its level in words, and milliseconds."""
_SIGNS: Final = {
    "debug": Sign("·", ".", "dim"),
    "info": Sign(" ", " ", ""),
    "warning": Sign("▲", "!", "bold yellow"),
    "error": Sign("✕", "x", "bold red"),
    "critical": Sign("■", "#", "bold red reverse"),
}
_EVENT: Final = Sign("◆", "*", "cyan")
_RANKS: Final = {"actor": -2, "error": -1, "reason": -1, "status": -1, "code": -1, "route": 1, "request_id": 2}
_BAD: Final = 400
_LONGEST: Final = 16  # the name of a field that others are aligned with


def drawn(entry: Entry, width: int, *, unicode: bool) -> Text:
    """The line of an entry, cut at ``width``."""
    wide, look = width >= _WIDE, _SIGNS[entry.level]
    text = Text(f" {clock(entry.time, fine=wide)} ", "dim", end="", no_wrap=True)
    text = Text.assemble(text, (_glyph(look, unicode=unicode), look.style))
    text.append(_glyph(_EVENT, unicode=unicode) if entry.is_event else " ", _EVENT.style)
    if wide:
        text.append(f" {entry.level:<8}", look.style or "dim")
    name = safe.line(entry.event)
    text.append(f" {name:<{28 if wide else 20}} ", look.style)
    _append_fields(text, entry.fields, width)
    text.truncate(width, overflow="ellipsis")
    return text


def _glyph(look: Sign, *, unicode: bool) -> str:
    return look.glyph if unicode else look.plain


def _append_fields(text: Text, fields: Mapping[str, Any], width: int) -> None:
    """As many as there is room for: an entry may hold a whole traceback."""
    for name, value in sorted(fields.items(), key=_rank):
        if text.cell_len > width:
            return
        text.append(f" {safe.line(name)}=", "dim").append(safe.line(plain(value)[:width]), _style(name, value))


def _style(name: str, value: Any) -> str:
    """What went wrong stands out, also where its line is one like others."""
    bad = name == "status" and isinstance(value, int) and value >= _BAD
    return "bold red" if bad else ""


def _rank(named: tuple[str, Any]) -> int:
    """What tells most of a line comes first, so that narrow screens show it; the rest stays in its order."""
    return _RANKS.get(named[0], 0)


def page(entry: Entry, width: int, *, unicode: bool) -> Text:
    """All of an entry, a field a line; longer texts, as tracebacks, under their names."""
    look = _SIGNS[entry.level]
    text = Text.assemble((safe.line(entry.event), "bold"), "\n")
    kind = f"{_glyph(_EVENT, unicode=unicode)} event of the fleet" if entry.is_event else f"log of {whose(entry.node)}"
    level = Text.assemble((f"{_glyph(look, unicode=unicode)} {entry.level}".strip(), look.style))
    for label, value in (("time", Text(date(entry.time))), ("level", level), ("from", Text(kind))):
        text.append_text(Text.assemble("\n", (f"{label:<{_LONGEST}} ", "dim"), value))
    text.append("\n")
    for name, value in entry.fields.items():
        text.append_text(_field(safe.line(name), safe.lines(plain(value)), width))
    return text


def _field(name: str, value: str, width: int) -> Text:
    text = Text.assemble("\n", (f"{name:<{_LONGEST}} ", "dim"))
    if "\n" not in value and cell_len(text.plain) + cell_len(value) <= width + 1:
        return text.append(value)
    for piece in _pieces(value, width - 2):
        text.append(f"\n  {piece}")
    return text


def _pieces(value: str, width: int) -> Iterator[str]:
    for line in value.split("\n"):
        yield line[:width]
        for start in range(width, len(line), width):
            yield line[start : start + width]


def whose(node: str) -> str:
    """The process that a log is of, for people."""
    return f"node {safe.line(node)}" if node else "the gateway"


def wanted(level: str) -> str:
    """A least level, for people."""
    return "everything" if level == LEVELS[0] else f"{level} and worse" if level != LEVELS[-1] else level
