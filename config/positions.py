"""On which line of a TOML document each key stands.

`tomllib` knows and does not tell. This pass runs on text that `tomllib` has accepted, so it checks nothing: it only
has to agree on which paths exist.
"""

import re
import tomllib
from bisect import bisect_right
from collections import defaultdict
from typing import Final

from config.problems import Path

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART: Final = re.compile(r"[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
_DOT: Final = re.compile(r"[ \t]*\.[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?!")'  # a closing """ may directly follow one or two quotes of the text
    r"|'''.*?'''(?!')"
    r"|\"(?:[^\"\\\n]|\\.)*\""
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


def positions(text: str) -> dict[Path, int]:
    """Map the path of every key, table and list item to its line, counted from 1.

    Args:
        text: A document that `tomllib.loads` accepts.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """A cursor over the text and the lines found so far; used once."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._tables: defaultdict[Path, int] = defaultdict(int)  # lists of tables, and how many they hold so far

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank():
            table = self._header() if self._peek("[") else self._pair(table)

    def _header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]` and return the path of the table it opens."""
        line, is_list = self._line(), self._text.startswith("[[", self._at)
        self._at += 2 if is_list else 1
        self._skip_blank()
        *outer, name = self._key()
        self._skip_blank()
        self._at += 2 if is_list else 1
        path: Path = ()
        for part in outer:
            path = self._enter((*path, part), line)
        path = (*path, name)
        if not is_list:
            return self._enter(path, line)
        self._found(path, line)
        self._tables[path] += 1
        return self._enter(path, line)

    def _enter(self, path: Path, line: int) -> Path:
        """Step into a table, or into the newest one of a list of tables."""
        self._found(path, line)
        if path in self._tables:
            path = (*path, self._tables[path] - 1)
            self._found(path, line)
        return path

    def _pair(self, table: Path) -> Path:
        """Read `key = value` inside a table and return that table."""
        path, line = table, self._line()
        for part in self._key():
            path = (*path, part)
            self._found(path, line)
        self._skip_blank()
        self._at += 1  # the equals sign
        self._skip_blank()
        self._value(path)
        return table

    def _key(self) -> list[str]:
        parts = [self._key_part()]
        while dot := _DOT.match(self._text, self._at):
            self._at = dot.end()
            parts.append(self._key_part())
        return parts

    def _key_part(self) -> str:
        raw = self._take(_KEY_PART)
        if raw[0] not in "\"'":
            return raw
        return str(tomllib.loads(f"key = {raw}")["key"])  # the escapes are tomllib's business

    def _value(self, path: Path) -> None:
        if self._peek("["):
            self._list(path)
        elif self._peek("{"):
            self._inline_table(path)
        else:
            self._take(_STRING if self._text[self._at] in "\"'" else _SCALAR)

    def _list(self, path: Path) -> None:
        self._at += 1
        index = 0
        while not self._closes("]"):
            self._found((*path, index), self._line())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Skip to the next item of a list or table, or past its end."""
        self._skip_blank()
        if self._peek(","):
            self._at += 1
            self._skip_blank()
        if not self._peek(bracket):
            return False
        self._at += 1
        return True

    def _found(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)

    def _peek(self, character: str) -> bool:
        return self._text.startswith(character, self._at)

    def _skip_blank(self) -> bool:
        """Skip white space, line ends and comments; return whether anything is left."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:  # the text was not accepted by tomllib
            raise ValueError(f"not TOML at line {self._line()}")
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_right(self._newlines, self._at - 1) + 1
