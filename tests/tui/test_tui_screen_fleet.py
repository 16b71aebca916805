"""The Fleet screen: what it shows of fleets of every kind, and what can be done from it."""

import pytest
from textual.pilot import Pilot

from tests.support import console_fleets as fleets
from tests.support import consoles
from tests.support.consoles import LARGE, NOW, SMALL, seen, settle
from tui.app import Console
from tui.messages import Seen
from tui.screens.details import Details, DetailsPane
from tui.screens.fleet import FleetScreen
from tui.widgets.foldedlist import FoldedList

COURSE = [message for turn in range(60) for message in seen(NOW + turn, fleet=fleets.homelab(turn))]
EVENTS = consoles.happened(
    ("model.loading", {"node": "beast", "model": "Qwen/Qwen3-8B", "device": "cuda:1"}),
    ("model.progress", {"node": "desk", "model": "house/finetune", "done": 3}),
    ("model.loaded", {"node": "beast", "model": "Qwen/Qwen3-8B", "seconds": 12.1}),
    ("node.down", {"node": "attic", "error": "No route to host"}),
)


def remember(app: Console) -> None:
    """A minute of readings. Those that are told faster than they are drawn would count as one."""
    for message in COURSE:
        assert isinstance(message, Seen)
        app.world.take(message.feed, message.data, message.at)


def folds(app: Console) -> FoldedList:
    return app.screen.query_one(FoldedList)


def at(app: Console) -> str:
    row = folds(app).current
    return "" if row is None else row.key


MODEL = "beast\0\0Qwen/Qwen3-32B"


@pytest.mark.parametrize(("size", "name"), [(SMALL, "80x24"), (LARGE, "250x70")])
def test_a_fleet_with_everything_that_can_be_the_matter(size: tuple[int, int], name: str) -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        remember(app)
        script.say(EVENTS)
        await settle(pilot)
        consoles.compare(app, f"fleet-{name}")

    consoles.run(app, steps, size)


def test_nodes_have_their_devices_and_what_they_hold_below_them() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert folds(app).keys == [
            "beast",
            "beast\0cuda:0",
            "beast\0cuda:1",
            MODEL,
            "beast\0\0Qwen/Qwen3-8B",
            "desk",
            "desk\0cuda:0",
            "desk\0\0house/finetune",
            "desk\0\0google/gemma-3-12b",
            "desk\0\0mistralai/Codestral",
            "closet",
            "closet\0cpu",
            "closet\0\0helexa/tiny",
            "attic",
        ]

    consoles.run(app, steps)


@pytest.mark.parametrize(("size", "name"), [(SMALL, "80x24"), (LARGE, "250x70")])
def test_two_hundred_nodes_are_a_line_each(size: tuple[int, int], name: str) -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.farm(200)))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert len(folds(app).keys) == 200
        consoles.compare(app, f"fleet-many-{name}")
        await pilot.press("f")
        assert len(folds(app).keys) == 200 + (200 - 3) * 13  # three are down

    consoles.run(app, steps, size)


def test_an_edit_of_the_topology_that_is_not_in_force_is_told_of_first() -> None:
    problems = ("homelab.toml:31: no such device: cuda:2", "homelab.toml:44: unknown key `pined_on`", "and a third")
    app, script, _ = consoles.console(*seen(fleet=fleets.homelab(problems=problems)))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        shown = consoles.text(app)
        assert "not in force (3 things" in shown
        assert "homelab.toml:31: no such device: cuda:2" in shown
        script.say(*seen(NOW + 1, fleet=fleets.homelab()))
        await settle(pilot)
        assert "not in force" not in consoles.text(app)

    consoles.run(app, steps)


def test_before_anything_was_read_it_says_that_it_looks() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "Looking for the fleet" in consoles.text(app)

    consoles.run(app, steps)


def test_a_fleet_that_cannot_be_read_says_why() -> None:
    app, _, _ = consoles.console(Seen("fleet", None, NOW, "this key may not look at the fleet"))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "this key may not look at the fleet" in consoles.text(app)

    consoles.run(app, steps)


def test_a_fleet_without_nodes_says_how_to_get_one() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.fleet()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "There is no node in this fleet." in consoles.text(app)
        assert "[[neurons]]" in consoles.text(app)

    consoles.run(app, steps)


def test_a_load_that_the_node_has_not_told_of_is_shown() -> None:
    load = {"model": "Qwen/Qwen3-4B", "node": "closet", "device": "cpu", "evicts": [], "seconds": 0.2}
    data = fleets.fleet(fleets.node("closet", [fleets.cpu(6)], []), loads=(load,))
    app, _, _ = consoles.console(*seen(fleet=data))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "Qwen/Qwen3-4B" in consoles.text(app)
        assert "1 loading" in consoles.text(app)

    consoles.run(app, steps)


