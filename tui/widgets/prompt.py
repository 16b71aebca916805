"""Where messages are written: Enter sends, Ctrl-J begins a new line, as pasted text may have several."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class Prompt(TextArea):
    """Posts ``Said``; empties itself when told to."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+j", "newline", "New line", show=False)]

    @dataclass
    class Said(Message):
        """The operator has written this."""

        text: str

    def __init__(self) -> None:
        super().__init__(compact=True, highlight_cursor_line=False)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            if self.text.strip():
                self.post_message(self.Said(self.text.strip()))
            return
        await super()._on_key(event)

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")
