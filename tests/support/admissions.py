"""An admission whose requests last until they are told to end, and what became of each."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, evolve, field
from trio.testing import wait_all_tasks_blocked

from config import Cortex
from helexa.cortex.access.auth import Key
from helexa.cortex.exchange.admission import Admission, Place
from helexa.wire.errors import ApiError


def key(name: str, weight: int = 1, most: int | None = None) -> Key:
    return Key(name, name, frozenset(), id=f"id-{name}", weight=weight, max_in_flight=most)


ANN, BOB = key("ann"), key("bob")


@define(eq=False)
class Crowd:
    """An admission with settings that can be changed, and requests that last until they are told to end."""

    nursery: trio.Nursery
    settings: Cortex = field(factory=lambda: Cortex(max_in_flight=2))
    default_most: int | None = None
    served: list[str] = field(factory=list)
    refused: dict[str, ApiError] = field(factory=dict)
    ends: dict[str, trio.Event] = field(factory=dict)
    places: dict[str, Place] = field(factory=dict)
    scopes: dict[str, trio.CancelScope] = field(factory=dict)
    admission: Admission = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.admission = Admission(lambda: self.settings, lambda: self.default_most)

    def set(self, **settings: Any) -> None:
        self.settings = evolve(self.settings, **settings)

    async def begin(
        self, name: str, whose: Key | None = None, last: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """A request arrives; it is served or waits once this returns."""
        self.ends[name] = trio.Event()
        self.nursery.start_soon(self._request, name, whose, last or self.ends[name].wait)
        await wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await wait_all_tasks_blocked()

    async def _request(self, name: str, whose: Key | None, last: Callable[[], Awaitable[object]]) -> None:
        with trio.CancelScope() as self.scopes[name]:
            try:
                async with self.admission.place(whose) as self.places[name]:
                    self.served.append(name)
                    await last()
            except ApiError as error:
                self.refused[name] = error

    @property
    def counts(self) -> tuple[int, int]:
        figures = self.admission.figures()
        return figures.in_flight, figures.waiting

    @property
    def turned_away(self) -> dict[Any, int]:
        return {reason: count for reason, count in self.admission.figures().turned_away.items() if count}


def retry_after(error: ApiError) -> int:
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.retry_after is not None
    assert str(error).endswith(f"Try again in {error.retry_after} s.")
    assert (b"retry-after", str(error.retry_after).encode()) in error.headers()
    return error.retry_after
