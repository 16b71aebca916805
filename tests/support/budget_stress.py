"""A crowd of clients before gateways that are killed in their midst, with someone who looks at the books meanwhile."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from random import Random

import trio
from attrs import define, field
from budget_books import Books
from budget_clients import Got, Order, ask
from budget_parts import Host

from helexa.cortex.ledger.limits import Limit

AGAIN = 100
"""Clients of those that were cut off who ask again at once; the others wait for them."""
_TRIES = 200


@define(eq=False)
class Crowd:
    """Clients that are all there at once: each asks until its request has ended, by whatever but a fault.

    Attributes:
        gateways: who is asked: client by client another one.
        orders: a client for each.
        books: are looked at all the while.
        limits: those that must not be exceeded.
        got: what came of each request, also of those that were cut off and asked again.
        over: caps that were found exceeded.
        looks: how often that was looked for.
    """

    gateways: Sequence[Host]
    orders: Sequence[Order]
    books: Books
    limits: Sequence[Limit]
    got: list[Got] = field(factory=list)
    over: list[str] = field(factory=list)
    looks: int = 0
    _ended: int = 0
    _goal: int = 0
    _reached: trio.Event = field(factory=trio.Event)
    _up: dict[int, trio.Event] = field(factory=dict)
    _again: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(AGAIN))

    async def run(self, kills: int, random: Random) -> None:
        """All of it.

        Args:
            kills: how often a gateway is killed, and begun again.
            random: decides after how many answers.
        """
        self._up = {gateway.port: trio.Event() for gateway in self.gateways}
        for event in self._up.values():
            event.set()
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch)
            async with trio.open_nursery() as nursery:
                for number, order in enumerate(self.orders):
                    nursery.start_soon(self._client, number, order)
                await self._kill(kills, random)
            watching.cancel_scope.cancel()

    async def _client(self, number: int, order: Order) -> None:
        port = self.gateways[number % len(self.gateways)].port
        for attempt in count():
            got = await self._ask(port, order, number, attempt)
            self.got.append(got)
            if not got.broken and got.status != 503:
                break
            assert attempt < _TRIES, got
        self._ended += 1
        if self._ended >= self._goal:
            self._reached.set()

    async def _ask(self, port: int, order: Order, number: int, attempt: int) -> Got:
        if not attempt:
            return await ask(port, order, f"r{number}.0")
        async with self._again:
            await self._up[port].wait()
            return await ask(port, order, f"r{number}.{attempt}")

    async def _kill(self, kills: int, random: Random) -> None:
        """Kill a gateway whenever some more clients have what they came for; now and then at once."""
        for left in range(kills, 0, -1):
            share = 2 * (len(self.orders) - self._ended) // (left + 1)
            await self._progress(random.randrange(share + 1))
            gateway = random.choice(self.gateways)
            self._up[gateway.port] = trio.Event()
            gateway.kill()
            gateway.begin()
            await trio.to_thread.run_sync(gateway.wait)
            self._up[gateway.port].set()

    async def _progress(self, answers: int) -> None:
        self._goal, self._reached = min(self._ended + answers, len(self.orders)), trio.Event()
        if answers and self._ended < self._goal:
            await self._reached.wait()

    async def _watch(self) -> None:
        while True:
            self.over += await trio.to_thread.run_sync(self.books.over, self.limits)
            self.looks += 1
            await trio.sleep(0.25)


def summary(gots: Sequence[Got]) -> Counter[str]:
    """How often what came of a request."""
    return Counter(_kind(got) for got in gots)


def _kind(got: Got) -> str:
    if got.whole:
        return "whole"
    if got.left:
        return "left"
    return "broken" if got.broken else f"{got.status} {got.code}"


async def one_by_one(port: int, orders: Sequence[Order], name: str) -> list[Got]:
    """Ask for these, each after the one before."""
    return [await ask(port, order, f"{name}{number}") for number, order in enumerate(orders)]
