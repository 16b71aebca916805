"""A list of thousands of lines of which only those in sight are drawn, and which follows its end."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_T = TypeVar("_T")
_WHEEL: Final = 3


class Lines(ScrollView, Generic[_T], can_focus=True):
    """Shows entries, the newest at the bottom, with a cursor.

    While the cursor is on the last one it stays on the last one, as ``tail -f`` does; elsewhere both cursor and what is
    in sight stay where they are, whatever is added.

    Args:
        draw: makes an entry's line of at most so many characters.
        order: what entries are sorted by.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--line", "lines--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor_by(-1)", "Up", show=False),
        Binding("down,j", "cursor_by(1)", "Down", show=False),
        Binding("pageup", "cursor_page(-1)", "Page up", show=False),
        Binding("pagedown", "cursor_page(1)", "Page down", show=False),
        Binding("home,g", "cursor_to(0)", "Top", show=False),
        Binding("end,G", "follow", "Follow the end", key_display="G", show=False),
        Binding("enter", "open", "Open", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on another entry, or on none."""

    @dataclass
    class Opened(Message):
        """The operator wants to see all of an entry."""

    def __init__(self, draw: Callable[[_T, int], Text], order: Callable[[_T], float], **options: Any) -> None:
        super().__init__(**options)
        self._draw, self._order = draw, order
        self._entries: Sequence[_T] = ()
        self._at = 0
        self.following = True

    @property
    def current(self) -> _T | None:
        """The entry that the cursor is on."""
        return self._entries[self._at] if self._at < len(self._entries) else None

    @property
    def below(self) -> int:
        """How many entries are below the cursor."""
        return max(0, len(self._entries) - 1 - self._at)

    def show_entries(self, entries: Sequence[_T]) -> None:
        """Show a copy of these; the cursor stays on its entry, or as near to it as there is something."""
        before, offset = self.current, self._at - round(self.scroll_y)
        self._at = len(entries) - 1 if self.following else _place(entries, before, self._order)
        self._entries, self._at = tuple(entries), max(0, self._at)
        self.virtual_size = Size(0, len(entries))
        if self.following:
            self._into_view()
        else:
            self.scroll_to(y=max(0, self._at - offset), animate=False, immediate=True)
        self.refresh()
        if self.current is not before:
            self.post_message(self.Moved())

    def _go(self, at: int) -> None:
        before = self._at
        self._at = max(0, min(at, len(self._entries) - 1))
        self.following = self._at >= len(self._entries) - 1
        self._into_view()
        self.refresh_lines(min(before, self._at), abs(before - self._at) + 1)
        self.post_message(self.Moved())

    def _into_view(self) -> None:
        height, top = max(1, self.scrollable_content_region.height), round(self.scroll_y)
        y = max(self._at - height + 1, min(top, self._at))
        if y != top:
            self.scroll_to(y=y, animate=False, immediate=True)

    def on_resize(self, _: events.Resize) -> None:
        """Keep the cursor in sight."""
        self._into_view()

    def render_line(self, y: int) -> Strip:
        """A line of the screen."""
        index, width = round(self.scroll_y) + y, self.scrollable_content_region.width
        at_cursor = index == self._at and index < len(self._entries)
        style = self.get_component_rich_style("lines--cursor" if at_cursor else "lines--line")
        if index >= len(self._entries):
            return Strip.blank(width, style)
        line = self._draw(self._entries[index], width)
        return Strip(line.render(self.app.console)).adjust_cell_length(width).apply_style(style)

    def action_cursor_by(self, rows: int) -> None:
        """Up or down."""
        self._go(self._at + rows)

    def action_cursor_page(self, pages: int) -> None:
        """By as many as are in sight."""
        self._go(self._at + pages * max(1, self.scrollable_content_region.height - 1))

    def action_cursor_to(self, at: int) -> None:
        """To an entry."""
        self._go(at)

    def action_follow(self) -> None:
        """To the last one, and stay there."""
        self._go(len(self._entries) - 1)

    def action_open(self) -> None:
        """Say that all of it is wanted."""
        if self.current is not None:
            self.post_message(self.Opened())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The cursor goes along, so that following ends."""
        self._wheel(event, -_WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Likewise."""
        self._wheel(event, _WHEEL)

    def _wheel(self, event: events.MouseEvent, rows: int) -> None:
        event.stop()
        event.prevent_default()
        self._go(self._at + rows)

    def on_click(self, event: events.Click) -> None:
        """To the line that was clicked at."""
        self._go(round(self.scroll_y) + event.y)


def _place(entries: Sequence[_T], entry: _T | None, order: Callable[[_T], float]) -> int:
    """Where an entry is now; if it is gone, where its neighbour is."""
    if entry is None:
        return 0
    first = place = bisect_left(entries, order(entry), key=order)
    while place < len(entries) and order(entries[place]) == order(entry):
        if entries[place] is entry:
            return place
        place += 1
    return min(first, len(entries) - 1)
