"""When a request that failed is sent again. Pure.

Sources: RFC 9110, section 10.2.3 (``Retry-After``); ``retry-after-ms`` is what OpenAI's and Azure's servers send beside
it. Full jitter, as without it all clients that failed together come back together.
"""

from collections.abc import Callable
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 8.0
LONGEST_ASKED_SECONDS = 10.0
"""A server that asks for a longer wait is not waited for: the next target, or the client itself, is quicker."""
_LARGEST = 1e9


def asked_wait(header: Callable[[bytes], bytes | None], now: float) -> float | None:
    """Seconds that an answer asks its reader to wait; ``None`` if it does not, or not legibly.

    Args:
        header: looks a header up by its lower-case name.
        now: Unix time, for a date.
    """
    milliseconds = _number(header(b"retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(b"retry-after")
    seconds = _number(value)
    return _until(value, now) if seconds is None else seconds


def _number(value: bytes | None) -> float | None:
    try:
        found = float(value or b"-")
    except ValueError:
        return None
    return found if 0 <= found <= _LARGEST else None  # NaN is in no range


def _until(value: bytes | None, now: float) -> float | None:
    try:
        at = parsedate_to_datetime((value or b"").decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - now)


def wait(failed: int, asked: float | None, chance: float) -> float | None:
    """Seconds until the next try.

    Args:
        failed: how often it failed so far, at least once.
        asked: what the server asks for.
        chance: uniform in [0, 1).

    Returns:
        ``None`` if it would be too long a wait.
    """
    if asked is not None and asked > LONGEST_ASKED_SECONDS:
        return None
    backoff = chance * min(FIRST_SECONDS * 2.0 ** min(failed, 32), LONGEST_SECONDS)
    return max(asked or 0.0, backoff)