def test_a_fleet_of_strange_figures_is_shown_all_the_same() -> None:
    strange = fleets.node(
        "odd\x1b[31m", [{"name": "cuda:0"}, fleets.gpu("cuda:1", 9, 0, busy=250.0)], [{"id": "x" * 200}]
    )
    strange["models"] = [fleets.serving("y" * 200, "cuda:9", 5, 900, 900), fleets.held("z", "melting")]
    app, _, _ = consoles.console(*seen(fleet={**fleets.fleet(strange), "topology": "old", "more": [1]}))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        for _ in range(5):
            await pilot.press("d")
            await pilot.press("escape", "down")
        assert "\x1b" not in consoles.text(app)

    consoles.run(app, steps)


def test_a_fleet_that_is_down_as_a_whole_is_shown() -> None:
    app, script, _ = consoles.console(*COURSE[:2])
    gone = fleets.homelab(3)
    for node in gone["nodes"]:
        node.update(up=False, error="timed out after 5 s")

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        script.say(*seen(NOW + 3, fleet=gone))
        await settle(pilot)
        assert "4 down" in consoles.text(app)
        assert folds(app).keys == ["beast", "desk", "closet", "attic"]

    consoles.run(app, steps)


def test_a_filter_finds_models_devices_and_states() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        for words, key in (("failed", "desk\0\0mistralai/Codestral"), ("xeon", "closet\0cpu"), ("pinned", MODEL)):
            app.screen.query_one(FoldedList).filter(words)
            assert folds(app).keys[1:] == [key], words
        await pilot.press("slash", *"attic", "enter")
        assert folds(app).keys == ["attic"]
        await pilot.press("escape")
        await pilot.pause()
        assert len(folds(app).keys) == 14

    consoles.run(app, steps)


def test_sorting_brings_trouble_or_work_to_the_top() -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab()))

    def heads() -> list[str]:
        return [key for key in folds(app).keys if "\0" not in key]

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("s")
        assert heads() == ["attic", "desk", "beast", "closet"]
        assert "trouble first" in consoles.text(app)
        await pilot.press("s")
        assert heads() == ["beast", "closet", "desk", "attic"]
        await pilot.press("s")
        assert heads() == ["beast", "desk", "closet", "attic"]

    consoles.run(app, steps)


def test_details_are_in_front_where_there_is_no_room_and_follow_the_fleet() -> None:
    app, script, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        remember(app)
        await settle(pilot)
        await pilot.press("down", "down", "down", "enter")
        assert isinstance(app.screen, Details)
        await settle(pilot)
        consoles.compare(app, "fleet-details-80x24")
        changed = fleets.homelab(61)
        changed["nodes"][0]["models"][0]["waiting"] = 77
        script.say(*seen(NOW + 61, fleet=changed))
        await settle(pilot)
        assert "77" in consoles.text(app)
        await pilot.press("escape")
        assert isinstance(app.screen, FleetScreen)
        assert at(app) == MODEL

    consoles.run(app, steps)


def test_details_say_so_when_what_they_are_about_is_gone() -> None:
    app, script, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        await pilot.press("d")
        script.say(*seen(NOW + 1, fleet=fleets.fleet()))
        await settle(pilot)
        assert "It is not there any more." in consoles.text(app)

    consoles.run(app, steps)


def test_details_of_everything_stand_beside_the_list_where_there_is_room() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        remember(app)
        await settle(pilot)
        assert app.screen.query_one(DetailsPane).display
        told = []
        for _ in folds(app).keys:
            await pilot.pause()
            told.append(consoles.text(app))
            await pilot.press("down")
        for said in (
            "driver       575.64.03",
            "kind         NVIDIA GeForce RTX 5090",
            "found again  63 % of prompt tokens",
        ):
            assert any(said in each for each in told), said
        assert "No route to host" in told[-1]

    consoles.run(app, steps, LARGE)


def test_nothing_is_drawn_anew_while_nothing_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    app, script, _ = consoles.console(*seen(fleet=fleets.homelab()))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, FleetScreen)
        shown = list[object]()
        monkeypatch.setattr(screen.folds, "show_groups", lambda *each: shown.append(each))
        script.say(consoles.happened(("node.up", {"node": "desk"})))
        await settle(pilot)
        assert not shown
        script.say(*seen(NOW + 1, fleet=fleets.homelab(1)))
        await settle(pilot)
        assert shown

    consoles.run(app, steps)
