"""What every screen is: a line on top, something that shows the world, a footer."""

from collections.abc import Iterable
from typing import Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from tui.host import Host
from tui.messages import Filtered, LinkChanged
from tui.widgets.filterbar import FilterBar
from tui.widgets.linkbar import LinkBar
from tui.widgets.said import say
from tui.widgets.table import LiveTable
from tui.world import World


class ConsoleScreen(Screen[None]):
    """A screen of the console.

    Subclasses yield their widgets from ``body`` and draw in ``show``, which must be cheap: it is called after every
    answer of their feeds, ten times a second at most.

    Attributes:
        NAME: what the application calls it.
        TITLE: what people call it.
        FEEDS: what it needs; see ``tui.feeds``.
    """

    NAME: ClassVar[str]
    FEEDS: ClassVar[frozenset[str]] = frozenset({"fleet"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "show_all", "Show everything again", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._able: tuple[bool | None, ...] = ()

    @property
    def console(self) -> Host:
        """The application."""
        return cast("Host", self.app)

    def compose(self) -> ComposeResult:
        """The line on top, the body, the filter, the footer."""
        yield LinkBar()
        yield from self.body()
        yield FilterBar()
        yield Footer(compact=True)

    def body(self) -> Iterable[Widget]:
        """The widgets between the line on top and the footer."""
        raise NotImplementedError

    def show(self, world: World) -> None:
        """Draw what is known."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Begin with what is known already."""
        bar = self.query_one(LinkBar)
        bar.title = self.TITLE or self.NAME
        bar.tabs = self.console.tabs
        self.link(self.console.link)
        self.show(self.console.world)

    def on_screen_resume(self) -> None:
        """It is in front again: have its feeds read at once, and draw what came meanwhile."""
        self.console.source.poke(*self.FEEDS)
        self.link(self.console.link)
        self.show(self.console.world)

    def link(self, link: LinkChanged) -> None:
        """Say whether the fleet is there."""
        bar = self.query_one(LinkBar)
        bar.state, bar.reason = link.state, link.reason
        bar.where, bar.note = self.console.where, self.console.note

    def say(self, place: str, text: Text | None) -> None:
        """Show a text at a place, if it is another one than before; ``None``: there is nothing to say there."""
        say(self.query_one(place, Static), text)

    def offer(self) -> None:
        """Have the footer made anew where other keys can be used than before: that takes as long as a whole screen."""
        able = tuple(self.check_action(each.action, ()) for each in self.BINDINGS if isinstance(each, Binding))
        if able != self._able:
            self._able = able
            self.refresh_bindings()

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(FilterBar).open()

    def action_show_all(self) -> None:
        """Filter nothing any more."""
        self.query_one(FilterBar).close()

    def on_filtered(self, message: Filtered) -> None:
        """Filter every table."""
        for table in self.query(LiveTable):
            table.filter(message.text)
