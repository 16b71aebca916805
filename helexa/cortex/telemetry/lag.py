"""How late the gateway's event loop is: what every request waits for, whatever it asks."""

from collections.abc import Callable
from typing import NoReturn

import trio

EVERY_SECONDS = 0.25


async def watch_lag(observe: Callable[[float], object]) -> NoReturn:
    """Look four times a second how much later than due a task gets its turn.

    Args:
        observe: takes each lag, in seconds.
    """
    while True:
        due = trio.current_time() + EVERY_SECONDS
        await trio.sleep_until(due)
        observe(trio.current_time() - due)
