"""Who else needs what is being measured: benchmarks make way for users."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

import trio

from helexa.bench.client.exchanges import TargetError
from helexa.bench.measuring import sights
from helexa.bench.measuring.targets import LOOK, Access

AGAIN_SECONDS: Final = 0.05
"""Until the look that confirms another one."""


class Guard(Protocol):
    """Knows whether somebody else needs what is being measured."""

    async def others(self, own: Callable[[], int]) -> bool:
        """Whether it is so now. Never raises for what a target can do.

        Args:
            own: tells the most requests of the measurement that were in flight at a time within the last second. To be
                asked after the target: what began while that answered would be taken for somebody else's.
        """


class NeuronGuard:
    """Somebody else's requests to any model of a neuron, or a model that is being loaded there. To be entered.

    A neuron tells what its worker last told it, which under load is a while ago: a request of ours that has ended may
    still be counted. So what counts as ours is the most of the last second, and others are there only if a second look
    says so too. Somebody who comes just when ours end is seen a second later.

    Args:
        access: the neuron.
    """

    def __init__(self, access: Access) -> None:
        self._client = access.client(LOOK)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def others(self, own: Callable[[], int]) -> bool:
        """Whether the neuron has more to do than our own. What one that does not tell is up to, measuring finds out."""
        if not await self._busy(own):
            return False
        await trio.sleep(AGAIN_SECONDS)
        return await self._busy(own)

    async def _busy(self, own: Callable[[], int]) -> bool:
        try:
            models = sights.reports(await self._client.get("/models"))
        except TargetError:
            return False
        busy = sum(model.running + model.waiting for model in models)
        return busy > own() or any(model.status == "loading" for model in models)
