"""Who may do what. Pure: a request's method, path and key in, permission or an error out.

Deny by default: a path that is not listed as public asks for a key, and one that nobody has decided about is not there.

Keys are compared by looking their SHA-256 up in a dictionary. What that compares, and how long it takes, depends on
the dictionary's own secret hash of the digest, so time tells nothing about any key's bytes.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, get_args
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from config import Budget, Entitlements, Scope
from config import Key as DeclaredKey
from helexa.faults import OperatorError
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.patterns import matches

PUBLIC: Final = frozenset({"/health", "/ready"})
ALL_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
PREFIX: Final = "hx-"
"""What every key begins with that helexa makes."""
KEY: Final = "helexa.key"
"""Where a request's scope holds the key it bears. No header: so a client cannot write it."""


@frozen
class Key:
    """A key this fleet knows, by the hash it is found under.

    Attributes:
        name: what logs and listings call it.
        account: whom its tokens are booked to.
        scopes: what it may do.
        models: patterns of the models it may use; empty: all.
        expires: Unix time from which on it is good for nothing; ``None``: never.
        id: what it is in the ledger: the same after it was rotated, and no other key's; empty: its name.
        budgets: what it may use.
        weight: its share when requests queue.
        max_in_flight: requests of it that are served at a time; ``None``: as many as the fleet's keys may by default.
    """

    name: str
    account: str
    scopes: frozenset[str]
    models: tuple[str, ...] = ()
    expires: float | None = None
    id: str = ""
    budgets: tuple[Budget, ...] = ()
    weight: int = 1
    max_in_flight: int | None = None

    def allows(self, *names: str) -> bool:
        """Whether it may use a model that goes by any of these names: what was asked for, what an alias stands for."""
        return not self.models or any(matches(pattern, name) for pattern in self.models for name in names)


class MissingKeyError(OperatorError):
    """The topology names an environment variable for a key, and it is not set."""


def declared_keys(entitlements: Entitlements, env: Mapping[str, str]) -> dict[str, Key]:
    """The topology's keys by the hex SHA-256 of each.

    Raises:
        MissingKeyError: a ``key_env`` is not set: serving without it would lock its owner out silently.
    """
    return {_hash(key, env): _declared(key) for key in entitlements.keys}


def _declared(key: DeclaredKey) -> Key:
    return Key(
        key.name,
        key.account,
        frozenset(key.scopes),
        key.models,
        id=f"declared/{key.name}",  # those of the database have no slash
        budgets=key.all_budgets,
        weight=key.weight,
        max_in_flight=key.max_in_flight,
    )


def _hash(key: DeclaredKey, env: Mapping[str, str]) -> str:
    if key.key_hash is not None:
        return key.key_hash.removeprefix("sha256:").lower()
    value = env.get(key.key_env or "")
    if not value:
        raise MissingKeyError(f"the key '{key.name}' is to be read from ${key.key_env}, which is not set")
    return sha256(os.fsencode(value))  # the bytes of the environment, of which not all are text


def sha256(key: bytes) -> str:
    """The hash that keys are kept and found by; always of the whole key.

    One round and no salt, unlike for passwords: keys are random, so there is nothing to try out.
    """
    return hashlib.sha256(key).hexdigest()


def _nowhere(_digest: str) -> Key | None:
    return None


