"""What changes between two topologies, key by key, and when each change takes effect.

Compared is what a file would say: a key that is left out and one that repeats its default are the same.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen

from config.problems import dotted
from config.structure import CONVERTER
from config.topology import Topology

Kind: TypeAlias = Literal["added", "removed", "changed"]
When: TypeAlias = Literal["at once", "next load", "neuron restart", "next start", "restart"]
_Path: TypeAlias = tuple[str, ...]
_Entries: TypeAlias = dict[_Path, Any]

_NAMED: Final = {"neurons": "name", "models": "id", "providers": "name", "routes": "pattern"}
"""Lists of tables, and the key that tells their entries apart."""
_SIGNS: Final[Mapping[Kind, str]] = {"added": "+", "removed": "-", "changed": "~"}
CORTEX_AT_START: Final = frozenset({"host", "listen", "metrics_listen", "database", "secret_env", "tls", "ca"})
"""Keys of `cortex` that an edit changes only after a restart."""
_NEURON_AT_START: Final = {"host", "listen", "devices", "memory", "tls", "registry", "interconnect"}
_MODEL_AT_LOAD: Final = {"source", "quant", "tensor_parallel", "min_device_memory"}
_LATER: Final[Mapping[When, str]] = {
    "at once": "",
    "next load": "  (when it is next loaded)",
    "neuron restart": "  (neuron {name} restarts for it)",
    "next start": "  (when neuron {name} next starts)",
    "restart": "  (after a restart of helexa up)",
}
_HIDDEN: Final = frozenset({"key_hash", "database"})
"""The second may hold a password."""


@frozen
class Change:
    """One difference.

    Attributes:
        kind: `added` and `removed` are about whole entries, `changed` is about a key of an entry or a table.
        path: Where: the table, the entry's name where it has one, the key.
        before: The value as the file wrote it; None where there was none, so that a default held.
        after: Likewise, now.
        when: `at once`; at the `next load` of a model that is loaded now; by a `neuron restart`, which comes by itself
            once the neuron's requests have ended; at the neuron's `next start`; or at the next `restart` of all.
    """

    kind: Kind
    path: _Path
    before: Any
    after: Any
    when: When = "at once"

    @property
    def where(self) -> str:
        """The path as TOML writes a dotted key."""
        return dotted(self.path)

    def __str__(self) -> str:
        line = f"{_SIGNS[self.kind]} {self.where}"
        if self.kind == "changed":
            line += f": {self._written(self.before)} → {self._written(self.after)}"
        elif self.path[0] == "aliases":
            line += f" = {self._written(self.after or self.before)}"
        return line + self._later()

    def _written(self, value: Any) -> str:
        if value is None:
            return "default"
        return "(not shown)" if self.path[-1] in _HIDDEN else written(value)

    def _later(self) -> str:
        return _LATER[self.when].format(name=self.path[1] if len(self.path) > 1 else "")


@frozen
class Changes:
    """Every difference between two topologies, in the order of the tables. False if there is none."""

    entries: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def added(self, table: str) -> tuple[str, ...]:
        """Return the names of the entries that are new in a table such as `neurons`."""
        return self._names(table, "added")

    def removed(self, table: str) -> tuple[str, ...]:
        """Return the names of the entries that are gone from a table."""
        return self._names(table, "removed")

    def changed(self, table: str) -> tuple[str, ...]:
        """Return the names of the entries of a table that are there before and after, and differ."""
        return self._names(table, "changed")

    @property
    def after_restart(self) -> tuple[Change, ...]:
        """What takes effect only when `helexa up` is started again."""
        return tuple(change for change in self.entries if change.when == "restart")

    def lines(self) -> list[str]:
        """Return a line for people about each difference."""
        return [str(change) for change in self.entries]

    def _names(self, table: str, kind: Kind) -> tuple[str, ...]:
        found = (change.path for change in self.entries if change.kind == kind and change.path[0] == table)
        return tuple(dict.fromkeys(path[1] for path in found if len(path) > 1))


def diff(old: Topology, new: Topology) -> Changes:
    """Tell what changes from one topology to another."""
    before, after = CONVERTER.unstructure(old), CONVERTER.unstructure(new)
    found = [*_differences(_entries(before), _entries(after)), *_order(before, after)]
    return Changes(tuple(found))


def written(value: Any) -> str:
    """Write a value as it could stand in the file, on one line and safe to print on a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _entries(document: Mapping[str, Any]) -> _Entries:
    """Index what a document holds: the tables that are always there, and each entry of the others by its name."""
    rest = {table: dict(document.get(table, {})) for table in ("cortex", "entitlements", "actors")}
    keys, accounts = (rest["entitlements"].pop(each, []) for each in ("keys", "accounts"))
    found: _Entries = {("cortex",): rest.pop("cortex")}
    for table, key in _NAMED.items():
        found |= _by_name((table,), key, document.get(table, []))
    found |= {("aliases", alias): target for alias, target in document.get("aliases", {}).items()}
    found |= _by_name(("entitlements", "keys"), "name", keys) | _by_name(("entitlements", "accounts"), "name", accounts)
    return found | _bench(document) | {(table,): settings for table, settings in rest.items()}


