"""A list of groups whose lines come anew every second; only those in sight are drawn, and only where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.widgets.drawn import DrawnList
from tui.widgets.folding import Entry, Folding, Group, Row


class Painter(Protocol):
    """Makes lines. Lines that are longer than they may be are cut."""

    def title(self, width: int) -> Text:
        """The line above all others, which stays."""

    def head(self, group: Group, width: int, *, folded: bool) -> Text:
        """The head of a group."""

    def entry(self, entry: Entry, width: int) -> Text:
        """A line of a group."""

    def words(self, entry: Entry) -> str:
        """What a filter looks at: of a head or a line, in lower case."""


@dataclass
class Moved(Message):
    """The cursor is on another line, or on none."""

    row: Row | None


@dataclass
class Opened(Message):
    """The operator wants to know more of a line."""

    row: Row


class FoldedList(DrawnList):
    """Shows groups. Cursor, scroll position and what is folded stay as the operator left them."""

    TITLE_KIND = "foldedlist--title"
    CURSOR_KIND = "foldedlist--cursor"
    COMPONENT_CLASSES: ClassVar[set[str]] = {TITLE_KIND, CURSOR_KIND, "foldedlist--head", "foldedlist--entry"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("f", "fold_all", "Fold or unfold all", show=False),
        Binding("left", "cursor_fold", "Fold, or go to the head", show=False),
        Binding("right", "cursor_unfold", "Unfold, or go on", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.folding = Folding()
        self._groups: Sequence[Group] = ()
        self._painter: Painter | None = None
        self._rows: list[Row] = []

    @property
    def current(self) -> Row | None:
        """The line that the cursor is on."""
        return self._rows[self.at] if self.at < len(self._rows) else None

    @property
    def keys(self) -> list[str]:
        """Of all lines, in their order; those that are scrolled out of sight as well."""
        return [row.key for row in self._rows]

    def count(self) -> int:
        """How many lines there are."""
        return len(self._rows)

    def title_line(self, width: int) -> Text:
        """What the columns are."""
        return Text() if self._painter is None else self._painter.title(width)

    def line(self, number: int, width: int) -> tuple[Text, str]:
        """A head or an entry."""
        row = self._rows[number]
        if self._painter is None:
            return Text(), "foldedlist--entry"
        if row.entry is None:
            return self._painter.head(row.group, width, folded=row.folded), "foldedlist--head"
        return self._painter.entry(row.entry, width), "foldedlist--entry"

    def moved(self) -> None:
        """Tell of it."""
        self.post_message(Moved(self.current))

    def open(self) -> None:
        """As Enter does."""
        self.action_open()

    def show_groups(self, groups: Sequence[Group], painter: Painter) -> None:
        """Show these from now on."""
        self._groups, self._painter = groups, painter
        self._arrange()

    def clear(self) -> None:
        """Show nothing."""
        self._groups = ()
        self._arrange()

    def filter(self, text: str) -> None:
        """Show only lines that have each of the words, and their heads."""
        self.folding.wanted = tuple(text.lower().split())
        self._arrange()

    def go_to(self, key: str) -> bool:
        """Put the cursor on a line, and open its group for that; whether there is such a line."""
        for group in self._groups:
            if key == group.head.key or any(entry.key == key for entry in group.entries):
                if key != group.head.key:
                    self.folding.fold(group.head.key, folded=False)
                self._arrange(key)
                self.into_view()
                return True
        return False

    def _arrange(self, key: str | None = None) -> None:
        """Find out which lines there are; the cursor stays on its line, or goes to that of the key."""
        if self._painter is None:
            return
        before = self.current
        wanted = key if key is not None else None if before is None else before.key
        self._rows = self.folding.rows(self._groups, self._painter.words)
        self.at = self._place(wanted, before)
        self.lay_out()
        after = self.current
        if (before and before.key) != (after and after.key) or before is None:
            self.moved()

    def _place(self, key: str | None, before: Row | None) -> int:
        """Where a line is; its head, if it is folded away; else where it was."""
        places = {row.key: number for number, row in enumerate(self._rows)}
        head = None if before is None else before.group.head.key
        for each in (key, head):
            if each in places:
                return places[each]
        return min(self.at, max(0, len(self._rows) - 1))

    def action_cursor_fold(self) -> None:
        """Fold the group; from within one, go to its head first."""
        if (row := self.current) is None:
            return
        if row.entry is not None:
            self.go_to(row.group.head.key)
        else:
            self._fold(row, folded=True)

    def action_cursor_unfold(self) -> None:
        """Open the group; of one that is open, go to the first line."""
        if (row := self.current) is not None and row.entry is None:
            if row.folded:
                self._fold(row, folded=False)
            else:
                self.action_cursor_step(1)

    def action_fold_all(self) -> None:
        """Fold everything; open everything where all is folded."""
        heads = [row for row in self._rows if row.entry is None]
        self.folding.fold_all(folded=not all(row.folded for row in heads))
        self._arrange()
        self.into_view()

    def action_open(self) -> None:
        """Fold or open a group; ask for more of a line."""
        if (row := self.current) is None:
            return
        if row.entry is None and row.group.entries and not self.folding.wanted:
            self._fold(row, folded=not row.folded)
        else:
            self.post_message(Opened(row))

    def _fold(self, row: Row, *, folded: bool) -> None:
        self.folding.fold(row.key, folded=folded)
        self._arrange()
        self.into_view()
