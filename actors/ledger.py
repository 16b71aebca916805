"""Owns the budgets: sets aside what requests may use, and has what they have used booked.

Requests are let in by arithmetic on what this gateway has leased of each limit, so most of them neither wait nor switch
tasks; a message is sent only for those that the database has to be asked for. What a request has used lies in a file
that outlives this process from the moment it is told; see ``helexa.cortex.ledger.slots``.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Literal

import structlog
import trio
from attrs import define, frozen

from actors.actor import Actor
from actors.bookkeeper import RETRY_SECONDS, AwayError, Bookkeeper
from actors.mailbox import ActorDiedError, Ask, Mailbox
from config import Cortex
from helexa.cortex.ledger import ports, quota, refusals
from helexa.cortex.ledger.book import Held, Lacking, Refused
from helexa.cortex.ledger.charges import OpenCharge, microseconds
from helexa.cortex.ledger.figures import Figures, LimitFigures
from helexa.cortex.ledger.limits import Amounts, Limit, Payer, Prices
from helexa.cortex.ledger.rows import Grouping, Spending, Sums
from helexa.cortex.ledger.slots import Identity, Slot, SlotFileError, Slots
from helexa.cortex.ledger.store import UsageStore
from helexa.database import StoreError
from helexa.wire.errors import ApiError

FLUSH_SECONDS: Final = 0.2
"""How long charges that are settled wait for others to be booked with. They are safe meanwhile, and a transaction costs
a millisecond of the interpreter, however few it books."""
TICK_SECONDS: Final = 0.5
"""How often leases are looked at, while there are any."""
OTHERS_SECONDS: Final = 0.26
"""Between questions while other gateways may give something back."""
PATIENCE_SECONDS: Final = 1.5
"""For other gateways, before a request is refused or gets less than it asks for."""
ANSWER_SECONDS: Final = 12.0
"""For a request that needs the database; that has shorter limits, and there are failures that none of them covers."""
STOP_SECONDS: Final = 5.0
PRUNE_SECONDS: Final = 3600.0
_ROUNDS: Final = 4
"""Questions to the database in a row; it may have less than was asked for, and then be asked for that."""
_log = structlog.get_logger()


@frozen(eq=False)
class Reserve(Ask[Held]):
    """Set aside what a request may use; the database has to be asked."""

    payer: Payer
    ask: ports.Ask


@frozen(eq=False)
class Stand(Ask[list[tuple[Limit, int, int]]]):
    """Tell where limits stand."""

    limits: tuple[Limit, ...]


@define(eq=False)
class _Waiting:
    """A request that waits for the database; times by trio's clock."""

    message: Reserve
    until: float
    again: float = -math.inf


@define(eq=False)
class _Due:
    """When what is to be done, by trio's clock."""

    flush: float = math.inf
    tick: float = math.inf
    prune: float = -math.inf


