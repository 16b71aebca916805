"""What was drawn while something was measured: power, asked for now and then, summed up over time."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Final, TypeAlias, TypeVar

import trio
from attrs import define, evolve, field

from helexa.bench.records import Metric, Sample

ENERGY: Final = Metric("energy", "energy", "J/token", "lower")
"""Of all requests of a round, per token of their answers. Its scenarios have it where devices tell their power."""
INTERVAL: Final = 0.5
"""Seconds between two looks; devices average over about as much themselves."""
Look: TypeAlias = Callable[[], Awaitable[float | None]]
"""The power now, in W; ``None``: not told this time."""
T = TypeVar("T")
_FEWEST_POINTS: Final = 2
_PATIENCE: Final = 2.0
"""Seconds for one look."""


def joules(points: Sequence[tuple[float, float]]) -> float | None:
    """The energy between the first look and the last, by the trapezoidal rule. Pure.

    Args:
        points: seconds and watts, in the order of time.

    Returns:
        ``None``: there are not two points.
    """
    if len(points) < _FEWEST_POINTS:
        return None
    return sum((end - start) * (before + after) / 2 for (start, before), (end, after) in pairwise(points))


@define(eq=False)
class Meter:
    """Looks at once, every half second, and once more at the end. Nothing waits for a look that hangs.

    Args:
        look: asks for the power; it does not raise.
    """

    _look: Look
    _points: list[tuple[float, float]] = field(factory=list)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled; started once the first answer is there."""
        await self._read()
        task_status.started()
        while True:
            await trio.sleep(INTERVAL)
            await self._read()

    async def finish(self) -> float | None:
        """The joules drawn since the first look; ``None``: not known. `run` is over by then."""
        await self._read()
        return joules(self._points)

    async def _read(self) -> None:
        asked = perf_counter()
        with trio.move_on_after(_PATIENCE):
            power = await self._look()
            if power is not None:
                self._points.append(((asked + perf_counter()) / 2, power))


async def metered(look: Look, do: Callable[[], Awaitable[T]]) -> tuple[T, float | None]:
    """Do something, and tell the joules that were drawn meanwhile.

    Raises:
        Exception: what ``do`` raises, not in a group.
    """
    meter, done, wrong = Meter(look), list[T](), list[Exception]()
    async with trio.open_nursery() as nursery:
        await nursery.start(meter.run)
        try:
            done.append(await do())
        except Exception as error:  # noqa: BLE001 - raised again outside of the nursery, which would put it in a group
            wrong.append(error)
        nursery.cancel_scope.cancel()
    if wrong:
        raise wrong[0]
    return done[0], await meter.finish()


def added(samples: Sequence[Sample], drawn: float | None, tokens: int) -> list[Sample]:
    """Samples of a round with its energy per token. Pure.

    Args:
        samples: of the round.
        drawn: joules in it; ``None``: not known.
        tokens: of all its answers.
    """
    if drawn is None or not tokens:
        return list(samples)
    more = {ENERGY.name: drawn / tokens}
    return [evolve(each, values={**each.values, **more}) if each.values else each for each in samples]
