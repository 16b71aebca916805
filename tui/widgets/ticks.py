"""A list of things that are chosen or not, told apart by brackets: colours alone tell nothing on some terminals."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import OptionList


class Ticks(OptionList):
    """Several of some; the space bar or a click chooses one, or no longer. Enter is the form's that it stands in.

    Args:
        names: of all there are.
        chosen: those that are chosen to begin with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "select", "Choose"),
        Binding("enter", "screen.make", "Make", show=False),
    ]

    def __init__(self, names: Sequence[str], chosen: Iterable[str], **options: Any) -> None:
        self._names, self._chosen = tuple(names), set(chosen)
        super().__init__(*map(self._line, self._names), markup=False, **options)

    @property
    def chosen(self) -> list[str]:
        """Those that are chosen, in the order of all."""
        return [name for name in self._names if name in self._chosen]

    def _line(self, name: str) -> str:
        return f"[{'x' if name in self._chosen else ' '}] {name}"

    @on(OptionList.OptionSelected)
    def _toggle(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name = self._names[event.option_index]
        self._chosen ^= {name}
        self.replace_option_prompt_at_index(event.option_index, self._line(name))
