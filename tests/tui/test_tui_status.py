"""The fleet as tables, as text."""

from typing import Any

import pytest
from attrs import evolve
from fleets import Clock, fleet_of, model, sighting, state_of, topology_of
from rich.console import Console, RenderableType

from helexa.cortex.routing import listing, planning
from helexa.cortex.routing.fleet import Fleet
from helexa.cortex.routing.state import NodeDown, State
from helexa.wire import fleet as shapes
from helexa.wire.fleet import ActorReport, DeviceHealth, Estimate, KvCache, Limit, ModelReport
from helexa.wire.progress import Progress
from tui.plan import render_plan
from tui.status import held, render, render_held

LOADED = ModelReport("helexa/tiny", "loaded", "cpu", 90, Limit(2048, 2047, 2047))


def text_of(found: RenderableType, width: int = 160) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(found)
    return [line.rstrip() for line in capture.get().splitlines()]


def shown(fleet: Fleet, *actors: ActorReport, width: int = 160) -> list[str]:
    """What `helexa status` prints of the gateway's very answers."""
    reports: list[dict[str, Any]] = [shapes.to_dict(actor) for actor in actors]
    return text_of(render(listing.snapshot(fleet), listing.models(fleet, 0), reports), width)


def test_nodes_models_and_actors_are_three_tables() -> None:
    devices = (DeviceHealth("cuda:0", 12288, 1024), DeviceHealth("cuda:1", 24576, 2048))
    beast = evolve(sighting(LOADED), devices=devices)
    fleet = fleet_of({"beast": beast, "gone": None}, models=(model("x"), model("helexa/tiny")))
    assert shown(fleet, ActorReport("router", "running", 2, 0, "boom", 1.0)) == [
        "NODE   STATE  DEVICES         MEMORY USED          ENDPOINT",
        "beast  up     cuda:0, cuda:1  3,072 of 36,864 MiB  http://beast:1",
        "gone   down                   0 of 0 MiB           http://gone:1  not seen yet",
        "",
        "MODEL        STATUS    CONTEXT  ON",
        "x            unloaded",
        "helexa/tiny  loaded    2048     beast",
        "",
        "ACTOR   STATE    RESTARTS  LAST ERROR",
        "router  running  2         boom",
    ]


def with_one(*reports: ModelReport, clock: Clock | None = None, **settings: Any) -> State:
    """A node `beast` that holds models."""
    found = state_of(topology_of("beast", **settings), {"beast": sighting(*reports)}, clock)
    assert found.fleet.nodes["beast"].up
    return found


def test_a_node_that_is_down_says_why() -> None:
    state = with_one(LOADED)
    state.see(NodeDown("beast", "no answer"))
    lines = shown(state.fleet)
    assert lines[1] == "beast  down   cpu      0 of 1,000 MiB  http://beast:1  no answer"
    assert "helexa/tiny  recovering  2048     beast" in lines


def test_a_device_that_is_lost_is_told_with_its_node() -> None:
    devices = (
        DeviceHealth("cuda:0", 100, 10),
        DeviceHealth("cuda:1", 100, 100, error="cuda:1 has fallen off the bus."),
    )
    lines = shown(fleet_of({"beast": evolve(sighting(LOADED), devices=devices)}))
    assert lines[1] == "beast  up     cuda:0, cuda:1  110 of 200 MiB  http://beast:1  cuda:1 has fallen off the bus."


def test_an_empty_fleet_is_three_headings() -> None:
    headings = [line.split()[0] for line in shown(fleet_of({}, models=())) if line]
    assert headings == ["NODE", "MODEL", "ACTOR"]


def test_an_edit_that_is_not_in_force_is_told() -> None:
    state = with_one(LOADED)
    assert not any("not in force" in line for line in shown(state.fleet))
    state.reject(("topology.toml:3: [x] is not a known key",))
    assert shown(state.fleet)[-2:] == [
        "The latest edit of the topology is not in force:",
        "  topology.toml:3: [x] is not a known key",
    ]


BUSY = evolve(LOADED, kv=KvCache(8, 2, 4), kv_mb=1024, running=3, waiting=1)


def ps(state: State, width: int = 160) -> list[str]:
    """What `helexa ps` prints of the gateway's very answer."""
    return [" ".join(line.split()) for line in text_of(render_held(held(listing.snapshot(state.fleet))), width)]


def test_a_model_that_is_held_shows_how_busy_it_is() -> None:
    clock = Clock()
    state = with_one(BUSY, clock=clock)
    clock.now += 61.2
    assert ps(state) == [
        "MODEL NODE DEVICE STATUS MEMORY KV CACHE RUNNING WAITING IDLE",
        "helexa/tiny beast cpu loaded 90 MiB 25% of 1,024 MiB 3 1 1m1s",
    ]


