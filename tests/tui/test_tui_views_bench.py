"""Lines of the Bench screen where there is little room."""

from typing import Any

from tui.views import bench as view
from tui.views.bench_data import Build, Figure, Measured, Run

FIGURE = Figure("ttft", "Time to first token", "s", primary=True, median=0.1)


def entry(scenario: str, **parameters: Any) -> view.Entry:
    cell = Measured("key", "beast", "qwen3-8b", scenario, parameters)
    return view.Entry(Run(cell=cell, build=Build("b1", "helexa 0.1.0"), figures=(FIGURE,)), FIGURE)


def briefs(*listed: view.Entry) -> list[str]:
    told = view.telling(listed)
    return [str(view.row(each, 1_790_000_000.0, told[each.cell.scenario]).cells["what"]) for each in listed]


def test_only_what_tells_two_lines_apart_is_said() -> None:
    common = {"output_tokens": 64, "requests": 2}
    assert briefs(entry("chat", prompt_tokens=128, **common), entry("chat", prompt_tokens=4096, **common)) == [
        "chat prompt 128",
        "chat prompt 4096",
    ]


def test_a_scenario_alone_needs_no_parameters() -> None:
    assert briefs(entry("chat", prompt_tokens=128), entry("load", clients=8)) == ["chat", "load"]


def test_several_that_differ_are_all_said() -> None:
    found = briefs(entry("chat", prompt_tokens=128, output_tokens=8), entry("chat", prompt_tokens=64, output_tokens=4))
    assert found == ["chat prompt 128 output 8", "chat prompt 64 output 4"]


def test_values_that_are_lists_are_told_apart_as_well() -> None:
    assert briefs(entry("load", clients=[1, 2]), entry("load", clients=[4])) == [
        "load clients [1, 2]",
        "load clients [4]",
    ]


def test_where_there_is_room_all_of_it_is_said() -> None:
    assert str(view.row(entry("load", clients=8), 1_790_000_000.0).cells["what"]) == "load clients=8"


def test_what_names_things_gets_the_room_that_is_left() -> None:
    small, some, all_of_it = (view.columns(width, two=False) for width in (80, 118, 200))
    assert [each.key for each in small] == [each.key for each in some]
    assert sum(each.width + 2 for each in some) <= 118
    assert {each.key for each, other in zip(some, small, strict=True) if each.width > other.width} == {
        "model",
        "what",
        "metric",
    }
    assert len(all_of_it) > len(some)
