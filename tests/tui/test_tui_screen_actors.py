"""The Actors screen: whose each actor is, what state it is in, what its last error was."""

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support import console_fleets as fleets
from tests.support import consoles
from tests.support.consoles import LARGE, NOW, SMALL, seen, settle
from tui.app import Console
from tui.messages import Seen
from tui.screens.actors import ActorsScreen
from tui.screens.details import Details
from tui.screens.logs import LogsScreen
from tui.shapes import Actor, Node
from tui.views.actors import GATEWAY, processes
from tui.widgets.foldedlist import FoldedList

FIRST = "actors"
WORLD = seen(fleet=fleets.homelab(), actors=fleets.actors())


def keys(app: Console) -> list[str]:
    return app.screen.query_one(FoldedList).keys


async def opened(pilot: Pilot[None]) -> Console:
    app = pilot.app
    assert isinstance(app, Console)
    await settle(pilot)
    assert isinstance(app.screen, ActorsScreen)
    return app


@pytest.mark.parametrize(("size", "name"), [(SMALL, "80x24"), (LARGE, "250x70")])
def test_the_supervision_tree(size: tuple[int, int], name: str) -> None:
    app, script, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        assert script.wanted() == {"fleet", "actors"}
        await pilot.press("down", "down", "down")
        await settle(pilot)
        consoles.compare(app, f"actors-{name}")

    consoles.run(app, steps, size)


def test_actors_are_below_their_process_and_keepers_of_processes_at_it() -> None:
    app, _, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        own = ["router", "poller", "ledger", "keyring", "reconciler"]
        assert keys(app) == [
            GATEWAY,
            *(f"{GATEWAY}\0{name}" for name in own),
            "beast",
            "beast\0tp-leader:cuda:0+cuda:1",
            "beast\0device-worker:cuda:1",
            "desk",
            "desk\0device-worker:cuda:0",
            "closet",
            "closet\0device-worker:cpu",
            "attic",
        ]

    consoles.run(app, steps)


@pytest.mark.parametrize(
    ("listed", "nodes", "found"),
    [
        (["router"], [], {GATEWAY: ["router"]}),
        (["router", "beast"], ["beast"], {GATEWAY: ["router"], "beast": []}),
        (["beast/evictor"], ["beast"], {GATEWAY: [], "beast": ["evictor"]}),
        (["beast/tp-leader:cuda:0/alone"], ["beast"], {GATEWAY: [], "beast": ["tp-leader:cuda:0/alone"]}),
        (["tp-leader:cuda:0/alone"], [], {GATEWAY: ["tp-leader:cuda:0/alone"]}),
        (["gone/evictor"], ["beast"], {GATEWAY: [], "beast": [], "gone": ["evictor"]}),
    ],
)
def test_names_tell_whose_an_actor_is(listed: list[str], nodes: list[str], found: dict[str, list[str]]) -> None:
    told = processes([Actor(name) for name in listed], [Node(name, up=True) for name in nodes])
    assert {each.name: [actor.name for actor in each.actors] for each in told} == found


def test_trouble_comes_to_the_top() -> None:
    app, _, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("s")
        assert keys(app)[:2] == [GATEWAY, f"{GATEWAY}\0reconciler"]
        assert [key for key in keys(app) if "\0" not in key] == [GATEWAY, "attic", "desk", "beast", "closet"]

    consoles.run(app, steps)


def test_a_filter_finds_states_and_errors() -> None:
    app, _, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("slash", *"sigkill", "enter")
        assert keys(app) == ["desk", "desk\0device-worker:cuda:0"]

    consoles.run(app, steps)


def test_details_tell_the_whole_error_and_what_the_state_means() -> None:
    app, _, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press(*["down"] * 10, "enter")
        await settle(pilot)
        assert isinstance(app.screen, Details)
        await pilot.press("y")
        told = " ".join(app.clipboard.split())
        assert "is started again after a pause" in told
        assert "was killed by SIGKILL while it loaded house/finetune" in told

    consoles.run(app, steps)


def test_the_log_of_an_actor_is_its_processes() -> None:
    app, script, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press(*["down"] * 10, "l")
        await settle(pilot)
        assert isinstance(app.screen, LogsScreen)
        assert script.logs_of == "desk"

    consoles.run(app, steps)


def test_an_error_of_the_feed_is_said_instead_of_a_list() -> None:
    app, _, _ = consoles.console(
        *seen(fleet=fleets.homelab()), Seen("actors", None, NOW, "this key may not see actors")
    )

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        assert "this key may not see actors" in consoles.text(app)

    consoles.run(app, steps)


def test_a_feed_that_fails_later_leaves_what_was_known_and_says_so() -> None:
    app, script, _ = consoles.console(*WORLD)

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        script.say(Seen("actors", None, NOW + 1, "no answer within 10 s"))
        await settle(pilot)
        assert "Not read any more: no answer within 10 s" in consoles.text(app)
        assert len(keys(app)) == 14

    consoles.run(app, steps)


@pytest.mark.parametrize(
    "data", [{}, {"actors": None}, {"actors": "x"}, {"actors": [1, {"name": 3, "state": "dancing"}]}]
)
def test_strange_answers_are_no_traceback(data: dict[str, Any]) -> None:
    app, _, _ = consoles.console(*seen(fleet=fleets.homelab(), actors=data))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        await pilot.press("d", "escape", "s", "f", "G", "d")

    consoles.run(app, steps)


def test_before_anything_was_read_it_says_that_it_asks() -> None:
    app, _, _ = consoles.console()

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot)
        assert "Asking for the actors" in consoles.text(app)

    consoles.run(app, steps)
