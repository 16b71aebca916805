"""The event loop's lag, on a clock that jumps."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from helexa.cortex.telemetry.lag import EVERY_SECONDS, watch_lag


async def test_a_loop_that_is_in_time_has_no_lag(autojump_clock: MockClock) -> None:
    found: list[float] = []
    with trio.move_on_after(10 * EVERY_SECONDS + 0.01):
        await watch_lag(found.append)
    assert found == [0.0] * 10


async def test_a_loop_that_was_held_up_says_for_how_long(mock_clock: MockClock) -> None:
    found: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_lag, found.append)
        for jump in (EVERY_SECONDS, EVERY_SECONDS + 1.5, EVERY_SECONDS):
            await wait_all_tasks_blocked()
            mock_clock.jump(jump)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert found == pytest.approx([0.0, 1.5, 0.0])