def _bench(document: Mapping[str, Any]) -> _Entries:
    """The only table whose presence says something by itself."""
    if "bench" not in document:
        return {}
    settings = dict(document["bench"])
    targets = settings.pop("targets", [])
    return {("bench",): settings} | _by_name(("bench", "targets"), "name", targets)


def _by_name(table: _Path, key: str, entries: list[dict[str, Any]]) -> _Entries:
    found: _Entries = {}
    for entry in entries:
        name, count = entry[key], 1
        while (*table, name) in found:  # two routes may have one pattern
            count += 1
            name = f"{entry[key]}#{count}"
        found[*table, name] = entry
    return found


def _differences(before: _Entries, after: _Entries) -> Iterator[Change]:
    for path in dict.fromkeys([*before, *after]):
        if path not in before:
            yield Change("added", path, None, after[path])
        elif path not in after:
            yield Change("removed", path, before[path], None)
        else:
            yield from _inside(path, _leaves(before[path]), _leaves(after[path]))


def _inside(path: _Path, before: _Entries, after: _Entries) -> Iterator[Change]:
    differing = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    moves = path[0] == "neurons" and any(key[0] in {"listen", "tls"} for key in differing if key)
    for key in differing:
        # where others reach a neuron goes with where and how it listens
        when: When = "neuron restart" if moves and key == ("endpoint",) else _when((*path, *key))
        yield Change("changed", (*path, *key), before.get(key), after.get(key), when)


def _leaves(value: Any, path: _Path = ()) -> _Entries:
    """The values inside nested tables by their path; a value that is no table by the empty one."""
    if not isinstance(value, dict):
        return {path: value}
    found: _Entries = {}
    for key, inner in value.items():
        found |= _leaves(inner, (*path, key))
    return found


def _when(path: _Path) -> When:
    match path:
        case ("actors", *_):
            return "restart"
        case ("cortex", key, *_) if key in CORTEX_AT_START:
            return "restart"
        case ("neurons", _, key, *_) if key in _NEURON_AT_START:
            return "neuron restart"
        case ("neurons", _, "preload", *_):
            return "next start"
        case ("models", _, key, *_) if key in _MODEL_AT_LOAD:
            return "next load"
        case _:
            return "at once"


def _order(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Routes are tried in their order, so the same ones in another order are a change, too."""
    old, new = (list(_by_name((), "pattern", document.get("routes", []))) for document in (before, after))
    first, second = [path for path in old if path in new], [path for path in new if path in old]
    if first != second:
        yield Change("changed", ("routes",), [path[0] for path in first], [path[0] for path in second])
