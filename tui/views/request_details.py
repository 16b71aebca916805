"""Everything that is known of a request. Pure."""

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from tui.shapes import Request
from tui.views.figures import percent, span
from tui.views.requests import has_ended, has_failed, outcome, seconds
from tui.views.safe import line

_PARTS: Final = (("waiting", "░", ".", "dim"), ("prefill", "▒", "-", "yellow"), ("writing", "█", "#", "green"))
"""What a request's time goes to: name, glyph, glyph in ASCII, style."""
_LABEL: Final = 13
_LEAST: Final = 0.001  # seconds: to be given a place at once takes time, too
_MEANINGS: Final = {
    "reading": "Its body is still being sent.",
    "queued": "Its turn, or its budget, is waited for.",
    "waiting": "Its model is being loaded, or its node is busy.",
    "prefill": "Its prompt is being read; no token has come yet.",
    "decode": "Its answer is being written.",
}


def details(request: Request, width: int, *, unicode: bool) -> Text:
    """Lines of a name and a value; the request's time as a bar."""
    text = Text.assemble((f"Request {request.number}  ", "bold"), outcome(request), "\n")
    for label, value, style in _values(request):
        text.append_text(_line(label, value, style, width))
    text.append_text(_times(request, width, unicode=unicode))
    return text


def _line(label: str, value: str, style: str, width: int) -> Text:
    """Long values go on under themselves."""
    room = max(8, width - _LABEL)
    pieces = [value[start : start + room] for start in range(0, len(value), room)] or [""]
    text = Text.assemble("\n", (label.ljust(_LABEL), "dim"), (pieces[0], style))
    for piece in pieces[1:]:
        text.append("\n" + " " * _LABEL).append(piece, style)
    return text


def _values(request: Request) -> Iterator[tuple[str, str, str]]:
    yield "id", line(request.request_id) or "?", ""
    yield "route", line(request.route) or "?", ""
    yield "model", line(request.model) or "not told yet", "bold"
    yield "node", _place(request), ""
    yield "key", line(request.key or "none"), ""
    yield from _result(request)
    yield "", "", ""
    yield "prompt", _prompt(request), ""
    yield "answer", _answer(request), ""
    yield "", "", ""


def _place(request: Request) -> str:
    tries = f" (attempt {request.attempts})" if request.attempts > 1 else ""
    return f"{line(request.node) or 'none yet'}{tries}" if request.node or not has_ended(request) else "none"


def _result(request: Request) -> Iterator[tuple[str, str, str]]:
    if not has_ended(request):
        yield "state", _MEANINGS.get(request.state, line(request.state)), ""
        return
    code = f"  {line(request.code)}" if request.code else ""
    yield "ended", f"{'' if request.ago is None else span(request.ago) + ' ago, '}HTTP {request.status or '?'}", ""
    if code:
        yield "because of", code.strip(), "red" if has_failed(request) else ""


def _prompt(request: Request) -> str:
    count, cached = request.prompt_tokens, request.cached_tokens or 0
    if count is None:
        return "not counted yet" if not has_ended(request) else "not counted"
    return f"{count:,} tokens" + (
        f", {cached:,} of them cached ({percent(cached / count)})" if cached and count else ""
    )


def _answer(request: Request) -> str:
    if request.completion_tokens is None:
        return "none yet" if not has_ended(request) else "none"
    rate = "" if request.rate is None else f", {request.rate:,.1f} a second"
    return f"{request.completion_tokens:,} tokens{rate}"


def spent(request: Request) -> tuple[float, float, float]:
    """Seconds that it waited, read its prompt, wrote its answer; of one that has not got that far, until now."""
    whole = request.seconds
    if request.state in ("reading", "queued", "waiting"):
        return whole, 0.0, 0.0
    waited = min(request.waited or 0.0, whole)
    first = whole if request.first_token is None else min(max(request.first_token, waited), whole)
    return waited, first - waited, whole - first


def _times(request: Request, width: int, *, unicode: bool) -> Text:
    parts = spent(request)
    text = _line("time", seconds(request.seconds), "bold", width)
    if request.first_token is not None:
        text.append(f", first token after {seconds(request.first_token)}")
    text.append("\n\n").append_text(_bar(parts, max(10, width), unicode=unicode))
    for (name, glyph, plain, style), value in zip(_PARTS, parts, strict=True):
        legend = ((glyph if unicode else plain) * 2, style)
        text.append_text(Text.assemble("\n", legend, f" {name}".ljust(_LABEL - 2), seconds(value)))
    return text


def _bar(parts: tuple[float, float, float], width: int, *, unicode: bool) -> Text:
    """The parts side by side; each that is worth telling is seen."""
    whole = sum(parts)
    text = Text()
    for (_, glyph, plain, style), part in zip(_PARTS, parts, strict=True):
        count = max(1, round(part / whole * width)) if part >= _LEAST else 0
        text.append((glyph if unicode else plain) * min(count, width - len(text)), style)
    return text
