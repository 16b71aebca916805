"""What the Requests screen shows: rows for a table, a line above it, everything about one. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from rich.text import Text

from tui.glyphs import named, sign
from tui.shapes import Request, Requests
from tui.views.figures import span
from tui.views.safe import line
from tui.widgets.table import Cell, Column, Row

_BAD, _GONE, _CANCELLED = 400, 499, "request_cancelled"
STATES: Final = ("reading", "queued", "waiting", "prefill", "decode")
"""Of requests that run, as they follow each other."""

_Key = Callable[[Request], Any]
_ORDERS: Final[dict[str, _Key | None]] = {
    "age": None,
    "tokens": lambda request: -(request.completion_tokens or 0),
    "rate": lambda request: -(request.rate or 0.0),
    "first token": lambda request: -(request.first_token or 0.0),
    "model": lambda request: (request.model, request.node),
    "key": lambda request: request.key or "",
}
ORDERS: Final = tuple(_ORDERS)
"""Names of the orders that there are; the first is the gateway's own."""


def arranged(requests: Requests, order: str, *, ended: int) -> list[Request]:
    """Those that run, then so many of the latest that have ended; each part in an order of ``ORDERS``."""
    key = _ORDERS[order]
    parts = (requests.running, requests.ended[:ended])
    return [request for part in parts for request in (part if key is None else sorted(part, key=key))]


def has_ended(request: Request) -> bool:
    """Whether there is nothing left to cancel."""
    return request.state == "ended"


def has_failed(request: Request) -> bool:
    """Whether it ended with an error that is neither its client's leaving nor an operator's doing.

    A stream may break off when its status, 200, has been told long ago: only its code says so.
    """
    if request.status == _GONE or request.code == _CANCELLED:
        return False
    return (request.status or 0) >= _BAD or request.code is not None


def outcome(request: Request) -> Text:
    """How far it is, or how it ended: its HTTP status, or a word where that would mislead."""
    if not has_ended(request):
        return named(line(request.state))
    bad = (request.status or _BAD) >= _BAD
    if has_failed(request):
        return Text.assemble(sign("failed"), f" {request.status or '?'}" if bad else " broken")
    if request.code == _CANCELLED or request.status == _GONE:
        return Text.assemble(sign("stopped"), (" stopped" if request.code == _CANCELLED else " left", "dim"))
    return Text.assemble(sign("ended"), (f" {request.status or '?'}", "dim"))


def seconds(value: float | None) -> str:
    """A time as ``32ms``, ``4.21s``, ``42.1s`` or longer; ``""``: there is none."""
    if value is None:
        return ""
    if value < 0.9995:  # noqa: PLR2004 - would be shown as 1000ms
        return f"{value * 1000:.0f}ms"
    if value < 9.995:  # noqa: PLR2004 - three digits tell enough
        return f"{value:.2f}s"
    return f"{value:.1f}s" if value < 99.95 else span(value)  # noqa: PLR2004 - as above


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"  # noqa: PLR2004 - three digits


def _node(request: Request) -> str:
    return line(request.node) or ("-" if has_ended(request) else "")


