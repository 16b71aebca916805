"""The Bench screen: what is listed, plotted, compared, and what is said where nothing can be read."""

import asyncio
from typing import Any

import pytest
from bench_runs import DECODE, TTFT
from console_bench import BUILDS, NOW, Measured
from consoles import LARGE, SMALL, Script, compare, console, run, seen, settle, text
from textual.pilot import Pilot
from textual.widgets import Static

from tui.app import Console
from tui.messages import Seen
from tui.screens.bench import BenchScreen
from tui.screens.details import Details
from tui.screens.picking import Pick
from tui.widgets.table import LiveTable

FIRST = "bench"
FLEET: dict[str, Any] = {"nodes": []}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured.made(tmp_path_factory.mktemp("bench") / "bench.db")


def screen(app: Console) -> BenchScreen:
    assert isinstance(app.screen, BenchScreen)
    return app.screen


def listed(app: Console) -> list[tuple[str, ...]]:
    table = app.screen.query_one(LiveTable)
    return [tuple(table.texts(row)) for row in table.rows]


async def opened(pilot: Pilot[None], script: Script, measured: Measured) -> None:
    """The screen in front, with the course of its first line read."""
    await settle(pilot)
    script.say(*seen(NOW, **measured.asked(script.queries)))
    await settle(pilot)


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


