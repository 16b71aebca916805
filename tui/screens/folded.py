"""What screens have in common that show a list of groups, with details of the line that the cursor is on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from attrs import frozen
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Offers
from tui.glyphs import has_unicode
from tui.messages import Filtered, LogWanted
from tui.screens.base import ConsoleScreen
from tui.screens.details import Details, DetailsPane
from tui.views.page import Page
from tui.widgets.foldedlist import FoldedList, Moved, Opened, Painter
from tui.widgets.folding import Group
from tui.world import World

_BESIDE: Final = 150
"""From so many characters on, details stand beside the list."""
_FRONT: Final = 70
"""Characters of a line of details in front of the list."""
_TALL: Final = 40
_FEW, _MORE = 3, 6
_BELOW: Final = 12
_MOST_HITS: Final = 50


@frozen
class Shown:
    """What a screen has to show.

    Attributes:
        absence: what is said instead of a list; ``None``: there is one.
        notice: what has to be known first.
        summary: a line above the list.
        groups: the list.
        painter: makes lines of them.
    """

    absence: Text | None = None
    notice: Text | None = None
    summary: Text | None = None
    groups: Sequence[Group] = ()
    painter: Painter | None = None


class PlaceCommands(Offers):
    """To every line of the list, those that are folded away as well."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        if isinstance(self.screen, FoldedScreen):
            for title, key in self.screen.places():
                yield f"Go to {title}", partial(self.screen.go_to, key)


