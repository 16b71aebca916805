"""Messages to an actor: bounded, one reader, kept across the reader's restarts.

The mailbox belongs to the actor object, not to its run loop: what was queued when the loop crashed is served by the
next one. What was *in process* is not delivered again, since it may be what crashed the loop; its asker is told. A
memory channel of trio's is not used underneath: it cannot reach the senders that wait for an answer, and it warns
unless somebody closes it, while an actor that never ran has nobody to do so.
"""

from collections import deque
from typing import Generic, Self, TypeVar

import trio
from attrs import Factory, define, field, frozen

M = TypeVar("M")
R = TypeVar("R")

DEFAULT_CAPACITY = 256


class MailboxFullError(Exception):
    """An actor has more unread messages than it has room for; the sender may drop the message or try later."""


class ActorDiedError(Exception):
    """An actor ended before it answered, or is not there to answer any more.

    Attributes:
        actor: The actor's name.
    """

    def __init__(self, actor: str, reason: str) -> None:
        super().__init__(f"actor {actor!r} {reason}")
        self.actor = actor


@define(eq=False)
class _Reply(Generic[R]):
    """The slot an answer travels through, once, from the actor to the one task that waits."""

    result: tuple[R] | Exception | None = None
    task: trio.lowlevel.Task | None = None
    asked: bool = False
    taken: bool = False
    dead: bool = False

    def settle(self, result: tuple[R] | Exception) -> bool:
        """Keep the result and wake the asker; False when nobody waits any more."""
        if self.dead:
            return False
        if self.result is not None:
            raise RuntimeError("this message has been answered already; an Ask is answered once")
        self.result = result
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None
        return True

    def give_up(self, error: Exception) -> None:
        """Settle with an error unless the actor was faster; what it answers later is dropped."""
        if self.result is None:
            self.settle(error)
            self.dead = True

    async def wait(self) -> R:
        """Wait for the result.

        Not a `trio.Event`: with one, a cancelled asker could still be answered until it next runs, and the actor would
        believe that its answer (a granted place, say) had arrived. Here the slot dies in the same instant.
        """
        if self.result is None:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if isinstance(self.result, tuple):
            return self.result[0]
        assert self.result is not None
        raise self.result

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.dead, self.task = True, None
        return trio.lowlevel.Abort.SUCCEEDED


@frozen(eq=False)
class Ask(Generic[R]):
    """A message that wants an answer of type `R`; subclass it with the question's fields.

    Each instance is put once, with `Mailbox.ask`, and answered once, from the trio thread. An actor may keep it across
    many messages and answer when it can.

    Attributes:
        reply: The slot of the answer; the mailbox's business.
    """

    reply: _Reply[R] = field(init=False, repr=False, eq=False, default=Factory(_Reply))

    def answer(self, value: R) -> bool:
        """Hand `value` to the asker; True when it will get it, False when it no longer waits.

        Raises:
            RuntimeError: It was answered before.
        """
        return self.reply.settle((value,))

    def fail(self, error: Exception) -> bool:
        """Raise `error` in the asker; otherwise like `answer`."""
        return self.reply.settle(error)

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the answer: the asker was cancelled, or has been told that the actor died."""
        return self.reply.dead


class Mailbox(Generic[M]):
    """A bounded queue of messages of type `M` with a single reader.

    Attributes:
        name: The actor that reads it, as its errors name it.
        capacity: Unread messages it has room for.
    """

    def __init__(self, name: str, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox needs room for at least 1 message, not {capacity}")
        self.name = name
        self.capacity = capacity
        self._unread: deque[M] = deque()
        self._asked: dict[int, Ask[object]] = {}
        self._room = trio.Semaphore(capacity)
        self._arrival = trio.lowlevel.ParkingLot()
        self._reading = False
        self._closed: str | None = None

    @property
    def depth(self) -> int:
        """Messages waiting to be read."""
        return len(self._unread)

    @property
    def closed(self) -> bool:
        """No reader will come any more."""
        return self._closed is not None

    def tell(self, message: M) -> None:
        """Leave a message without waiting.

        Raises:
            MailboxFullError: There is no room.
            ActorDiedError: The mailbox is closed.
        """
        self._check_open()
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            raise MailboxFullError(
                f"the mailbox of actor {self.name!r} is full: {self.capacity} messages are unread"
            ) from None
        self._put(message)

    async def ask(self, message: Ask[R]) -> R:
        """Leave a message, waiting for room, and wait for its answer.

        How long is the caller's to bound. While the actor restarts the message waits for it.

        Raises:
            ActorDiedError: The actor ended while the message was in process, or will never read it.
            RuntimeError: This instance was asked before.
        """
        if message.reply.asked:
            raise RuntimeError("this message has been asked already; make a new one for each question")
        message.reply.asked = True
        key = id(message)  # messages compare by value and may be unhashable
        self._asked[key] = message  # type: ignore[assignment] # only ever failed through this reference
        try:
            await self._make_room()
            self._put(message)  # type: ignore[arg-type] # "M and Ask[R]" cannot be spelled
            return await message.reply.wait()
        finally:
            del self._asked[key]

    async def receive(self) -> M:
        """Wait for the next message; the oldest first. A cancelled wait takes none.

        Raises:
            trio.EndOfChannel: The mailbox is closed.
            trio.BusyResourceError: Another task is reading.
        """
        if self._reading:
            raise trio.BusyResourceError(f"the mailbox of actor {self.name!r} has one reader at a time")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._unread and not self.closed:
                await self._arrival.park()
        finally:
            self._reading = False
        return self._take()

    def abandon(self, reason: str) -> None:
        """Tell the askers of everything read and unanswered that the actor died; the unread waits for its restart.

        A supervisor calls it each time the run loop ends.

        Args:
            reason: What happened, as in "actor 'x' …".
        """
        for message in list(self._asked.values()):
            if message.reply.taken:
                message.reply.give_up(ActorDiedError(self.name, reason))

    def close(self, reason: str = "has stopped") -> None:
        """Drop what is unread, fail every asker and refuse whatever comes; again is fine.

        A supervisor calls it when the actor will not run again.
        """
        if self._closed is not None:
            return
        self._closed = reason
        self._unread.clear()
        for message in list(self._asked.values()):
            message.reply.give_up(ActorDiedError(self.name, reason))
        for _ in range(self._room.statistics().tasks_waiting):
            self._room.release()
        self._arrival.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def _check_open(self) -> None:
        if self._closed is not None:
            raise ActorDiedError(self.name, self._closed)

    async def _make_room(self) -> None:
        self._check_open()
        await self._room.acquire()
        self._check_open()

    def _put(self, message: M) -> None:
        self._unread.append(message)
        self._arrival.unpark()

    def _take(self) -> M:
        if self.closed:
            raise trio.EndOfChannel
        message = self._unread.popleft()
        self._room.release()
        if isinstance(message, Ask):
            message.reply.taken = True
        return message
