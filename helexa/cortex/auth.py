"""Who may do what. Pure: a request's method, path and key in, permission or an error out.

Deny by default: a path that is not listed as public asks for a key, and one without a scope of its own for any key.
"""

import hashlib
import os
from collections.abc import Mapping

from attrs import field, frozen

from config import Entitlements
from config import Key as DeclaredKey
from helexa.wire import errors

PUBLIC = frozenset({"/health", "/ready"})


@frozen
class Key:
    """A key this fleet knows, by the hash it is found under."""

    name: str
    account: str
    scopes: frozenset[str]


class MissingKeyError(Exception):
    """The topology names an environment variable for a key, and it is not set."""


def declared_keys(entitlements: Entitlements, env: Mapping[str, str]) -> dict[str, Key]:
    """The topology's keys by the hex SHA-256 of each.

    Raises:
        MissingKeyError: a ``key_env`` is not set: serving without it would lock its owner out silently.
    """
    return {_hash(key, env): Key(key.name, key.account, frozenset(key.scopes)) for key in entitlements.keys}


def _hash(key: DeclaredKey, env: Mapping[str, str]) -> str:
    if key.key_hash is not None:
        return key.key_hash.removeprefix("sha256:").lower()
    value = env.get(key.key_env or "")
    if not value:
        raise MissingKeyError(f"the key '{key.name}' is to be read from ${key.key_env}, which is not set")
    return sha256(os.fsencode(value))  # the bytes of the environment, of which not all are text


def sha256(key: bytes) -> str:
    """The hash that keys are kept and found by; always of the whole key."""
    return hashlib.sha256(key).hexdigest()


@frozen
class Gate:
    """Checks requests.

    Attributes:
        required: whether a key is asked for at all.
        keys: by hash.
    """

    required: bool
    keys: Mapping[str, Key] = field(factory=dict, repr=False)

    def admit(self, method: str, path: str, presented: bytes | None) -> Key | None:
        """Let a request in, or raise.

        Args:
            method: HTTP method.
            path: normalised path.
            presented: the key as sent.

        Returns:
            The key, ``None`` where none was needed.

        Raises:
            ApiError: ``invalid_api_key`` or ``insufficient_scope``.
        """
        if not self.required or path in PUBLIC:
            return None
        key = self.keys.get(sha256(presented)) if presented else None
        if key is None:
            raise errors.invalid_api_key()
        accepted = accepted_scopes(method, path)
        if accepted and not key.scopes & accepted:
            raise errors.insufficient_scope(min(accepted))
        return key


def accepted_scopes(method: str, path: str) -> frozenset[str]:
    """The scopes of which one is enough; empty where any key will do."""
    if path == "/fleet" or path.startswith("/fleet/"):
        return frozenset({"fleet:admin", "fleet:read"} if method in ("GET", "HEAD") else {"fleet:admin"})
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return frozenset({"models:read", "inference"})
    for prefix, scope in _BY_PREFIX:
        if path.startswith(prefix):
            return frozenset({scope})
    return frozenset()


_BY_PREFIX = (
    ("/v1/embeddings", "embeddings"),
    ("/v1/audio/", "audio"),
    ("/v1/images/", "images"),
    ("/v1/", "inference"),
)


def presented_key(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The key a client sent as ``Authorization: Bearer`` or ``x-api-key``."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            return value.strip()
    return None
