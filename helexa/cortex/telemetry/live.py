"""The requests that are being served, and the last ones that were: what an operator watches."""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Literal, Protocol, TypeAlias

from helexa.wire.meter import Totals

REMEMBERED: Final = 256
"""Requests that have ended."""
State: TypeAlias = Literal["reading", "queued", "waiting", "prefill", "decode", "ended"]
"""Its body is being read; its turn or its budget is waited for; its model is being loaded; no token has come yet;
tokens come; all over. A model that answers in one piece is in ``prefill`` until it does."""


class Followed(Protocol):
    """What is shown of a request; see ``observing.Observation``. Times in seconds of the observer's clock."""

    number: int
    cancel: Callable[[], None] | None
    cancelled: bool
    route: str
    request_id: str
    key: str | None
    asked: str
    node: str
    attempts: int
    status: int
    code: str | None
    began_at: float
    ended_at: float | None
    waited: float | None
    first_token_at: float | None
    last_at: float | None
    totals: Totals | None

    @property
    def state(self) -> State:
        """How far it has come."""


class Live:
    """Owned by one gateway's observer. Requests are numbered, as clients may give the same id twice."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, Followed] = {}
        self._ended: deque[Followed] = deque(maxlen=REMEMBERED)

    def begin(self, seen: Followed) -> None:
        """A request was let in; it gets its number."""
        seen.number = next(self._numbers)
        self._open[seen.number] = seen

    def end(self, seen: Followed) -> None:
        """It has ended."""
        del self._open[seen.number]
        self._ended.append(seen)

    def cancel(self, number: int) -> bool:
        """Have a request end, with an error to its client; whether it was there to be ended."""
        seen = self._open.get(number)
        if seen is None or seen.cancel is None:
            return False
        seen.cancelled = True
        seen.cancel()
        return True

    def shown(self, now: float) -> dict[str, list[dict[str, Any]]]:
        """Those that run, oldest first, and those that have ended, latest first; plain JSON.

        Args:
            now: seconds of the observer's clock.
        """
        running = [_shown(seen, now) for seen in self._open.values()]
        return {"running": running, "ended": [_shown(seen, now) for seen in reversed(self._ended)]}


def _shown(seen: Followed, now: float) -> dict[str, Any]:
    return {
        "number": seen.number,
        "request_id": seen.request_id,
        "route": seen.route,
        "key": seen.key,
        "model": seen.asked,
        "node": seen.node,
        "attempts": seen.attempts,
        "state": seen.state,
        "seconds": _since(seen.began_at, seen.ended_at, now),
        "ago": None if seen.ended_at is None else round(now - seen.ended_at, 3),
        "waited": seen.waited,
        "first_token": None if seen.first_token_at is None else round(seen.first_token_at - seen.began_at, 6),
        **_tokens(seen),
        "status": seen.status if seen.ended_at is not None else None,
        "code": seen.code,
    }


def _since(began: float, ended: float | None, now: float) -> float:
    return round((now if ended is None else ended) - began, 6)


def _tokens(seen: Followed) -> dict[str, Any]:
    """Counted as far as its server has told; and tokens per second since the first."""
    if seen.totals is None:
        return {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None, "rate": None}
    prompt, completion, cached = seen.totals
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": cached,
        "rate": _rate(seen, completion),
    }


def _rate(seen: Followed, tokens: int) -> float | None:
    if seen.first_token_at is None or seen.last_at is None or seen.last_at <= seen.first_token_at:
        return None
    return round((tokens - 1) / (seen.last_at - seen.first_token_at), 3)
