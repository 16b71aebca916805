"""The Keys screen: what its keys ask for, what it shows, and at two sizes how that looks."""

from collections.abc import Callable
from typing import Any

import catalogues as c
import pytest
from consoles import LARGE, NOW, Deeds, Script, compare, console, run, seen, settle
from consoles import text as drawn
from textual.pilot import Pilot
from textual.widgets import Input

from tui.app import Console
from tui.client import FleetError
from tui.messages import Seen
from tui.screens.dialogs import Secret
from tui.screens.keys import KeysScreen
from tui.screens.newkey import NewKey

FIRST = "keys"
Ready = tuple[Console, Script, Deeds]
NIGHTLY = ("down",)
NEW = {"name": "app2", "key": "hx-new-[secret]"}


def ready(*, readonly: bool = False) -> Ready:
    it = console(*seen(fleet=c.FLEET, keys=c.KEYS, accounts=c.ACCOUNTS, usage=c.USAGE), readonly=readonly)
    it[2].answers |= {"create_key": NEW, "rotate_key": {"name": "nightly", "key": "hx-exchanged"}}
    return it


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


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


def shows(*words: str) -> Callable[[Console], None]:
    def look(app: Console) -> None:
        found = " ".join(drawn(app).replace("│", " ").split())
        for each in words:
            assert each in found

    return look


def tells(words: str) -> Callable[[Console], None]:
    def look(app: Console) -> None:
        assert words in [each.message for each in app._notifications]

    return look


def table(app: Console) -> Any:
    return next(each for each in app.screen_stack if isinstance(each, KeysScreen)).table


def test_only_what_the_screen_shows_is_read() -> None:
    def look(app: Console) -> None:
        assert app._wanted() == {"fleet", "keys", "accounts", "usage"}

    after(ready(), then=look)


def test_what_the_cursor_is_on_is_told_in_full() -> None:
    after(ready(), *NIGHTLY, then=shows("4,600,000 of 5,000,000 tokens per 1d", "49.00 of 50.00 USD"))


def test_a_key_is_made_and_shown_this_once() -> None:
    def look(app: Console) -> None:
        assert isinstance(app.screen, Secret)
        shows("The key app2:", "hx-new-[secret]")(app)

    _, script, deeds = after(
        ready(), "n", *"app2", "tab", *"web", "tab", "tab", *"20usd", "tab", *"30d", "enter", then=look
    )
    budgets = [{"usd": 20.0, "per": None}]
    expected = {
        "name": "app2",
        "scopes": ["inference"],
        "account": "web",
        "budgets": budgets,
        "expires_in": 2_592_000.0,
    }
    assert deeds.done == [("create_key", expected)]
    assert {"keys", "usage"} <= set(script.poked)


def test_a_new_key_is_copied_and_then_gone_from_the_console() -> None:
    def look(app: Console) -> None:
        assert app.clipboard == "hx-new-[secret]"
        assert "hx-new" not in drawn(app)

    after(ready(), "n", "a", "enter", "c", "enter", then=look)


def test_scopes_are_chosen_with_the_space_bar() -> None:
    keys = ("n", "a", *["tab"] * 6, "space", "down", "down", "space", "enter")
    _, _, deeds = after(ready(), *keys)
    assert deeds.done == [("create_key", {"name": "a", "scopes": ["audio"]})]


def test_what_is_typed_wrong_is_said_and_can_be_mended() -> None:
    def look(app: Console) -> None:
        assert isinstance(app.screen, NewKey)
        assert isinstance(app.focused, Input)
        assert app.focused.id == "budgets"
        shows('"5" is not a budget')(app)

    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, "n", "a", "tab", "tab", "tab", "5", "enter")
        look(app)
        assert deeds.done == []
        await press(pilot, *"usd", "ctrl+s")
        budgets = [{"usd": 5.0, "per": None}]
        assert deeds.done == [("create_key", {"name": "a", "scopes": ["inference"], "budgets": budgets})]

    run(app, steps)


