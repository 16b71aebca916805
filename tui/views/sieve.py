"""What an operator wants to see of a log, from what was typed. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from attrs import evolve, frozen

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class Sieved(Protocol):
    """What is held against a sieve."""

    @property
    def level(self) -> str:
        """One of ``LEVELS``."""

    @property
    def event(self) -> str:
        """What."""

    @property
    def node(self) -> str:
        """Whose."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Everything else."""

    @property
    def words(self) -> str:
        """All of it in lower case."""


_ACTOR: Final = ("actor", "process", "device", "worker")
"""Fields that name whoever does something."""
_Test = Callable[[Sieved, str], bool]


def _field(name: str) -> _Test:
    return lambda entry, value: value in str(entry.fields.get(name, "")).lower()


def _actor(entry: Sieved, value: str) -> bool:
    """By name, or by the part of helexa that an event's name begins with."""
    named = any(value in str(entry.fields[name]).lower() for name in _ACTOR if name in entry.fields)
    return named or entry.event.lower().partition(".")[0] == value


_TESTS: Final[Mapping[str, _Test]] = {
    "actor": _actor,
    "request": _field("request_id"),
    "event": lambda entry, value: value in entry.event.lower(),
    "node": lambda entry, value: value in entry.node.lower() or value in str(entry.fields.get("node", "")).lower(),
    "model": _field("model"),
    "device": _field("device"),
    "key": _field("key"),
}


@frozen
class Condition:
    """Something that has to be so, or not.

    Attributes:
        value: in lower case.
        name: of a test; ``""``: it is a word that has to be somewhere.
        isnt: whether it must not be so.
    """

    value: str
    name: str = ""
    isnt: bool = False

    def holds(self, entry: Sieved) -> bool:
        """Whether it is so of this one."""
        found = _TESTS[self.name](entry, self.value) if self.name else self.value in entry.words
        return found != self.isnt


@frozen
class Sieve:
    """What is wanted.

    Attributes:
        level: the least.
        conditions: all of them have to hold.
        problem: what of the text cannot be understood, for the operator; it is passed over.
    """

    level: str = "info"
    conditions: tuple[Condition, ...] = ()
    problem: str | None = None

    def passes(self, entry: Sieved) -> bool:
        """Whether this is wanted."""
        if LEVELS.index(entry.level) < LEVELS.index(self.level):
            return False
        return all(condition.holds(entry) for condition in self.conditions)


def parse(text: str, level: str = "info") -> Sieve:
    """Read words and conditions such as ``level:warning actor:router -event:request.ended``.

    Only names that are known make a condition: ``http://…`` and ``cuda:0`` are words like others.

    Args:
        text: in any case.
        level: where the text names none.
    """
    sieve = Sieve(level)
    for word in text.lower().split():
        isnt = word.startswith("-") and len(word) > 1
        name, colon, value = word.removeprefix("-").partition(":")
        if name == "level" and colon and not isnt:
            sieve = _with_level(sieve, value)
        elif name in _TESTS and colon:
            more = (Condition(value, name, isnt),) if value else ()
            sieve = evolve(sieve, conditions=(*sieve.conditions, *more))
        else:
            sieve = evolve(sieve, conditions=(*sieve.conditions, Condition(word.removeprefix("-"), "", isnt)))
    return sieve


def _with_level(sieve: Sieve, value: str) -> Sieve:
    """By its name, or by how that begins: as soon as it is typed."""
    found = [level for level in LEVELS if level.startswith(value)]
    if not found:
        return evolve(sieve, problem=f"level:{value} is none; there are {', '.join(LEVELS)}.")
    return evolve(sieve, level=found[0]) if value else sieve
