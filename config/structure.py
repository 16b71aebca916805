"""From plain data to the classes of the topology: strictly, and with every mistake found in one go."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from config.address import Address
from config.bench import Hours
from config.problems import Finding, InvalidValueError, Path, show
from config.units import Duration, Size, format_duration, format_size, parse_duration, parse_size

Hook: TypeAlias = Callable[[Any, Any], Any]

_MOST_LISTED: Final = 10
_EXAMPLES: Final = {"id": "helexa/tiny", "name": "beast", "pattern": "claude-*"}


def findings_in(error: Exception, path: Path = ()) -> Iterator[Finding]:
    """Flatten the tree of errors that the converter raises.

    Raises:
        Exception: A leaf that no input explains, as it is: a defect of this package.
    """
    if isinstance(error, ClassValidationError | IterableValidationError):
        noted, bare = error.group_exceptions()
        for inner, note in noted:
            yield from findings_in(inner, (*path, note.name if hasattr(note, "name") else note.index))
        for inner in bare:
            yield from findings_in(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        yield from (_unknown_key(error.cl, path, key) for key in sorted(error.extra_fields))
    elif isinstance(error, InvalidValueError):
        because = tuple((*path, name) for name in error.because)
        yield Finding((*path, *error.at), error.message, error.hint, because)
    elif isinstance(error, KeyError):
        yield Finding(path, "is missing", _example(str(path[-1])))
    else:
        raise error


def _unknown_key(cls: type, path: Path, key: str) -> Finding:
    return Finding((*path, key), "is not a known key", suggestion(key, [field.name for field in attrs.fields(cls)]))


def suggestion(word: str, known: list[str]) -> str:
    """Say what a misspelt word may have meant, or else what there is to choose from."""
    spellings = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spellings, n=1)
    if close:
        return f"did you mean {show(spellings[close[0]])}?"
    listed = list(spellings.values())
    more = ", …" if len(listed) > _MOST_LISTED else ""
    return f"known here: {', '.join(listed[:_MOST_LISTED])}{more}"


def _example(key: str) -> str:
    return f"add {key} = {show(_EXAMPLES[key])}" if key in _EXAMPLES else f"add {key} = …"


def _string(value: object, _: object) -> str:
    if not isinstance(value, str):
        hint = f"put it in quotes: {show(show(value))}" if type(value) in {int, float, bool} else 'write "text"'
        raise InvalidValueError(f"{show(value)} is not a string", hint)
    return value


def _integer(value: object, _: object) -> int:
    if type(value) is not int:  # True is an int to isinstance, and not to the reader of a file
        raise InvalidValueError(f"{show(value)} is not a whole number", _number_hint(value, "such as 5"))
    return value


def _float(value: object, _: object) -> float:
    if type(value) not in {int, float}:
        raise InvalidValueError(f"{show(value)} is not a number", _number_hint(value, "such as 0.5"))
    try:
        return float(value)  # type: ignore[arg-type]  # narrowed by the line above
    except OverflowError:
        raise InvalidValueError("is too large a number", "such as 0.5") from None


def _number_hint(value: object, example: str) -> str:
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return f"leave out the quotes: {value.strip()}"
    return example


def _boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError(f"{show(value)} is not true or false", "write true or false, without quotes")
    return value


def _choice(value: object, choices: Any) -> object:
    if not isinstance(value, str) or value not in get_args(choices):
        known = ", ".join(show(choice) for choice in get_args(choices))
        raise InvalidValueError(f"{show(value)} is not one of the choices", f"one of {known}")
    return value


def _list_hook(cls: Any, converter: Converter) -> Hook:
    items = converter.get_structure_hook(list[get_args(cls)[0]])  # type: ignore[misc]  # a type made at run time

    def structure_list(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):  # cattrs would take "abc" for three strings
            hint = f"in brackets: [{show(value)}]" if isinstance(value, str) else "in brackets: […]"
            raise InvalidValueError(f"{show(value)} is not a list", hint)
        return tuple(items(value, list))

    return structure_list


def _mapping_hook(cls: Any, converter: Converter) -> Hook:
    entries = converter.get_structure_hook(dict[get_args(cls)])  # type: ignore[misc]  # a type made at run time

    def structure_mapping(value: object, _: object) -> object:
        return entries(_table(value), dict)

    return structure_mapping


def _class_hook(cls: type[Any], converter: Converter) -> Hook:
    fields = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        _cattrs_prefer_attrib_converters=False,
    )

    def structure_class(value: object, _: object) -> object:
        return fields(_table(value), cls)

    return structure_class


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidValueError(f"{show(value)} is not a table", "a table: { key = value }")
    return value


def _omit_defaults(cls: type[Any], converter: Converter) -> Callable[[Any], dict[str, Any]]:
    return make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True)


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _is_mapping(cls: Any) -> bool:
    return get_origin(cls) is Mapping


def _is_choice(cls: Any) -> bool:
    return get_origin(cls) is Literal


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    hooks: dict[type[Any], Hook] = {str: _string, int: _integer, float: _float, bool: _boolean}
    for cls, hook in hooks.items():
        converter.register_structure_hook(cls, hook)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_factory(attrs.has)(_class_hook)
    converter.register_structure_hook_factory(_is_tuple)(_list_hook)
    converter.register_structure_hook_factory(_is_mapping)(_mapping_hook)
    converter.register_unstructure_hook_factory(attrs.has)(_omit_defaults)
    _register_texts(converter)
    return converter


def _register_texts(converter: Converter) -> None:
    """Register the types the file spells as strings; after `attrs.has`, which would claim some of them too."""
    converter.register_structure_hook(Size, lambda value, _: parse_size(value))
    converter.register_structure_hook(Duration, lambda value, _: parse_duration(value))
    converter.register_structure_hook(Address, lambda value, _: Address.parse(value))
    converter.register_structure_hook(Hours, lambda value, _: Hours.parse(value))
    converter.register_unstructure_hook(Size, format_size)
    converter.register_unstructure_hook(Duration, format_duration)
    converter.register_unstructure_hook(Address, str)
    converter.register_unstructure_hook(Hours, str)


CONVERTER: Final = _make_converter()
"""Structures and unstructures the topology and every class in it; raises the trees `findings_in` reads."""
