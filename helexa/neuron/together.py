"""The generations of a request with several prompts, as one: its choices are numbered through."""

import trio
from attrs import define, evolve, field

from helexa.neuron.ports import ChoiceNews, Generation


@define(eq=False)
class Together:
    """Implements ``ports.Generation``; owns the generations it is made of.

    Args:
        parts: one generation for each prompt.
        n: choices of each. The i-th of the p-th prompt is number ``p * n + i``.
    """

    _parts: tuple[Generation, ...]
    _n: int
    _live: dict[int, int] = field(init=False)

    @_live.default
    def _all_live(self) -> dict[int, int]:
        return dict.fromkeys(range(len(self._parts)), self._n)

    async def progress(self) -> tuple[ChoiceNews, ...]:
        """Wait until any of them has news; what all of them have then."""
        found: dict[int, tuple[ChoiceNews, ...]] = {}
        some = trio.Event()

        async def look(part: int) -> None:
            found[part] = await self._parts[part].progress()
            some.set()

        async with trio.open_nursery() as nursery:
            for part in self._live:
                nursery.start_soon(look, part)
            if self._live:
                # The first one does not cancel the others itself: those that have news as well can then tell theirs.
                await some.wait()
            # Nothing is lost by this: news are taken in the very step in which the wait for them ends.
            nursery.cancel_scope.cancel()
        return tuple(self._numbered(part, news) for part in sorted(found) for news in found[part])

    def _numbered(self, part: int, news: ChoiceNews) -> ChoiceNews:
        if news.end is not None:
            self._live[part] -= 1
            if not self._live[part]:
                del self._live[part]
        return evolve(news, index=part * self._n + news.index)

    def stop(self, index: int) -> None:
        """One choice needs no more."""
        part, choice = divmod(index, self._n)
        self._parts[part].stop(choice)

    def close(self) -> None:
        """Stop caring about all of them."""
        for part in self._parts:
            part.close()