def test_what_is_not_known_of_a_model_is_left_out() -> None:
    assert ps(with_one(evolve(LOADED, status="loading", device=None)))[1] == "helexa/tiny beast loading 90 MiB 0 0"
    assert "25% 3 1" in ps(with_one(evolve(BUSY, kv_mb=0)))[1]
    assert "90 MiB 1,024 MiB 3 1" in ps(with_one(evolve(BUSY, kv=KvCache(0, 0, 0))))[1]


def test_pinned_and_leaving_models_are_marked() -> None:
    state = with_one(LOADED)
    state.pin(("beast", "helexa/tiny"), pinned=True)
    assert "loaded, pinned" in ps(state)[1]
    state.drain(("beast", "helexa/tiny"), on=True)
    assert "unloading" in ps(state)[1]


def test_a_model_on_its_way_shows_how_far_it_is() -> None:
    progress = Progress("downloading", 3 * 2**30, 10 * 2**30, 1e8, 75.2)
    lines = text_of(render_held(held(listing.snapshot(with_one(ModelReport("m", "loading", progress=progress)).fleet))))
    assert "fetching, 30 % of 10.0 GiB, 1m15s left" in lines[1]
    loads = with_one(ModelReport("m", "loading", "cpu", progress=Progress("loading")))
    assert " loading " in text_of(render_held(held(listing.snapshot(loads.fleet))))[1]
    progress = Progress("loading", 3 * 2**30, 10 * 2**30, 1e9, 7.0)
    for status in ("loading", "recovering"):
        lines = ps(with_one(ModelReport("m", status, "cpu", progress=progress)))  # type: ignore[arg-type]  # both are
        assert f"{status}, 30 % of 10.0 GiB, 7s left" in lines[1]


def test_models_that_are_not_loaded_are_not_held() -> None:
    assert len(ps(with_one(evolve(LOADED, status="unloaded")))) == 1


def test_names_are_whole_on_a_narrow_terminal() -> None:
    name = "someone/a-rather-long-name-of-a-model"
    lines = text_of(render_held(held(listing.snapshot(with_one(evolve(BUSY, id=name)).fleet))), 80)
    assert any(name in line for line in lines)


def plan(state: State, *names: str, **settings: Any) -> list[str]:
    wanted = topology_of("beast", models=tuple(model(name, **settings) for name in names))
    return [" ".join(line.split()) for line in text_of(render_plan(planning.plan(state.fleet, wanted)))]


def test_a_plan_lists_what_changes_and_where_models_fit() -> None:
    needs = (Estimate("m", weights_mb=600, kv_mb=100), Estimate("big", weights_mb=5000))
    state = state_of(topology_of("beast"), {"beast": sighting(estimates=needs)})
    assert plan(state, "m", "big") == [
        "+ models.big",
        "",
        "MODEL NODE DEVICE NEEDS FREE VERDICT",
        "m beast cpu 700 MiB 1,000 of 1,000 MiB fits",
        "big beast cpu 5,000 MiB 1,000 of 1,000 MiB the model needs 5000 MiB, and its models may have 1000",
    ]


def test_a_plan_says_what_is_loaded_and_what_is_ruled_out() -> None:
    state = with_one(evolve(LOADED, id="m"))
    assert plan(state, "m")[0] == "Nothing would change."
    assert plan(state, "m")[-1].endswith("is loaded")
    assert plan(state, "m", tensor_parallel=2)[0].startswith("~ models.m.tensor_parallel: default → 2")
    alone = planning.plan(state.fleet, topology_of(models=(model(),)))
    assert text_of(render_plan(alone))[-1].endswith("there is no node")


def test_a_plan_says_what_would_have_to_make_room() -> None:
    clock = Clock()
    seen = sighting(ModelReport("old", "loaded", "cpu", 800), used_mb=900, estimates=(Estimate("m", weights_mb=600),))
    state = state_of(topology_of("beast"), {"beast": seen}, clock)
    clock.now += 60
    assert plan(state, "m")[-1] == "m beast cpu 600 MiB 100 of 1,000 MiB fits in place of old"


@pytest.mark.parametrize("text", ["[/models/x] is missing", "[red]", "[bold]x[/bold]", ":smile:", "[Errno 111]"])
def test_what_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    catalogue = with_one(evolve(LOADED, id=text), models=())
    lines = shown(catalogue.fleet, ActorReport(text, text, 0, 0, text, 0.0))
    assert any(line.startswith(text) for line in lines[3:5])
    assert any(line.split("  ")[0] == text and line.endswith(text) for line in lines)
