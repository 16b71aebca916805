"""The Requests screen."""

from typing import Any, cast

import consoles
from console_traffic import DECODES, FLEET, LINES, QWEN, TRAFFIC, log, request
from consoles import compare, run, seen, settle, text
from textual.pilot import Pilot
from textual.widgets import Static

from tui.app import Console
from tui.client import FleetError
from tui.messages import Seen
from tui.screens.requests import RequestCommands, RequestsScreen
from tui.widgets.table import LiveTable

FIRST = "requests"


def screen(pilot: Pilot[None]) -> RequestsScreen:
    found = pilot.app.screen
    assert isinstance(found, RequestsScreen)
    return found


def keys(pilot: Pilot[None]) -> list[str]:
    table = screen(pilot).query_one(LiveTable)
    return [row.key for row in table.rows]


def watching(*told: Any, readonly: bool = False, **answers: Any) -> tuple[Console, consoles.Script, consoles.Deeds]:
    return consoles.console(*seen(**{"fleet": FLEET, "requests": TRAFFIC, **answers}), *told, readonly=readonly)


def test_it_reads_what_it_shows() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "requests" in script.wanted()
        assert "requests" in script.poked
        assert keys(pilot)[:3] == ["41", "42", "44"]

    run(app, steps)


def test_a_request_is_cancelled_after_a_question() -> None:
    app, script, deeds = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("down", "x")
        await settle(pilot)
        assert deeds.done == []
        assert "request 42 without a key" in text(app)
        await pilot.press("y")
        await settle(pilot)
        assert deeds.done == [("cancel", 42)]
        assert script.poked.count("requests") > 1

    run(app, steps)


def test_it_is_kept_if_the_operator_thinks_better_of_it() -> None:
    app, _, deeds = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("x", "escape")
        await settle(pilot)
        assert deeds.done == []
        screen(pilot)

    run(app, steps)


def test_one_that_has_ended_meanwhile_is_said_to_be_gone() -> None:
    app, _, deeds = watching()
    deeds.error = FleetError("There is no request 41 that could be cancelled.")

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("x", "y")
        await settle(pilot)
        assert [note.message for note in app._notifications] == [str(deeds.error)]

    run(app, steps)


def test_what_has_ended_is_not_cancelled() -> None:
    app, _, deeds = watching(requests={"running": [], "ended": TRAFFIC["ended"]})

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("x", "y")
        await settle(pilot)
        assert deeds.done == []
        assert "Cancel request" not in text(app)

    run(app, steps)


def test_who_only_looks_is_offered_nothing_to_cancel() -> None:
    app, _, _ = watching(readonly=True)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("x")
        await settle(pilot)
        assert "Cancel" not in text(app)
        assert screen(pilot).check_action("cancel", ()) is False
        screen(pilot).cancel(screen(pilot).running[0])
        await settle(pilot)
        assert "Cancel" not in text(app)

    run(app, steps)


def test_those_that_have_ended_are_hidden_and_shown() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("e")
        await settle(pilot)
        assert keys(pilot) == ["41", "42", "44", "45", "46", "47"]
        await pilot.press("e")
        await settle(pilot)
        assert len(keys(pilot)) == 11

    run(app, steps)


def test_the_cursor_stays_on_its_request_while_others_come_and_the_order_changes() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("down", "s", "s", "s")
        more = {"running": [request(40), *TRAFFIC["running"]], "ended": TRAFFIC["ended"][1:]}
        script.say(Seen("requests", more, consoles.NOW))
        await settle(pilot)
        current = screen(pilot).current
        assert current is not None
        assert current.number == 42

    run(app, steps)


def test_a_filter_finds_what_no_column_shows() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"upstream_err")
        await settle(pilot)
        assert keys(pilot) == ["37"]

    run(app, steps)


def test_of_many_that_have_ended_the_latest_are_shown_and_all_are_searched() -> None:
    ended = [request(number, "ended", status=200, ago=300.0 - number) for number in range(300, 50, -1)]
    app, _, _ = watching(requests={"running": [], "ended": ended})

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert keys(pilot) == [str(number) for number in range(300, 200, -1)]
        await pilot.press("slash", *"req-51")
        await settle(pilot)
        assert keys(pilot) == ["51"]
        await pilot.press("escape")
        await settle(pilot)
        assert len(keys(pilot)) == 100

    run(app, steps)


def test_the_footer_offers_to_cancel_as_long_as_there_is_something_to_cancel() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert screen(pilot).active_bindings["x"].enabled
        script.say(Seen("requests", {"ended": [request(41, "ended", status=200)]}, consoles.NOW))
        await settle(pilot)
        assert not screen(pilot).active_bindings["x"].enabled

    run(app, steps)


def test_details_follow_their_request_in_front_of_everything() -> None:
    app, script, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settle(pilot)
        assert "531 tokens" in text(app)
        script.say(Seen("requests", {"running": [{**DECODES, "completion_tokens": 600}]}, consoles.NOW))
        await settle(pilot)
        assert "600 tokens" in text(app)
        await pilot.press("escape")
        await settle(pilot)
        screen(pilot)

    run(app, steps)


def test_where_there_is_room_details_stand_beside_the_list() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "1,812 tokens, 1,536 of them cached" in text(app)
        await pilot.resize_terminal(100, 30)
        await settle(pilot)
        assert "of them cached" not in text(app)

    run(app, steps, consoles.LARGE)


def test_its_log_lines_are_one_key_away() -> None:
    app, _, _ = watching(logs=log(*LINES))

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("down", "l")
        await settle(pilot)
        assert "request:req-42" in text(app)
        assert "node.failed_request" in text(app)
        assert "topology.applied" not in text(app)

    run(app, steps)


def test_the_palette_offers_what_can_be_done_with_each() -> None:
    app, _, deeds = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        offers = {str(hit.display): hit.command async for hit in RequestCommands(screen(pilot)).discover()}
        assert len(offers) == 12
        offers["Cancel request 45 (google/gemma-3-27b-it, nightly-batch)"]()
        await pilot.press("y")
        await settle(pilot)
        assert deeds.done == [("cancel", 45)]
        found = [str(hit.text) async for hit in RequestCommands(screen(pilot)).search("lines team-blue")]
        assert found == [f"Log lines of request 44 ({QWEN}, team-blue)"]

    run(app, steps)


def test_why_nothing_can_be_shown_is_said() -> None:
    app, script, _ = consoles.console(*seen(fleet=FLEET))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "0 running" in text(app)
        script.say(Seen("requests", None, consoles.NOW, "This key may not [look] at requests."))
        await settle(pilot)
        assert "This key may not [look] at requests." in text(app)
        script.say(Seen("requests", TRAFFIC, consoles.NOW))
        await settle(pilot)
        assert not screen(pilot).query_one(".notice", Static).display

    run(app, steps)


def test_what_is_not_new_is_not_drawn_again() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        table = screen(pilot).query_one(LiveTable)
        shown: list[object] = []
        cast("Any", table).show_rows = shown.append
        screen(pilot).show(app.world)
        assert shown == []

    run(app, steps)


def test_how_it_looks_in_a_small_terminal() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        compare(app, "requests-80x24")

    run(app, steps)


def test_how_it_looks_in_a_large_terminal() -> None:
    app, _, _ = watching()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        compare(app, "requests-250x70")

    run(app, steps, consoles.LARGE)
