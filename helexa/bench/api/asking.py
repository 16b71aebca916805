"""What a request asks of the runs that are kept, read from its query. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, get_args

import orjson
from attrs import evolve, frozen

from config import InvalidValueError, parse_duration
from helexa.bench.records import Cell, Outcome
from helexa.bench.storage.kept import Filter
from helexa.wire.errors import invalid_value, missing

Query: TypeAlias = Mapping[str, Sequence[str]]
"""Every value by its name."""

LISTS: Final = {
    "target": "targets",
    "model": "models",
    "scenario": "scenarios",
    "build": "builds",
    "batch": "batches",
    "label": "labels",
    "outcome": "outcomes",
}
"""Names in a query, each of which may stand there several times, and the fields of a filter that they are."""
TIMES: Final = ("since", "until")
FILTER: Final = frozenset({*LISTS, *TIMES})
PAGE: Final = frozenset({"limit", "before"})
_MOST_VALUES: Final = 100
_LONGEST: Final = 1000
"""Characters of a value; more than the longest id of a model."""


@frozen
class Page:
    """Which part of a list is asked for.

    Attributes:
        limit: how many at most.
        before: id of the last run of the page before; ``None``: the first page.
    """

    limit: int
    before: str | None = None


def check_names(query: Query, known: frozenset[str]) -> None:
    """Refuse what is not known: a misspelt filter would let everything through.

    Raises:
        ApiError: 400, with the name.
    """
    for name, values in query.items():
        if name not in known:
            raise invalid_value(name[:_LONGEST], f"it is not known here; known are {', '.join(sorted(known))}")
        if len(values) > _MOST_VALUES or any(len(value) > _LONGEST for value in values):
            raise invalid_value(name, f"at most {_MOST_VALUES} values of {_LONGEST} characters")


def filter_of(query: Query, now: float) -> Filter:
    """Which runs are meant.

    Args:
        query: may hold other names beside those of ``FILTER``.
        now: Unix time in seconds, for times such as ``30d``.

    Raises:
        ApiError: 400, with the name of what is wrong.
    """
    lists: dict[str, Any] = {field: tuple(query[name]) for name, field in LISTS.items() if query.get(name)}
    for outcome in lists.get("outcomes", ()):
        if outcome not in get_args(Outcome):
            raise invalid_value("outcome", f"one of {', '.join(get_args(Outcome))}")
    since, until = (_time(name, one(query, name), now) for name in TIMES)
    return Filter(**lists, since=since, until=until)


def _time(name: str, value: str | None, now: float) -> float | None:
    """Unix time in seconds, or so long ago."""
    if value is None:
        return None
    try:
        found = now - parse_duration(value)
    except InvalidValueError:
        found = _number(value)
    if not math.isfinite(found):
        raise invalid_value(name, 'a Unix time in seconds, or how long ago, such as "30d"')
    return found


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def page_of(query: Query, default: int, most: int) -> Page:
    """Which part of a list is asked for.

    Raises:
        ApiError: 400, with the name of what is wrong.
    """
    limit = one(query, "limit")
    if limit is None:
        return Page(default, one(query, "before"))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(most)) and 1 <= int(limit) <= most):
        raise invalid_value("limit", f"a whole number from 1 to {most}")
    return Page(int(limit), one(query, "before"))


def one(query: Query, name: str) -> str | None:
    """The value of a name that stands in the query at most once.

    Raises:
        ApiError: 400; it is there more often.
    """
    values = query.get(name) or ()
    if len(values) > 1:
        raise invalid_value(name, "only one")
    return values[0] if values else None


def needed(query: Query, name: str) -> str:
    """The value of a name that has to be in the query once.

    Raises:
        ApiError: 400.
    """
    value = one(query, name)
    if not value:
        raise missing(name)
    return value


def flag(query: Query, name: str) -> bool:
    """Whether a name is there with ``1``; ``0`` is like leaving it out.

    Raises:
        ApiError: 400; it is there with something else.
    """
    value = one(query, name) or "0"
    if value not in {"0", "1"}:
        raise invalid_value(name, "0 or 1")
    return value == "1"


def cell_of(query: Query) -> Cell | None:
    """The one cell that is meant; ``None``: no ``parameters`` are there, so all sets of them are meant.

    Raises:
        ApiError: 400; ``parameters`` are no JSON object, or stand without the rest of the cell.
    """
    said = one(query, "parameters")
    if said is None:
        return None
    wrong = invalid_value("parameters", 'a JSON object, such as {"prompt_tokens":128}')
    try:
        parameters = orjson.loads(said)
    except ValueError:
        raise wrong from None
    if not isinstance(parameters, dict):
        raise wrong
    target, model, scenario = (needed(query, name) for name in ("target", "model", "scenario"))
    cell = Cell(target, model, scenario, parameters)
    if not cell.has_key:
        raise wrong
    return cell


def points_of(query: Query, now: float) -> Filter:
    """The runs that a series is made of: those that worked; of one cell, where ``parameters`` tell which.

    Raises:
        ApiError: 400, with the name of what is wrong.
    """
    which, cell = evolve(filter_of(query, now), outcomes=("ok",)), cell_of(query)
    return which if cell is None else evolve(which, cells=(cell,))
