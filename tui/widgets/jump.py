"""Jump mode: a letter on everything that can be gone to, and the next key goes there."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import ClassVar, Final

from attrs import frozen
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Label

from tui.widgets.drawn import DrawnList

LETTERS: Final = "asdfghjklqwertyuiopzxcvbnm"
"""The row that fingers rest on comes first."""


@frozen
class Target:
    """Something to go to.

    Attributes:
        x: of its letter, on the screen.
        y: likewise.
        go: goes there.
    """

    x: int
    y: int
    go: Callable[[], object]


def labels(count: int) -> list[str]:
    """What is typed for each of so many: a letter; or two for each, so that none begins like another."""
    if count <= len(LETTERS):
        return list(LETTERS[:count])
    return [first + second for first, second in product(LETTERS, LETTERS)][:count]


def targets(screen: Screen[object]) -> list[Target]:
    """What can be gone to on a screen: the rows of tables that are in sight, and all else that takes keys."""
    return [target for widget in screen.focus_chain for target in _of(screen, widget)]


def _of(screen: Screen[object], widget: Widget) -> Iterator[Target]:
    shown = widget.region.intersection(screen.region)
    if not shown.area:
        return
    if isinstance(widget, DrawnList) and widget.count():
        yield from _lines(screen, widget)
    else:
        yield Target(shown.x, shown.y, partial(screen.set_focus, widget))


def _lines(screen: Screen[object], lines: DrawnList) -> Iterator[Target]:
    area = lines.scrollable_content_region
    last = min(lines.count(), lines.first + area.height - 1)
    for y, number in enumerate(range(lines.first, last), area.y + 1):  # below the title
        yield Target(area.x, y, partial(_go, screen, lines, number))


def _go(screen: Screen[object], lines: DrawnList, number: int) -> None:
    screen.set_focus(lines)
    lines.move(number)


class Jump(ModalScreen[Target | None]):
    """Shows the letters, and answers with what was chosen; ``None``: the operator thought better of it.

    Args:
        targets: in the order in which letters are given.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Stay here")]

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self._targets = dict(zip(labels(len(targets)), targets, strict=False))
        self._typed = ""

    def compose(self) -> ComposeResult:
        """A letter at each."""
        for label, target in self._targets.items():
            shown = Label(label, classes="letter")
            shown.styles.offset = (target.x, target.y)
            yield shown

    def on_key(self, event: events.Key) -> None:
        """A letter; any that none begins with leaves."""
        if event.key == "escape":
            return
        event.stop()
        self._typed += event.character or " "
        if (chosen := self._targets.get(self._typed)) is not None:
            self.dismiss(chosen)
        elif not any(label.startswith(self._typed) for label in self._targets):
            self.dismiss(None)

    def action_leave(self) -> None:
        """Stay."""
        self.dismiss(None)
