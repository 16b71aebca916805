"""The form for a new key."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from tui.client import FleetError
from tui.views.keyform import FIELDS, SCOPES, USUAL, FormError, wanted
from tui.widgets.ticks import Ticks

Make = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NewKey(ModalScreen[dict[str, Any] | None]):
    """Asks for what a key is to be, and has it made; what is refused can be mended in place.

    The answer is the fleet's, the key in it; ``None``: the operator thought better of it.

    Args:
        make: asks the fleet for the key. Raises ``FleetError`` where it refuses.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("ctrl+s", "make", "Make the key"),
    ]

    def __init__(self, make: Make) -> None:
        super().__init__()
        self._make = make

    def compose(self) -> ComposeResult:
        """A line for each fact, the scopes, two buttons."""
        with VerticalScroll(classes="dialog form", can_focus=False):
            yield Label("A new key. Tab goes on, Enter makes it.", markup=False)
            for field in FIELDS:
                with Horizontal(classes="line"):
                    yield Label(field.title, markup=False)
                    yield Input(placeholder=field.hint, id=field.name, compact=True)
            with Horizontal(classes="line scopes"):
                yield Label("Scopes")
                yield Ticks(SCOPES, [USUAL], compact=True)
            yield Label("", id="refused", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Make (^s)", variant="primary", id="make", compact=True)
                yield Button("Leave (esc)", id="leave", compact=True)

    def on_mount(self) -> None:
        """The name first."""
        self.query_one("#name", Input).focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_make()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "make":
            self.action_make()
        else:
            self.action_leave()

    def action_make(self) -> None:
        """Ask the fleet, or say at once what cannot be asked."""
        typed = {field.name: self.query_one(f"#{field.name}", Input).value for field in FIELDS}
        try:
            asked = wanted(typed, self.query_one(Ticks).chosen)
        except FormError as error:
            self._refuse(str(error), error.field)
            return
        self.run_worker(self._ask(asked), exclusive=True)

    async def _ask(self, asked: dict[str, Any]) -> None:
        try:
            made = await self._make(asked)
        except FleetError as error:
            self._refuse(str(error), "")
        else:
            self.dismiss(made)

    def _refuse(self, why: str, field: str) -> None:
        self.query_one("#refused", Label).update(why)
        if field == "scopes":
            self.query_one(Ticks).focus()
        elif field:
            self.query_one(f"#{field}", Input).focus()

    def action_leave(self) -> None:
        """Make none."""
        self.dismiss(None)
