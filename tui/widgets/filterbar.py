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
        self._show(shown=False)

    def open(self) -> None:
        """Take the keys."""
        self._show(shown=True)
        self.screen.set_focus(self)  # focus() would do it later, and the first letters would go elsewhere

    def close(self) -> None:
        """Filter nothing any more."""
        self.value = ""
        self._show(shown=False)

    def _show(self, *, shown: bool) -> None:
        self.display = shown
        self.can_focus = shown  # or a screen of nothing else would give it the keys, seen or not

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Filtered(event.value))

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self._show(shown=bool(self.value))
        self.screen.focus_next()

    def action_dismiss(self) -> None:
        """Show everything again."""
        self.close()
        self.screen.focus_next()
