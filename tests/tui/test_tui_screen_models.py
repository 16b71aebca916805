"""The Models screen: what its keys ask for, what it shows, and at two sizes how that looks."""

from collections.abc import Callable

import catalogues as c
import pytest
from consoles import LARGE, NOW, Deeds, Script, compare, console, run, seen, settle
from consoles import text as drawn
from textual.pilot import Pilot

from tui.app import Console
from tui.messages import Seen
from tui.screens import models
from tui.screens.models import ModelsScreen
from tui.screens.picking import Pick, Told

FIRST = "models"
Ready = tuple[Console, Script, Deeds]


def ready(*, readonly: bool = False) -> Ready:
    return console(*seen(fleet=c.FLEET, models=c.MODELS, places=c.VISION), readonly=readonly)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor rests sooner than one that a hand moves."""
    monkeypatch.setattr(models, "_REST_SECONDS", 0.02)


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


def screen(app: Console) -> ModelsScreen:
    return next(each for each in app.screen_stack if isinstance(each, ModelsScreen))


def after(
    it: Ready, *keys: str, size: tuple[int, int] = (80, 24), then: Callable[[Console], None] | None = None
) -> Ready:
    """Open the screen, press keys, and look."""

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *keys)
        if then is not None:
            then(it[0])

    run(it[0], steps, size)
    return it


VISION = ("down", "down")
SMALL_8B = ("down",)


def test_the_fleet_is_asked_about_the_model_under_the_cursor() -> None:
    app, script, _ = ready()

    async def steps(pilot: Pilot[None]) -> None:
        assert script.places_of == "team/big-70b"
        await press(pilot, *VISION)
        assert script.places_of == "team/vision-12b"
        assert script.poked[-1] in {"places", "models", "fleet"}
        await press(pilot, "G")
        assert script.places_of == "team/small-8b", "an alias stands for its model"

    run(app, steps)


def test_nothing_is_asked_about_a_model_that_the_cursor_only_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_REST_SECONDS", 3600.0)
    app, script, _ = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press(*VISION)
        assert screen(app).table.current == "team/vision-12b"
        assert script.places_of == "team/big-70b"

    run(app, steps)


def test_only_what_the_screen_shows_is_read() -> None:
    def look(app: Console) -> None:
        assert app._wanted() == {"fleet", "models", "places"}

    after(ready(), then=look)


def test_a_model_is_loaded_where_the_operator_says() -> None:
    _, script, deeds = after(ready(), *VISION, "l", "d", "e", "s", "k", "enter")
    assert deeds.done == [("load", "team/vision-12b", "desk")]
    assert {"models", "places"} <= set(script.poked)


def test_a_model_is_loaded_wherever_there_is_room() -> None:
    _, _, deeds = after(ready(), *VISION, "l", "enter")
    assert deeds.done == [("load", "team/vision-12b", None)]


def test_a_load_that_others_would_have_to_go_for_is_confirmed_first() -> None:
    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *VISION, "l", "down", "down", "enter")
        assert deeds.done == []
        await press(pilot, "y")
        assert deeds.done == [("load", "team/vision-12b", "beast")]

    run(app, steps)


def test_while_nobody_knows_what_a_load_would_unload_it_is_confirmed_first() -> None:
    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, "l", "enter", "n")
        assert deeds.done == []
        await press(pilot, "l", "enter", "y")
        assert deeds.done == [("load", "team/big-70b", None)]

    run(app, steps)


def test_a_node_under_the_cursor_needs_no_choosing() -> None:
    _, _, deeds = after(ready(), *VISION, "enter", "l")
    assert deeds.done == [("load", "team/vision-12b", "desk")]


def test_with_one_node_there_is_nothing_to_choose() -> None:
    it = console(
        *seen(fleet=c.fleet(c.node("desk")), models=c.models(c.model("m", "unloaded", "desk")), places=c.places("m"))
    )
    _, _, deeds = after(it, "l")
    assert deeds.done == [("load", "m", None)]


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (("u", "enter", "y"), [("unload", "team/small-8b", None)]),
        (("u", "d", "e", "s", "k", "enter", "y"), [("unload", "team/small-8b", "desk")]),
        (("u", "enter", "n"), []),
        (("u", "escape"), []),
        (("enter", "down", "u", "y"), [("unload", "team/small-8b", "desk")]),
    ],
)
def test_a_model_is_unloaded_once_that_is_confirmed(keys: tuple[str, ...], asked: list[tuple[object, ...]]) -> None:
    _, _, deeds = after(ready(), *SMALL_8B, *keys)
    assert deeds.done == asked


def test_what_an_unload_waits_for_is_said() -> None:
    after(ready(), *SMALL_8B, "u", "enter", then=lambda app: _assert_drawn(app, "once 4 requests have ended"))


def _assert_drawn(app: Console, words: str) -> None:
    assert words in " ".join(drawn(app).replace("│", " ").split())


def _assert_told(app: Console, words: str) -> None:
    assert words in [each.message for each in app._notifications]


@pytest.mark.parametrize("key", ["u", "p"])
def test_what_is_not_loaded_is_neither_unloaded_nor_pinned(key: str) -> None:
    _, _, deeds = after(ready(), *VISION, key, then=lambda app: _assert_told(app, "team/vision-12b is not loaded."))
    assert deeds.done == []


@pytest.mark.parametrize(
    ("keys", "pinned", "node"),
    [
        (("enter", "p"), False, "beast"),
        (("enter", "down", "p"), True, "desk"),
        (("p", "enter"), True, None),
    ],
)
def test_a_pin_is_set_where_there_is_none_and_taken_where_there_is_one(
    keys: tuple[str, ...],
    pinned: bool,  # noqa: FBT001 - a column of the table
    node: str | None,
) -> None:
    _, _, deeds = after(ready(), *SMALL_8B, *keys)
    assert deeds.done == [("pin", "team/small-8b", ("node", node), ("pinned", pinned))]


def test_a_model_gets_a_further_name() -> None:
    _, _, deeds = after(ready(), *VISION, "a", "e", "y", "e", "enter")
    assert deeds.done == [("alias", "eye", "team/vision-12b")]


def test_a_further_name_is_dropped_once_that_is_confirmed() -> None:
    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *SMALL_8B, "d", "n")
        assert deeds.done == []
        for number, keys in enumerate(((), ("G",)), start=1):
            await press(pilot, *keys, "d", "y")
            assert deeds.done == [("unalias", "small")] * number

    run(app, steps)


def test_a_console_that_only_reads_changes_nothing_and_offers_nothing() -> None:
    def look(app: Console) -> None:
        assert "Load" not in drawn(app)
        assert len(app.screen_stack) == 1

    _, _, deeds = after(ready(readonly=True), *SMALL_8B, "l", "u", "p", "a", "d", then=look)
    assert deeds.done == []


def test_what_the_table_cuts_is_told_in_full() -> None:
    def look(app: Console) -> None:
        assert isinstance(app.screen, Told)
        _assert_drawn(app, "attic: it is down: no route to host [Errno 113].")

    after(ready(), *VISION, "enter", "down", "down", "enter", then=look)


def test_a_filter_is_about_models_and_leaves_their_places_alone() -> None:
    def look(app: Console) -> None:
        assert screen(app).table.count() == 1
        assert screen(app).places.count() == 3
        assert screen(app).table.current == "team/vision-12b"

    after(ready(), "slash", *"vision", "enter", then=look)


def test_the_name_of_a_model_is_copied() -> None:
    def look(app: Console) -> None:
        assert app.clipboard == "team/vision-12b"

    after(ready(), *VISION, "y", then=look)


def test_the_palette_acts_on_any_model_by_name() -> None:
    def look(app: Console) -> None:
        assert isinstance(app.screen, Pick)

    after(ready(), "ctrl+p", *"Load team/vision", "enter", then=look)


def test_cursor_and_choice_of_columns_survive_nodes_that_come_and_go() -> None:
    app, script, _ = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *VISION)
        more = [c.node(f"node-{number}") for number in range(20)]
        script.say(*seen(fleet=c.fleet(*c.FLEET["nodes"], *more)))
        await settle(pilot)
        table = screen(app).table
        assert table.current == "team/vision-12b"
        assert [column.title for column in table.columns] == ["MODEL", "STATUS", "WHERE"]
        script.say(*seen(fleet=c.FLEET))
        await settle(pilot)
        assert table.current == "team/vision-12b"

    run(app, steps)


def test_why_there_is_nothing_to_see_is_said() -> None:
    it = console(*seen(fleet=c.FLEET), Seen("models", None, NOW, "This key may not list models [403]."))
    after(it, then=lambda app: _assert_drawn(app, "The models cannot be read: This key may not list models [403]."))
    it = console(*seen(fleet=c.fleet(c.node("a"), catalogue=[]), models=c.models()))
    after(it, "l", "u", "enter", "y", then=lambda app: _assert_drawn(app, "The catalogue is empty"))


def test_an_older_fleet_tells_no_reasons_and_that_is_said() -> None:
    it = console(*seen(fleet=c.FLEET, models=c.MODELS), Seen("places", None, NOW, "no helexa, or an older one."))
    after(it, then=lambda app: _assert_drawn(app, "no helexa, or an older one."))


def test_a_large_fleet_is_drawn_once_for_each_time_it_is_read() -> None:
    app, script, _ = ready()
    drawings: list[int] = []

    async def steps(pilot: Pilot[None]) -> None:
        found = screen(app)
        original = found._show_models
        found._show_models = lambda world: (drawings.append(1), original(world))[1]  # type: ignore[method-assign]
        for _ in range(5):
            await settle(pilot)
        assert drawings == []
        script.say(*seen(fleet=c.FLEET))
        await settle(pilot)
        assert drawings == [1]

    run(app, steps)


def test_the_screen_at_80_by_24() -> None:
    after(ready(), *VISION, then=lambda app: compare(app, "models-80x24"))


def test_the_screen_at_250_by_70() -> None:
    after(ready(), *VISION, size=LARGE, then=lambda app: compare(app, "models-250x70"))


def test_the_choice_of_a_node_at_80_by_24() -> None:
    after(ready(), *VISION, "l", then=lambda app: compare(app, "models-pick-80x24"))
