"""``GET …/logs``: the latest lines of a process's log, a page at a time."""

from collections.abc import Mapping
from typing import Final

from attrs import asdict
from quart import Response

from helexa import logs
from helexa.web.quart_errors import json_response
from helexa.wire import errors, sse

MOST_LINES: Final = 2000
_DIGITS: Final = 20


def log_page(query: Mapping[str, str]) -> Response:
    """The page that a query asks for: lines after number ``after`` (else all that are kept), ``limit`` at most.

    Raises:
        ApiError: one of them is no number.
    """
    after, limit = _number(query, "after", 0), _number(query, "limit", MOST_LINES)
    lines = logs.book.since(after, max(1, min(limit, MOST_LINES)))
    last = lines[-1].id if lines else after
    return json_response(sse.dumps({"lines": [asdict(line) for line in lines], "last": last}))


def _number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) < _DIGITS):
        raise errors.invalid_value(name, "expected a number that is not negative")
    return int(text)
