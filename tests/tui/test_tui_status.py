"""The fleet as tables, as text."""

from typing import Any

import pytest
from fleets import fleet_of, node
from rich.console import Console

from helexa.cortex import listing
from helexa.cortex.fleet import Fleet, Node
from helexa.wire import fleet as shapes
from helexa.wire.fleet import ActorReport, DeviceHealth, Limit, ModelReport
from tui.status import render

LOADED = ModelReport("helexa/tiny", "loaded", "cpu", 90, Limit(2048, 2047, 2047))


def shown(fleet: Fleet, *actors: ActorReport, width: int = 160) -> list[str]:
    """What `helexa status` prints of the gateway's very answers."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        reports: list[dict[str, Any]] = [shapes.to_dict(actor) for actor in actors]
        console.print(render(listing.snapshot(fleet), listing.models(fleet, 0), reports))
    return [line.rstrip() for line in capture.get().splitlines()]


def with_devices(found: Node, *devices: DeviceHealth) -> Node:
    from attrs import evolve

    assert found.sighting is not None
    return evolve(found, sighting=evolve(found.sighting, devices=devices))


def test_nodes_models_and_actors_are_three_tables() -> None:
    devices = (DeviceHealth("cuda:0", 12288, 1024), DeviceHealth("cuda:1", 24576, 2048))
    fleet = fleet_of(
        with_devices(node("beast", LOADED), *devices), Node("gone", "http://gone:1"), catalogue=("x", "helexa/tiny")
    )
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


def test_a_node_that_is_down_says_why() -> None:
    lines = shown(fleet_of(node("beast", LOADED, up=False)))
    assert lines[1] == "beast  down            0 of 0 MiB   http://beast:1  no answer"
    assert "helexa/tiny  recovering  2048     beast" in lines


def test_an_empty_fleet_is_three_headings() -> None:
    headings = [line.split()[0] for line in shown(fleet_of(catalogue=())) if line]
    assert headings == ["NODE", "MODEL", "ACTOR"]


@pytest.mark.parametrize("text", ["[/models/x] is missing", "[red]", "[bold]x[/bold]", ":smile:", "[Errno 111]"])
def test_what_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    lines = shown(fleet_of(catalogue=(text,)), ActorReport(text, text, 0, 0, text, 0.0))
    assert any(line.startswith(text) for line in lines[3:5])
    assert any(line.split("  ")[0] == text and line.endswith(text) for line in lines)
