"""The console itself: what it is told it shows, what keys do, what can be done from it and what cannot."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import consoles
import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Label

from tui import glyphs
from tui.app import Console, replay
from tui.client import FleetError
from tui.commands import Everything
from tui.messages import Happened, LinkChanged, Seen
from tui.recording import Recorder, RecordingError
from tui.screens.base import ConsoleScreen
from tui.screens.dialogs import Ask, Confirm, Secret
from tui.screens.help import Help, groups
from tui.screens.registry import SCREENS
from tui.shapes import Event
from tui.themes import ANSI_DARK, PLAIN, THEMES
from tui.widgets.filterbar import FilterBar
from tui.widgets.foldedlist import FoldedList
from tui.widgets.jump import LETTERS, Jump, labels, targets
from tui.widgets.table import Column, LiveTable, Row
from tui.world import World

FLEET = {"nodes": [{"name": name, "up": True} for name in ("alpha", "beta", "gamma")]}


class Rows(ConsoleScreen):
    """Three rows, to be filtered and jumped to."""

    NAME = "rows"
    TITLE = "Rows"

    def body(self) -> Iterable[Widget]:
        yield LiveTable([Column("name", "name", 20)])

    def show(self, world: World) -> None:
        nodes = () if world.fleet is None else world.fleet.nodes
        self.query_one(LiveTable).show_rows(Row(node.name, {"name": node.name}) for node in nodes)


def front(app: Console) -> str:
    assert isinstance(app.screen, ConsoleScreen)
    return app.screen.NAME


def names(app: Console) -> list[str]:
    assert app.world.fleet is not None
    return [node.name for node in app.world.fleet.nodes]


def test_every_screen_has_a_number_and_opens_with_nothing_known() -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        for number, name in enumerate(SCREENS, 1):
            await pilot.press("escape", str(number))
            for _ in range(100):  # a screen is made when it is first opened
                if front(app) == name:
                    break
                await pilot.pause()
            assert front(app) == name
            await consoles.settle(pilot)
            kind = SCREENS[name].load()
            assert (name, SCREENS[name].title) == (kind.NAME, kind.TITLE)
            assert script.wanted() >= kind.FEEDS
            if name == "chat":  # whose first part takes numbers as text
                app.switch_mode("fleet")
                await pilot.pause()

    consoles.run(app, steps)


def test_the_feeds_of_a_screen_are_read_at_once_when_it_comes_to_the_front() -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        script.poked.clear()
        app.switch_mode("requests")
        await pilot.pause()
        assert set(script.poked) >= SCREENS["requests"].load().FEEDS

    consoles.run(app, steps)


def test_what_is_told_is_known_at_once_and_drawn_once() -> None:
    app, script, _ = consoles.console()
    drawn = list[int]()

    async def steps(pilot: Pilot[None]) -> None:
        app._draw = lambda: drawn.append(1)  # type: ignore[method-assign] - counted in place of drawn
        for number in range(500):
            script.say(Seen("fleet", {"nodes": [{"name": f"n{number}"}]}, 1.0), Happened([Event(number)]))
        assert names(app) == ["n499"]
        assert len(app.world.events) == 500
        await pilot.pause()
        assert len(drawn) <= 1

    async def without_settling(pilot: Pilot[None]) -> None:
        await steps(pilot)

    consoles.run(app, without_settling)


def test_a_lost_connection_is_said_with_the_whole_reason_and_what_was_known_stays() -> None:
    app, script, _ = consoles.console(*consoles.seen(fleet=FLEET))
    reason = "no fleet answers at http://fleet:31313 (refused). Start one with 'helexa up', or name another with --url."

    async def steps(pilot: Pilot[None]) -> None:
        script.say(LinkChanged("lost", reason))
        await consoles.settle(pilot)
        shown = consoles.text(app)
        assert "NO CONNECTION" in shown
        assert "--url." in shown
        assert "beta" in shown
        script.say(LinkChanged("connected"))
        await consoles.settle(pilot)
        assert "NO CONNECTION" not in consoles.text(app)

    consoles.run(app, steps)


@pytest.mark.parametrize(("state", "said"), [("refused", "THE KEY IS REFUSED"), ("strange", "NOT A FLEET")])
def test_a_refused_key_and_a_strange_server_are_said(state: str, said: str) -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        script.say(LinkChanged(state, "[bold]because[/"))  # type: ignore[arg-type] - a parameter
        await consoles.settle(pilot)
        assert said in consoles.text(app)
        assert "[bold]because[/" in consoles.text(app)

    consoles.run(app, steps)


def test_a_filter_hides_rows_and_escape_brings_them_back() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        app.push_screen(Rows())
        await consoles.settle(pilot)
        await pilot.press("slash", *"beta")
        await consoles.settle(pilot)
        assert app.screen.query_one(FilterBar).value == "beta"
        assert "gamma" not in consoles.text(app)
        await pilot.press("enter")
        await pilot.press("escape")
        await consoles.settle(pilot)
        assert "gamma" in consoles.text(app)
        assert not app.screen.query_one(FilterBar).display

    consoles.run(app, steps)


def test_keys_typed_into_a_filter_are_text_and_leave_nothing() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("slash", "q", "2", "question_mark")
        assert app.screen.query_one(FilterBar).value == "q2?"
        assert front(app) == "fleet"

    consoles.run(app, steps)


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
def test_the_console_is_left_by_key(key: str) -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(key)
        await pilot.pause()
        assert app.return_code == 0
        assert not app.is_running or app._exit

    consoles.run(app, steps)


@pytest.mark.parametrize(("keys", "left"), [(("q",), False), (("q", "y"), True), (("q", "n"), False)])
def test_where_more_ends_with_the_console_leaving_it_is_asked_about(keys: tuple[str, ...], left: bool) -> None:  # noqa: FBT001 - a parameter of the test
    app, _, _ = consoles.console()
    app.leaving = "Leaving stops the fleet."

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*keys)
        await pilot.pause()
        assert bool(app._exit) is left

    consoles.run(app, steps)


def test_asked_twice_to_leave_the_console_does() -> None:
    app, _, _ = consoles.console()
    app.leaving = "Leaving stops the fleet."

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert app._exit

    consoles.run(app, steps)


def test_help_tells_the_keys_of_the_screen_and_of_the_console_once_each() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        own, _, everywhere = groups(app, app.screen)
        assert ("/", "Filter") in own
        meanings = [meaning for _, meaning in everywhere]
        assert len(meanings) == len(set(meanings))
        assert "Help" in meanings
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        assert "Signs" in consoles.text(app) or app.screen.query_one(".help").max_scroll_y > 0
        await pilot.press("question_mark")
        assert front(app) == "fleet"

    consoles.run(app, steps)


def test_what_is_chosen_in_the_palette_is_done_where_it_belongs() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        offers = {title: do for title, do, _ in Everything(app.screen)._offers()}
        await offers["Logs"]()
        await consoles.settle(pilot)
        assert app.screen.TITLE == "Logs"
        await offers["Help"]()
        await consoles.settle(pilot)
        assert isinstance(app.screen, Help)

    consoles.run(app, steps)


def test_the_palette_offers_the_screens_and_what_the_screen_does_and_no_moves() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        offers = {title: action for title, action, _ in Everything(app.screen)._offers()}
        assert {"Fleet", "Requests", "Logs", "Filter", "Help", "Quit", "Jump to a letter"} <= set(offers)
        assert not [title for title in offers if title.startswith(("Cursor", "Page", "Focus"))]

    consoles.run(app, steps)


def test_a_letter_jumps_to_the_row_that_it_stands_at() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        app.push_screen(Rows())
        await consoles.settle(pilot)
        table = app.screen.query_one(LiveTable)
        assert [target.y - table.region.y for target in targets(app.screen)] == [1, 2, 3]
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, Jump)
        assert [str(label.render()) for label in app.screen.query(Label)] == list(LETTERS[:3])
        await pilot.press(LETTERS[2])
        await pilot.pause()
        assert (front(app), table.current) == ("rows", "gamma")

    consoles.run(app, steps)


def test_jumping_goes_to_lines_of_the_fleet() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        lines = app.screen.query_one(FoldedList)
        assert len(targets(app.screen)) >= len(lines.keys) >= 3
        await pilot.press("ctrl+o", LETTERS[1])
        await pilot.pause()
        assert lines.current is not None
        assert lines.current.key == lines.keys[1]

    consoles.run(app, steps)


def test_a_key_that_is_no_letter_of_a_jump_leaves_it() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+o", "8")
        assert front(app) == "fleet"

    consoles.run(app, steps)


def test_so_many_things_to_jump_to_have_two_letters_each_and_none_begins_like_a_whole_other() -> None:
    for count in (0, 1, 26, 27, 400):
        found = labels(count)
        assert len(found) == len(set(found)) == count
        assert len({len(label) for label in found}) <= 1


@pytest.mark.parametrize(("key", "done"), [("y", True), ("n", False), ("escape", False), ("enter", False)])
def test_what_destroys_is_asked_about_and_the_harmless_answer_is_first(key: str, done: bool) -> None:  # noqa: FBT001
    app, _, _ = consoles.console()
    answers = list[str]()

    async def steps(pilot: Pilot[None]) -> None:
        app.confirmed("Revoke [the] key?", "Revoke", lambda: answers.append("yes"))
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        assert "Revoke [the] key?" in consoles.text(app)
        await pilot.press("2", "q")  # neither another screen nor the end, in front of a question
        assert isinstance(app.screen, Confirm)
        await pilot.press(key)
        await pilot.pause()
        assert answers == (["yes"] if done else [])

    consoles.run(app, steps)


def test_a_line_is_asked_for_and_escape_is_no_answer() -> None:
    app, _, _ = consoles.console()
    answers = list[str | None]()

    async def steps(pilot: Pilot[None]) -> None:
        for keys in (("a", "q", "enter"), ("enter",), ("x", "escape")):
            app.push_screen(Ask("Which alias?"), answers.append)
            await pilot.pause()
            await pilot.press(*keys)
            await pilot.pause()
        assert answers == ["aq", None, None]

    consoles.run(app, steps)


def test_a_secret_is_shown_once_and_copied() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        app.push_screen(Secret("The key of ann", "sk-[x]"))
        await pilot.pause()
        assert "sk-[x]" in consoles.text(app)
        await pilot.press("c")
        assert app.clipboard == "sk-[x]"
        await pilot.press("enter")
        assert "sk-[x]" not in consoles.text(app)

    consoles.run(app, steps)


def test_what_was_done_is_said_and_what_it_changed_is_read_at_once() -> None:
    app, script, deeds = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        script.poked.clear()
        app.do(deeds.unload("m"), "models")
        await pilot.pause()
        assert deeds.done == [("unload", "m")]
        assert [each.message for each in app._notifications] == ["unload done."]
        assert script.poked == ["fleet", "models"]

    consoles.run(app, steps)


def test_what_could_not_be_done_is_said_with_the_fleets_sentence() -> None:
    app, script, deeds = consoles.console()
    deeds.error = FleetError("model [m] does not fit")

    async def steps(pilot: Pilot[None]) -> None:
        app.do(deeds.load("m"))
        await pilot.pause()
        (told,) = app._notifications
        assert (told.message, told.severity) == ("model [m] does not fit", "error")
        assert "fleet" in script.poked

    consoles.run(app, steps)


def test_read_only_is_said_and_nothing_can_be_done() -> None:
    app, _, _ = consoles.console(readonly=True)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.pause()
        assert app.readonly
        assert "read-only" in consoles.text(app)

    consoles.run(app, steps)


def test_only_a_recording_can_be_paused_and_run_faster() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("plus", "space")
        assert app.check_action("pause", ()) is False
        assert app.link.state == "connected"

    consoles.run(app, steps)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("HELEXA_ASCII", "1")
    yield
    assert not glyphs.has_unicode()


def drawn(app: Console) -> list[tuple[str, object, object]]:
    """Text and colours of everything on the screen."""
    lines = app.screen._compositor.render_strips()
    return [
        (part.text, part.style and part.style.color, part.style and part.style.bgcolor) for s in lines for part in s
    ]


@pytest.mark.usefixtures("plain")
def test_a_terminal_without_colours_and_unicode_gets_neither_on_any_screen() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        assert app.theme == PLAIN
        app.confirmed("Sure?", "Do", lambda: None)
        await pilot.pause()
        parts = drawn(app)
        await pilot.press("n", "question_mark")
        parts += drawn(app)
        await pilot.press("escape")
        for name in SCREENS:
            app.switch_mode(name)
            await consoles.settle(pilot)
            parts += drawn(app)
        assert all(text.isascii() for text, _, _ in parts)
        assert {str(getattr(colour, "name", "default")) for _, *both in parts for colour in both} == {"default"}

    consoles.run(app, steps)


@pytest.mark.usefixtures("plain")
def test_without_colours_the_cursor_is_still_seen() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        app.push_screen(Rows())
        await consoles.settle(pilot)
        parts = [part for strip in app.screen._compositor.render_strips()[2:] for part in strip]
        assert any(part.style and part.style.reverse and part.text.strip() for part in parts)

    consoles.run(app, steps)


def test_every_theme_draws_every_screen() -> None:
    app, _, _ = consoles.console(*consoles.seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        for theme in THEMES:
            app.theme = theme.name
            await pilot.pause()
            assert ("-plain" in app.classes) == (theme.name == PLAIN)
            assert "alpha" in consoles.text(app)

    consoles.run(app, steps)


def test_what_is_recorded_is_shown_again_and_can_be_paused_and_hurried(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec", "http://fleet") as recorder:
        app, script, _ = consoles.console()
        app._recorder = recorder

        async def record(pilot: Pilot[None]) -> None:
            assert script.wanted() >= {"fleet", "requests", "logs"}  # whatever screen is in front
            script.say(*consoles.seen(fleet=FLEET))
            await consoles.settle(pilot)
            assert "recording to" in consoles.text(app)

        consoles.run(app, record)
    again = replay(tmp_path / "rec", 2.0)

    async def watch(pilot: Pilot[None]) -> None:
        while again.link.state != "ended":  # noqa: ASYNC110 - nothing there to set an event
            await asyncio.sleep(0)
        await consoles.settle(pilot)
        assert "beta" in consoles.text(again)
        assert "2x" in consoles.text(again)
        assert again.readonly
        await pilot.press("plus", "plus", "minus")
        assert again.source.speed == 4.0  # type: ignore[attr-defined] - a replay's

    consoles.run(again, watch)


def test_a_recording_that_cannot_go_on_is_said_and_the_console_goes_on(tmp_path: Path) -> None:
    app, script, _ = consoles.console()
    recorder = Recorder(tmp_path / "rec", "http://fleet")

    def full(_message: object) -> None:
        raise RecordingError("recording to [x] has ended: no space left on device.")

    recorder.tell = full  # type: ignore[method-assign] - a full disk
    app._recorder = recorder

    async def steps(pilot: Pilot[None]) -> None:
        script.say(*consoles.seen(fleet=FLEET))
        await consoles.settle(pilot)
        assert names(app) == ["alpha", "beta", "gamma"]
        assert "no space left" in next(each.message for each in app._notifications)
        assert app.note == ""

    with recorder:
        consoles.run(app, steps)


def test_the_first_picture_is_in_the_consoles_own_colours() -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        script.say(LinkChanged("lost"))
        await consoles.settle(pilot)
        (red,) = {colour for text, colour, _ in drawn(app) if "NO CONNECTION" in text}
        assert getattr(red, "triplet", None) == ANSI_DARK.ansi_colors[1]

    consoles.run(app, steps)
