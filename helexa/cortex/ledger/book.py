"""What this gateway has in hand of each limit: leases from the database, and what of them is set aside. Pure.

For each limit ``reserved + pending <= lease`` holds, where ``pending`` was used and is not booked yet; the database in
turn sees to it that ``spent + leases <= cap``, over all gateways. So a request is let in or turned away by arithmetic
alone as long as the lease in hand suffices.

Usage beyond what was reserved is booked as it is; the lease then is too small, and no more is let in until it has been
made larger, which the database does only if the cap allows it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import Factory, define, field, frozen

from helexa.cortex.ledger import quota
from helexa.cortex.ledger.limits import UNITS, Amounts, Limit, Payer
from helexa.cortex.ledger.ports import Ask
from helexa.cortex.ledger.quota import Share
from helexa.cortex.ledger.rows import Leased, LimitId, Want

IDLE_SECONDS: Final = 1.0
"""A lease that was not needed for so long is given back."""
KNOWN_SECONDS: Final = 1.0
"""How long it is believed that there is no more to be had, unless parts of a window are free sooner."""
SHARED_KNOWN_SECONDS: Final = 0.25
"""Likewise while other gateways hold leases that they may give back."""
FORGET_SECONDS: Final = 3600.0
"""What nobody has asked about for so long is forgotten."""

_MOST_HANDS: Final = 4096
Totals: TypeAlias = Mapping[str, Amounts]
"""By subject."""


@define(eq=False)
class Purse:
    """One limit, and what is in hand of it. Amounts are in the limit's unit.

    Attributes:
        limit: with the cap that was heard of last.
        unit: the place of its unit in ``pending``.
        pending: what its subject has used that is not booked yet: tokens, requests, picodollars; shared by the limits
            of the subject.
        lease: how much of the database's lease is to be used.
        reserved: what requests under way may use of it.
        spent: what counts as far as is known.
        others: what other gateways hold.
        room: what is left to be leased, as far as is known.
        known: until when that is believed.
        frees: when parts of ``spent`` count no more.
        busy: when it was asked for last.
        low: the least that was free since it was last looked at.
        asked: whether the database has ever said anything of it.
        shut: whether the cap was lowered and what is in hand may be above it: what is freed goes back.
    """

    limit: Limit
    unit: int
    pending: list[int]
    lease: int = 0
    reserved: int = 0
    spent: int = 0
    others: int = 0
    room: int = 0
    known: float = -math.inf
    frees: tuple[tuple[float, int], ...] = ()
    busy: float = -math.inf
    low: float = math.inf
    asked: bool = False
    shut: bool = False

    @property
    def free(self) -> int:
        """What can be reserved; below 0 after usage beyond what was reserved."""
        return self.lease - self.reserved - self.pending[self.unit]

    @property
    def in_use(self) -> int:
        """What cannot be given back."""
        return self.reserved + self.pending[self.unit]

    def is_known(self, now: float) -> bool:
        """Whether ``room`` is still believed. A clock that was set back must not make that last."""
        return 0 < self.known - now <= KNOWN_SECONDS

    @property
    def remaining(self) -> int:
        """What is left of the cap, as far as is known."""
        left = self.limit.cap - self.spent - self.reserved - self.pending[self.unit]
        return max(0, left)


@frozen(eq=False)
class Held:
    """What was set aside for a request.

    Attributes:
        share: how much.
        purses: of which limits; none: it has none, or the database was away.
        by_tokens: whether one of them cares for how many tokens it uses.
    """

    share: Share
    purses: tuple[Purse, ...] = ()
    by_tokens: bool = False

    @property
    def by_others(self) -> bool:
        """Whether it is less than was asked for, and other gateways may give back what is missing."""
        return not self.share.full and any(purse.others > 0 for purse in self.purses)


@frozen(eq=False)
class Lacking:
    """The database has to be asked for more of these."""

    purses: tuple[Purse, ...]


@frozen(eq=False)
class Refused:
    """There is not enough of these, and no more to be had."""

    purses: tuple[Purse, ...]

    @property
    def by_others(self) -> bool:
        """Whether other gateways may give back what is missing."""
        return any(purse.others > 0 for purse in self.purses)


@define(eq=False)
class _Subject:
    """A key or an account: what it has used that is not booked yet, and its limits."""

    pending: list[int] = Factory(lambda: [0, 0, 0])
    purses: list[Purse] = Factory(list)


@frozen(eq=False)
class _Hand:
    """What is in hand of a payer's limits, looked up once."""

    payer: Payer
    purses: tuple[Purse, ...]
    pending: tuple[list[int], ...]
    by_tokens: bool