class FoldedScreen(ConsoleScreen):
    """A list of groups.

    Subclasses say what there is (``look``), which parts of the world that depends on (``basis``), and what is known of
    a line's content (``tell``, ``call``, ``log_of``).

    Attributes:
        ORDERS: in which the list can be shown; the first is the usual one.
    """

    ORDERS: ClassVar[Sequence[str]]
    COMMANDS: ClassVar[set[Any]] = {PlaceCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "details", "Details"),
        Binding("s", "sort", "Sort"),
        Binding("l", "log", "Its log"),
        Binding("y", "copy", "Copy the name", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.order = self.ORDERS[0]
        self.unicode = has_unicode()
        self._basis: tuple[object, ...] = ()
        self._room: tuple[object, ...] = ()
        self._shown = Shown()
        self._front: Details | None = None

    def basis(self, world: World) -> tuple[object, ...]:
        """The parts of the world that are shown; the list is made anew when one of them is another object."""
        raise NotImplementedError

    def look(self, world: World, width: int, lines: int) -> Shown:
        """What there is; ``width`` of the summary, ``lines`` of the notice."""
        raise NotImplementedError

    def tell(self, world: World, content: Any, page: Page) -> Text:
        """What is known of the content of a line."""
        raise NotImplementedError

    def call(self, content: Any) -> str:
        """What operators call it."""
        raise NotImplementedError

    def log_of(self, content: Any) -> tuple[str, str]:
        """Whose log tells of it (``""``: the gateway's), and the words that pick its lines there."""
        raise NotImplementedError

    def below(self, world: World, lines: int, width: int) -> Text | None:
        """What stands under the list where there is room."""
        del world, lines, width
        return None

    @property
    def folds(self) -> FoldedList:
        """The list."""
        return self.query_one(FoldedList)

    @property
    def content(self) -> Any:
        """Of the line that the cursor is on; ``None``: there is none."""
        row = self.folds.current
        return None if row is None else (row.entry or row.group.head).content

    def body(self) -> Iterable[Widget]:
        """What is to be said at once, the list, and beside it what is known of the line in question."""
        with Vertical():
            yield Static(classes="summary")
            yield Static(classes="notice")
            yield Static(classes="absence")
            with Horizontal():
                with Vertical():
                    yield FoldedList()
                    yield Static(classes="below")
                yield DetailsPane()

    def show(self, world: World) -> None:
        """Draw what is known; most of it only where it was read anew."""
        basis, room = self.basis(world), (self.order, self.size.width, self.size.height)
        if room != self._room or not _same(basis, self._basis):
            self._room, self._basis = room, basis
            self._show_list(world)
        self._show_details()
        self._show_below(world)

    def _show_list(self, world: World) -> None:
        order = "" if self.order == self.ORDERS[0] else f"{self.order} "
        width = self.size.width - len(order)
        shown = self._shown = self.look(world, width, _FEW if self.size.height < _TALL else _MORE)
        self.say(".absence", shown.absence)
        self.say(".notice", shown.notice)
        self.say(".summary", None if shown.summary is None else _with_end(shown.summary, order, width))
        self.folds.display = shown.absence is None
        if shown.painter is None:
            self.folds.clear()
        else:
            self.folds.show_groups(shown.groups, shown.painter)

    def _show_below(self, world: World) -> None:
        roomy = self.size.height >= _TALL and self._shown.absence is None
        self.say(".below", self.below(world, _BELOW, self.folds.size.width - 2) if roomy else None)

    def _show_details(self, *, again: bool = True) -> None:
        """Beside the list where there is room, and in front of it where the operator asked for that.

        A pane that has just got room does not know yet how much: then it is done again once that is known.
        """
        pane = self.query_one(DetailsPane)
        pane.display = self.size.width >= _BESIDE and self.content is not None
        width = pane.scrollable_content_region.width
        if pane.display and not width and again:
            self.call_after_refresh(partial(self._show_details, again=False))
        elif pane.display:
            pane.say(self._text(width))
        if self._front is not None:
            self._front.say(self._text(_FRONT))

    def _text(self, width: int) -> Text:
        if (content := self.content) is None:
            return Text.assemble(("It is not there any more.", "dim"))
        return self.tell(self.console.world, content, Page(max(24, width), self.size.height >= _TALL, self.unicode))

    def places(self) -> Iterator[tuple[str, str]]:
        """Name and key of everything that can be gone to."""
        for group in self._shown.groups:
            yield self.call(group.head.content), group.head.key
            for entry in group.entries:
                yield f"{self.call(entry.content)} on {self.call(group.head.content)}", entry.key

    def go_to(self, key: str) -> None:
        """Put the cursor there, whatever is filtered."""
        self.action_show_all()
        self.folds.filter("")
        self.folds.go_to(key)
        self.folds.focus()

    def on_filtered(self, message: Filtered) -> None:
        """Filter the list."""
        self.folds.filter(message.text)

    def on_resize(self) -> None:
        """Another amount of room."""
        if self.is_mounted:
            self.show(self.console.world)

    def on_moved(self, _: Moved) -> None:
        """Other details, and other things that can be done."""
        self._show_details()
        self.offer()

    def on_opened(self, _: Opened) -> None:
        """Details."""
        self.action_details()

    def action_details(self) -> None:
        """All that is known of what the cursor is on, in front of the list."""
        if self.content is not None:
            self._front = Details(self._text(_FRONT))
            self.app.push_screen(self._front, self._left)

    def _left(self, _: None) -> None:
        self._front = None

    def action_sort(self) -> None:
        """The next order."""
        orders = self.ORDERS
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        self.show(self.console.world)

    async def action_log(self) -> None:
        """What its process's log says of it, on the Logs screen."""
        if (content := self.content) is None:
            return
        node, words = self.log_of(content)
        await self.console.show_log(LogWanted(words, node))

    def action_copy(self) -> None:
        """The name of what the cursor is on."""
        if (content := self.content) is not None:
            self.app.copy_to_clipboard(self.call(content))
            self.notify(f"Copied {self.call(content)}", markup=False)


def _same(these: Sequence[object], those: Sequence[object]) -> bool:
    """Whether each is the very same: to compare what is in a large fleet would take longer than to draw it."""
    return len(these) == len(those) and all(one is other for one, other in zip(these, those, strict=True))


def _with_end(line: Text, end: str, width: int) -> Text:
    """A line, and something at the end of the screen."""
    return Text.assemble(line, " " * max(0, width - line.cell_len), (end, "dim"))