class Ledger(Actor):
    """Implements ``helexa.cortex.ledger.ports.Ledger`` and ``helexa.cortex.access.keys.Spending``.

    Args:
        store: the database; its owner from now on.
        directory: where what is under way is kept; of gateways on this database alone, made if it is missing.
        settings: those of the gateway now.
        clock: the Unix time.
    """

    def __init__(
        self,
        store: UsageStore,
        directory: Path,
        settings: Callable[[], Cortex],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "ledger"
        self.mailbox: Mailbox[Reserve | Stand] = Mailbox(self.name, capacity=4096)
        self._store = store
        self._settings = settings
        self._clock = clock
        self._keeper = Bookkeeper(store, directory, clock)
        self._book = self._keeper.book
        self._unsafe = Slots.in_memory()
        self._numbers = count()
        self._names: dict[str, str] = {}
        self._spent: dict[str, list[int]] = {}
        self._waiting: list[_Waiting] = []
        self._standing: list[Stand] = []
        self._due = _Due()
        self._nap: trio.CancelScope | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve for ever. Started once the database was asked, whether it answered or not."""
        self._waiting, self._standing, self._nap = [], [], None  # whoever asked a loop that has crashed was told so
        try:
            await self._keeper.catch_up()
            task_status.started()
            while True:
                await self._receive()
                await self._work()
        except trio.Cancelled:
            await self._stop()
            raise

    async def reserve(self, payer: Payer, ask: ports.Ask) -> OpenCharge:
        """See ``ports.Ledger``."""
        found = self._book.reserve(payer, ask, self._clock())
        if not isinstance(found, Held) or (found.by_others and self._keeper.trouble is None):
            found = await self._slowly(payer, ask, found)
        return OpenCharge(self, payer, ask, found, self._clock)

    def headers(self, payer: Payer) -> list[tuple[bytes, bytes]]:
        """See ``ports.Ledger``. Nothing is said of limits that the database has not been asked for yet."""
        if not payer.limits:
            return []
        return refusals.headers([purse for purse in self._book.of(payer) if purse.asked], self._clock())

    async def spending(self, limits: Sequence[Limit]) -> Sequence[tuple[Limit, int, int]]:
        """What counts against each limit, and what is set aside for requests that are served now; in its unit.

        Raises:
            ApiError: 503; the database does not answer.
        """
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                return await self.mailbox.ask(Stand(tuple(limits)))
            except ActorDiedError:
                pass
        raise refusals.away()

    async def usage(self, since: float, until: float, by: Grouping, most: int) -> Sequence[Sums]:
        """What was used from one Unix time up to another, the dearest first; ``most`` of them at most.

        Raises:
            ApiError: 503; the database does not answer.
        """
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                look = partial(self._store.usage, since, until, by, most)
                return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
            except StoreError:
                pass
        raise refusals.away()

    def figures(self) -> Figures:
        """For metrics."""
        limits = [LimitFigures(each.limit, self._name(each.limit), each.remaining) for each in self._book.purses]
        slots = self._keeper.slots
        taken = self._unsafe.in_use + (0 if slots is None else slots.in_use - len(slots.left))
        unsettled = taken - len(self._keeper.settled)
        spent = {name: Amounts(*sums) for name, sums in self._spent.items()}
        return Figures(spent, limits, unsettled, self._keeper.journalled, self._keeper.trouble)

    def settled(self, charge: OpenCharge) -> None:
        """A charge is over: what it used is booked, and the rest is free again."""
        used = charge.used
        if used is None:
            self._book.release(charge.held)
            if charge.slot is not None:
                charge.slot.give_back()
            return
        self._book.settle(charge.held, charge.payer, used)
        self._count(charge.payer, used)
        if charge.total is not None and used.tokens > charge.total:
            _log.warning("ledger.used_more", key=charge.payer.name, tokens=used.tokens, reserved=charge.total)
        self._keeper.settled.append(charge)
        if self._due.flush == math.inf:
            self._wake_at(trio.current_time() + FLUSH_SECONDS)

    def _wake_at(self, flush: float) -> None:
        self._due.flush = min(self._due.flush, flush)
        if self._nap is not None:
            self._nap.deadline = min(self._nap.deadline, flush)

    def _count(self, payer: Payer, used: Amounts) -> None:
        self._names[payer.key] = payer.name
        used.add_to(self._spent.setdefault(payer.name, [0, 0, 0]))

    def _name(self, limit: Limit) -> str:
        kind, _, name = limit.subject.partition(":")
        return name if kind == "account" else self._names.get(limit.subject, name)

    def opened(self, charge: OpenCharge, node: str, prices: Prices) -> tuple[Slot, Identity]:
        """A charge is to be sent to a node; see ``charges.Owner``."""
        payer, ask = charge.payer, charge.ask
        try:
            slot = self._slot(payer)
        except SlotFileError:
            raise refusals.unrecordable() from None
        identity = f"{self._keeper.life}-{next(self._numbers):010x}"  # in their order: an index of them stays compact
        known = Identity(identity, payer.key, payer.name, payer.account, ask.model, ask.route, ask.request_id)
        slot.open(known.encode(), node, prices, microseconds(self._clock()))
        return slot, known

    def _slot(self, payer: Payer) -> Slot:
        """One of the file's; where there is none, who has no budget is served all the same, if less safely."""
        slots = self._keeper.slots
        try:
            if slots is not None:
                return slots.take()
        except SlotFileError as error:
            self._keeper.say_files(str(error))
        if payer.limits and self._settings().database_away == "refuse":
            raise SlotFileError
        return self._unsafe.take()

    async def _slowly(self, payer: Payer, ask: ports.Ask, found: Held | Lacking | Refused) -> Held:
        """The database has to be asked, or other gateways have to be waited for."""
        if isinstance(found, Held):
            self._book.release(found)
        if isinstance(found, Refused) and not found.by_others:
            raise refusals.refusal(payer, ask, found.purses, self._clock())
        if self._keeper.trouble is None:
            with trio.move_on_after(ANSWER_SECONDS):
                try:
                    return await self.mailbox.ask(Reserve(payer, ask))
                except ActorDiedError:
                    pass
        return self._unasked(ask)

    def _unasked(self, ask: ports.Ask) -> Held:
        """What becomes of a request while the database is away."""
        if self._settings().database_away == "refuse":
            raise refusals.away()
        return Held(quota.whole(ask))

    async def _receive(self) -> None:
        """Messages; none, if there is something to be done before one comes."""
        with trio.CancelScope(deadline=self._next()) as self._nap:
            self._take(await self.mailbox.receive())
        self._nap = None
        while self.mailbox.depth:
            self._take(await self.mailbox.receive())

    def _take(self, message: Reserve | Stand) -> None:
        if isinstance(message, Stand):
            self._standing.append(message)
        else:
            self._waiting.append(_Waiting(message, trio.current_time() + PATIENCE_SECONDS))

    def _next(self) -> float:
        """When there is something to be done."""
        times = [self._due.flush, self._due.tick, self._due.prune, *(each.again for each in self._waiting)]
        if self._keeper.behind:
            times.append(self._keeper.retry)
        return min(times)

    async def _work(self) -> None:
        if self._keeper.behind:
            await self._keeper.catch_up()
        await self._serve()
        if self._standing:
            await self._stand()
        now = trio.current_time()
        if now >= self._due.tick:
            await self._tick()
        if now >= self._due.flush:
            await self._flush()
        if now >= self._due.prune:
            await self._prune()
        if self._due.tick == math.inf and self._book.leases:
            self._due.tick = trio.current_time() + TICK_SECONDS

    async def _serve(self) -> None:
        """Let in who can be, and ask the database for all others together."""
        for _ in range(_ROUNDS):
            lacking = self._lacking()
            if not lacking:
                return
            try:
                await self._keeper.lease(self._book.wants(lacking, self._clock()))
            except AwayError:
                waiting, self._waiting = self._waiting, []
                for each in waiting:
                    self._answer_unasked(each.message)

    def _lacking(self) -> list[tuple[Lacking, ports.Ask]]:
        """Answer who can be answered; who stays is told to try again, or is returned."""
        now, lacking = trio.current_time(), []
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            found = self._try(each, now) if now >= each.again else "later"
            if not (found is None or each.message.cancelled):
                self._waiting.append(each)
                if isinstance(found, Lacking):
                    lacking.append((found, each.message.ask))
        return lacking

    def _try(self, waiting: _Waiting, now: float) -> Lacking | Literal["later"] | None:
        """``None``: it is answered."""
        message, patient = waiting.message, now < waiting.until
        found = self._book.reserve(message.payer, message.ask, self._clock())
        if isinstance(found, Lacking):
            return found
        if patient and found.by_others:
            waiting.again = now + OTHERS_SECONDS
            if isinstance(found, Held):
                self._book.release(found)
            return "later"
        if isinstance(found, Refused):
            message.fail(refusals.refusal(message.payer, message.ask, found.purses, self._clock()))
        elif not message.answer(found):
            self._book.release(found)
        return None

    def _answer_unasked(self, message: Reserve) -> None:
        try:
            message.answer(self._unasked(message.ask))
        except ApiError as error:
            message.fail(error)

    async def _stand(self) -> None:
        """One transaction for all who ask, between two that book: nothing is counted twice."""
        standing, self._standing = self._standing, []
        limits = [limit for message in standing for limit in message.limits]
        try:
            found = iter(await self._keeper.call(self._store.spending, limits, self._clock()))
        except AwayError:
            for message in standing:
                message.fail(refusals.away())
            return
        for message in standing:
            message.answer([self._stands(next(found)) for _ in message.limits])

    def _stands(self, found: Spending) -> tuple[Limit, int, int]:
        purse = self._book.find(found.limit)
        if purse is None:
            return found.limit, found.spent, found.leased
        others = 0 if self._book.alone else max(0, found.leased - purse.lease)
        return found.limit, found.spent + purse.pending[purse.unit], purse.reserved + others

    async def _tick(self) -> None:
        """Give back what nobody needs, and find out whether there are other gateways to share with."""
        self._due.tick = math.inf
        self._book.give_back(self._clock())
        if self._book.owes:
            await self._keeper.flush()
        with suppress(AwayError):
            if self._book.leases:
                await self._keeper.lease(())

    async def _flush(self) -> None:
        before = len(self._keeper.settled)
        self._due.flush = math.inf
        await self._keeper.flush()
        left = len(self._keeper.settled)
        if left:
            self._wake_at(trio.current_time() + (FLUSH_SECONDS if left < before else RETRY_SECONDS))

    async def _prune(self) -> None:
        self._due.prune = trio.current_time() + PRUNE_SECONDS
        self._book.forget(self._clock())
        with suppress(AwayError):
            if await self._keeper.prune(self._settings().usage_retention):
                self._due.prune = trio.current_time() + FLUSH_SECONDS

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
            await self._keeper.stop()
        self._store.close()
