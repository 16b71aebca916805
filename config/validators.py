"""Checks on single fields of the topology, as attrs validators.

Each raises `InvalidValueError` with the field's name in `at`, so that the reader of a file learns the key and a
caller who builds the classes in Python gets the same sentence.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import attrs

from config.address import Address
from config.problems import InvalidValueError, show
from config.source import InvalidSourceError, parse_source

Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SLUG_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@+-]*")
_ENVIRONMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEVICE: Final = re.compile(r"cpu|(cpu|cuda):(0|[1-9][0-9]{0,2})")
_KEY_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_SLUG: Final = 200

SLUG_HINT: Final = 'letters, digits and ._:@+- in parts joined by single slashes, such as "owner/model"'


def _matching(accepts: Callable[[str], bool], what: str, hint: str) -> Validator:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
        if not accepts(value):
            raise InvalidValueError(f"{show(value)} is not {what}", hint, (attribute.name,))

    return check


def is_slug(text: str) -> bool:
    """Whether a text can name a model: safe in a URL's path and in a directory's, whatever it is joined to."""
    return len(text) <= _LONGEST_SLUG and all(_SLUG_PART.fullmatch(part) for part in text.split("/"))


def _is_database(text: str) -> bool:
    prefix = next((p for p in ("sqlite:///", "postgresql://") if text.startswith(p)), None)
    return prefix is not None and len(text) > len(prefix) and text.isprintable()


def _is_pattern(text: str) -> bool:
    return bool(text) and text.isprintable() and not text.isspace()


name: Final = _matching(
    lambda text: _NAME.fullmatch(text) is not None,
    "a name",
    "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 64",
)
slug: Final = _matching(
    is_slug,
    "an id",
    SLUG_HINT,
)
device: Final = _matching(
    lambda text: _DEVICE.fullmatch(text) is not None,
    "a device",
    '"cpu", or "cuda:" and a number, such as "cuda:0"; "cpu:0" is a further worker on the CPU',
)
path: Final = _matching(
    lambda text: bool(text.strip()) and text.isprintable(), "a path", 'such as "/etc/helexa/server.pem"'
)
pattern: Final = _matching(_is_pattern, "a pattern", 'a model name with * and ? as wildcards, such as "claude-*"')


def environment(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Accept the name of an environment variable; a slip here is often the secret itself, so it is not repeated."""
    if not _ENVIRONMENT.fullmatch(value):
        raise InvalidValueError(
            "is not the name of an environment variable",
            "letters, digits and _, such as MY_KEY; the secret itself stays in that variable",
            (attribute.name,),
        )


def key_hash(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Accept the SHA-256 of a key; not repeated when wrong, for it may be the key."""
    if not _KEY_HASH.fullmatch(value):
        raise InvalidValueError(
            "is not the hash of a key",
            '"sha256:" and 64 lowercase hexadecimal digits; never the key itself',
            (attribute.name,),
        )


def database(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Accept the URL of a database; not repeated when wrong, for it may hold a password."""
    if not _is_database(value):
        hint = '"sqlite:///" and a path, or "postgresql://" and a server'
        raise InvalidValueError("is not a database URL", hint, (attribute.name,))


def source(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Accept where a model may come from."""
    try:
        parse_source(value)
    except InvalidSourceError as error:
        raise InvalidValueError(f"{show(value)} {error.problem}", error.hint, (attribute.name,)) from None


def url(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Accept an absolute http or https URL without a password; not repeated when wrong, for it may hold one."""
    hint = 'such as "http://beast.lan:13131"; no user, password, query or fragment'
    if not _is_url(value):
        raise InvalidValueError("is not an http or https URL of a server", hint, (attribute.name,))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extras = parts.query or parts.fragment or "@" in parts.netloc
    fits = text.isprintable() and " " not in text and not extras
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_fine and fits


def between(least: int, most: int) -> Validator:
    """Accept the whole numbers from `least` to `most`, both included."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
        if not least <= value <= most:
            raise InvalidValueError(f"{show(value)} is out of range", f"from {least} to {most}", (attribute.name,))

    return check


def price(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Accept finite amounts of money from 0 up."""
    if not (math.isfinite(value) and value >= 0):
        raise InvalidValueError(f"{value} is not a price", "0 or more US dollars per million tokens", (attribute.name,))


def positive(example: str) -> Validator:
    """Accept sizes and durations above zero, "never" included; `example` is one that would do."""

    def check(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
        if not value > 0:
            raise InvalidValueError("must be more than zero", f'such as "{example}"', (attribute.name,))

    return check


def finite(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Accept durations that end."""
    if math.isinf(value):
        raise InvalidValueError('cannot be "never"', 'a length of time, such as "2s" or "10m"', (attribute.name,))


def fixed_port(_: object, attribute: "attrs.Attribute[Any]", value: Address) -> None:
    """Accept addresses whose port is known before the server starts."""
    if value.port == 0:
        hint = "a port from 1 to 65535, for others have to know it beforehand"
        raise InvalidValueError("cannot leave the port to the system", hint, (attribute.name,))


def distinct(_: object, attribute: "attrs.Attribute[Any]", values: Sequence[object]) -> None:
    """Accept lists that name nothing twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InvalidValueError(f"{show(value)} is listed twice", "list it once", (attribute.name, index))


def not_empty(_: object, attribute: "attrs.Attribute[Any]", values: Sequence[object]) -> None:
    """Accept lists that hold something."""
    if not values:
        raise InvalidValueError("is empty", "name at least one, or leave the key out", (attribute.name,))


def each(check: Validator) -> Validator:
    """Apply a check to every item of a list, naming the item that fails."""

    def check_all(instance: object, attribute: "attrs.Attribute[Any]", values: Sequence[object]) -> None:
        for index, value in enumerate(values):
            try:
                check(instance, attribute, value)
            except InvalidValueError as error:
                raise InvalidValueError(error.message, error.hint, (attribute.name, index)) from None

    return check_all
