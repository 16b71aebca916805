"""Tells all who wait that something has changed."""

import trio


class Bell:
    """Rung by one, heard by everyone who waits at that moment; nothing is remembered.

    So whoever waits for a condition looks at it and then waits, with no checkpoint in between: a ring cannot be missed.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        event, self._event = self._event, trio.Event()
        event.set()

    async def wait(self) -> None:
        """Wait for the next ring."""
        await self._event.wait()

    async def wait_until(self, deadline: float) -> None:
        """Wait for the next ring, but not for longer than until ``deadline``, seconds of trio's clock."""
        with trio.move_on_at(deadline):
            await self.wait()
