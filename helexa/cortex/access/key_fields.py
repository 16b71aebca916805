"""Keys, their changes and the budgets of accounts, as requests ask for them. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from config import Account, Budget, Duration, InvalidValueError
from config.budgets import LARGEST_COUNT
from helexa.cortex.access.auth import ALL_SCOPES
from helexa.cortex.access.keys import CHANGEABLE, MOST_IN_FLIGHT, MOST_WEIGHT, Change, Wanted
from helexa.wire import errors
from helexa.wire.errors import ApiError
from helexa.wire.fields import Fields

MOST_MODELS: Final = 100
_MOST_LABELS: Final = 32
MOST_BUDGETS: Final = 16
_LONGEST_LABEL: Final = 200
_LONGEST_PATTERN: Final = 300
_LONGEST_LIFE: Final = 100 * 365.25 * 86_400
"""Seconds."""
MOST_DOLLARS: Final = 1_000_000
_LONGEST_PERIOD: Final = 366 * 86_400
"""Seconds."""


def read_wanted(fields: Fields) -> Wanted:
    """The key that a request asks for.

    What is not known is refused: a slip in ``models`` would otherwise make a key for all of them.

    Raises:
        ApiError: 400, naming the field.
    """
    check_names(fields, ("name", "account", "expires_in", *CHANGEABLE))
    given: dict[str, Any] = {"name": fields.text("name"), "life": fields.positive("expires_in", _LONGEST_LIFE, None)}
    if fields.has("account"):
        given["account"] = fields.text("account")
    return _valid(given | _read(fields, CHANGEABLE))


def read_change(fields: Fields) -> Change:
    """What a request wants to be different about a key.

    As in a JSON merge patch (RFC 7396): what is absent stays, and ``null`` is what a key has that says nothing.

    Raises:
        ApiError: 400, naming the field.
    """
    check_names(fields, CHANGEABLE)
    valid = _valid({"name": "it", **_read(fields, CHANGEABLE)})  # "it": for the sake of the defaults and checks alone
    return Change({name: getattr(valid, name) for name in CHANGEABLE if name in fields.data})


def read_account(name: str, fields: Fields) -> Account:
    """The account of that name with the budgets that a request has for it.

    Raises:
        ApiError: 400, naming the field.
    """
    check_names(fields, ("budgets",))
    budgets = _budgets(fields)
    try:
        return Account(name, budgets)
    except InvalidValueError as error:
        raise _invalid(error) from None


def check_names(fields: Fields, known: Iterable[str]) -> None:
    """Refuse a field that nobody would read.

    Raises:
        ApiError: 400, naming it.
    """
    for name in fields.data:
        if name not in known:
            full = fields.name(name)
            raise ApiError(400, f"Unknown parameter: '{full}'.", "invalid_request_error", "unknown_parameter", full)


def _valid(given: dict[str, Any]) -> Wanted:
    try:
        return Wanted(**given)
    except InvalidValueError as error:
        raise _invalid(error) from None


def _invalid(error: InvalidValueError) -> ApiError:
    field_name, *index = error.at
    return errors.invalid_value(f"{field_name}{''.join(f'[{each}]' for each in index)}", str(error))


def _read(fields: Fields, names: Iterable[str]) -> dict[str, Any]:
    """Those fields that are there, so that the defaults are said once."""
    return {name: _READERS[name](fields) for name in names if fields.has(name)}


def _labels(fields: Fields) -> dict[str, str]:
    labels = fields.mapping("labels")
    if len(labels) > _MOST_LABELS or not all(_is_label(part) for pair in labels.items() for part in pair):
        expected = f"at most {_MOST_LABELS} names with texts, each of 1 to {_LONGEST_LABEL} printable characters"
        raise fields.wrong("labels", expected)
    return dict(labels)


def _is_label(part: object) -> bool:
    return isinstance(part, str) and 0 < len(part) <= _LONGEST_LABEL and part.isprintable()


def _budgets(fields: Fields) -> tuple[Budget, ...]:
    found = fields.objects("budgets")
    if len(found) > MOST_BUDGETS:
        raise fields.wrong("budgets", f"at most {MOST_BUDGETS} of them")
    return tuple(_budget(each, f"budgets[{index}]") for index, each in enumerate(found))


def _budget(data: dict[str, Any], path: str) -> Budget:
    fields = Fields(data, path)
    check_names(fields, ("tokens", "requests", "usd", "per"))
    usd, per = fields.number("usd", 0, MOST_DOLLARS, None), fields.number("per", 1, _LONGEST_PERIOD, None)
    try:
        return Budget(
            fields.integer("tokens", 0, LARGEST_COUNT, None),
            fields.integer("requests", 0, LARGEST_COUNT, None),
            None if usd is None else float(usd),
            None if per is None else Duration(float(per)),
        )
    except InvalidValueError as error:
        raise errors.invalid_value(".".join((path, *map(str, error.at))), str(error)) from None


_READERS: Final[Mapping[str, Callable[[Fields], Any]]] = {
    "scopes": lambda fields: tuple(fields.texts("scopes", len(ALL_SCOPES), _LONGEST_LABEL)),
    "models": lambda fields: tuple(fields.texts("models", MOST_MODELS, _LONGEST_PATTERN)),
    "labels": _labels,
    "budgets": _budgets,
    "weight": lambda fields: fields.integer("weight", 1, MOST_WEIGHT),
    "max_in_flight": lambda fields: fields.integer("max_in_flight", 1, MOST_IN_FLIGHT),
}
