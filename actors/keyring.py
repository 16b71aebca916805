"""Owns the keys that were made for this fleet, and accounts' budgets: an index in memory, and the database behind it.

Requests are checked against the index alone, so a database that is away stops no key that was known, and costs no
request any time. Changes go through the mailbox, one after the other, and are in the index before they are answered.
Those of other gateways are found by asking for the database's revision now and then.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

import structlog
import trio
from attrs import evolve

from actors.actor import Actor
from actors.key_changes import Alter, Create, DropAccount, KeyChange, Revoke, Rotate, SetAccount
from actors.mailbox import ActorDiedError, Ask, Mailbox
from config import Account, Cortex
from helexa.cortex.access import auth, keys
from helexa.cortex.access.accounts import Accounts
from helexa.cortex.access.keys import Change, Made, Record, Wanted
from helexa.cortex.access.keystore import KeyStore, NameTakenError, NoSuchAccountError, NoSuchKeyError, Snapshot
from helexa.cortex.ledger.limits import Payer
from helexa.database import StoreError
from helexa.wire.errors import ApiError

INTERVAL_SECONDS = 2.0
STORE_SECONDS = 10.0
"""For one look or change; the store has shorter limits of its own, and there are failures that none of them covers."""
ANSWER_SECONDS = 15.0
"""For a change, those before it included."""
FIRST_NAME = "admin"
_ATTEMPTS = 3
T = TypeVar("T")
_log = structlog.get_logger()


class Keyring(Actor):
    """Implements ``helexa.cortex.access.keys.Keys``.

    Args:
        store: the database; its owner from now on.
        clock: the Unix time.
        settings: the gateway's, as they are now.
    """

    def __init__(
        self, store: KeyStore, clock: Callable[[], float] = time.time, settings: Callable[[], Cortex] = Cortex
    ) -> None:
        self.name = "keyring"
        self.mailbox: Mailbox[KeyChange] = Mailbox(self.name)
        self.loaded = trio.Event()
        """Set once the keys have been read for the first time."""
        self._store = store
        self._clock = clock
        self._settings = settings
        self._declared: tuple[auth.Key, ...] = ()
        self._accounts = Accounts()
        self._records: dict[str, Record] = {}
        self._index: dict[str, auth.Key] = {}
        self._revision: int | None = None
        self._trouble: str | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve for ever. Started once the database was asked, whether it answered or not."""
        self._revision = None
        try:
            await self._look()
            task_status.started()
            while True:
                await self._serve_until(trio.current_time() + INTERVAL_SECONDS)
                await self._look()
        finally:
            self._store.close()

    def find(self, digest: str) -> auth.Key | None:
        """The key with this hash, unless it is revoked; whether it has expired is the gate's to say.

        Raises:
            ApiError: 503; nothing is known yet.
        """
        if not self.loaded.is_set():
            raise keys.unknown_yet()
        return self._index.get(digest)

    def payer(self, key: auth.Key) -> Payer:
        """Who pays for a key's requests; the topology's account goes before the database's of the same name.

        Raises:
            ApiError: 503; nothing is known yet of an account's budgets, and ``cortex.database_away`` says to refuse.
        """
        known = self.loaded.is_set() or key.account in self._accounts.declared
        if not known and self._settings().database_away == "refuse":
            raise keys.unknown_yet()
        return self._accounts.payer(key)

    def declare(self, found: Iterable[auth.Key], accounts: Iterable[Account] = ()) -> None:
        """Take note of the topology's keys and accounts, whose names are not to be had here."""
        self._declared = tuple(found)
        self._accounts.declare(accounts)

    def declared(self) -> tuple[auth.Key, ...]:
        """The topology's keys."""
        return self._declared

    def declared_accounts(self) -> tuple[Account, ...]:
        """The topology's accounts."""
        return tuple(self._accounts.declared.values())

    def accounts(self) -> tuple[Account, ...]:
        """The database's accounts.

        Raises:
            ApiError: 503; nothing is known yet.
        """
        if not self.loaded.is_set():
            raise keys.unknown_yet()
        return tuple(self._accounts.kept.values())

    def records(self) -> tuple[Record, ...]:
        """All keys ever made, the oldest first.

        Raises:
            ApiError: 503; nothing is known yet.
        """
        if not self.loaded.is_set():
            raise keys.unknown_yet()
        return tuple(sorted(self._records.values(), key=lambda record: (record.created, record.id)))

    def record(self, name: str) -> Record:
        """The key of that name: the one that is not revoked, else the latest.

        Raises:
            ApiError: 404; 503 as above.
        """
        named = [record for record in self.records() if record.name == name]
        if not named:
            raise keys.not_found(name)
        return next((record for record in named if record.revoked is None), named[-1])

    async def create(self, wanted: Wanted) -> Made:
        """Make a key.

        Raises:
            ApiError: 409, its name is taken; 503, the database is away.
        """
        if self._is_declared(wanted.name):
            raise keys.is_declared(wanted.name)
        return await self._ask(Create(wanted))

    async def rotate(self, name: str) -> Made:
        """Exchange a key for another that is good for the same, and for as long.

        Raises:
            ApiError: 404; 409, it is the topology's, or good for nothing; 503, the database is away.
        """
        self._check_own(name)
        return await self._ask(Rotate(name))

    async def change(self, name: str, change: Change) -> Record:
        """Have a key be good for something else from now on, for the requests that come next.

        Raises:
            ApiError: 404; 409, it is the topology's, or revoked; 503, the database is away.
        """
        self._check_own(name)
        return await self._ask(Alter(name, change))

    async def revoke(self, name: str) -> Record:
        """Have a key be good for nothing from now on; one that is that already stays as it is.

        Raises:
            ApiError: 404; 409, it is the topology's; 503, the database is away.
        """
        self._check_own(name)
        return await self._ask(Revoke(name))

    async def set_account(self, account: Account) -> None:
        """Keep an account's budgets, in the place of those it had.

        Raises:
            ApiError: 409, it is the topology's; 503, the database is away.
        """
        if account.name in self._accounts.declared:
            raise keys.account_is_declared(account.name)
        await self._ask(SetAccount(account))

    async def drop_account(self, name: str) -> None:
        """Forget an account's budgets: it has none from now on.

        Raises:
            ApiError: 404; 409, it is the topology's; 503, the database is away.
        """
        if name in self._accounts.declared and name not in self._accounts.kept:
            raise keys.account_is_declared(name)
        await self._ask(DropAccount(name))

    def _check_own(self, name: str) -> None:
        """One made here stays ours to revoke when the topology declares another one of its name later."""
        live = any(record.name == name and record.revoked is None for record in self._records.values())
        if self._is_declared(name) and not live:
            raise keys.is_declared(name)

    def _is_declared(self, name: str) -> bool:
        return any(key.name == name for key in self._declared)

    async def _ask(self, message: Ask[T]) -> T:
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                return await self.mailbox.ask(message)
            except ActorDiedError:
                pass
        raise keys.unchangeable()

    async def _serve_until(self, deadline: float) -> None:
        while True:
            message = None
            with trio.CancelScope(deadline=deadline):  # the wait alone: no change is cut short for the sake of a look
                message = await self.mailbox.receive()
            if message is None:
                return
            if not message.cancelled:
                await self._serve(message)

    async def _serve(self, message: KeyChange) -> None:
        try:
            await self._do(message)
        except StoreError as error:
            self._away(error)
            message.fail(keys.unchangeable())
        except ApiError as error:
            message.fail(error)

    async def _do(self, message: KeyChange) -> None:
        match message:
            case Create():
                await self._create(message)
            case Rotate():
                message.answer(await self._settled(self._rotate, message.name))
            case Alter():
                message.answer(await self._settled(partial(self._alter, message.change), message.name))
            case Revoke():
                message.answer(await self._settled(self._revoke, message.name))
            case SetAccount():
                await self._set_account(message.account)
                message.answer(None)
            case DropAccount():
                await self._drop_account(message.name)
                message.answer(None)

    async def _create(self, message: Create) -> None:
        await self._refresh()
        key = keys.new_key()
        record = keys.record_of(message.wanted, key, uuid4().hex, self._clock())
        try:
            revision = await self._in_thread(partial(self._store.insert, record))
        except NameTakenError:
            raise keys.taken(record.name) from None
        self._put(record, revision)
        if not message.answer(Made(record, key)):  # nobody will ever know it, and its name would be taken
            await self._settled(self._revoke, record.name)

    async def _settled(self, change: Callable[[str], Awaitable[T]], name: str) -> T:
        """Change a key as it is now: with what was known a moment ago, one made anew elsewhere would seem revoked."""
        for _ in range(_ATTEMPTS):
            await self._refresh()
            with suppress(NoSuchKeyError):  # another gateway was faster
                return await change(name)
        raise StoreError("other gateways change its keys all the time")

    async def _rotate(self, name: str) -> Made:
        record = self.record(name)
        state = record.state(self._clock())
        if state != "active":
            raise keys.is_over(record, state)
        key, now = keys.new_key(), self._clock()
        digest, hint = auth.sha256(key.encode()), keys.hint_of(key)
        revision = await self._in_thread(partial(self._store.exchange, record.id, digest, hint, now))
        changed = evolve(record, hash=digest, hint=hint, rotated=now)
        self._put(changed, revision)
        return Made(changed, key)

    async def _alter(self, change: Change, name: str) -> Record:
        record = self.record(name)
        if record.revoked is not None:
            raise keys.is_over(record, "revoked")
        if not change.values:
            return record
        revision = await self._in_thread(partial(self._store.alter, record.id, change.values))
        changed = evolve(record, **change.values)
        self._put(changed, revision)
        return changed

    async def _revoke(self, name: str) -> Record:
        record, now = self.record(name), self._clock()
        if record.revoked is not None:
            return record
        revision = await self._in_thread(partial(self._store.revoke, record.id, now))
        changed = evolve(record, revoked=now)
        self._put(changed, revision)
        return changed

    async def _set_account(self, account: Account) -> None:
        await self._refresh()
        revision = await self._in_thread(partial(self._store.set_account, account.name, account.budgets))
        self._accounts.keep([*(each for each in self._accounts.kept.values() if each.name != account.name), account])
        self._follow(revision)

    async def _drop_account(self, name: str) -> None:
        await self._refresh()
        try:
            revision = await self._in_thread(partial(self._store.drop_account, name))
        except NoSuchAccountError:
            raise keys.no_account(name) from None
        self._accounts.keep(each for each in self._accounts.kept.values() if each.name != name)
        self._follow(revision)

    async def _look(self) -> None:
        try:
            await self._refresh()
        except StoreError as error:
            self._away(error)

    async def _refresh(self) -> None:
        """Know what the database has."""
        found = await self._in_thread(partial(self._store.look, self._revision))
        if found is not None:
            self._take(found)
        if self._trouble is not None:
            self._trouble = None
            _log.info("keys.database_back")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with trio.move_on_after(STORE_SECONDS):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        raise StoreError(f"it did not answer within {STORE_SECONDS:g} s")

    def _take(self, found: Snapshot) -> None:
        self._revision = found.revision
        self._records = {record.id: record for record in found.records}
        self._accounts.keep(found.accounts)
        self._reindex()
        self.loaded.set()

    def _put(self, record: Record, revision: int) -> None:
        self._records[record.id] = record
        self._reindex()
        self._follow(revision)

    def _follow(self, revision: int) -> None:
        """A change of our own. After one of somebody else's the revision is left behind, so that it is looked for."""
        if self._revision is not None and revision == self._revision + 1:
            self._revision = revision

    def _reindex(self) -> None:
        kept = (record for record in self._records.values() if record.revoked is None)
        self._index = {record.hash: record.key() for record in kept}

    def _away(self, error: StoreError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            _log.error("keys.database_away", error=str(error), known=len(self._index))


async def first_key(keyring: Keyring) -> str | None:
    """Make an admin key for a fleet that has no key at all, neither in its topology nor in its database.

    Waits for the database. Of several gateways that share it one makes the key.

    Returns:
        The key, to be shown once; ``None`` where there is another one.
    """
    await keyring.loaded.wait()
    while not keyring.declared() and all(record.revoked is not None for record in keyring.records()):
        try:
            return (await keyring.create(Wanted(FIRST_NAME, scopes=auth.ALL_SCOPES))).key
        except ApiError:  # the database has gone again, or another gateway was faster, which the next look tells
            await trio.sleep(INTERVAL_SECONDS)
    return None
