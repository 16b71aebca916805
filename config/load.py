"""Reading a topology: every mistake in the file and in the environment, each with its place, in one error."""

import ast
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from config import overrides
from config.draft import build
from config.overrides import Override
from config.positions import positions
from config.problems import Finding, Path, Problem, TopologyError, dotted
from config.topology import Topology

_NO_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({})

# What tomllib says, and what would be right.
_SYNTAX_HINTS: Final = {
    "Invalid value": 'strings need quotes: key = "text"; lists and tables end with a bracket',
    "Expected '='": 'a line is key = "value", a [table] or a comment after #',
    "Invalid statement": 'a line is key = "value", a [table] or a comment after #',
    "Cannot overwrite": "declare each key and each table once",
    "Cannot declare": "declare each key and each table once; the tables of a list are headed [[name]]",
    "Cannot mutate": "declare each key and each table once",
    "Cannot redefine": "declare each key and each table once",
    "Duplicate inline table key": "declare each key once",
    "Expected newline": "one key per line; strings with quotes inside go in single quotes",
    "Illegal character": "close the quotes on the line that opens them",
    "Unterminated string": "close the quotes",
    "Unescaped '\\'": "write a backslash as two, or use single quotes",
    'Expected "': "close the quotes",
    "Unclosed array": "close it with ]",
    "Unclosed inline table": "close it with }",
    "Expected ']": "close the table's name with as many ] as it has [",
    "Invalid initial character": "quote keys that hold more than letters, digits, _ and -",
}


def load(path: str | os.PathLike[str], *, env: Mapping[str, str] = os.environ) -> Topology:
    """Read a topology from a file, with the overrides of an environment.

    Raises:
        TopologyError: The file cannot be read, or something in it or in the environment is wrong.
    """
    name = os.fspath(path)
    try:
        data = FilePath(path).read_bytes()
    except OSError as error:
        hint = (
            "give the path of a topology file; `helexa init` writes one" if isinstance(error, FileNotFoundError) else ""
        )
        raise _file_error(name, None, f"cannot be read: {(error.strerror or str(error)).lower()}", hint) from error
    return parse(_decode(data, name), name=name, env=env)


def parse(text: str, *, name: str = "topology.toml", env: Mapping[str, str] = _NO_ENVIRONMENT) -> Topology:
    """Read a topology from TOML.

    Args:
        text: The document.
        name: What problems call it.
        env: Where overrides are looked for; none by default.

    Raises:
        TopologyError: Something is wrong; every mistake is in its `problems`.
    """
    raw, lines = _read_toml(text, name)
    done, unknown = overrides.apply(raw, env)
    topology, findings = build(raw)
    places = _Places(name, lines, tuple(done))
    problems = [places.problem(finding) for finding in findings]
    problems += [Problem(variable, None, dotted(it.path), it.message, it.hint) for variable, it in unknown]
    if problems:
        raise TopologyError(problems)
    return topology


@frozen
class _Places:
    """Where each value came from."""

    name: str
    lines: Mapping[Path, int]
    overrides: tuple[Override, ...]

    def problem(self, finding: Finding) -> Problem:
        file, line = self._origin(finding.path)
        return Problem(file, line, dotted(finding.path), finding.message, finding.hint)

    def _origin(self, path: Path) -> tuple[str, int | None]:
        """Return the variable that set a value, or the file and the line that did; for a missing key, its table's."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return override.variable, None
        outer = (path[:length] for length in range(len(path), 0, -1))
        return self.name, next((self.lines[place] for place in outer if place in self.lines), None)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")  # some editors start a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _file_error(name, line, "is not UTF-8 text", "save the file as UTF-8") from error


def _read_toml(text: str, name: str) -> tuple[dict[str, Any], dict[Path, int]]:
    try:
        return tomllib.loads(text), positions(text)
    except RecursionError as error:
        raise _file_error(name, None, "is nested too deeply", "a topology is a few levels deep") from error
    except ValueError as error:
        raise _syntax_error(text, name, str(error)) from error


def _syntax_error(text: str, name: str, said: str) -> TopologyError:
    """Take the place out of tomllib's sentence, which has it only there."""
    reason, *place = re.split(r" \((?=at line \d+, column \d+\)$|at end of document\)$)", said)
    reason = re.sub(r"\('.*'(?:, '.*'|,)\)", lambda names: dotted(ast.literal_eval(names[0])), reason)
    hint = next((hint for start, hint in _SYNTAX_HINTS.items() if reason.startswith(start)), "see https://toml.io")
    message = f"is not valid TOML: {reason[:1].lower()}{reason[1:]}"
    return _file_error(name, _syntax_line(text, place), message, hint)


def _syntax_line(text: str, place: list[str]) -> int | None:
    """Return the line in "at line 3, column 1)", the last one for "at end of document)", None for no place."""
    if not place:
        return None
    number = re.match(r"at line (\d+)", place[0])
    return int(number[1]) if number else text.rstrip().count("\n") + 1


def _file_error(name: str, line: int | None, message: str, hint: str) -> TopologyError:
    return TopologyError([Problem(name, line, "", message, hint)])
