"""Lists that draw themselves: only what is in sight, and of that only what differs from what is drawn already."""

from abc import abstractmethod
from typing import Any, ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size, Spacing
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.views import safe


class DrawnList(ScrollView, can_focus=True):
    """A title, and below it lines with a cursor on one of them.

    Textual's own tables make a widget's worth of rendering of each cell, and all of it anew when one row comes or goes:
    a tenth of a second for two hundred rows, once a second.

    Subclasses say how many lines there are and what they look like, and call ``lay_out`` when these have changed.

    Attributes:
        TITLE_KIND: the component class of the title.
        CURSOR_KIND: of the line that the cursor is on.
        CURSOR_STAYS: whether the cursor is seen while other widgets take the keys.
    """

    TITLE_KIND: ClassVar[str]
    CURSOR_KIND: ClassVar[str]
    CURSOR_STAYS: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor_step(-1)", "Up", show=False),
        Binding("down,j", "cursor_step(1)", "Down", show=False),
        Binding("pageup", "cursor_page(-1)", "Page up", show=False),
        Binding("pagedown", "cursor_page(1)", "Page down", show=False),
        Binding("home,g", "cursor_top", "Top", show=False),
        Binding("end,G", "cursor_bottom", "Bottom", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.at = 0
        self._drawn: dict[int, Strip] = {}
        self._styles: dict[str, Style] = {}

    @abstractmethod
    def count(self) -> int:
        """How many lines there are below the title."""

    @abstractmethod
    def title_line(self, width: int) -> Text:
        """The title, of so many characters."""

    @abstractmethod
    def line(self, number: int, width: int) -> tuple[Text, str]:
        """A line of so many characters, and its component class."""

    @abstractmethod
    def moved(self) -> None:
        """The cursor is on another line."""

    @abstractmethod
    def open(self) -> None:
        """The operator has pressed Enter, or clicked on the line that the cursor is on."""

    @property
    def line_width(self) -> int:
        """Characters of a line that are in sight: all but the scroll bar's."""
        return self.scrollable_content_region.width

    @property
    def first(self) -> int:
        """The number of the line below the title: how far it is scrolled."""
        return self.scroll_offset.y

    def is_drawn(self, number: int) -> bool:
        """Whether a line is in sight, and drawn as it is now."""
        return number + 1 - self.first in self._drawn

    def lay_out(self, width: int = 0) -> None:
        """Show the lines that there are now; ``width`` where they are wider than the widget, to be scrolled."""
        size = Size(width, self.count() + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        self.redraw()

    def redraw(self) -> None:
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
        number, width = y - 1 + self.first, max(self.line_width, self.virtual_size.width)
        if y == 0:
            return self._finish(self.title_line(width), self.TITLE_KIND, width)
        if number >= self.count():
            return Strip.blank(self.line_width, self.rich_style)
        text, kind = self.line(number, width)
        on = number == self.at and (self.CURSOR_STAYS or self.has_focus)
        return self._finish(text, self.CURSOR_KIND if on else kind, width)

    def _finish(self, text: Text, kind: str, width: int) -> Strip:
        if (style := self._styles.get(kind)) is None:
            style = self._styles[kind] = self.get_component_rich_style(kind)
        if not text.plain.isprintable():
            text.plain = safe.line(text.plain)
        drawn = Strip(text.render(self.app.console, "")).adjust_cell_length(width).apply_style(style)
        left = self.scroll_offset.x
        return drawn if width == self.line_width else drawn.crop(left, left + self.line_width)

    def notify_style_update(self) -> None:
        """Colours have changed."""
        super().notify_style_update()
        self._drawn.clear()
        self._styles.clear()

    def watch_scroll_x(self, old_value: float, new_value: float) -> None:
        """Other parts of the lines are in sight."""
        self._drawn.clear()
        super().watch_scroll_x(old_value, new_value)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other lines are in sight."""
        self._drawn.clear()
        super().watch_scroll_y(old_value, new_value)

    def on_resize(self) -> None:
        """Lines are longer or shorter."""
        self._drawn.clear()
        self.refresh()

    def on_focus(self) -> None:
        """The cursor is seen, or seen better."""
        self._styles.clear()
        self.redraw()

    def on_blur(self) -> None:
        """It is not."""
        self._styles.clear()
        self.redraw()

    def move(self, number: int) -> None:
        """Put the cursor on a line, or on the nearest that there is, and bring it into sight."""
        number = max(0, min(self.count() - 1, number))
        if number != self.at and self.count():
            for each in (self.at, number):  # the others look as before
                self._drawn.pop(each + 1 - self.first, None)
                self.refresh_line(each + 1)
            self.at = number
            self.moved()
        self.into_view()

    def into_view(self) -> None:
        """Scroll to the cursor."""
        line = Region(self.scroll_offset.x, self.at + 1, self.line_width, 1)
        self.scroll_to_region(line, spacing=Spacing(1, 0, 0, 0), animate=False, force=True, immediate=True)

    def action_cursor_step(self, lines: int) -> None:
        """Up or down."""
        self.move(self.at + lines)

    def action_cursor_page(self, pages: int) -> None:
        """Up or down by what is in sight."""
        self.move(self.at + pages * max(1, self.size.height - 2))

    def action_cursor_top(self) -> None:
        """To the first line."""
        self.move(0)

    def action_cursor_bottom(self) -> None:
        """To the last line."""
        self.move(self.count() - 1)

    def on_click(self, event: events.Click) -> None:
        """To a line; on the line that the cursor is on, as Enter."""
        number = event.y - 1 + self.first
        if event.y > 0 and number == self.at:
            self.open()
        elif event.y > 0:
            self.move(number)
