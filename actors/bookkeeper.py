"""Keeps the ledger's database and its files in step with what is in hand. Of the ledger's loop alone, call by call.

The database is called in threads, one call at a time. What was settled is booked in groups; while the database is away
it goes into a journal instead, so that slots never run out, and is booked from there later. What an earlier process
left, in slots and in the journal, is booked before anything is leased.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import structlog
import trio
from attrs import frozen

from helexa.cortex.ledger.book import Book, totals
from helexa.cortex.ledger.charges import OpenCharge
from helexa.cortex.ledger.journal import SUFFIX, Journal
from helexa.cortex.ledger.limits import Amounts
from helexa.cortex.ledger.rows import Leases, Row, Want
from helexa.cortex.ledger.slots import Slot, SlotFileError, Slots
from helexa.cortex.ledger.store import UsageStore
from helexa.database import StoreError

FLUSH_ROWS: Final = 1000
RETRY_SECONDS: Final = 1.0
"""Between attempts to reach a database or a directory that is away."""
T = TypeVar("T")
_log = structlog.get_logger()


class AwayError(Exception):
    """The database did not do what it was asked for."""


@frozen(eq=False)
class _Batch:
    """What is booked together: rows, and how much of them was settled by this process."""

    rows: tuple[Row, ...]
    used: dict[str, Amounts]


class Bookkeeper:
    """The database, the files, and what is on its way from these to that.

    Args:
        store: the database; its owner from now on.
        directory: where the files lie; of gateways on this database alone.
        clock: the Unix time.

    Attributes:
        book: what is in hand.
        slots: ``None`` until a file is had.
        settled: charges that are over and not booked.
        life: the beginning of every row's id that this process makes.
        trouble: what is wrong with the database; ``None``: nothing.
    """

    def __init__(self, store: UsageStore, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.book = Book()
        self.slots: Slots | None = None
        self.settled: list[OpenCharge] = []
        self.life = uuid4().hex
        self.trouble: str | None = None
        self._files_trouble: str | None = None
        self._store = store
        self._directory = directory
        self._clock = clock
        self._journal: Journal | None = None
        self._replayed = 0
        self._opened = False
        self._retry = -math.inf
        self._calling = threading.Lock()

    @property
    def journalled(self) -> int:
        """Rows in the journal."""
        return 0 if self._journal is None else self._journal.rows

    @property
    def behind(self) -> bool:
        """Whether there is something to be done as soon as the database or the files are back."""
        return self.trouble is not None or not self._opened or self.journalled > 0

    @property
    def retry(self) -> float:
        """When to try again what did not work, by trio's clock."""
        return self._retry

    async def catch_up(self) -> None:
        """Have files, and book what was left in them. Goes on with what is left to do when called again."""
        if trio.current_time() < self._retry:
            return
        try:
            await self._claim()
            while await self._replay() and not self._opened:  # later, requests are served between its parts
                pass
            await self._open()
            if self.trouble is not None:
                await self._book(_Batch((), {}))
        except SlotFileError as error:
            self._retry = trio.current_time() + RETRY_SECONDS
            self.say_files(str(error))
        except AwayError:
            pass

    async def lease(self, wants: Sequence[Want]) -> None:
        """Ask the database for more of limits, and note what it says.

        Raises:
            AwayError: it does not answer.
        """
        if self.slots is None or not self._opened:
            raise AwayError
        found: Leases = await self._call(self._store.lease, self.slots.gateway, wants, self._clock())
        for gateway in found.dropped:
            _log.warning("ledger.gateway_dropped", gateway=gateway)
        self.book.alone = found.alone
        self.book.leased(found.leased, self._clock())

    async def flush(self) -> None:
        """Book what was settled; in the journal, if the database is away."""
        charges = self.settled[:FLUSH_ROWS]
        batch = _Batch(
            await _in_thread(_rows, charges), totals((each.payer.subjects, each.used) for each in charges if each.used)
        )
        try:
            await self._book(batch)
        except AwayError:
            if not charges or not await self._keep(batch.rows):
                return
        del self.settled[: len(charges)]
        for charge in charges:
            if charge.slot is not None:
                charge.slot.give_back()

    async def prune(self, retention: float) -> bool:
        """Have the database forget some of what is older than so many seconds; whether there may be more.

        Raises:
            AwayError: it does not answer.
        """
        return await self._call(self._store.prune, self._clock(), retention) > 0

    async def call(self, work: Callable[..., T], *arguments: object) -> T:
        """Ask the store for something.

        Raises:
            AwayError: it does not answer.
        """
        return await self._call(work, *arguments)

    async def stop(self) -> None:
        """Book all there is, give back what no open charge needs, and let go of the files if there is none."""
        self._retry = -math.inf  # this is the last time to ask, whenever the one before was
        while self.settled:
            before = len(self.settled)
            await self.flush()
            if len(self.settled) == before:
                break
        if self.slots is None:
            return
        if self._opened and self.trouble is None:
            await self._give_back_all(self.slots)
        if self.slots.in_use == len(self.slots.left):
            self.slots.close()
            self.slots, self._opened = None, False

    async def _give_back_all(self, slots: Slots) -> None:
        try:
            if slots.in_use == 0:
                await self._call(self._store.close_gateway, slots.gateway)
                self.book.drop_all()
            else:
                self.book.give_back(math.inf)
                await self._book(_Batch((), {}))
        except AwayError:
            pass

    async def _claim(self) -> None:
        if self.slots is not None:
            return
        slots = await _in_thread(Slots.claim, self._directory)
        assert slots.path is not None
        journal = Journal(slots.path.with_suffix(SUFFIX))
        try:
            await _in_thread(journal.open)
        except OSError as error:
            slots.close()
            raise SlotFileError(f"{journal.path}: {(error.strerror or str(error)).lower()}") from error
        self.slots, self._journal, self._replayed, self._opened = slots, journal, 0, False
        self.say_files(None)

    async def _open(self) -> None:
        """Book what was left in slots. The leases of that time are gone then."""
        if self._opened or self.slots is None:
            return
        left = self.slots.left
        rows = _left_rows(left)
        await self._call(self._store.open, self.slots.gateway, rows, self._clock())
        if rows:
            _log.warning("ledger.recovered", requests=len(rows))
        for slot in left:
            slot.give_back()
        self.slots.left = []
        self._opened = True

    async def _replay(self) -> bool:
        """Book some of the journal; whether there is more."""
        journal = self._journal
        if journal is None or journal.rows == 0:
            return False
        try:
            read = await _in_thread(journal.read, self._replayed, FLUSH_ROWS)
            ours = (row for row in read.rows if row.id.startswith(self.life))
            await self._book(_Batch(read.rows, totals((row.subjects, row.amounts) for row in ours)))
            if read.unreadable:
                aside = await _in_thread(journal.set_aside, read.unreadable)
                _log.error("ledger.journal_unreadable", lines=len(read.unreadable), kept_in=str(aside))
            self._replayed = read.end
            if await _in_thread(journal.forget, read.end):
                self._replayed = 0
        except OSError as error:
            raise SlotFileError(f"{journal.path}: {(error.strerror or str(error)).lower()}") from error
        return journal.rows > 0

    async def _book(self, batch: _Batch) -> None:
        """Until the gateway is open nothing is leased, and what the database has leased to it covers what was left."""
        if self.slots is None:
            raise AwayError
        keep = self.book.keep(batch.used) if self._opened else {}
        leases = await self._call(self._store.flush, self.slots.gateway, batch.rows, keep, self._clock())
        self.book.flushed(batch.used, keep, leases)

    async def _keep(self, rows: Sequence[Row]) -> bool:
        """Put rows into the journal; whether they are there."""
        if self._journal is None:
            return False
        try:
            await _in_thread(self._journal.append, rows)
        except OSError as error:
            self.say_files(f"{self._journal.path}: {(error.strerror or str(error)).lower()}")
            return False
        self.say_files(None)
        return True

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        if self.trouble is not None and trio.current_time() < self._retry:
            raise AwayError
        try:
            found: T = await _in_thread(self._one_at_a_time, work, *arguments)
        except StoreError as error:
            self._away(str(error))
            raise AwayError from error
        if self.trouble is not None:
            self.trouble = None
            self.book.owe_all()
            _log.info("ledger.database_back", journal=self.journalled)
        return found

    def _one_at_a_time(self, work: Callable[..., T], *arguments: object) -> T:
        """A call that was cancelled goes on in its thread, and leases are said as totals: their order matters."""
        with self._calling:
            return work(*arguments)

    def _away(self, why: str) -> None:
        self._retry = trio.current_time() + RETRY_SECONDS
        if why != self.trouble:
            self.trouble = why
            _log.error("ledger.database_away", error=why, unbooked=len(self.settled) + self.journalled)

    def say_files(self, trouble: str | None) -> None:
        """Log what is wrong with the files, once; ``None``: nothing any more."""
        if trouble != self._files_trouble:
            self._files_trouble = trouble
            if trouble is None:
                _log.info("ledger.files_back")
            else:
                _log.error("ledger.files_away", error=trouble)


def _rows(charges: Sequence[OpenCharge]) -> tuple[Row, ...]:
    return tuple(charge.row() for charge in charges)


def _left_rows(left: Sequence[Slot]) -> list[Row]:
    """A request that was never sent has used nothing."""
    rows = []
    for slot in left:
        try:
            if slot.was_sent:
                rows.append(slot.row())
        except (ValueError, IndexError) as error:  # somebody's hand
            _log.error("ledger.slot_unreadable", error=str(error))
    return rows


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await trio.to_thread.run_sync(partial(work, *arguments), abandon_on_cancel=True)
