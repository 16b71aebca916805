"""What can be done from the Fleet screen."""

from textual.pilot import Pilot

from tests.support import console_fleets as fleets
from tests.support import consoles
from tests.support.consoles import seen, settle
from tui.client import FleetError
from tui.screens.dialogs import Confirm
from tui.screens.fleet import FleetScreen
from tui.screens.logs import LogsScreen


def test_unloading_asks_first() -> None:
    app, script, deeds = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("down", "down", "down", "u")
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        assert deeds.done == []
        await pilot.press("u", "y")
        await pilot.pause()
        assert deeds.done == [("unload", "Qwen/Qwen3-32B", "beast")]
        assert script.poked[-2:] == ["fleet", "models"]

    consoles.run(app, steps)


def test_pinning_turns_to_the_other_of_the_two() -> None:
    app, _, deeds = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("down", "down", "down", "p", "down", "p")
        await pilot.pause()
        assert deeds.done == [
            ("pin", "Qwen/Qwen3-32B", ("node", "beast"), ("pinned", False)),
            ("pin", "Qwen/Qwen3-8B", ("node", "beast"), ("pinned", True)),
        ]

    consoles.run(app, steps)


def test_what_did_not_work_is_told() -> None:
    app, _, deeds = consoles.console(*seen(fleet=fleets.homelab()))
    deeds.error = FleetError("no such [node]")

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("down", "down", "down", "p")
        await settle(pilot)
        assert [notice.message for notice in app._notifications] == ["no such [node]"]

    consoles.run(app, steps)


def test_nodes_and_devices_can_neither_be_unloaded_nor_pinned() -> None:
    app, _, deeds = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("u", "p", "down", "u", "p")
        assert isinstance(app.screen, FleetScreen)
        assert deeds.done == []

    consoles.run(app, steps)


def test_a_console_that_only_reads_offers_no_changes() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()), readonly=True)

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("down", "down", "down", "u", "p")
        assert isinstance(app.screen, FleetScreen)
        assert not {"u", "p"} & set(app.screen.active_bindings)

    consoles.run(app, steps)


def test_the_name_of_what_the_cursor_is_on_is_copied() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("y")
        assert app.clipboard == "beast"
        await pilot.press("down", "y")
        assert app.clipboard == "beast cuda:0"
        await pilot.press("down", "down", "y")
        assert app.clipboard == "Qwen/Qwen3-32B"

    consoles.run(app, steps)


def test_the_palette_goes_to_what_is_folded_away_and_filtered() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("f", "slash", *"beast", "enter")
        screen = app.screen
        assert isinstance(screen, FleetScreen)
        places = dict(screen.places())
        assert places["helexa/tiny on closet"] == "closet\0\0helexa/tiny"
        screen.go_to(places["helexa/tiny on closet"])
        await pilot.pause()
        assert screen.thing is not None
        assert screen.thing.name == "helexa/tiny"

    consoles.run(app, steps)


def test_the_log_of_a_model_is_that_of_its_node_and_a_node_that_is_down_is_looked_up_in_the_gateways() -> None:
    app, script, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("down", "down", "down", "l")
        await settle(pilot)
        assert isinstance(app.screen, LogsScreen)
        assert script.logs_of == "beast"
        await pilot.press("1", "G", "l")
        await settle(pilot)
        assert script.logs_of is None

    consoles.run(app, steps)
