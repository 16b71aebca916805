"""A list of groups whose lines come anew every second; only those in sight are drawn, and only where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size, Spacing
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.views import safe
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


class FoldedList(ScrollView, can_focus=True):
    """Shows groups. Cursor, scroll position and what is folded stay as the operator left them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "foldedlist--title",
        "foldedlist--head",
        "foldedlist--entry",
        "foldedlist--cursor",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("f", "fold_all", "Fold or unfold all", show=False),
        Binding("up,k", "cursor_step(-1)", "Up", show=False),
        Binding("down,j", "cursor_step(1)", "Down", show=False),
        Binding("pageup", "cursor_page(-1)", "Page up", show=False),
        Binding("pagedown", "cursor_page(1)", "Page down", show=False),
        Binding("home,g", "cursor_top", "Top", show=False),
        Binding("end,G", "cursor_bottom", "Bottom", show=False),
        Binding("left", "cursor_fold", "Fold, or go to the head", show=False),
        Binding("right", "cursor_unfold", "Unfold, or go on", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.folding = Folding()
        self._groups: Sequence[Group] = ()
        self._painter: Painter | None = None
        self._rows: list[Row] = []
        self._cursor = 0
        self._drawn: dict[int, Strip] = {}
        self._styles: dict[str, Style] = {}

    @property
    def current(self) -> Row | None:
        """The line that the cursor is on."""
        return self._rows[self._cursor] if self._cursor < len(self._rows) else None

    @property
    def line_width(self) -> int:
        """Characters of a line: all but the scroll bar's."""
        return self.scrollable_content_region.width

    @property
    def keys(self) -> list[str]:
        """Of all lines, in their order; those that are scrolled out of sight as well."""
        return [row.key for row in self._rows]

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
                self._into_view()
                return True
        return False

    def _arrange(self, key: str | None = None) -> None:
        """Find out which lines there are; the cursor stays on its line, or goes to that of the key."""
        if self._painter is None:
            return
        before = self.current
        wanted = key if key is not None else None if before is None else before.key
        self._rows = self.folding.rows(self._groups, self._painter.words)
        self._cursor = self._place(wanted, before)
        size = Size(0, len(self._rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        self._redraw()
        after = self.current
        if (before and before.key) != (after and after.key) or before is None:
            self.post_message(Moved(after))

    def _place(self, key: str | None, before: Row | None) -> int:
        """Where a line is; its head, if it is folded away; else where it was."""
        places = {row.key: number for number, row in enumerate(self._rows)}
        head = None if before is None else before.group.head.key
        for each in (key, head):
            if each in places:
                return places[each]
        return min(self._cursor, max(0, len(self._rows) - 1))

    def _redraw(self) -> None:
        """Draw what is in sight and differs from what was drawn before."""
        before, self._drawn = self._drawn, {}
        for y in range(self.size.height):
            if self._strip(y) != before.get(y):
                self.refresh(Region(0, y, self.line_width, 1))

    def render_line(self, y: int) -> Strip:
        """A line of the screen; the first is the title, whatever is scrolled."""
        return self._strip(y)

    def _strip(self, y: int) -> Strip:
        found = self._drawn.get(y)
        if found is None:
            found = self._drawn[y] = self._paint(y)
        return found

    def _paint(self, y: int) -> Strip:
        number, width = y - 1 + self.scroll_offset.y, self.line_width
        if self._painter is None or number >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        if y == 0:
            return self._finish(self._painter.title(width), "foldedlist--title")
        row = self._rows[number]
        on = "foldedlist--cursor" if number == self._cursor and self.has_focus else None
        if row.entry is None:
            return self._finish(self._painter.head(row.group, width, folded=row.folded), on or "foldedlist--head")
        return self._finish(self._painter.entry(row.entry, width), on or "foldedlist--entry")

    def _finish(self, text: Text, kind: str) -> Strip:
        if (style := self._styles.get(kind)) is None:
            style = self._styles[kind] = self.get_component_rich_style(kind)
        if not text.plain.isprintable():
            text.plain = safe.line(text.plain)
        drawn = Strip(text.render(self.app.console, ""))
        return drawn.adjust_cell_length(self.line_width).apply_style(style)

    def notify_style_update(self) -> None:
        """Colours have changed."""
        super().notify_style_update()
        self._drawn.clear()
        self._styles.clear()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other lines are in sight."""
        self._drawn.clear()
        super().watch_scroll_y(old_value, new_value)

    def on_resize(self) -> None:
        """Lines are longer or shorter."""
        self._drawn.clear()
        self.refresh()

    def on_focus(self) -> None:
        """The cursor is seen."""
        self._redraw()

    def on_blur(self) -> None:
        """It is not."""
        self._redraw()

    def _move(self, number: int) -> None:
        number = max(0, min(len(self._rows) - 1, number))
        if number != self._cursor and self._rows:
            for each in (self._cursor, number):  # the others look as before
                self._drawn.pop(each + 1 - self.scroll_offset.y, None)
                self.refresh_line(each + 1)
            self._cursor = number
            self.post_message(Moved(self.current))
        self._into_view()

    def _into_view(self) -> None:
        line = Region(0, self._cursor + 1, self.line_width, 1)
        self.scroll_to_region(line, spacing=Spacing(1, 0, 0, 0), animate=False, force=True, immediate=True)

    def action_cursor_step(self, lines: int) -> None:
        """Up or down."""
        self._move(self._cursor + lines)

    def action_cursor_page(self, pages: int) -> None:
        """Up or down by what is in sight."""
        self._move(self._cursor + pages * max(1, self.size.height - 2))

    def action_cursor_top(self) -> None:
        """To the first line."""
        self._move(0)

    def action_cursor_bottom(self) -> None:
        """To the last line."""
        self._move(len(self._rows) - 1)

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
        self._into_view()

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
        self._into_view()

    def on_click(self, event: events.Click) -> None:
        """To a line; on the line that the cursor is on, as Enter."""
        number = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and number == self._cursor:
            self.action_open()
        elif event.y > 0:
            self._move(number)
