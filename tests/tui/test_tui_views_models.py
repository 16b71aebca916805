"""What the Models screen says of a fleet: without a terminal."""

from typing import Any

import catalogues as c
import pytest
from consoles import NOW
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from tui.shapes import Held, Model
from tui.views import models, places
from tui.views.models import Catalogue
from tui.widgets.table import Row
from tui.world import World


def world(**answers: Any) -> World:
    found = World()
    for feed, data in answers.items():
        found.take(feed, data, NOW)
    return found


@pytest.fixture
def known() -> World:
    return world(fleet=c.FLEET, models=c.MODELS, places=c.VISION)


def texts(row: Row) -> dict[str, str]:
    return {column: str(cell) for column, cell in row.cells.items()}


def table(known: World, width: int) -> dict[str, dict[str, str]]:
    catalogue = Catalogue.of(known)
    return {row.key: texts(row) for row in models.Rows().of(catalogue, models.columns(catalogue, width))}


def said(cell: str) -> str:
    """Without the sign, which depends on the terminal."""
    return cell.partition(" ")[2]


def test_each_node_is_a_column_that_says_whether_it_has_a_model_or_could(known: World) -> None:
    rows = table(known, 80)
    assert said(rows["team/big-70b"]["@beast"]) == "load 43%"
    assert said(rows["team/small-8b"]["@beast"]) == "pinned"
    assert said(rows["team/small-8b"]["@desk"]) == "loaded"
    assert said(rows["team/vision-12b"]["@desk"]) == "fits"
    assert said(rows["team/tiny"]["@desk"]) == "failed"
    assert all(said(row["@attic"]) == "" for row in rows.values())


def test_an_alias_is_a_row_of_its_own_with_the_state_of_its_model(known: World) -> None:
    rows = table(known, 80)
    assert rows["small"]["model"] == "small = team/small-8b"
    assert {**rows["small"], "model": ""} == {**rows["team/small-8b"], "model": ""}


def test_of_more_nodes_than_there_is_room_for_those_that_have_a_model_are_named() -> None:
    nodes = [
        c.node(f"node-{number:03}", c.held("m")) if number < 2 else c.node(f"node-{number:03}") for number in range(200)
    ]
    feasible = [f"node-{number:03}" for number in range(50)]
    found = world(fleet=c.fleet(*nodes), models=c.models(c.model("m", "loaded", *feasible), c.model("huge")))
    rows = table(found, 250)
    assert rows["m"]["where"].split()[1::2][:2] == ["node-000,", "node-001;"]
    assert rows["m"]["where"].endswith("fits on 48 more")
    assert rows["huge"]["where"].endswith("fits nowhere")


@pytest.mark.parametrize("width", [20, 80, 120, 250])
def test_the_columns_are_never_wider_than_the_terminal_unless_it_is_hopeless(known: World, width: int) -> None:
    catalogue = Catalogue.of(known)
    used = sum((column.width or 0) + 2 for column in models.columns(catalogue, width))
    assert used <= max(width, 60)


def test_a_wide_terminal_shows_what_a_model_can_and_costs(known: World) -> None:
    row = table(known, 250)["team/small-8b"]
    assert (row["can"], row["context"], row["flight"], row["price"]) == ("chat, tool_call", "32k", "4", "0.1/0.4")


def test_a_load_that_no_node_tells_of_yet_is_shown() -> None:
    coming = [{"model": "m", "node": "desk", "device": "cuda:0", "seconds": 1.0}]
    found = world(fleet=c.fleet(c.node("desk"), loads=coming), models=c.models(c.model("m")))
    assert said(table(found, 80)["m"]["@desk"]) == "loading"


def test_a_node_that_is_down_has_no_model_any_more() -> None:
    found = world(fleet=c.fleet(c.node("desk", c.held("m"), up=False)), models=c.models(c.model("m")))
    assert Catalogue.of(found).serving("m") == []


def test_a_model_that_goes_says_so() -> None:
    assert said(str(models.state(Held(status="loaded", pinned=True, draining=True)))) == "draining"


@pytest.mark.parametrize(
    ("answers", "error", "expected"),
    [
        ({"fleet": c.fleet(catalogue=[]), "models": c.models()}, None, "no nodes"),
        ({"fleet": c.fleet(c.node("a"), catalogue=[]), "models": c.models()}, None, "catalogue is empty"),
        ({"fleet": c.FLEET}, "This key may not.", "This key may not."),
        ({"fleet": c.FLEET, "models": c.MODELS}, None, ""),
        ({}, None, ""),
    ],
)
def test_an_empty_table_says_why(answers: dict[str, Any], error: str | None, expected: str) -> None:
    found = world(**answers)
    if error is not None:
        found.take("models", None, NOW, error)
    told = models.trouble(found)
    assert expected in told
    assert bool(told) == bool(expected)


