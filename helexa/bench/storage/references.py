"""What an operator means by ``last``, a label, or the beginning of an id."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import sqlalchemy as sa

from helexa.bench.storage import queries, rows
from helexa.bench.storage.kept import Dimensions, Filter, RefError
from helexa.bench.storage.rows import cells
from helexa.bench.storage.storable import LONGEST_NAME, text

_WORDS: Final = ("last", "previous")
"""Batches, counted back from the newest."""
_SHOWN: Final = 8
"""Names of a kind that an error lists."""
_LONGEST: Final = 80
"""Characters of a reference that an error repeats."""
_COLUMNS: Final[dict[str, sa.ColumnClause[str]]] = {
    "run": rows.runs.c.id,
    "batch": rows.runs.c.batch,
    "label": rows.runs.c.label,
    "build": rows.runs.c.build,
    "target": cells.c.target,
}
_FILTERS: Final[dict[str, Callable[[str], Filter]]] = {
    "run": lambda name: Filter(ids=(name,)),
    "batch": lambda name: Filter(batches=(name,)),
    "label": lambda name: Filter(labels=(name,)),
    "build": lambda name: Filter(builds=(name,)),
    "target": lambda name: Filter(targets=(name,)),
}
_SHORTENED: Final = ("batch", "build")
"""Kinds that the beginning is enough of. Runs are none of them: each begins as its batch does."""

_Meant: TypeAlias = tuple[str, str]
"""A kind, and the whole name."""


def resolve(connection: sa.Connection, ref: str) -> Filter:
    """Say which runs a reference means.

    Raises:
        RefError: none, or those of several names.
    """
    meant = _batch(connection, ref) if ref in _WORDS else _candidates(connection, text(ref))
    if len(meant) != 1:
        raise RefError(_ambiguous(ref, meant) if meant else _unknown(ref, queries.dimensions(connection)))
    kind, name = meant[0]
    return _FILTERS[kind](name)


def _batch(connection: sa.Connection, word: str) -> Sequence[_Meant]:
    found = queries.names(connection, rows.runs.c.batch, len(_WORDS))[_WORDS.index(word) :]
    return [("batch", each.name) for each in found[:1]]


def _candidates(connection: sa.Connection, ref: str) -> Sequence[_Meant]:
    """Whole names go before beginnings, and what is called ``label:x`` itself goes before the label ``x``."""
    kind, _, name = ref.partition(":")
    kinds = [kind] if kind in _COLUMNS else []
    return (
        _whole(connection, _COLUMNS, ref)
        or _whole(connection, kinds, name)
        or _begun(connection, [each for each in kinds if each in _SHORTENED], name)
        or _begun(connection, _SHORTENED, ref)
    )


def _whole(connection: sa.Connection, kinds: Iterable[str], name: str) -> list[_Meant]:
    if not name:  # runs without a label have this one
        return []
    return [(kind, name) for kind in kinds if _is_there(connection, kind, name)]


def _is_there(connection: sa.Connection, kind: str, name: str) -> bool:
    column, kept = _COLUMNS[kind], name[:LONGEST_NAME] if kind == "label" else name
    return connection.execute(sa.select(column).where(column == kept).limit(1)).first() is not None


def _begun(connection: sa.Connection, kinds: Iterable[str], name: str) -> list[_Meant]:
    return [(kind, whole) for kind in kinds if name for whole in _beginning_with(connection, _COLUMNS[kind], name)]


def _beginning_with(connection: sa.Connection, column: sa.ColumnClause[str], name: str) -> Sequence[str]:
    """One more than are shown at most. Not by LIKE: names have underscores."""
    query = sa.select(column).where(sa.func.substr(column, 1, len(name)) == name).distinct()
    return connection.execute(query.order_by(column.desc()).limit(_SHOWN + 1)).scalars().all()


def _ambiguous(ref: str, meant: Sequence[_Meant]) -> str:
    if all(name == meant[0][1] for _, name in meant):
        kinds, ways = (" and ".join(f"a {kind}" for kind, _ in meant), " or ".join(f"{k}:{name}" for k, name in meant))
        return f"'{_shown(ref)}' is {kinds}. Say which: {ways}."
    return (
        f"'{_shown(ref)}' is the beginning of several: {_listed([f'{k} {name}' for k, name in meant])}. Say more of it."
    )


def _unknown(ref: str, known: Dimensions) -> str:
    if not known.targets:
        return f"'{_shown(ref)}' names nothing: there are no runs yet."
    lists = {
        "batches": [each.name for each in known.batches],
        "labels": [each.name for each in known.labels],
        "builds": [f"{each.build.id} ({each.build.name})" for each in known.builds],
        "targets": [each.name for each in known.targets],
    }
    there = "; ".join(f"{plural} {_listed(names)}" for plural, names in lists.items() if names)
    none = "There is no batch before the last one" if ref == "previous" else f"No run has the name '{_shown(ref)}'"
    return f"{none}. There are {there}."


def _shown(ref: str) -> str:
    return ref if len(ref) <= _LONGEST else ref[:_LONGEST] + "…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_shown, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