def test_what_the_fleet_refuses_is_said_in_the_form_and_nothing_typed_is_lost() -> None:
    it = ready()
    it[2].error = FleetError("There is a key 'app' already [409].")

    def look(app: Console) -> None:
        assert isinstance(app.screen, NewKey)
        assert app.screen.query_one("#name", Input).value == "app"
        shows("There is a key 'app' already [409].")(app)

    after(it, "n", *"app", "enter", then=look)


def test_a_form_can_be_left() -> None:
    def look(app: Console) -> None:
        assert isinstance(app.screen, KeysScreen)

    _, _, deeds = after(ready(), "n", "a", "escape", then=look)
    assert deeds.done == []


def test_a_key_is_exchanged_once_that_is_confirmed_and_shown_this_once() -> None:
    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *NIGHTLY, "r", "n")
        assert deeds.done == []
        await press(pilot, "r", "y")
        shows("hx-exchanged", "It is not shown again.")(app)
        assert deeds.done == [("rotate_key", "nightly")]

    run(app, steps)


def test_an_answer_without_a_key_is_not_taken_for_one() -> None:
    it = ready()
    it[2].answers["rotate_key"] = {}
    after(it, *NIGHTLY, "r", "y", then=tells("http://fleet:31313 answered without the new key of nightly."))


def test_a_key_is_revoked_once_that_is_confirmed() -> None:
    app, _, deeds = ready()

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, *NIGHTLY, "x", "n")
        assert deeds.done == []
        await press(pilot, "x", "y")
        assert deeds.done == [("revoke_key", "nightly")]

    run(app, steps)


@pytest.mark.parametrize("key", ["r", "x"])
def test_a_key_of_the_topology_is_changed_there(key: str) -> None:
    told = tells("operator is a key of the topology file: change it there.")
    _, _, deeds = after(ready(), key, "y", then=told)
    assert deeds.done == []


def test_revoked_keys_come_and_go() -> None:
    app, _, _ = ready()
    found: list[int] = []

    async def steps(pilot: Pilot[None]) -> None:
        for keys in ((), ("v",), ("v",)):
            await press(pilot, *keys)
            found.append(table(app).count())

    run(app, steps)
    assert found == [4, 5, 4]


def test_a_console_that_only_reads_changes_nothing_and_offers_nothing() -> None:
    def look(app: Console) -> None:
        assert "Revoke" not in drawn(app)
        assert isinstance(app.screen, KeysScreen)

    _, _, deeds = after(ready(readonly=True), *NIGHTLY, "n", "r", "x", "y", then=look)
    assert deeds.done == []


def test_a_filter_looks_at_labels_too() -> None:
    def look(app: Console) -> None:
        assert table(app).count() == 1

    after(ready(), "slash", *"ops", "enter", then=look)


def test_the_palette_acts_on_any_key_by_name() -> None:
    after(ready(), "ctrl+p", *"Revoke key app", "enter", then=shows("app is refused from now on, for good."))


def test_a_key_that_may_not_list_keys_is_told_so() -> None:
    it = console(*seen(fleet=c.FLEET), Seen("keys", None, NOW, f"This API key {c.MISSING}."))
    after(it, "r", "x", "y", "enter", then=shows("The keys cannot be read: This API key lacks the scope"))


def test_a_fleet_without_keys_says_how_to_make_one() -> None:
    it = console(*seen(fleet=c.FLEET, keys={"keys": []}, accounts={"accounts": []}, usage={"usage": []}))
    after(it, then=shows("This fleet has no keys: n makes one."))


def test_the_screen_at_80_by_24() -> None:
    after(ready(), *NIGHTLY, then=lambda app: compare(app, "keys-80x24"))


def test_the_screen_at_250_by_70() -> None:
    after(ready(), *NIGHTLY, size=LARGE, then=lambda app: compare(app, "keys-250x70"))


def test_the_form_at_80_by_24() -> None:
    after(ready(), "n", "a", "tab", "tab", "tab", "5", "enter", then=lambda app: compare(app, "keys-form-80x24"))
