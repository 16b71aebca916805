"""The Requests screen."""

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
from tui.shapes import Request, Requests
from tui.views import requests as view
from tui.views.request_details import details
from tui.views.safe import line
from tui.widgets.table import LiveTable
from tui.world import World

_BESIDE: Final = 150
"""From so many characters on, details stand beside the list."""
_MOST: Final = 100
"""Of those that have ended so many are shown; all of them where something is looked for: each makes drawing slower."""
_PANE, _FRONT = 68, 70  # characters: of the pane with its border, of the text in front


class RequestCommands(Offers):
    """What can be done with each request that runs."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        screen = self.screen
        if not isinstance(screen, RequestsScreen):
            return
        for request in screen.running:
            about = f"request {request.number} ({line(request.model)}, {line(request.key or 'no key')})"
            yield f"Log lines of {about}", partial(screen.show_lines, request)
            if not screen.console.readonly:
                yield f"Cancel {about}", partial(screen.cancel, request)


class RequestsScreen(ConsoleScreen):
    """What is being asked of the fleet now, and what was a moment ago."""

    NAME: ClassVar = "requests"
    TITLE: ClassVar = "Requests"
    FEEDS: ClassVar[frozenset[str]] = frozenset({"fleet", "requests"})
    COMMANDS: ClassVar[set[Any]] = {RequestCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "details", "Details"),
        Binding("x", "cancel", "Cancel"),
        Binding("l", "lines", "Its log"),
        Binding("s", "sort", "Sort"),
        Binding("e", "ended", "Ended"),
        Binding("y", "copy", "Copy its id", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._order = view.ORDERS[0]
        self._ended = True
        self._shown: object = None
        self._known: dict[str, Request] = {}
        self._front: Details | None = None
        self._searches = False

    @property
    def running(self) -> tuple[Request, ...]:
        """Those that can be cancelled."""
        return self.console.world.requests.running

    @property
    def current(self) -> Request | None:
        """The one that the cursor is on."""
        return self._known.get(self.query_one(LiveTable).current or "")

    def body(self) -> Iterable[Widget]:
        """How much there is, the list, and beside it all about one."""
        with Vertical():
            yield Static(classes="summary")
            yield Static(classes="notice")
            with Horizontal():
                yield LiveTable(view.columns(self.app.size.width))
                yield DetailsPane()

    def show(self, world: World) -> None:
        """Draw what is known; most of it only when requests were read anew."""
        problem = world.errors.get("requests")
        looks = (world.requests, self._order, self._ended, self._searches, self.size, problem)
        if looks == self._shown:
            return
        self._shown = looks
        self.say(".notice", Text(problem) if problem else None)
        self.say(".summary", view.summary(world.requests, self._order, self.size.width, ended=self._ended))
        self._show_table(world.requests)
        self._show_details()

    def _show_table(self, requests: Requests) -> None:
        most = len(requests.ended) if self._searches else _MOST
        found = view.arranged(requests, self._order, ended=most if self._ended else 0)
        self._known = {str(request.number): request for request in found}
        wide = self.size.width >= _BESIDE
        plan = view.columns(self.size.width - (_PANE if wide else 0))
        self.query_one(LiveTable).show_rows(view.rows(found, plan), plan)
        self.query_one(DetailsPane).display = wide
        self.offer()

    def _show_details(self) -> None:
        """Beside the list where there is room, and in front of it where the operator asked for that."""
        if (pane := self.query_one(DetailsPane)).display:
            pane.say(self._text(_PANE - 6))
        if self._front is not None:
            self._front.say(self._text(_FRONT))

    def _text(self, width: int) -> Text:
        if (request := self.current) is None:
            return Text("\nNobody asks for anything." if not self._known else "\nNo request is chosen.", "dim")
        return details(request, width, unicode=has_unicode())

    def on_resize(self, _: events.Resize) -> None:
        """Other columns may fit now."""
        self.show(self.console.world)

    def on_filtered(self, message: Filtered) -> None:
        """What is looked for may be among those that are not shown."""
        self._searches = bool(message.text)
        self.show(self.console.world)

    def on_live_table_moved(self, _: LiveTable.Moved) -> None:
        """The cursor is on another one."""
        self._show_details()
        self.offer()

    def on_live_table_opened(self, _: LiveTable.Opened) -> None:
        """Enter."""
        self.action_details()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether something can be done now: what has ended cannot be cancelled, nor anything by who only looks."""
        if action == "cancel":
            if self.console.readonly:
                return False
            return True if self._is_running(self.current) else None
        return super().check_action(action, parameters)

    def _is_running(self, request: Request | None) -> bool:
        return request is not None and not view.has_ended(request)

    def action_details(self) -> None:
        """In front of everything; it goes on to follow its request."""
        if self.current is not None:
            self._front = Details(self._text(_FRONT))
            self.app.push_screen(self._front, lambda _: setattr(self, "_front", None))

    def action_sort(self) -> None:
        """By the next order."""
        self._order = view.ORDERS[(view.ORDERS.index(self._order) + 1) % len(view.ORDERS)]
        self.show(self.console.world)

    def action_ended(self) -> None:
        """Show those that have ended, or do not."""
        self._ended = not self._ended
        self.show(self.console.world)

    def action_cancel(self) -> None:
        """The one that the cursor is on."""
        if (request := self.current) is not None and self._is_running(request):
            self.cancel(request)

    def cancel(self, request: Request) -> None:
        """End a request, if the operator means it."""
        if (operations := self.console.operations) is None:
            return
        whose = "without a key" if request.key is None else f"of the key {line(request.key)}"
        question = f"Cancel request {request.number} {whose}, for {line(request.model) or 'no model yet'}?"
        self.console.confirmed(
            f"{question} Its client gets an error.",
            "Cancel it",
            lambda: self.console.do(operations.cancel(request.number), "requests"),
        )

    async def action_lines(self) -> None:
        """Of the one that the cursor is on."""
        if (request := self.current) is not None:
            await self.show_lines(request)

    async def show_lines(self, request: Request) -> None:
        """What the gateway's log says of it, on the Logs screen."""
        await self.console.show_log(LogWanted(f"request:{request.request_id}"))

    def action_copy(self) -> None:
        """To the clipboard of the terminal, where it has one."""
        if (request := self.current) is not None:
            self.app.copy_to_clipboard(request.request_id)
            self.notify(f"Copied {line(request.request_id)}", markup=False)