def shown(known: World, name: str) -> list[dict[str, str]]:
    return [texts(row) for row in places.rows(known, Catalogue.of(known), name)]


def test_places_say_what_would_go_and_why_not(known: World) -> None:
    desk, beast, attic = shown(known, "team/vision-12b")
    assert (desk["node"], said(desk["state"]), desk["need"], desk["free"]) == (
        "desk",
        "fits",
        "13.7 GiB",
        "14.6 GiB of 31.2 GiB",
    )
    assert beast["why"] == "in place of team/small-8b"
    assert (said(attic["state"]), attic["why"]) == ("never", "it is down: no route to host [Errno 113]")


def test_where_a_model_is_comes_first_and_once_however_many_devices_that_node_has(known: World) -> None:
    known.take("places", c.places("team/big-70b", c.site("desk", "never", "too small"), c.site("beast")), NOW)
    rows = shown(known, "team/big-70b")
    assert [row["node"] for row in rows] == ["beast", "desk"]
    assert rows[0]["why"] == "loading, 43% of 100 GiB"


def test_places_of_another_model_are_not_taken_for_this_ones(known: World) -> None:
    catalogue = Catalogue.of(known)
    assert places.note(known, catalogue, "team/tiny").startswith("asking")
    assert {row["why"] for row in shown(known, "team/tiny")} == {"", "disk full"}
    known.take("places", None, NOW, "There is no such path: an older fleet.")
    assert places.note(known, catalogue, "team/tiny") == "There is no such path: an older fleet."


def test_an_alias_has_the_places_of_its_model(known: World) -> None:
    known.take("places", c.places("team/small-8b", c.DOWN), NOW)
    assert places.note(known, Catalogue.of(known), "small") == ""
    assert [row["node"] for row in shown(known, "small")] == ["beast", "desk", "attic"]


def test_what_a_load_would_unload_is_known_before_it_begins(known: World) -> None:
    assert places.price_of(known, "team/vision-12b", "beast").startswith("team/small-8b would be unloaded")
    assert places.price_of(known, "team/vision-12b", "desk") == ""
    assert places.price_of(known, "team/vision-12b", None) == ""
    assert "may be unloaded" in places.price_of(known, "team/big-70b", "desk")


def test_several_nodes_that_share_a_model_are_one_place(known: World) -> None:
    others = [{"node": "beast", "device": "cuda:0"}]
    known.take("places", c.places("team/vision-12b", c.site("desk", others=others)), NOW)
    (row,) = shown(known, "team/vision-12b")
    assert row["node"] == "desk + beast"


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("node", "device", "others", "need_mb", "free_mb", "total_mb", "evicts", "verdict", "reason", "new")


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), ODD) | ODD, max_size=3) | ODD)
def test_whatever_a_fleet_answers_about_places_is_shown(answer: Any) -> None:
    known = world(fleet=c.FLEET, models=c.MODELS, places={"id": "team/vision-12b", "sites": answer})
    catalogue = Catalogue.of(known)
    rows = places.rows(known, catalogue, "team/vision-12b")
    places.columns(rows, 80)
    assert len({row.key for row in rows}) == len(rows), "a table takes a key once"
    places.choices(known, catalogue, "team/vision-12b")


def test_facts_name_what_stands_for_what(known: World) -> None:
    catalogue = Catalogue.of(known)
    assert "also small" in models.facts(catalogue, "team/small-8b").plain
    assert "small stands for team/small-8b" in models.facts(catalogue, "small").plain
    assert models.facts(catalogue, "gone") == Text("")


def test_a_price_of_nothing_is_no_price() -> None:
    assert models.price(Model(cost={"input": 0.0, "output": 0.0})) == ""
    assert models.price(Model(cost={"output": 2.0})) == "0/2"


def test_only_rows_of_which_something_differs_are_made_anew(known: World) -> None:
    made, columns = models.Rows(), models.columns(Catalogue.of(known), 80)
    before = made.of(Catalogue.of(known), columns)
    small = c.held("team/small-8b", capacity=4, idle_seconds=301)
    known.take("fleet", c.fleet(c.FLEET["nodes"][0], c.node("desk", small), c.node("attic", up=False)), NOW + 1)
    after = made.of(Catalogue.of(known), columns)
    assert [row.key for row, old in zip(after, before, strict=True) if row is not old] == ["team/tiny"]
    known.take("models", c.models(*c.MODELS["data"][:2]), NOW + 2)
    assert [row is old for row, old in zip(made.of(Catalogue.of(known), columns), before, strict=False)] == [True, True]


def test_rows_for_other_columns_are_made_anew(known: World) -> None:
    made, catalogue = models.Rows(), Catalogue.of(known)
    made.of(catalogue, models.columns(catalogue, 80))
    assert all("can" in row.cells for row in made.of(catalogue, models.columns(catalogue, 250)))
