"""The form for how models are asked."""

from collections.abc import Mapping
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from tui.views.chat import FIELDS, WrongError, parameters


class ParametersForm(ModalScreen[dict[str, str] | None]):
    """Asks for parameters; answers with the lines as they were written, which make sense. ``None``: as they were.

    Args:
        given: what the lines begin with, by name.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("down", "app.focus_next", "Next line", show=False),
        Binding("up", "app.focus_previous", "Line before", show=False),
    ]

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        self._given = dict(given)

    def compose(self) -> ComposeResult:
        """A line for each parameter."""
        with Vertical(classes="dialog parameters"):
            for name, title, hint in FIELDS:
                yield Label(title, markup=False)
                yield Input(self._given.get(name, ""), placeholder=hint, id=name, compact=True)
            yield Label("", markup=False, classes="wrong")
            yield Label("Enter: use these   Escape: leave them", markup=False, classes="hint")

    @on(Input.Submitted)
    def _done(self) -> None:
        given = {name: self.query_one(f"#{name}", Input).value for name, _, _ in FIELDS}
        try:
            parameters(given)
        except WrongError as error:
            self.query_one(".wrong", Label).update(str(error))
        else:
            self.dismiss(given)

    def action_leave(self) -> None:
        """As they were."""
        self.dismiss(None)