@define(eq=False)
class Book:
    """All limits that are or lately were in use.

    Attributes:
        alone: whether no other gateway shares the database, as far as is known.
    """

    alone: bool = True
    _purses: dict[LimitId, Purse] = field(init=False, default=Factory(dict))
    _subjects: dict[str, _Subject] = field(init=False, default=Factory(dict))
    _owing: dict[LimitId, Purse] = field(init=False, default=Factory(dict))
    _hands: dict[int, _Hand] = field(init=False, default=Factory(dict))

    @property
    def purses(self) -> Iterable[Purse]:
        """Of all limits that are known."""
        return self._purses.values()

    def reserve(self, payer: Payer, ask: Ask, now: float) -> Held | Lacking | Refused:
        """Set aside all that is asked for; or as much as is left, once it is known that there is no more."""
        hand = self._hand(payer)
        share = quota.whole(ask)
        amounts, short = share.amounts, []
        for purse in hand.purses:
            purse.busy = now
            if purse.lease - purse.reserved - purse.pending[purse.unit] < amounts[purse.unit]:
                short.append(purse)
        return self._short(ask, hand, short, now) if short else _hold(share, hand)

    def _short(self, ask: Ask, hand: _Hand, short: Sequence[Purse], now: float) -> Held | Lacking | Refused:
        """What becomes of a request where some limits do not have all that it asks for."""
        if any(purse.room > 0 or not purse.is_known(now) for purse in short):
            return Lacking(tuple(short))
        left = quota.least_of((purse.limit.unit, purse.free) for purse in hand.purses)
        fits = quota.fitting(ask, left)
        return Refused(tuple(short)) if fits is None else _hold(fits, hand)

    def release(self, held: Held) -> None:
        """Give back what was set aside; nothing of it was used."""
        amounts = held.share.amounts
        for purse in held.purses:
            purse.reserved -= amounts[purse.unit]
            if purse.shut:
                self._lower(purse, purse.free)

    def settle(self, held: Held, payer: Payer, used: Amounts) -> None:
        """Give back what was set aside, and note what was used of it: it is to be booked."""
        for pending in self._pending(payer):
            used.add_to(pending)
        self.release(held)

    def _pending(self, payer: Payer) -> Iterable[list[int]]:
        hand = self._hands.get(id(payer))  # none is made: those limits may have been changed since it was let in
        return [self._subject(each).pending for each in payer.subjects] if hand is None else hand.pending

    def wants(self, asks: Iterable[tuple[Lacking, Ask]], now: float) -> tuple[Want, ...]:
        """What to ask the database for, so that all of these can be let in."""
        missing: dict[LimitId, tuple[Purse, int]] = {}
        for lacking, ask in asks:
            share = quota.whole(ask)
            for purse in lacking.purses:
                known = missing.get(purse.limit.id, (purse, -purse.free))[1]
                missing[purse.limit.id] = purse, known + share.amounts[purse.unit]
        return tuple(_want(purse, amount, now) for purse, amount in missing.values())

    def leased(self, found: Iterable[Leased], now: float) -> None:
        """Note what the database answered."""
        for each in found:
            purse = self._purses.get(each.limit.id)
            if purse is not None:
                _refill(purse, each, now)
                self._owe(purse, each.held)

    def give_back(self, now: float) -> None:
        """Lower leases by what nobody has needed lately; among others, by what was free ever since the last call."""
        for purse in self._purses.values():
            idle = not 0 <= now - purse.busy < IDLE_SECONDS
            spare = purse.free if idle else 0 if self.alone else int(min(purse.low, purse.free))
            self._lower(purse, spare)
            purse.low = purse.free

    def owe_all(self) -> None:
        """It is not known any more what the database thinks that is leased: tell it of every limit."""
        self._owing |= self._purses

    def drop_all(self) -> None:
        """The database has none of this gateway's leases any more."""
        for purse in self._purses.values():
            purse.lease, purse.known = 0, -math.inf
        self._owing.clear()

    @property
    def leases(self) -> bool:
        """Whether anything is in hand, or to be given back."""
        return bool(self._owing) or any(purse.lease > 0 for purse in self._purses.values())

    @property
    def owes(self) -> bool:
        """Whether the database is to be told that leases are smaller."""
        return bool(self._owing)

    def keep(self, used: Totals) -> dict[LimitId, int]:
        """What the leases will be once ``used`` is booked: of the limits that it is about, and of those that owe."""
        touched = [purse for subject in used for purse in self._subject(subject).purses]
        return {purse.limit.id: max(0, purse.lease - _of(used, purse)) for purse in (*touched, *self._owing.values())}

    def flushed(self, used: Totals, keep: Iterable[LimitId], leases: Mapping[LimitId, int]) -> None:
        """What was settled here was booked.

        Args:
            used: how much.
            keep: the limits of which the database was told what to keep.
            leases: all that it has now.
        """
        for key in keep:
            purse = self._purses[key]
            amount, held = _of(used, purse), leases.get(key, 0)
            purse.spent += amount
            purse.lease = min(max(0, purse.lease - amount), held)  # it has less if it thought this gateway dead
            self._owe(purse, held)
        for subject, amounts in used.items():
            self._booked(subject, amounts)

    def forget(self, now: float) -> None:
        """Drop what nobody has asked about for long."""
        self._hands.clear()
        for key, purse in list(self._purses.items()):
            if now - purse.busy >= FORGET_SECONDS and not (purse.lease or purse.in_use or key in self._owing):
                del self._purses[key]
                self._subjects[purse.limit.subject].purses.remove(purse)
        for name, subject in list(self._subjects.items()):
            if not subject.purses and not any(subject.pending):
                del self._subjects[name]

    def of(self, payer: Payer) -> Sequence[Purse]:
        """What is in hand of a payer's limits, as far as they were in use lately."""
        hand = self._hands.get(id(payer))
        return [each for each in map(self.find, payer.limits) if each is not None] if hand is None else hand.purses

    def find(self, limit: Limit) -> Purse | None:
        """What is in hand of a limit, if it was in use lately."""
        return self._purses.get(limit.id)

    def _hand(self, payer: Payer) -> _Hand:
        """By identity: a changed payer is a new object, and what it is now is kept from being another one's."""
        found = self._hands.get(id(payer))
        if found is None:
            purses = tuple(map(self._purse, payer.limits))
            pending = tuple(self._subject(subject).pending for subject in payer.subjects)
            by_tokens = any(purse.limit.unit != "requests" for purse in purses)
            if len(self._hands) >= _MOST_HANDS:
                self._hands.clear()
            found = self._hands[id(payer)] = _Hand(payer, purses, pending, by_tokens)
        return found

    def _purse(self, limit: Limit) -> Purse:
        purse = self._purses.get(limit.id)
        if purse is None:
            subject = self._subject(limit.subject)
            purse = self._purses[limit.id] = Purse(limit, UNITS[limit.unit], subject.pending)
            subject.purses.append(purse)
        elif purse.limit.cap != limit.cap:
            self._recap(purse, limit)
        return purse

    def _subject(self, name: str) -> _Subject:
        found = self._subjects.get(name)
        if found is None:
            found = self._subjects[name] = _Subject()
        return found

    def _recap(self, purse: Purse, limit: Limit) -> None:
        """Under a lower cap all is given back that is not in use: the database alone knows what that cap leaves."""
        self._hands.clear()  # whoever comes with the former cap is to bring it back
        if limit.cap < purse.limit.cap:
            self._lower(purse, purse.free)
            purse.shut = True
        purse.limit = limit
        purse.known = -math.inf

    def _lower(self, purse: Purse, amount: int) -> None:
        if amount > 0:
            purse.lease -= amount
            purse.known = -math.inf
            self._owing[purse.limit.id] = purse

    def _owe(self, purse: Purse, held: int) -> None:
        """Note whether the database, which has leased ``held``, has to be told that it is less."""
        if held > purse.lease:
            self._owing[purse.limit.id] = purse
        else:
            self._owing.pop(purse.limit.id, None)

    def _booked(self, name: str, amounts: Amounts) -> None:
        pending = self._subject(name).pending
        for index, amount in enumerate((amounts.tokens, amounts.requests, amounts.cost)):
            pending[index] -= amount


