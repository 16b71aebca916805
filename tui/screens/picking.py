"""Questions with a list of answers, and things that are told in full."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option


class Pick(ModalScreen[str | None]):
    """Asks for one of several; words that are typed leave only those that have them. ``None``: none of them.

    Args:
        question: a sentence.
        choices: the key of each, which is the answer, and what is shown of it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("down", "move('cursor_down')", "Down", show=False),
        Binding("up", "move('cursor_up')", "Up", show=False),
        Binding("pagedown", "move('page_down')", "Page down", show=False),
        Binding("pageup", "move('page_up')", "Page up", show=False),
    ]

    def __init__(self, question: str, choices: Sequence[tuple[str, Text]]) -> None:
        super().__init__()
        self._question, self._choices = question, tuple(choices)

    def compose(self) -> ComposeResult:
        """The question, a line for words, the list."""
        with Vertical(classes="dialog pick"):
            yield Label(self._question, markup=False)
            yield Input(placeholder="type to filter", compact=True)
            yield OptionList(*self._options(""), compact=True, markup=False)

    def on_mount(self) -> None:
        """Take the keys."""
        self.query_one(Input).focus()
        self.query_one(OptionList).highlighted = 0

    def _options(self, text: str) -> list[Option]:
        wanted = text.lower().split()
        return [
            Option(shown, id=str(number))
            for number, (_, shown) in enumerate(self._choices)
            if all(each in shown.plain.lower() for each in wanted)
        ]

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        found = self.query_one(OptionList)
        found.set_options(self._options(event.value))
        found.highlighted = 0 if found.option_count else None

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.query_one(OptionList).action_select()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[int(event.option.id or 0)][0])

    async def action_move(self, action: str) -> None:
        """Move in the list while the words keep the keys."""
        await self.query_one(OptionList).run_action(action)

    def action_leave(self) -> None:
        """Without an answer."""
        self.dismiss(None)


class Told(ModalScreen[None]):
    """Tells something in full.

    Args:
        title: what it is about.
        text: as long as need be.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "leave", "Close"),
        Binding("y", "copy", "Copy"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """The title and the text."""
        with Vertical(classes="dialog"):
            yield Label(Text(self._title, "bold"))
            yield Label(self._text, markup=False)
            yield Label("y: copy   Enter: close", markup=False, classes="hint")

    def action_copy(self) -> None:
        """To the clipboard of the terminal, where it has one."""
        self.app.copy_to_clipboard(self._text)
        self.notify("Copied.")

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)
