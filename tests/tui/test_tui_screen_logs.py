"""The Logs screen."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import consoles
import pytest
from console_traffic import FLEET, LINES, line, log
from consoles import NOW, compare, run, seen, settle, text
from fleet_servers import answer, serving
from textual.events import MouseScrollUp
from textual.message import Message
from textual.pilot import Pilot

from tui.app import Console
from tui.live import Live
from tui.messages import Happened, Seen
from tui.screens.logs import LogCommands, LogsScreen
from tui.shapes import Event

FIRST = "logs"
EVENTS = Happened(
    [
        Event(1, NOW + 3.5, "model.loading", {"node": "blackbox", "model": "Qwen/Qwen3-8B"}),
        Event(2, NOW + 4.5, "model.progress", {"node": "blackbox", "model": "Qwen/Qwen3-8B", "percent": 40}),
        Event(3, NOW + 6.5, "node.down", {"node": "attic", "error": "it does not answer"}),
    ]
)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are local ones."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def screen(pilot: Pilot[None]) -> LogsScreen:
    found = pilot.app.screen
    assert isinstance(found, LogsScreen)
    return found


def watching(*told: Message) -> tuple[Console, consoles.Script, consoles.Deeds]:
    return consoles.console(*seen(fleet=FLEET, logs=log(*LINES)), *told)


def shown(pilot: Pilot[None]) -> list[str]:
    return [entry.event for entry in screen(pilot)._journal.shown]


def current(pilot: Pilot[None]) -> str:
    entry = screen(pilot).lines.current
    assert entry is not None
    return entry.event


def many(first: int, last: int) -> Seen:
    return Seen("logs", log(*(line(number, "info", f"event.{number}") for number in range(first, last))), NOW)


def test_lines_and_events_stand_in_the_order_of_time() -> None:
    app, script, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "logs" in script.wanted()
        assert shown(pilot)[2:6] == ["request.ended", "model.loading", "http.fault", "node.failed_request"]
        await pilot.press("e")
        await settle(pilot)
        assert "model.loading" not in shown(pilot)

    run(app, steps)


def test_it_follows_the_end_until_it_is_scrolled_up_and_again_on_request() -> None:
    app, script, _ = consoles.console(many(0, 100))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        script.say(many(100, 110))
        await settle(pilot)
        assert current(pilot) == "event.109"
        assert "event.109" in text(app)
        await pilot.press("k", "k")
        before = text(app).splitlines()[3:-2]
        script.say(many(110, 120))
        await settle(pilot)
        assert current(pilot) == "event.107"
        after = text(app).splitlines()[3:-2]
        assert [each[:22] for each in after] == [each[:22] for each in before]
        assert "stopped, 12 below" in text(app)
        await pilot.press("G")
        script.say(many(120, 121))
        await settle(pilot)
        assert current(pilot) == "event.120"

    run(app, steps)


def test_to_move_onto_the_last_line_is_to_follow() -> None:
    app, script, _ = consoles.console(many(0, 30))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("g")
        assert current(pilot) == "event.0"
        assert not screen(pilot).lines.following
        await pilot.press(*["pagedown"] * 5)
        script.say(many(30, 31))
        await settle(pilot)
        assert current(pilot) == "event.30"

    run(app, steps)


def test_the_cursor_stays_on_its_line_while_old_ones_are_forgotten() -> None:
    app, script, _ = consoles.console(many(0, 30))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("k")
        for start in range(30, 7030, 1000):
            script.say(many(start, start + 1000))
            await settle(pilot)
        assert screen(pilot).lines.current is screen(pilot)._journal.shown[0]
        assert not screen(pilot).lines.following

    run(app, steps)


def test_levels_are_gone_through() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        counts = [len(shown(pilot))]
        for _ in range(4):
            await pilot.press("l")
            counts.append(len(shown(pilot)))
        assert counts == [7, 4, 2, 8, 7]

    run(app, steps)


def test_what_is_typed_is_wanted_at_once() -> None:
    app, _, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"level:error")
        await settle(pilot)
        assert shown(pilot) == ["http.fault", "ledger.database_away"]
        await pilot.press(*" actor:ledger", "enter", "j")
        assert shown(pilot) == ["ledger.database_away"]
        await pilot.press("escape")
        await settle(pilot)
        assert len(shown(pilot)) == 9

    run(app, steps)


def test_a_condition_that_makes_no_sense_is_said_in_words() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"level:loud")
        await settle(pilot)
        assert "level:loud is none; there are debug" in text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert "is none" not in text(app)

    run(app, steps)


def test_other_logs_are_gone_through() -> None:
    app, script, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("n")
        await settle(pilot)
        assert (script.logs_of, script.poked[-1]) == ("blackbox", "logs")
        script.say(Seen("logs", log(line(5, "info", "worker.loaded"), node="blackbox"), NOW))
        script.say(Seen("logs", log(line(9, "info", "of.the.gateway")), NOW))  # was on its way already
        await settle(pilot)
        assert shown(pilot) == ["model.loading", "worker.loaded"]
        assert "node blackbox" in text(app)
        await pilot.press("n", "n")
        await settle(pilot)
        assert script.logs_of is None
        assert "of.the.gateway" in shown(pilot)

    run(app, steps)


def test_why_a_nodes_log_cannot_be_read_is_said_as_long_as_it_is_looked_at() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("n")
        script.say(Seen("logs", None, NOW, "blackbox does not tell its log: [gone]."))
        await settle(pilot)
        assert "blackbox does not tell its log: [gone]." in text(app)
        await pilot.press("n")
        await settle(pilot)
        assert "does not tell" not in text(app)

    run(app, steps)


def test_a_node_that_is_gone_is_followed_by_the_gateway() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("n")
        script.say(*seen(fleet={"nodes": []}))
        await settle(pilot)
        await pilot.press("n")
        assert script.logs_of is None

    run(app, steps)


def test_the_lines_of_one_request_are_one_key_away() -> None:
    app, _, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await settle(pilot)
        assert shown(pilot) == ["request.ended"]
        assert "request:req-40" in text(app)
        await pilot.press("escape", "g", "r")
        await settle(pilot)
        assert len(shown(pilot)) == 9
        assert [note.message for note in app._notifications] == ["This line is not about a request."]

    run(app, steps)


def test_all_of_a_line_is_shown_in_front_and_beside() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"http.fault", "enter", "enter")
        await settle(pilot)
        assert "ValueError: no" in text(app)
        await pilot.press("escape")
        await pilot.resize_terminal(*consoles.LARGE)
        await settle(pilot)
        assert "  ValueError: no" in text(app)

    run(app, steps)


def test_a_line_is_copied_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _, _ = watching()
    copies: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copies.append)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("y")
        await settle(pilot)
        assert copies[0].endswith("info request.ended request_id=req-40 route=/v1/chat/completions status=429 key=bob")

    run(app, steps)


def test_the_palette_offers_logs_and_levels() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        offers: dict[str, Any] = {str(hit.display): hit.command async for hit in LogCommands(screen(pilot)).discover()}
        offers["Log of node attic"]()
        assert script.logs_of == "attic"
        offers["Log of the gateway"]()
        offers["Show error and worse"]()
        assert shown(pilot) == ["http.fault", "ledger.database_away"]
        assert [str(hit.text) async for hit in LogCommands(screen(pilot)).search("blackbox")] == [
            "Log of node blackbox"
        ]

    run(app, steps)


def test_an_empty_log_can_be_moved_about_in() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("j", "k", "g", "G", "pageup", "enter", "y", "r", "n", "d", "l", "e")
        await settle(pilot)
        assert screen(pilot).lines.current is None
        assert "0 of 0 lines" in text(app)

    run(app, steps)


def test_the_wheel_moves_the_cursor_too() -> None:
    app, _, _ = consoles.console(many(0, 50))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot._post_mouse_events([MouseScrollUp], widget=screen(pilot).lines)
        assert current(pilot) == "event.46"
        await pilot.click(screen(pilot).lines, offset=(5, 0))
        assert not screen(pilot).lines.following

    run(app, steps)


def test_an_answer_about_a_log_that_is_not_looked_at_any_more_is_passed_over() -> None:
    """Its lines would be taken for the other one's, and the other one's own would be asked for only from there on."""

    async def main() -> None:
        async with serving() as server:
            source = Live(server.url, None, server.url)
            told: list[Seen] = []
            enough = asyncio.Event()

            async def late(writer: asyncio.StreamWriter) -> None:
                server.answers["/fleet/logs"] = answer({"lines": [line(1, "info", "new")], "last": 1})
                source.logs_of = "a"
                source.poke("logs")
                writer.write(answer({"lines": [line(900, "info", "old")], "last": 900}))

            def tell(message: Message) -> None:
                if isinstance(message, Seen) and message.feed == "logs":
                    told.append(message)
                    enough.set()

            server.answers = {"/fleet": answer({"nodes": []}), "/fleet/logs": late}
            running = asyncio.ensure_future(source.run(lambda: frozenset({"logs"}), tell))
            await asyncio.wait_for(enough.wait(), 20)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            assert (told[0].data["node"], told[0].data["last"]) == ("a", 1)
            paths = [path for path, _ in server.asked if path.startswith("/fleet/logs")]
            assert paths[:2] == ["/fleet/logs?after=0", "/fleet/logs?node=a&after=0"]

    asyncio.run(main())


def test_how_it_looks_in_a_small_terminal() -> None:
    app, _, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        compare(app, "logs-80x24")

    run(app, steps)


def test_how_it_looks_in_a_large_terminal() -> None:
    app, _, _ = watching(EVENTS)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*"kkk")
        await settle(pilot)
        compare(app, "logs-250x70")

    run(app, steps, consoles.LARGE)
