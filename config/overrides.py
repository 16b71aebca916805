"""Settings from the environment: `HELEXA__CORTEX__LISTEN=0.0.0.0:80` stands for `cortex.listen`."""

import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

import attrs
from attrs import frozen
from cattrs.errors import BaseValidationError

from config.address import Address
from config.bench import Hours
from config.problems import Finding, InvalidValueError, Path, dotted
from config.structure import CONVERTER, suggestion
from config.topology import Topology

PREFIX: Final = "HELEXA__"
_SEPARATOR: Final = "__"


@frozen
class Override:
    """One variable, and the place its value was put at."""

    variable: str
    path: Path


class _UnknownPlaceError(Exception):
    """A variable names a place that does not exist."""

    def __init__(self, path: Path, message: str, hint: str) -> None:
        super().__init__(message)
        self.finding = Finding(path, message, hint)


def apply(raw: dict[str, Any], env: Mapping[str, str]) -> tuple[list[Override], list[tuple[str, Finding]]]:
    """Put the values of `HELEXA__…` variables into a document, in place.

    Whole tables and lists go in before their parts, whatever the order of the variables.

    Returns:
        What was put where, and for each variable that names no known place, what is wrong with it.
    """
    done: list[Override] = []
    wrong: list[tuple[str, Finding]] = []
    variables = sorted(name for name in env if name.startswith(PREFIX))
    for variable in sorted(variables, key=lambda name: name.count(_SEPARATOR)):
        parts = variable.removeprefix(PREFIX).split(_SEPARATOR)
        try:
            path = _put(raw, parts, env[variable])
        except _UnknownPlaceError as error:
            wrong.append((variable, error.finding))
        else:
            done.append(Override(variable, path))
    return done, wrong


def _put(raw: dict[str, Any], parts: list[str], text: str) -> Path:
    """Set the value that a variable's name leads to and return its path."""
    path, cls = _resolve(raw, parts)
    *outer, last = path
    node: Any = raw
    for key in outer:
        if not _fits(node, key):
            return path  # the document has something else there, which is reported as such
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    if _fits(node, last):
        node[last] = _value(text, cls)
    return path


def _resolve(raw: dict[str, Any], parts: list[str]) -> tuple[Path, Any]:
    """Walk the types and the document side by side to the path that is meant and the type of what belongs there."""
    node: Any = raw
    cls: Any = Topology
    path: Path = ()
    for part in parts:
        key, cls = _step(node, cls, path, part)
        path = (*path, key)
        node = (node.get(key) if isinstance(node, dict) else node[key]) if _fits(node, key) else None
    return path, cls


def _fits(node: Any, key: str | int) -> bool:
    return isinstance(node, dict if isinstance(key, str) else list)


def _step(node: Any, cls: Any, path: Path, part: str) -> tuple[str | int, Any]:
    """Find the key or index a part of a variable's name means, and the type of what is there."""
    if attrs.has(cls) and cls not in {Address, Hours}:
        return _field(cls, path, part)
    if get_origin(cls) is tuple and attrs.has(get_args(cls)[0]):
        item = get_args(cls)[0]
        return _index(node if isinstance(node, list) else [], attrs.fields(item)[0].name, path, part), item
    if get_origin(cls) is Mapping:
        return _entry(node if isinstance(node, dict) else {}, part), get_args(cls)[1]
    raise _UnknownPlaceError((*path, part), "is inside a single value", f"set all of {dotted(path)}")


def _field(cls: Any, path: Path, part: str) -> tuple[str, Any]:
    fields = {field.name: field.type for field in attrs.fields(cls)}
    key = part.lower()
    if key not in fields:
        raise _UnknownPlaceError((*path, key), "is not a known key", suggestion(key, list(fields)))
    return key, _without_none(fields[key])


def _without_none(cls: Any) -> Any:
    """Return `X` for `X | None`."""
    return next(arg for arg in get_args(cls) if arg is not types.NoneType) if isinstance(cls, types.UnionType) else cls


def _index(items: list[Any], identity: str, path: Path, part: str) -> int:
    """Find an entry of a list by its index, or by its name as far as a variable's name can spell it."""
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    names = [str(item.get(identity, "")) if isinstance(item, dict) else "" for item in items]
    found = [index for index, name in enumerate(names) if _spelling(name) == _spelling(part)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{index} or {name}" if name else f"{index}" for index, name in enumerate(names))
    hint = f"known here: {known}" if known else f"the file declares no {dotted(path)}"
    raise _UnknownPlaceError((*path, part), "is more than one entry" if found else "is not an entry of the list", hint)


def _entry(table: dict[str, Any], part: str) -> str:
    """Find a key of a free table; one that is not there yet is added as it is written."""
    return next((key for key in table if _spelling(key) == _spelling(part)), part)


def _spelling(name: str) -> str:
    """Reduce a name to what shells allow in a variable's name, in one case: "Qwen/Qwen3-32B" to "qwen_qwen3_32b"."""
    return re.sub(r"\W", "_", name).lower()


def _value(text: str, cls: Any) -> Any:
    """Read the text as the TOML value the place asks for, or else as a string."""
    candidates = [*_as_toml(text), text]
    return next((value for value in candidates if _is_structurable(value, cls)), candidates[0])


def _as_toml(text: str) -> Iterator[Any]:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return
    if document.keys() == {"value"}:  # a text with line ends could declare more
        yield document["value"]


def _is_structurable(value: Any, cls: Any) -> bool:
    try:
        CONVERTER.structure(value, cls)
    except (InvalidValueError, BaseValidationError):
        return False
    return True
