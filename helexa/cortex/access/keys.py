"""Keys made for a fleet and accounts they are booked to: what one is, and who keeps them. Pure but for chance."""

import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import attrs
from attrs import field, frozen
from attrs.validators import optional

from config import Account, Budget, InvalidValueError
from config import validators as v
from helexa.cortex.access import auth
from helexa.cortex.access.auth import ALL_SCOPES, PREFIX
from helexa.cortex.ledger.limits import Limit
from helexa.cortex.ledger.rows import Grouping, Sums
from helexa.wire import errors
from helexa.wire.errors import ApiError

State = Literal["active", "expired", "revoked"]

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 40
"""Characters after the prefix: 238 bits, of which the hint below gives 24 away."""
_HINT: Final = 4
MOST_WEIGHT: Final = 1000
MOST_IN_FLIGHT: Final = 1_000_000
"""Both as in the topology."""


def new_key() -> str:
    """A key that nobody can guess; letters and digits, so that a double click selects all that follows the hyphen."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def hint_of(key: str) -> str:
    """The end of a key, by which people tell theirs from others."""
    return key[-_HINT:]


def _known(_: object, attribute: "attrs.Attribute[Any]", scope: str) -> None:
    if scope not in ALL_SCOPES:
        raise InvalidValueError("is not a scope", f"one of {', '.join(ALL_SCOPES)}", (attribute.name,))


@frozen
class Wanted:
    """A key to be made.

    Attributes:
        name: what logs and listings call it; unique among the keys that are not revoked.
        account: whom its tokens are booked to; absent: an account of its own name.
        scopes: what it may do.
        models: patterns of the models it may use, with ``*`` and ``?`` as wildcards; empty: all.
        labels: whatever its owner wants to note.
        life: seconds until it expires; ``None``: it does not.
        budgets: what it may use, each a limit of its own.
        weight: its share when requests queue.
        max_in_flight: requests of it that are served at a time; ``None``: as many as the fleet's keys may by default.

    Raises:
        InvalidValueError: a value is not what its place asks for.
    """

    name: str = field(validator=v.name)
    account: str = field(validator=v.slug)
    scopes: tuple[str, ...] = field(default=("inference",), validator=[v.not_empty, v.each(_known), v.distinct])
    models: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    labels: Mapping[str, str] = field(factory=dict)
    life: float | None = None
    budgets: tuple[Budget, ...] = field(default=(), validator=v.distinct)
    weight: int = field(default=1, validator=v.between(1, MOST_WEIGHT))
    max_in_flight: int | None = field(default=None, validator=optional(v.between(1, MOST_IN_FLIGHT)))

    @account.default
    def _default_account(self) -> str:
        return self.name


@frozen
class Change:
    """What is to be different about a key.

    Attributes:
        values: by the names of a ``Record``'s attributes, of those that ``CHANGEABLE`` lists.
    """

    values: Mapping[str, Any]


CHANGEABLE: Final = ("scopes", "models", "labels", "budgets", "weight", "max_in_flight")


@frozen
class Record:
    """A key as it is kept: everything but the key.

    Attributes:
        id: the same for as long as it is kept; no other key ever has it.
        hash: hex SHA-256 of the key; in no answer.
        name: see ``Wanted``, as for those not named here.
        hint: the last characters of the key.
        created: Unix time.
        rotated: Unix time of the last exchange; ``None``: it is the first key.
        expires: Unix time; ``None``: never.
        revoked: Unix time; ``None``: it is not.
        budgets: see ``Wanted``, as for those that follow.
    """

    id: str
    hash: str = field(repr=False)
    name: str
    account: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    labels: Mapping[str, str]
    hint: str
    created: float
    rotated: float | None = None
    expires: float | None = None
    revoked: float | None = None
    budgets: tuple[Budget, ...] = ()
    weight: int = 1
    max_in_flight: int | None = None

    def key(self) -> auth.Key:
        """What the gate has to know of it."""
        return auth.Key(
            self.name,
            self.account,
            frozenset(self.scopes),
            self.models,
            self.expires,
            self.id,
            self.budgets,
            self.weight,
            self.max_in_flight,
        )

    def state(self, now: float) -> State:
        """What it is good for; ``now`` as a Unix time."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


@frozen
class Made:
    """A key that was just made; it is shown this once, and kept nowhere.

    Attributes:
        record: what is kept of it.
        key: the key itself.
    """

    record: Record
    key: str = field(repr=False)


