"""Questions that are asked in front of a screen, and things shown once."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label


class Confirm(ModalScreen[bool]):
    """Asks before something is destroyed. Enter on the button or ``y`` is yes; all else is no.

    Args:
        question: a sentence.
        verb: what the button says.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str, verb: str) -> None:
        super().__init__()
        self._question, self._verb = question, verb

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with Vertical(classes="dialog"):
            yield Label(self._question, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._verb} (y)", variant="error", id="yes")
                yield Button("Keep (n)", id="no")

    def on_mount(self) -> None:
        """The harmless one first."""
        self.query_one("#no", Button).focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 - textual's action signature
        """By key."""
        self.dismiss(answer)


class Ask(ModalScreen[str | None]):
    """Asks for a line of text; ``None``: the operator thought better of it.

    Args:
        question: a sentence.
        value: what the line begins with.
        placeholder: what may be written.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def __init__(self, question: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._question, self._value, self._placeholder = question, value, placeholder

    def compose(self) -> ComposeResult:
        """The question and the line."""
        with Vertical(classes="dialog"):
            yield Label(self._question, markup=False)
            yield Input(self._value, placeholder=self._placeholder)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)

    def action_leave(self) -> None:
        """Without an answer."""
        self.dismiss(None)


class Secret(ModalScreen[None]):
    """Shows a new key, this once.

    Args:
        title: whose it is.
        secret: copied with ``c``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy"),
        Binding("escape,enter", "leave", "I have it"),
    ]

    def __init__(self, title: str, secret: str) -> None:
        super().__init__()
        self._title, self._secret = title, secret

    def compose(self) -> ComposeResult:
        """The key, and what can be done with it."""
        with Vertical(classes="dialog"):
            yield Label(self._title, markup=False)
            yield Label(self._secret, markup=False, classes="secret")
            yield Label("It is not shown again.  c: copy   Enter: close", markup=False, classes="hint")

    def action_copy(self) -> None:
        """To the clipboard of the terminal, where it has one."""
        self.app.copy_to_clipboard(self._secret)
        self.notify("Copied.")

    def action_leave(self) -> None:
        """Forget it."""
        self.dismiss(None)
