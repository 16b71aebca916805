"""A request in an engine worker, seen from the neuron: tokens pile up here until someone looks.

It outlives the worker's process. All its tokens are kept until it ends, so that another process can go on with it.
"""

import math
from collections.abc import Callable, Sequence

import trio
from attrs import define, field

from helexa.engine.protocol import Progress, TokenLogprob
from helexa.neuron.ports import ChoiceNews, End


@define(eq=False)
class _Choice:
    """What has come of one choice. ``told`` is set once its end was.

    Attributes:
        ids: new tokens that were not told yet.
        generated: all of its tokens.
    """

    ids: list[int] = field(factory=list)
    logprobs: list[TokenLogprob] = field(factory=list)
    generated: list[int] = field(factory=list)
    end: End | None = None
    stopped: bool = False
    told: bool = False

    def has_news(self) -> bool:
        return not self.told and bool(self.ids or self.end)

    def take(self, index: int) -> ChoiceNews:
        news = ChoiceNews(index, tuple(self.ids), tuple(self.logprobs), self.end)
        self.ids, self.logprobs, self.told = [], [], self.end is not None
        return news


class LiveGeneration:
    """One reader, one writer, no waiting for the reader: what piles up is bounded by the request's own token limit.

    A channel with room for so many items would either make the worker's reader wait for the slowest client or drop
    tokens.

    Args:
        choices: how many sequences the request is for.
        abort: called with a choice's index when the reader stops it, and with ``None`` when the reader closes, before
            the choices end by that; never for what has ended.

    Attributes:
        live: choices whose end has not come.
    """

    def __init__(self, choices: int, abort: Callable[[int | None], None]) -> None:
        self._abort = abort
        self.live = choices
        self._choices = [_Choice() for _ in range(choices)]
        self._news = trio.Event()
        self._deadline = math.inf
        self._overdue: Callable[[], None] = lambda: None
        self._wait: trio.CancelScope | None = None

    @property
    def choices(self) -> int:
        """How many sequences the request is for, ended ones among them."""
        return len(self._choices)

    def extend(self, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> None:
        """The worker's new tokens of one choice; dropped if it has ended."""
        choice = self._choices[index]
        if choice.end is None and ids:
            choice.ids += ids
            choice.logprobs += logprobs
            choice.generated += ids
            self._news.set()

    def finish(self, index: int, end: End) -> None:
        """The worker's last word on one choice; the first one counts."""
        choice = self._choices[index]
        if choice.end is None:
            choice.end = end
            choice.generated = []
            self.live -= 1
            self._news.set()

    def finish_all(self, end: End) -> None:
        """The worker's last word on every choice that lives."""
        for index in range(len(self._choices)):
            self.finish(index, end)

    def finish_stopped(self) -> None:
        """The worker is gone: what the reader has stopped will not be answered for any more."""
        for index, choice in enumerate(self._choices):
            if choice.stopped:
                self.finish(index, End("abort"))

    def so_far(self) -> list[Progress]:
        """How far each choice has come that lives; empty if there is nothing to go on from."""
        live = [(index, choice) for index, choice in enumerate(self._choices) if choice.end is None]
        found = [Progress(index, list(choice.generated)) for index, choice in live]
        return found if len(found) < self.choices or any(each.ids for each in found) else []

    def wait_until(self, deadline: float, overdue: Callable[[], None]) -> None:
        """Bound the reader's wait, also one under way.

        Who waits keeps the time, so that no task is needed for it; and who does not is not in a hurry.

        Args:
            deadline: on trio's clock; ``math.inf`` for none.
            overdue: called when a reader has waited until then; it ends the choices.
        """
        self._deadline, self._overdue = deadline, overdue
        if self._wait is not None:
            self._wait.deadline = deadline

    async def progress(self) -> tuple[ChoiceNews, ...]:
        """Wait for tokens or ends; everything since the last call. Empty, and at once, when all ends were told."""
        with trio.CancelScope(deadline=self._deadline) as self._wait:
            await self._news.wait()
        if self._wait.cancelled_caught:
            self._overdue()
        self._wait = None
        if self.live:
            self._news = trio.Event()
        return tuple(choice.take(index) for index, choice in enumerate(self._choices) if choice.has_news())

    def stop(self, index: int) -> None:
        """Have the worker end one choice, unless it has ended. Idempotent."""
        choice = self._choices[index]
        if choice.end is None and not choice.stopped:
            choice.stopped = True
            self._abort(index)

    def close(self) -> None:
        """Abort what lives. Idempotent."""
        if self.live:
            self._abort(None)
            self.finish_all(End("abort"))
