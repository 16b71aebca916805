"""What is wrong with a topology, where it is, and what would be right."""

import json
import re
from collections.abc import Iterable
from typing import TypeAlias

from attrs import frozen

Path: TypeAlias = tuple[str | int, ...]
"""Where a value sits in the document: keys, and indices into lists."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60  # characters of a wrong value worth repeating
_LARGEST_SHOWN = 128  # bits; Python refuses to print integers of thousands of digits


@frozen
class Problem:
    """One thing the operator has to change.

    Attributes:
        file: The file, or the environment variable, that holds the value.
        line: The line in that file, counted from 1; None where there is no line to point at.
        path: The key, written as TOML writes dotted keys; empty for the file as a whole.
        message: What is wrong.
        hint: What would be right; empty where the message already says so.
    """

    file: str
    line: int | None
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{key} {self.message}{hint}"


class TopologyError(ValueError):
    """A topology cannot be used; says everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: p.line or 0))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidValueError(ValueError):
    """A value is not what its place asks for.

    Attributes:
        message: What is wrong.
        hint: What would be right.
        at: Where, relative to the object that was being built; empty for the value itself.
        because: The other attributes of that object the verdict rests on.
    """

    def __init__(self, message: str, hint: str = "", at: Path = (), because: tuple[str, ...] = ()) -> None:
        super().__init__(f"{message} ({hint})" if hint else message)
        self.message = message
        self.hint = hint
        self.at = at
        self.because = because


@frozen
class Finding:
    """A problem that has a place in the document but not yet a line.

    Attributes:
        path: The place.
        message: What is wrong.
        hint: What would be right.
        because: Other places the verdict rests on; where one of them is itself wrong, the verdict is worthless.
            An entry of a list may be given by its name in place of its index.
    """

    path: Path
    message: str
    hint: str = ""
    because: tuple[Path, ...] = ()


def show(value: object) -> str:
    """Write a value the way the file would, shortened and safe to print on a terminal."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and value.bit_length() > _LARGEST_SHOWN:
        return "so large a number"
    return str(value)


def dotted(path: Path) -> str:
    """Write a path as TOML writes a dotted key, quoting what needs quotes."""
    return ".".join(_key(str(part)) for part in path)


def _key(part: str) -> str:
    return part if _BARE_KEY.fullmatch(part) else _quoted(part)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())