def test_what_became_worse_stands_on_top_with_its_change(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        first, second, *others = listed(app)
        assert {first[3], second[3]} == {"decode", "ttft"}
        assert all(row[1] == "qwen3-8b" and row[0] and row[5] for row in (first, second))
        assert {row[5] for row in others if row[1].startswith("llama")} == {""}
        assert "2 worse" in text(app)
        assert "2 better" in text(app)

    run(app, steps)


def test_the_course_of_the_line_with_the_cursor_is_asked_for_and_plotted(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        assert "model=qwen3-8b" in script.queries["bench_series"]
        assert "bench_series" in script.poked
        assert "9 runs" in text(app)
        await press(pilot, "G")
        assert "model=smollm2-1.7b" in script.queries["bench_series"]
        assert "Reading its course" in text(app)

    run(app, steps)


def test_a_course_that_was_read_is_shown_again_at_once(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        await press(pilot, "j")
        script.say(*seen(NOW, **measured.asked(script.queries)))
        await press(pilot, "k")
        assert "Reading its course" not in text(app)

    run(app, steps)


@pytest.mark.parametrize(("size", "name"), [(SMALL, "bench-80x24"), (LARGE, "bench-250x70")])
def test_the_screen_looks_as_it_did(measured: Measured, size: tuple[int, int], name: str) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        compare(app, name)

    run(app, steps, size)


@pytest.mark.parametrize(("size", "name"), [(SMALL, "bench-two-80x24"), (LARGE, "bench-two-250x70")])
def test_two_builds_are_chosen_and_stand_beside_each_other(
    measured: Measured, size: tuple[int, int], name: str
) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        await press(pilot, "c")
        assert isinstance(app.screen, Pick)
        await press(pilot, "enter")  # the newest but one
        await press(pilot, "enter")  # the newest
        assert script.queries["bench_before"] == f"build={BUILDS[1].id}"
        assert script.queries["bench_after"] == f"build={BUILDS[2].id}"
        script.say(*seen(NOW, **measured.asked(script.queries)))
        await settle(pilot)
        compare(app, name)
        await press(pilot, "escape")
        assert "bench_before" not in script.queries
        assert "95 % interval" not in text(app) or size == LARGE
        assert "intervals apart" not in text(app)

    run(app, steps, size)


def test_answers_about_other_builds_than_those_asked_for_are_not_shown(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        await press(pilot, "c", "enter")
        await press(pilot, "enter")
        script.say(*seen(NOW, **measured.asked({"bench_before": f"build={BUILDS[0].id}", "bench_after": ""})))
        await settle(pilot)
        assert listed(app) == []
        assert "no cell was measured with both" in text(app)

    run(app, steps)


def test_one_build_cannot_be_compared(measured: Measured) -> None:
    known = measured.first()
    known["bench_builds"] = {"builds": known["bench_builds"]["builds"][:1]}
    app, _, _ = console(*seen(NOW, fleet=FLEET, **known))

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, "c")
        assert isinstance(app.screen, BenchScreen)
        assert [each.message for each in app._notifications] == [
            "Only one build was measured: there is nothing to compare it with."
        ]

    run(app, steps)


def test_all_metrics_are_shown_on_demand(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        assert {row[3] for row in listed(app)} == {DECODE.name, TTFT.name}
        await press(pilot, "a")
        assert {row[3] for row in listed(app)} == {"decode", "ttft", "total"}

    run(app, steps)


def test_the_filter_knows_what_became_worse_by_that_word(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        await press(pilot, "slash", *"worse ttft")
        assert [(row[1], row[3]) for row in listed(app)] == [("qwen3-8b", "ttft")]

    run(app, steps)


def test_enter_tells_all_that_is_known_and_y_copies_the_line(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        await press(pilot, "y")
        assert app.clipboard.startswith("beast\tqwen3-8b\tchat prompt_tokens=4096\tdecode\t")
        await press(pilot, "enter")
        assert isinstance(app.screen, Details)
        said = " ".join(text(app).replace("│", " ").split())
        assert "before helexa 0.1.0 b07f3d1" in said
        assert "since helexa 0.1.0 c9d20e7" in said

    run(app, steps)


def test_where_no_benchmarks_answer_it_says_how_to_start_them() -> None:
    error = "no fleet answers at http://127.0.0.1:31315 (refused)."
    app, _, _ = console(*seen(NOW, fleet=FLEET), Seen("bench_summary", None, NOW, error))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert error in text(app)
        assert "helexa bench serve" in text(app)

    run(app, steps)


def test_where_nothing_was_measured_it_says_how_to_measure() -> None:
    app, _, _ = console(*seen(NOW, fleet=FLEET, bench_summary={"cells": []}))

    async def steps(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "Nothing was measured yet." in text(app)
        assert "helexa bench run" in text(app)

    run(app, steps)


@pytest.mark.parametrize(
    "strange",
    [
        {
            "cells": [
                7,
                {},
                {"cell": [], "figures": [{}, None]},
                {"cell": {"parameters": 3}, "figures": [{"median": "x"}]},
            ]
        },
        {"cells": {"a": 1}},
        {"more": 1},
    ],
)
def test_answers_of_another_shape_are_read_as_far_as_they_go(strange: Any) -> None:
    app, _, _ = console(
        *seen(NOW, fleet=FLEET, bench_summary=strange, bench_regressions=strange, bench_series={"series": [{}]}),
        *seen(NOW, bench_status=[1], bench_builds={"builds": [{}, 3]}),
    )

    async def steps(pilot: Pilot[None]) -> None:
        await press(pilot, "a", "y", "c")
        assert app.is_running

    run(app, steps)


def test_every_figure_can_be_gone_to_from_the_palette(measured: Measured) -> None:
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        key = list(screen(app).entries)[-1]
        screen(app).go_to(key)
        await settle(pilot)
        assert app.screen.query_one(LiveTable).current == key
        await press(pilot, "ctrl+p", *"plot decode smollm")
        async with asyncio.timeout(10):
            while "Plot decode of smollm2-1.7b, chat prompt_tokens=128 (hermes)" not in text(app):
                await pilot.pause()

    run(app, steps)


def test_a_terminal_without_unicode_gets_a_plot_in_ascii(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELEXA_ASCII", "1")
    app, script, _ = console(*seen(NOW, fleet=FLEET, **measured.first()))

    async def steps(pilot: Pilot[None]) -> None:
        await opened(pilot, script, measured)
        drawn = str(app.screen.query_one(".plot", Static).content)
        assert drawn.isascii()
        assert drawn.count("*") == 8  # nine runs, of which one is marked
        assert "v" in drawn

    run(app, steps)
