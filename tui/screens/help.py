"""What each key does, and what each sign means: shown in front of the screen that it is about."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tui.commands import moves
from tui.glyphs import SIGNS, sign
from tui.host import Host

_SCREENS: Final = "switch_mode("
_ALSO: Final = (
    ("tab", "Go to the next part of the screen"),
    ("arrows", "Move; so do j, k, g, G and the keys for pages"),
    ("esc", "Show everything again; close what is in front"),
    ("^c", "Quit; in a line of text: copy"),
)


class Help(ModalScreen[None]):
    """Keys of a screen, of what has the focus there, and of the console.

    Args:
        screen: that it is about.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "leave", "Close")]

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__()
        self._about = screen

    def compose(self) -> ComposeResult:
        """Everything, to be scrolled through."""
        with VerticalScroll(classes="help"):
            yield Static(self._text())

    def _text(self) -> RenderableType:
        title = self._about.TITLE or "This screen"
        own, focused, everywhere = groups(self.app, self._about)
        return Group(
            Text(f"{title}: {said(self._about)}\n"),
            *_keys(title, own),
            *_keys("Where the cursor is", focused),
            *_keys("Everywhere", everywhere),
            Text("\nSigns", "bold"),
            _signs(),
            Text("\nEscape closes this.", "dim"),
        )

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


Keys = Sequence[tuple[str, str]]


def said(screen: Screen[object]) -> str:
    """What a screen says of itself: its ``HELP``, or the first sentence of its documentation."""
    return (screen.HELP or (type(screen).__doc__ or "").partition("\n")[0]).strip()


def groups(app: App[object], screen: Screen[object]) -> tuple[Keys, Keys, Keys]:
    """Key and meaning: of a screen, of what has the focus on it, of the console."""
    own, focused, everywhere = list[tuple[str, str]](), list[tuple[str, str]](), list[tuple[str, str]]()
    for active in _told(screen):
        place = own if isinstance(active.node, Screen) else everywhere if isinstance(active.node, App) else focused
        line = (app.get_key_display(active.binding), active.binding.description)
        if line[1] not in {meaning for _, meaning in place}:
            place.append(line)
    tabs = cast("Host", app).tabs
    numbers = ", ".join(f"{key} {title}" for key, title in tabs)
    return own, focused, [(f"1-{len(tabs)}", numbers), *everywhere, *_ALSO]


def _told(screen: Screen[object]) -> Iterator[ActiveBinding]:
    """The bindings that can be used now; the numbers of screens are told in one line."""
    for active in screen.active_bindings.values():
        binding = active.binding
        known = moves(binding.action) or binding.action.startswith(_SCREENS)
        if active.enabled and binding.description and not known:
            yield active


def _keys(title: str, lines: Keys) -> Iterable[RenderableType]:
    if not lines:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=8)
    for key, meaning in lines:
        table.add_row(Text(f"  {key}", "bold"), Text(meaning))
    yield Text(title, "bold")
    yield table


def _signs() -> RenderableType:
    """What differs in shape, once; those who share a sign stand beside each other."""
    names: dict[str, list[str]] = {}
    for name in SIGNS:
        names.setdefault(sign(name).plain, []).append(name)
    table = Table.grid(padding=(0, 2))
    for alike in names.values():
        table.add_row(Text.assemble("  ", sign(alike[0])), ", ".join(alike))
    return table
