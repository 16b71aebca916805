"""The console: one application, a screen for each question an operator has, one source of what they show."""

import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.filter import LineFilter, NoColor
from textual.message import Message
from textual.reactive import Reactive
from textual.theme import Theme

from helexa.imports import without
from tui import glyphs, terminals
from tui.client import FleetError
from tui.commands import Everything
from tui.feeds import FEEDS
from tui.garbage import CHECK_SECONDS, Garbage
from tui.live import Live, Source
from tui.messages import Happened, LinkChanged, LogWanted, Seen
from tui.operations import Operations
from tui.recording import Recorder, RecordingError, Replay
from tui.screens.base import ConsoleScreen
from tui.screens.dialogs import Confirm
from tui.screens.help import Help
from tui.screens.registry import SCREENS, makers
from tui.themes import ANSI_DARK, ANSI_LIGHT, PLAIN, THEMES
from tui.widgets.jump import Jump, Target, targets
from tui.world import World

_DRAW_SECONDS: Final = 0.1
"""At most so often is a screen drawn anew, however much comes."""


class Console(App[None]):
    """Watches a fleet, and changes it unless it is read-only.

    Args:
        source: what is shown.
        operations: what is done; ``None``: nothing can be, as with a recording.
        where: what the first line says it is.
        recorder: keeps what comes; its file is whoever made it's to close.

    Attributes:
        leaving: what is asked before the console is left; ``None``: nothing.
        garbage: where the console has a process of its own, what cleans up in it.
    """

    TITLE = "helexa"
    CSS_PATH: ClassVar[Any] = sorted(Path(__file__).parent.joinpath("styles").glob("*.tcss"))
    MODES: ClassVar[dict[str, Any]] = makers()
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = App.COMMANDS | {Everything}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"switch_mode('{screen.name}')", screen.title, show=False)
            for number, screen in enumerate(SCREENS.values(), start=1)
        ),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("ctrl+o", "jump", "Jump to a letter", show=False),
        Binding("space", "pause", "Pause or go on", show=False),
        Binding("plus", "speed(2.0)", "Faster", show=False),
        Binding("minus", "speed(0.5)", "Slower", show=False),
        Binding("q", "quit", "Quit"),
    ]
    ENABLE_COMMAND_PALETTE = True
    ansi_theme_dark = Reactive(ANSI_DARK, init=False)
    ansi_theme_light = Reactive(ANSI_LIGHT, init=False)

    def __init__(
        self, source: Source, operations: Operations | None, where: str, recorder: Recorder | None = None
    ) -> None:
        super().__init__()
        self._ascii = () if glyphs.has_unicode() else (terminals.Ascii(),)
        self.source, self.operations, self._recorder = source, operations, recorder
        self.world = World()
        self.link = LinkChanged("connecting")
        self.where = where
        self.leaving: str | None = None
        self.garbage: Garbage | None = None
        self._drawn_at = 0.0
        self._draw_due = False
        self._dress()

    def _dress(self) -> None:
        """Choose colours, before anything is drawn: each change of them later has every style sheet parsed anew."""
        for theme in THEMES:
            self.register_theme(theme)
        self.set_reactive(App.theme, THEMES[0].name if terminals.has_colours() and not self.no_color else PLAIN)

    @property
    def readonly(self) -> bool:
        """Whether nothing can be changed from here."""
        return self.operations is None

    @property
    def tabs(self) -> tuple[tuple[str, str], ...]:
        """Key and title of each screen."""
        return tuple((str(number), screen.title) for number, screen in enumerate(SCREENS.values(), start=1))

    @property
    def note(self) -> str:
        """What else the first line says."""
        notes = ["read-only"] if self.readonly else []
        notes += [f"recording to {self._recorder.path}"] if self._recorder is not None else []
        if isinstance(self.source, Replay):
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.source.now))
            notes = [f"{clock} {self.source.speed:g}x"]
        return ", ".join(notes)

    def on_mount(self) -> None:
        """Begin to look."""
        self.theme_changed_signal.subscribe(self, self._follow_theme)
        self._follow_theme(self.current_theme)
        self.switch_mode(next(iter(SCREENS)))
        self.run_worker(self.source.run(self._wanted, self._tell), name="source", exit_on_error=True)
        if self.garbage is not None:
            self.call_after_refresh(self.garbage.begin)
            self.set_interval(CHECK_SECONDS, self.garbage.check)

    async def on_event(self, event: events.Event) -> None:
        """Everything that a terminal tells comes through here."""
        if self.garbage is not None and isinstance(event, events.InputEvent):
            self.garbage.touched()
        await super().on_event(event)

    def _follow_theme(self, theme: Theme) -> None:
        self.set_class(theme.name == PLAIN, "-plain")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What is done to every line that is drawn, where the terminal can do less than most."""
        plain = (NoColor(),) if self.theme == PLAIN else ()
        return (*super().get_line_filters(), *plain, *self._ascii)

    async def on_unmount(self) -> None:
        """Let go of the fleet."""
        if self.operations is not None:
            await self.operations.aclose()

    def _wanted(self) -> frozenset[str]:
        """The feeds that are to be read: those of the screen in front; all of them for a recording."""
        if self._recorder is not None:
            return frozenset(FEEDS)
        return next(
            (screen.FEEDS for screen in reversed(self.screen_stack) if isinstance(screen, ConsoleScreen)), frozenset()
        )

    def _tell(self, message: Message) -> None:
        """Take a message of the source; in the order of time into the recording."""
        if self._recorder is not None:
            try:
                self._recorder.tell(message)
            except RecordingError as error:
                self._recorder = None
                self.notify(str(error), severity="error", timeout=30, markup=False)
        self._take(message)

    def _take(self, message: Message) -> None:
        """Know it at once, and draw it soon.

        Not by way of the application's queue of messages: a recording at great speed, or a fleet of a thousand models,
        would fill it faster than it is emptied, and keys wait at its end. Here whoever reads is as fast as what is read
        can be understood.
        """
        match message:
            case Seen(feed, data, at, error):
                self.world.take(feed, data, at, error)
            case Happened(events):
                self.world.happened(events)
            case LinkChanged():
                self.link = message
        self._draw_soon()

    def _draw_soon(self) -> None:
        """Draw now, or once the last drawing is long enough ago: bursts are drawn once."""
        if self._draw_due:
            return
        self._draw_due = True
        wait = self._drawn_at + _DRAW_SECONDS - time.monotonic()
        if wait <= 0:
            self.call_later(self._draw)
        else:
            self.set_timer(wait, self._draw)

    def _draw(self) -> None:
        self._draw_due, self._drawn_at = False, time.monotonic()
        for screen in self.screen_stack:
            if isinstance(screen, ConsoleScreen) and screen.is_mounted:
                screen.link(self.link)
                screen.show(self.world)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether something can be done now; what only a recording can do is offered for one alone."""
        if action in ("pause", "speed"):
            return isinstance(self.source, Replay)
        return super().check_action(action, parameters)

    def action_pause(self) -> None:
        """Have a recording stand still, or go on."""
        if isinstance(self.source, Replay):
            self.source.pause()
            self.link = LinkChanged("paused" if self.source.paused else "replay")
            self._draw()

    def action_speed(self, factor: float) -> None:
        """Have a recording run faster or slower."""
        if isinstance(self.source, Replay):
            self.source.speed = min(1024.0, max(1 / 16, self.source.speed * factor))
            self._draw()

    def action_help(self) -> None:
        """Show what each key does."""
        self.push_screen(Help(self.screen))

    async def action_quit(self) -> None:
        """Leave; where more than the console ends with it, only after asking, once."""
        self._leave()

    def action_help_quit(self) -> None:
        """Ctrl-C, where no line of text takes it for copying: leave, as every other command does."""
        self._leave()

    def _leave(self) -> None:
        if self.leaving is None or isinstance(self.screen, Confirm):
            self.exit()
        else:
            self.confirmed(self.leaving, "Leave", self.exit)

    def action_jump(self) -> None:
        """Show a letter on everything that can be gone to."""
        self.push_screen(Jump(targets(self.screen)), _go)

    async def show_log(self, wanted: LogWanted) -> None:
        """Go to the Logs screen, and have it look for something."""
        await self.switch_mode("logs")
        self.screen.post_message(wanted)

    def confirmed(self, question: str, verb: str, then: Callable[[], None]) -> None:
        """Ask before something is destroyed, and only then do it."""
        self.push_screen(Confirm(question, verb), lambda answer: then() if answer else None)

    def do(self, doing: Coroutine[Any, Any, str], *refresh: str) -> None:
        """Do something in the background, say how it went, and have what it changed read at once.

        Args:
            doing: of ``operations``.
            refresh: names of feeds.
        """
        self.run_worker(self._do(doing, refresh), exit_on_error=False)

    async def _do(self, doing: Coroutine[Any, Any, str], refresh: tuple[str, ...]) -> None:
        try:
            self.notify(await doing, markup=False)
        except FleetError as error:
            self.notify(str(error), severity="error", timeout=15, markup=False)
        self.source.poke("fleet", *refresh)


def _go(target: Target | None) -> None:
    if target is not None:
        target.go()


def live(url: str, key: str | None, bench_url: str, *, readonly: bool, recorder: Recorder | None = None) -> Console:
    """The console of a running fleet.

    Raises:
        FleetError: a URL is none.
    """
    with without("trio"):  # which httpcore brings in for its own backend: a tenth of the time that the console opens in
        import httpcore  # noqa: F401 - by httpx, when the first client is made
    operations = None if readonly else Operations(url, key)
    return Console(Live(url, key, bench_url), operations, url, recorder)


def replay(path: Path, speed: float) -> Console:
    """The console of a recording.

    Raises:
        RecordingError: it cannot be read.
    """
    return Console(Replay(path, speed), None, str(path))