class Keys(Protocol):
    """Who keeps keys and accounts. Every method may raise ``ApiError``: 503 while they cannot be read or changed."""

    def records(self) -> tuple[Record, ...]:
        """All that were ever made, the oldest first."""

    def declared(self) -> tuple[auth.Key, ...]:
        """Those of the topology, which cannot be changed here."""

    def record(self, name: str) -> Record:
        """One of them: the one that is not revoked if there is one, else the latest. 404 if there is none."""

    async def create(self, wanted: Wanted) -> Made:
        """Make one. 409 if its name is taken."""

    async def rotate(self, name: str) -> Made:
        """Exchange one for another that is good for the same; the old one is good for nothing from then on."""

    async def change(self, name: str, change: Change) -> Record:
        """Have one be good for something else from now on. 409 if it is revoked."""

    async def revoke(self, name: str) -> Record:
        """Have one be good for nothing from now on; again is fine."""

    def declared_accounts(self) -> tuple[Account, ...]:
        """The topology's accounts, which cannot be changed here, and stand in the way of those kept here."""

    def accounts(self) -> tuple[Account, ...]:
        """Those kept here."""

    async def set_account(self, account: Account) -> None:
        """Keep the budgets of an account, in the place of those it had."""

    async def drop_account(self, name: str) -> None:
        """Forget the budgets of an account. 404 if none are kept here."""


class Spending(Protocol):
    """Who knows what was used. Every method may raise ``ApiError``: 503 while the database does not answer."""

    async def spending(self, limits: Sequence[Limit]) -> Sequence[tuple[Limit, int, int]]:
        """What counts against each limit, and what is set aside for requests that are served now; in its unit."""

    async def usage(self, since: float, until: float, by: Grouping, most: int) -> Sequence[Sums]:
        """What was used from one Unix time up to another, the dearest first; ``most`` of them at most."""


class NoLedger:
    """Implements ``Spending`` where nobody keeps a ledger."""

    async def spending(self, _limits: Sequence[Limit]) -> Sequence[tuple[Limit, int, int]]:
        """Nothing is known."""
        return ()

    async def usage(self, _since: float, _until: float, _by: Grouping, _most: int) -> Sequence[Sums]:
        """Nothing was noted."""
        return ()


def record_of(wanted: Wanted, key: str, identity: str, now: float) -> Record:
    """What is kept of a new key; ``now`` as a Unix time."""
    return Record(
        identity,
        auth.sha256(key.encode()),
        wanted.name,
        wanted.account,
        wanted.scopes,
        wanted.models,
        wanted.labels,
        hint_of(key),
        now,
        expires=None if wanted.life is None else now + wanted.life,
        budgets=wanted.budgets,
        weight=wanted.weight,
        max_in_flight=wanted.max_in_flight,
    )


def not_found(name: str) -> ApiError:
    """There never was a key of that name."""
    return ApiError(404, f"There is no key '{name}'.", "invalid_request_error", "key_not_found")


def taken(name: str) -> ApiError:
    """A key of that name is there."""
    return _conflict(f"There is a key '{name}' already: rotate it, revoke it, or choose another name.", "key_exists")


def is_declared(name: str) -> ApiError:
    """The key is the topology's."""
    return _conflict(f"The key '{name}' is declared in the topology; it can only be changed there.", "key_declared")


def is_over(record: Record, state: State) -> ApiError:
    """The key is good for nothing, and so would be what it is exchanged for."""
    advice = "make a new one" if state == "revoked" else "revoke it and make a new one"
    return _conflict(f"The key '{record.name}' is {state}: {advice}.", f"key_{state}")


def no_account(name: str) -> ApiError:
    """Nothing is known of an account of that name."""
    return ApiError(404, f"There is no account '{name}'.", "invalid_request_error", "account_not_found")


def account_is_declared(name: str) -> ApiError:
    """The account is the topology's."""
    message = f"The account '{name}' is declared in the topology; it can only be changed there."
    return _conflict(message, "account_declared")


def _conflict(message: str, code: str) -> ApiError:
    return ApiError(409, message, "invalid_request_error", code)


def unknown_yet() -> ApiError:
    """Nothing has been read from the database since the gateway started."""
    return errors.unavailable("Keys cannot be looked up yet, as their database does not answer.", 2)


def unchangeable() -> ApiError:
    """The database did not take a change, or took it and could not say so."""
    return errors.unavailable(
        "The database of keys does not answer, so this may not have been done: list the keys before trying again.",
        5,
    )
