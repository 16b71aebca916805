"""What the operators' routes for keys, accounts and usage share."""

from collections.abc import Sequence
from typing import Any

import structlog
from quart import Response, request

from helexa.cortex.access.auth import KEY
from helexa.cortex.access.keys import Spending
from helexa.cortex.access.shown import Spent
from helexa.cortex.ledger.limits import Limit
from helexa.web.quart_errors import json_response
from helexa.wire import sse
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields, parse_object

_log = structlog.get_logger()


async def fields() -> Fields:
    """The JSON object that the request at hand bears.

    Raises:
        ApiError: 400, it is none.
    """
    body = bytes(await request.get_data(cache=False, as_text=False, parse_form_data=False))
    return Fields(parse_object(body))


def answer(payload: Any) -> Response:
    """An answer."""
    return json_response(sse.dumps(payload))


def note(what: str, **about: Any) -> None:
    """Log a change, and by whose key it was made."""
    by: Any = request.scope.get(KEY)
    _log.info(what, **about, by=None if by is None else by.name)


async def spent_of(ledger: Spending, limits: Sequence[Limit]) -> Spent:
    """Where limits stand. With the database away nothing is known, which keeps nobody from looking at the keys."""
    if not limits:
        return Spent()
    try:
        return Spent.of(await ledger.spending(limits))
    except ApiError:
        return Spent()
