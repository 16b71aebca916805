"""What is known of the line that the cursor is on: beside a list where there is room, else in front of it."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.widgets.said import say


class DetailsPane(VerticalScroll, can_focus=False):
    """Beside a list."""

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static()

    def say(self, text: Text) -> None:
        """Show this; what is shown already is not drawn anew."""
        say(self.query_one(Static), text)


class Details(ModalScreen[None]):
    """In front of a list; goes on to follow what it is about, as long as somebody says so.

    Args:
        text: what it begins with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "leave", "Close", key_display="esc"),
        Binding("y", "copy", "Copy all of it"),
        Binding("j", "scroll('down')", "Down", show=False),
        Binding("k", "scroll('up')", "Up", show=False),
    ]

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """One text, to be scrolled through, and what the keys do."""
        with VerticalScroll(classes="details"):
            yield Static(self._text)
        yield Static(Text(" esc close   y copy ", "dim"), classes="keys")

    def say(self, text: Text) -> None:
        """Show this from now on."""
        self._text = text
        if self.is_mounted:
            say(self.query_one(".details Static", Static), text)

    def action_leave(self) -> None:
        """Back to the list."""
        self.dismiss(None)

    def action_copy(self) -> None:
        """To the clipboard of the terminal, where it has one."""
        self.app.copy_to_clipboard(self._text.plain)
        self.notify("Copied.")

    def action_scroll(self, where: str) -> None:
        """By a line."""
        pane = self.query_one(VerticalScroll)
        if where == "down":
            pane.scroll_down(animate=False)
        else:
            pane.scroll_up(animate=False)
