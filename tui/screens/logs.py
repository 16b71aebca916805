"""The Logs screen."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Final

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Offers
from tui.glyphs import has_unicode
from tui.messages import Filtered, LogWanted
from tui.screens.base import ConsoleScreen
from tui.screens.details import Details, DetailsPane
from tui.views.log_lines import drawn, page, wanted, whose
from tui.views.logs import Entry, Journal, copied, order
from tui.views.sieve import LEVELS, parse
from tui.widgets.filterbar import FilterBar
from tui.widgets.lines import Lines
from tui.world import World

_BESIDE: Final = 180
"""From so many characters on, all of a line stands beside the list."""
_PANE, _FRONT = 68, 70  # characters: of the pane with its border, of the text in front
_EXPLAINED: Final = "words, -word, level:warning actor:router request:ID event: node: model: device: key:"


class LogCommands(Offers):
    """Whose log is shown, and from which level on."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        screen = self.screen
        if not isinstance(screen, LogsScreen):
            return
        for level in LEVELS[:-1]:
            yield f"Show {wanted(level)}", partial(screen.show_level, level)
        for node in screen.nodes:
            yield f"Log of {whose(node)}", partial(screen.look_at, node)


class LogsScreen(ConsoleScreen):
    """What the gateway and the nodes write down, with the fleet's events among it."""

    NAME: ClassVar = "logs"
    TITLE: ClassVar = "Logs"
    FEEDS: ClassVar[frozenset[str]] = frozenset({"fleet", "logs"})
    COMMANDS: ClassVar[set[Any]] = {LogCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "details", "Details"),
        Binding("l", "level", "Level"),
        Binding("n", "node", "Node"),
        Binding("e", "events", "Events"),
        Binding("r", "request", "Request"),
        Binding("y", "copy", "Copy the line", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._journal = Journal()
        self._level = "info"
        self._text = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Whose logs there are; ``""``: the gateway's."""
        fleet = self.console.world.fleet
        return ("", *(node.name for node in (() if fleet is None else fleet.nodes)))

    @property
    def lines(self) -> Lines[Entry]:
        """The lines."""
        return self.query_one(Lines)

    def body(self) -> Iterable[Widget]:
        """What is shown, the lines, and beside them all of one."""
        with Vertical():
            yield Static(classes="summary")
            yield Static(classes="notice")
            with Horizontal():
                yield Lines[Entry](partial(drawn, unicode=has_unicode()), order)
                yield DetailsPane()

    def on_mount(self) -> None:
        """Say what can be filtered."""
        self.query_one(FilterBar).placeholder = _EXPLAINED

    def show(self, world: World) -> None:
        """Add what is new."""
        if self._journal.take(world):
            self.lines.show_entries(self._journal.shown)
        self.query_one(DetailsPane).display = self.size.width >= _BESIDE
        self._show_words(world)

    def _show_words(self, world: World) -> None:
        self.say(".summary", self._summary())
        problem = self._journal.sieve.problem or world.errors.get("logs")
        self.say(".notice", Text(problem) if problem else None)
        self._show_details()

    def _summary(self) -> Text:
        journal, lines = self._journal, self.lines
        text = Text.assemble((f" {whose(journal.node)[:30]}", "bold"), f"  {wanted(journal.sieve.level)}")
        text.append(f"  {len(journal.shown):,} of {len(journal.kept):,} lines", "dim")
        text.append("" if journal.with_events else "  without events", "dim")
        text.append("  following" if lines.following else f"  stopped, {lines.below:,} below (G follows)", "italic")
        text.truncate(max(1, self.size.width), overflow="ellipsis")
        return text

    def _show_details(self) -> None:
        """Beside the list where there is room. In front of it stays what was opened."""
        if (pane := self.query_one(DetailsPane)).display:
            pane.say(self._page(_PANE - 6))

    def _page(self, width: int) -> Text:
        if (entry := self.lines.current) is None:
            return Text("\nNothing to show.", "dim")
        return page(entry, width, unicode=has_unicode())

    def on_resize(self, _: events.Resize) -> None:
        """There may be room for details now."""
        self.show(self.console.world)

    def on_lines_moved(self, _: Lines.Moved) -> None:
        """The cursor is elsewhere."""
        self._show_words(self.console.world)

    def on_lines_opened(self, _: Lines.Opened) -> None:
        """Enter."""
        self.action_details()

    def on_filtered(self, message: Filtered) -> None:
        """Other words."""
        self._text = message.text
        self._sift()

    def _sift(self, *, with_events: bool | None = None) -> None:
        shown = self._journal.with_events if with_events is None else with_events
        self._journal.want(parse(self._text, self._level), with_events=shown)
        self.lines.show_entries(self._journal.shown)
        self._show_words(self.console.world)

    def look_for(self, text: str) -> None:
        """Filter by these, in the gateway's log, whatever was looked at before; as if they had been typed."""
        if self._journal.node:
            self.look_at("")
        self._level = "info"
        bar = self.query_one(FilterBar)
        bar.value, bar.display = text, True
        self.lines.focus()

    def look_at(self, node: str) -> None:
        """At another process's log; ``""``: the gateway's."""
        self.console.source.logs_of = node or None
        self.console.source.poke("logs")
        self.console.world.errors.pop("logs", None)  # which was about the other one
        self._journal.look_at(node, self.console.world)
        self.lines.following = True
        self._sift()

    def on_log_wanted(self, message: LogWanted) -> None:
        """Another screen sends the operator here."""
        self.look_for(message.words)
        if message.node:
            self.look_at(message.node)

    def show_level(self, level: str) -> None:
        """From this level on."""
        self._level = level
        self._sift()

    def action_details(self) -> None:
        """All of a line, in front of everything."""
        if self.lines.current is not None:
            self.app.push_screen(Details(self._page(_FRONT)))

    def action_level(self) -> None:
        """From the next level on; after the last one that is common everything again."""
        usual = LEVELS[1:4] + LEVELS[:1]
        self.show_level(usual[(usual.index(self._level) + 1) % len(usual)])

    def action_node(self) -> None:
        """To the log of the next process."""
        nodes, node = self.nodes, self._journal.node
        self.look_at(nodes[(nodes.index(node) + 1) % len(nodes)] if node in nodes else "")

    def action_events(self) -> None:
        """Show events, or only lines."""
        self._sift(with_events=not self._journal.with_events)

    def action_request(self) -> None:
        """Only lines about the same request as this one."""
        entry = self.lines.current
        if entry is None or not (request := str(entry.fields.get("request_id") or "")):
            self.notify("This line is not about a request.", severity="warning")
            return
        self.look_for(f"request:{request}")

    def action_copy(self) -> None:
        """To the clipboard of the terminal, where it has one."""
        if (entry := self.lines.current) is not None:
            self.app.copy_to_clipboard(copied(entry))
            self.notify("Copied the line.")

    def action_show_all(self) -> None:
        """No filter; the level stays."""
        super().action_show_all()
        self.lines.focus()