def _hold(share: Share, hand: _Hand) -> Held:
    amounts = share.amounts
    for purse in hand.purses:
        purse.reserved += amounts[purse.unit]
        free = purse.lease - purse.reserved - purse.pending[purse.unit]
        purse.low = min(purse.low, free)
    return Held(share, hand.purses, hand.by_tokens)


def _of(used: Totals, purse: Purse) -> int:
    amounts = used.get(purse.limit.subject)
    return 0 if amounts is None else amounts.of(purse.limit.unit)


def _want(purse: Purse, missing: int, now: float) -> Want:
    """All of it; where the database was asked a moment ago and had less, that."""
    need = min(missing, purse.room) if purse.is_known(now) else missing
    return Want(purse.limit, purse.lease, max(0, need))


def _refill(purse: Purse, found: Leased, now: float) -> None:
    """What was granted under a higher cap than the one that holds by now is not touched."""
    granted = found.granted if found.limit.cap <= purse.limit.cap else 0
    purse.lease = min(found.held, purse.lease + granted)
    purse.low = min(purse.low, purse.free)
    purse.asked = True
    purse.spent, purse.others, purse.room, purse.frees = found.spent, found.others, found.room, found.frees
    if found.limit.cap == purse.limit.cap:
        purse.shut = purse.shut and found.spent + found.others + found.held > found.limit.cap
        until = now + (SHARED_KNOWN_SECONDS if found.others else KNOWN_SECONDS)
        purse.known = min((until, *(at for at, _ in found.frees[:1] if at > now)))


def totals(found: Iterable[tuple[Iterable[str], Amounts]]) -> dict[str, Amounts]:
    """Sums by subject."""
    sums: dict[str, list[int]] = {}
    for subjects, amounts in found:
        for subject in subjects:
            amounts.add_to(sums.setdefault(subject, [0, 0, 0]))
    return {subject: Amounts(*known) for subject, known in sums.items()}
