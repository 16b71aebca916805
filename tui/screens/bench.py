"""The Bench screen."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlencode

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Offers
from tui.glyphs import has_unicode
from tui.screens.base import ConsoleScreen
from tui.screens.details import Details
from tui.screens.picking import Pick
from tui.views import bench as view
from tui.views import bench_data as data
from tui.views.bench import Entry
from tui.views.bench_data import Build, Point
from tui.views.figures import span
from tui.views.safe import line
from tui.widgets.plot import plot
from tui.widgets.table import LiveTable
from tui.world import World

_TALL = 40
_READ = ("bench_summary", "bench_regressions", "bench_status", "bench_builds", "bench_series")
_TWO = ("bench_before", "bench_after")


class BenchCommands(Offers):
    """To every figure that was measured."""

    def offers(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What there is to be done."""
        if isinstance(self.screen, BenchScreen):
            for entry in self.screen.entries.values():
                words = f"Plot {entry.figure.title} of {entry.cell.model}, {entry.cell.what} ({entry.cell.target})"
                yield line(words), partial(self.screen.go_to, entry.key)


class BenchScreen(ConsoleScreen):
    """What was measured of each model, how that went from build to build, and what became worse."""

    NAME: ClassVar = "bench"
    TITLE: ClassVar = "Bench"
    FEEDS: ClassVar = frozenset({"fleet", *_READ, *_TWO})
    COMMANDS: ClassVar[set[Any]] = {BenchCommands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compare", "Compare builds"),
        Binding("a", "every", "All metrics"),
        Binding("d", "details", "Details"),
        Binding("y", "copy", "Copy the line", show=False),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entries: dict[str, Entry] = {}
        self._every = False
        self._two: tuple[Build, Build] | None = None
        self._drawn: tuple[Any, ...] = ()
        self._points: dict[tuple[str, str], tuple[Point, ...]] = {}
        self._unicode = has_unicode()

    def body(self) -> Iterable[Widget]:
        """What is going on, the list, and below it the course of what the cursor is on."""
        with Vertical():
            yield Static(classes="summary")
            yield Static(classes="absence")
            yield LiveTable(view.NARROW)
            with Horizontal(classes="course"):
                yield Static(classes="plot")
                with VerticalScroll(classes="facts", can_focus=False):
                    yield Static()

    def show(self, world: World) -> None:
        """Draw what is known; the list only when something was read anew."""
        told = (*map(world.raw.get, (*_READ, *_TWO)), *map(world.errors.get, self.FEEDS))
        drawn = (told, self._every, self._two, self.size)
        if drawn != self._drawn:
            self._drawn = drawn
            self._show_list(world)
            self._show_course()

    def _show_list(self, world: World) -> None:
        listed = self._listed(world)
        self.entries = {each.key: each for each in listed}
        known = "bench_summary" in world.raw
        absence = view.absence(world.errors, known, bool(listed) or self._two is not None)
        self.query_one(".absence").display = absence is not None
        for place in ("LiveTable", ".course"):
            self.query_one(place).display = absence is None
        self.query_one(".absence", Static).update(absence or "")
        self.query_one(".summary", Static).update(view.summary(world.raw.get("bench_status"), listed, self._two))
        wide, now = self.size.width >= view.ALL_FIT, self._now
        told = view.telling(listed)
        rows = [view.row(each, now, None if wide else told[each.cell.scenario]) for each in listed]
        self.query_one(LiveTable).show_rows(rows, view.columns(self.size.width, two=self._two is not None))

    def _listed(self, world: World) -> list[Entry]:
        self._points.update(data.series(world.raw.get("bench_series")))
        if self._two is None:
            changes = data.changes(world.raw.get("bench_regressions"))
            return view.entries(data.runs(world.raw.get("bench_summary")), changes, every=self._every)
        before, after = (data.runs(world.raw.get(feed)) for feed in _TWO)
        return view.compared(self._of(before, 0), self._of(after, 1), every=self._every)

    def _of(self, runs: Iterable[data.Run], side: int) -> list[data.Run]:
        """Those of the build that was asked for; what was read before may still be of another."""
        return [run for run in runs if self._two is not None and run.build.id == self._two[side].id]

    @property
    def _now(self) -> float:
        return self.console.world.at or time.time()

    @property
    def entry(self) -> Entry | None:
        """What the cursor is on."""
        return self.entries.get(self.query_one(LiveTable).current or "")

    def _ask(self, entry: Entry) -> None:
        """Have its course read, unless that is asked for already."""
        query = data.series_query(entry.cell, entry.figure.name)
        if self.console.source.queries.get("bench_series") != query:
            self.console.source.queries["bench_series"] = query
            self.console.source.poke("bench_series")

    def _show_course(self) -> None:
        place, facts = self.query_one(".plot", Static), self.query_one(".facts")
        facts.display = self.size.width >= view.ALL_FIT
        if (entry := self.entry) is None:
            place.update("")
            return
        self._ask(entry)
        place.update(self._course(entry, place.size.width or self.size.width, place.size.height))
        self.query_one(".facts Static", Static).update(view.details(entry, self._now))

    def _course(self, entry: Entry, width: int, height: int) -> Text:
        found = entry.figure
        points = self._points.get((entry.cell.key, found.name), ())
        spots = view.spots(points, self._change(entry), unicode=self._unicode)
        drawn = plot(spots, width - 2, height - 1, lambda value: view.figure(value, found.unit), unicode=self._unicode)
        said = drawn or [Text(f" {self._why_not(points)}", "dim")]
        title = view.title(entry, points)
        title.truncate(max(1, width - 1), overflow="ellipsis")
        return Text("\n").join([title, *(Text(" ").append_text(each) for each in said)])

    def _change(self, entry: Entry) -> data.Change | None:
        changes = data.changes(self.console.world.raw.get("bench_regressions"))
        return changes.get((entry.cell.key, entry.figure.name))

    def _why_not(self, points: tuple[Point, ...]) -> str:
        if points:
            return "There is no room for a plot."
        return line(self.console.world.errors.get("bench_series") or "Reading its course ...")

    def on_mount(self) -> None:
        """The list takes the keys."""
        super().on_mount()
        self.query_one(LiveTable).focus()

    def on_resize(self) -> None:
        """Another amount of room: drawn once the parts have theirs."""
        self._drawn = ()
        self.set_class(self.size.height >= _TALL, "-tall")
        self.call_after_refresh(self.show, self.console.world)

    @on(LiveTable.Moved)
    def _moved(self) -> None:
        self._show_course()

    @on(LiveTable.Opened)
    def _opened(self) -> None:
        self.action_details()

    def go_to(self, key: str) -> None:
        """Put the cursor there, whatever is filtered."""
        self.action_show_all()
        table = self.query_one(LiveTable)
        table.filter("")
        table.go_to(key)
        table.focus()

    def action_details(self) -> None:
        """All that is known of what the cursor is on."""
        if (entry := self.entry) is not None:
            self.app.push_screen(Details(view.details(entry, self._now)))

    def action_copy(self) -> None:
        """The line that the cursor is on."""
        if (entry := self.entry) is not None:
            cells = view.row(entry, self._now).cells
            self.app.copy_to_clipboard("\t".join(str(cells.get(each.key, "")) for each in view.WIDE[1:]))
            self.notify("Copied.")

    def action_every(self) -> None:
        """All metrics, or those again that changes are called by."""
        self._every = not self._every
        self.show(self.console.world)

    def action_compare(self) -> None:
        """Choose two builds, and show the one beside the other."""
        known = data.builds(self.console.world.raw.get("bench_builds"))
        if len(known) < 2:  # noqa: PLR2004 - two sides
            self.notify("Only one build was measured: there is nothing to compare it with.", severity="warning")
            return
        later = [each for each in known if each.id != known[1].id]
        ask = Pick("The earlier build:", [_choice(each, self._now) for each in (known[1], *later)])
        self.app.push_screen(ask, partial(self._first_chosen, known))

    def _first_chosen(self, known: tuple[Build, ...], first: str | None) -> None:
        if first is not None:
            others = [_choice(each, self._now) for each in known if each.id != first]
            self.app.push_screen(Pick("And the later one:", others), partial(self._both_chosen, known, first))

    def _both_chosen(self, known: tuple[Build, ...], first: str, second: str | None) -> None:
        if second is not None:
            by_id = {each.id: each for each in known}
            self.compare(by_id[first], by_id[second])

    def compare(self, before: Build, after: Build) -> None:
        """Show what was measured with two builds; Escape shows the newest of each again."""
        self._two = before, after
        for feed, build in zip(_TWO, self._two, strict=True):
            self.console.source.queries[feed] = urlencode({"build": build.id})
        self.console.source.poke(*_TWO)
        self.show(self.console.world)

    def action_show_all(self) -> None:
        """Filter nothing, and compare nothing."""
        super().action_show_all()
        self._two = None
        for feed in _TWO:
            self.console.source.queries.pop(feed, None)
        self.show(self.console.world)


def _choice(build: Build, now: float) -> tuple[str, Text]:
    return build.id, Text(line(build.name)).append(f"  {span(max(0.0, now - build.last))} ago", "dim")
