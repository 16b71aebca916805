"""The line at which a list is filtered: opened with ``/``, closed with Escape."""

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui.messages import Filtered


class FilterBar(Input):
    """Posts ``Filtered`` as the operator types. Hidden while it is empty and not in use."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Show everything", show=False)]

    def __init__(self) -> None:
        super().__init__(placeholder="filter: words that have to be there", compact=True)
        self.display = False

    def open(self) -> None:
        """Take the keys."""
        self.display = True
        self.focus()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Filtered(event.value))

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self.display = bool(self.value)
        self.screen.focus_next()

    def action_dismiss(self) -> None:
        """Show everything again."""
        self.value = ""
        self.display = False
        self.screen.focus_next()