_CELLS: Final[dict[str, Callable[[Request], Cell]]] = {
    "state": outcome,
    "number": lambda request: str(request.number),
    "model": lambda request: line(request.model) or "-",
    "node": _node,
    "key": lambda request: line(request.key or "-"),
    "prompt": lambda request: _count(request.prompt_tokens),
    "cached": lambda request: _count(request.cached_tokens),
    "tokens": lambda request: _count(request.completion_tokens),
    "rate": lambda request: _rate(request.rate),
    "waited": lambda request: seconds(request.waited),
    "first": lambda request: seconds(request.first_token),
    "time": lambda request: seconds(request.seconds),
    "ago": lambda request: "" if request.ago is None else f"{span(request.ago)} ago",
    "tries": lambda request: str(request.attempts or ""),
    "code": lambda request: line(request.code or ""),
    "route": lambda request: line(request.route),
    "id": lambda request: line(request.request_id),
}
_SMALL: Final = (
    Column("state", "state", 9),
    Column("model", "model", 14),
    Column("node", "node", 8),
    Column("key", "key", 8),
    Column("tokens", "tokens", 6, right=True),
    Column("rate", "tok/s", 5, right=True),
    Column("first", "first", 6, right=True),
    Column("time", "time", 6, right=True),
)
_MIDDLE: Final = (
    _SMALL[0],
    Column("number", "no.", 6, right=True),
    *_SMALL[1:4],
    Column("prompt", "prompt", 7, right=True),
    *_SMALL[4:],
)
_LARGE: Final = (
    *_MIDDLE[:6],
    Column("cached", "cached", 7, right=True),
    *_SMALL[4:6],
    Column("waited", "waited", 7, right=True),
    *_SMALL[6:],
    Column("ago", "ended", 8, right=True),
    Column("tries", "tries", 5, right=True),
    Column("code", "code", 17),
)
_GROWING: Final = {"model": 32, "key": 16, "code": 24, "node": 16}
"""Columns that take the room that is left, in this order, up to so many characters."""


def columns(width: int) -> tuple[Column, ...]:
    """Those that there is room for, in as many characters; the scroll bar takes two of them."""
    plan = next((plan for plan in (_LARGE, _MIDDLE) if _needed(plan) <= width), _SMALL)
    left = width - _needed(plan)
    wide = {}
    for name, most in _GROWING.items():
        for column in plan:
            if column.key == name and left > 0:
                wide[name] = min(most, (column.width or 0) + left)
                left -= wide[name] - (column.width or 0)
    return tuple(Column(each.key, each.title, wide.get(each.key, each.width), each.right) for each in plan)


def _needed(plan: Sequence[Column]) -> int:
    return 2 + sum((column.width or 0) + 2 for column in plan)


def rows(requests: Iterable[Request], plan: Sequence[Column]) -> list[Row]:
    """A row for each; those that have ended are faint."""
    return [_row(request, plan) for request in requests]


def _row(request: Request, plan: Sequence[Column]) -> Row:
    ended = has_ended(request)
    cells = {column.key: _cell(_CELLS[column.key](request), column, faint=ended) for column in plan}
    return Row(str(request.number), cells, _words(request))


def _cell(value: Cell, column: Column, *, faint: bool) -> Text:
    text = Text(_short(value, column), "dim" if faint else "") if isinstance(value, str) else value
    text.truncate(column.width or len(text), overflow="ellipsis")
    return text


def _short(value: str, column: Column) -> str:
    """Of a model's name that is too long its publisher goes first."""
    if column.key == "model" and len(value) > (column.width or 0):
        return value.rpartition("/")[2]
    return value


def _words(request: Request) -> str:
    parts = (
        request.state,
        *(request.model, request.node, request.key, request.route, request.request_id),
        *(str(request.number), "" if request.status is None else str(request.status), request.code),
    )
    return " ".join(part for part in parts if part).lower()


def summary(requests: Requests, order: str, width: int, *, ended: bool) -> Text:
    """How many there are, how far they are, how fast it goes; states by their signs alone where names do not fit."""
    text = _summary(requests, order, ended=ended, named_states=True)
    if text.cell_len > width:
        text = _summary(requests, order, ended=ended, named_states=False)
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def _summary(requests: Requests, order: str, *, ended: bool, named_states: bool) -> Text:
    text = Text.assemble((f" {len(requests.running)} running", "bold"))
    for state in STATES:
        if count := sum(request.state == state for request in requests.running):
            text.append_text(Text.assemble("  ", sign(state), f" {count} {state if named_states else ''}".rstrip()))
    if total := sum(request.rate or 0.0 for request in requests.running):
        text.append(f"  {total:,.0f} tok/s")
    text.append(_past(requests, ended=ended), "dim")
    if order != ORDERS[0]:
        text.append(f"  by {order}", "italic")
    return text


def _past(requests: Requests, *, ended: bool) -> str:
    failed = sum(map(has_failed, requests.ended))
    return f"   {len(requests.ended)} ended{f', {failed} failed' if failed else ''}{'' if ended else ' (hidden)'}"