@frozen
class Gate:
    """Checks requests.

    Attributes:
        required: whether a key is asked for at all.
        keys: the topology's, by hash.
        made: finds those that were made for this fleet, by hash; only asked for keys that begin as these do. Raises
            ``ApiError`` while it does not know them.
        clock: the Unix time.
    """

    required: bool
    keys: Mapping[str, Key] = field(factory=dict, repr=False)
    made: Callable[[str], Key | None] = field(default=_nowhere, repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def admit(self, method: str, path: str, presented: bytes | None) -> Key | None:
        """Let a request in, or raise.

        Args:
            method: HTTP method.
            path: normalised path.
            presented: the key as sent.

        Returns:
            The key, ``None`` where none was needed.

        Raises:
            ApiError: ``invalid_api_key``, ``insufficient_scope`` or ``not_found``; ``service_unavailable`` while a key
                cannot be checked.
        """
        if not self.required or path in PUBLIC:
            return None
        key = self._known(presented)
        accepted = accepted_scopes(method, path)
        if not accepted:
            raise errors.route_not_found(method, path)
        if key.scopes.isdisjoint(accepted):
            raise errors.insufficient_scope(max(accepted))  # of several the lesser one: "fleet:read", not "fleet:admin"
        return key

    def _known(self, presented: bytes | None) -> Key:
        if not presented:
            raise errors.invalid_api_key()
        digest = sha256(presented)
        key = self.keys.get(digest)
        if key is None and presented.startswith(PREFIX.encode()):
            key = self.made(digest)
        if key is None:
            raise errors.invalid_api_key()
        if key.expires is not None and key.expires <= self.clock():
            raise _expired()
        return key


@lru_cache(maxsize=1024)
def accepted_scopes(method: str, path: str) -> frozenset[str]:
    """The scopes of which one is enough; empty for a path that nobody has decided about."""
    read = method in {"GET", "HEAD"}
    for root, reading, writing in _DECISIONS:
        if path == root or path.startswith(root + "/"):
            return reading if read else writing
    return frozenset()


def _any_of(*scopes: Scope) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(scopes), frozenset(scopes)


_ADMIN: Final = frozenset({"fleet:admin"})
_DECISIONS: Final = (
    ("/v1/models", *_any_of("models:read", "inference")),
    *((f"/v1/{each}", *_any_of("inference")) for each in ("chat/completions", "completions", "responses", "messages")),
    ("/v1/embeddings", *_any_of("embeddings")),
    ("/v1/audio", *_any_of("audio")),
    ("/v1/images", *_any_of("images")),
    *((f"/fleet/{each}", _ADMIN, _ADMIN) for each in ("keys", "accounts", "usage")),
    ("/fleet", _ADMIN | {"fleet:read"}, _ADMIN),
    ("/openapi.json", *_any_of(*ALL_SCOPES)),
)
"""Roots of paths, with the scopes for reading and for all else; the first that fits decides."""


def permitted(key: Key | None, name: str, aliases: Mapping[str, str]) -> bool:
    """Whether a request may use, or know of, a model; ``name`` may be an alias."""
    return key is None or key.allows(name, aliases.get(name, name))


def check_model(key: Key | None, name: str, aliases: Mapping[str, str]) -> None:
    """Refuse a model that a key is not for, in the same words whether it exists or not.

    Raises:
        ApiError: ``model_not_permitted``.
    """
    if not permitted(key, name, aliases):
        raise ApiError(
            403,
            f"The model '{name}' is not permitted for this API key.",
            "permission_error",
            "model_not_permitted",
            "model",
        )


def _expired() -> ApiError:
    """Only who holds the key learns that it was one."""
    return ApiError(401, "This API key has expired. Ask for a new one.", "invalid_request_error", "invalid_api_key")


def presented_by(scope: Mapping[str, Any]) -> bytes | None:
    """The key that a request bears; ``scope`` as ASGI has it.

    Browsers cannot set headers on a socket, so a socket may offer its key as a sub-protocol,
    ``openai-insecure-api-key.KEY``, or name it in the query. A request of any other kind may not: URLs end up in logs.
    """
    found = presented_key(scope["headers"])
    if found is not None or scope["type"] != "websocket":
        return found
    return _offered(scope.get("subprotocols", ())) or _queried(scope.get("query_string", b""))


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key a client sent as ``Authorization: Bearer`` or ``x-api-key``."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            return value.strip()
    return None


_SUBPROTOCOL: Final = "openai-insecure-api-key."
_QUERY: Final = (b"api_key", b"key")


def _offered(protocols: Iterable[str]) -> bytes | None:
    found = next((each for each in protocols if each.startswith(_SUBPROTOCOL)), "")
    return found.removeprefix(_SUBPROTOCOL).encode("utf-8", "surrogateescape") or None


def _queried(query: bytes) -> bytes | None:
    """By hand: the standard library's reader raises at what is no text."""
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _QUERY and value:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None
