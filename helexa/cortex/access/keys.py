"""Keys made for a fleet: what one is, how it is asked for and shown, and who keeps them. Pure but for chance."""

import secrets
import string
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

import attrs
from attrs import field, frozen

from config import InvalidValueError
from config import validators as v
from helexa.cortex.access import auth
from helexa.cortex.access.auth import ALL_SCOPES, PREFIX
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

State = Literal["active", "expired", "revoked"]

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 40
"""Characters after the prefix: 238 bits, of which the hint below gives 24 away."""
_HINT: Final = 4
_MOST_MODELS: Final = 100
_MOST_LABELS: Final = 32
_LONGEST_LABEL: Final = 200
_LONGEST_PATTERN: Final = 300
_LONGEST_LIFE: Final = 100 * 365.25 * 86_400
"""Seconds."""


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

    Raises:
        InvalidValueError: a value is not what its place asks for.
    """

    name: str = field(validator=v.name)
    account: str = field(validator=v.slug)
    scopes: tuple[str, ...] = field(default=("inference",), validator=[v.not_empty, v.each(_known), v.distinct])
    models: tuple[str, ...] = field(default=(), validator=[v.each(v.pattern), v.distinct])
    labels: Mapping[str, str] = field(factory=dict)
    life: float | None = None

    @account.default
    def _default_account(self) -> str:
        return self.name


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

    def key(self) -> auth.Key:
        """What the gate has to know of it."""
        return auth.Key(self.name, self.account, frozenset(self.scopes), self.models, self.expires)

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


class StoreSettingError(Exception):
    """``cortex.database`` names nothing that keys can be kept in, whatever is waited for; the message says why."""


class Keys(Protocol):
    """Who keeps the keys. Every method may raise ``ApiError``: 503 while they cannot be read or changed."""

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

    async def revoke(self, name: str) -> Record:
        """Have one be good for nothing from now on; again is fine."""


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
    )


_KNOWN: Final = ("name", "account", "scopes", "models", "labels", "expires_in")


def read_wanted(fields: Fields) -> Wanted:
    """The key that a request asks for.

    What is not known is refused: a slip in ``models`` would otherwise make a key for all of them.

    Raises:
        ApiError: 400, naming the field.
    """
    for name in fields.data:
        if name not in _KNOWN:
            raise ApiError(400, f"Unknown parameter: '{name}'.", "invalid_request_error", "unknown_parameter", name)
    given: dict[str, Any] = {"name": fields.text("name"), **_optional(fields)}
    try:
        return Wanted(**given)
    except InvalidValueError as error:
        field_name, *index = error.at
        param = f"{field_name}{''.join(f'[{each}]' for each in index)}"
        raise errors.invalid_value(param, str(error)) from None


def _optional(fields: Fields) -> dict[str, Any]:
    """Those fields that are there, so that the defaults are said once."""
    found: dict[str, Any] = {"life": fields.positive("expires_in", _LONGEST_LIFE, None)}
    if fields.has("account"):
        found["account"] = fields.text("account")
    if fields.has("scopes"):
        found["scopes"] = tuple(fields.texts("scopes", len(ALL_SCOPES), _LONGEST_LABEL))
    if fields.has("models"):
        found["models"] = tuple(fields.texts("models", _MOST_MODELS, _LONGEST_PATTERN))
    if fields.has("labels"):
        found["labels"] = _labels(fields)
    return found


def _labels(fields: Fields) -> dict[str, str]:
    labels = fields.mapping("labels")
    if len(labels) > _MOST_LABELS or not all(_is_label(part) for pair in labels.items() for part in pair):
        expected = f"at most {_MOST_LABELS} names with texts, each of 1 to {_LONGEST_LABEL} printable characters"
        raise fields.wrong("labels", expected)
    return dict(labels)


def _is_label(part: object) -> bool:
    return isinstance(part, str) and 0 < len(part) <= _LONGEST_LABEL and part.isprintable()


def shown(record: Record, now: float) -> dict[str, Any]:
    """A key as answers show it; times as Unix times."""
    return {
        "name": record.name,
        "state": record.state(now),
        "source": "database",
        "account": record.account,
        "scopes": list(record.scopes),
        "models": list(record.models),
        "labels": dict(record.labels),
        "hint": record.hint,
        "created": record.created,
        "rotated": record.rotated,
        "expires": record.expires,
        "revoked": record.revoked,
    }


def shown_declared(key: auth.Key) -> dict[str, Any]:
    """The same of a key of the topology, of which less is known."""
    return {
        "name": key.name,
        "state": "active",
        "source": "topology",
        "account": key.account,
        "scopes": sorted(key.scopes),
        "models": list(key.models),
        "labels": {},
        **dict.fromkeys(("hint", "created", "rotated", "expires", "revoked")),
    }


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
