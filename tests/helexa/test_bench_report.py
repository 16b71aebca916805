"""Tables, Markdown and the page: what they show, and that names from outside change none of it."""

import io
import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attrs import evolve
from bench_runs import (
    BUILD_A,
    BUILD_B,
    CHAT,
    DAY,
    DECODE,
    ENERGY,
    LOGLIK,
    START,
    TTFT,
    VALID,
    cell,
    failed,
    measured,
    run,
    white,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from helexa.bench.analysis.compare import compare
from helexa.bench.analysis.statistics import summarize
from helexa.bench.records import Build, Metric, Run, Sample
from helexa.bench.report import figures, markdown, plots, tables
from helexa.bench.report.page import page
from helexa.bench.report.plots import Point

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = START + 100 * DAY
EVIL = "<script>alert(1)</script>[bold]|`x`\x1b[31m\n# y"
CELLS = [
    cell(parameters={"prompt_tokens": 128, "output_tokens": 64}),
    cell(parameters={"prompt_tokens": 4096, "output_tokens": 64}),
    cell(model="llama-3.2-1b", scenario="prefix", parameters={"warm": True}),
]


def batch(number: int, factor: float = 1.0, build: Build = BUILD_A) -> list[Run]:
    machine, metrics = white(number, 0.02), (*CHAT, ENERGY)
    return measured(machine, CELLS, at=START + number * DAY, factor=factor, build=build, metrics=metrics)


def shown(renderable: RenderableType, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def named(name: str) -> Run:
    """A run that uses a name wherever a name can be."""
    metric = evolve(TTFT, title=name)
    build = Build(name, {name: name})
    whole = run({"ttft": [0.1] * 5}, of=cell(name, name, name, {"text": name}), build=build, metrics=(metric,))
    samples = (*whole.samples, Sample(9, START, {}, name))
    return evolve(whole, label=name, samples=samples)


class Elements(HTMLParser):
    """Collects elements, ids and references of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name and value]


def read(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    return elements


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.00004321, "s", "43.2 µs"),
        (0.1204, "s", "120 ms"),
        (1.5, "s", "1.50 s"),
        (0.0, "s", "0 µs"),
        (12345.6, "tokens/s", "12,346 tokens/s"),
        (85.04, "tokens/s", "85.0 tokens/s"),
        (-2.3104, "nats/token", "\N{MINUS SIGN}2.310 nats/token"),
        (0.975, "", "0.975"),
        (float("inf"), "tokens/s", "∞ tokens/s"),
    ],
)
def test_figures_are_written_with_three_digits_and_a_unit_to_read(value: float, unit: str, said: str) -> None:
    assert figures.figure(value, unit) == said


def test_an_interval_is_in_the_unit_of_its_median() -> None:
    assert figures.spread(summarize([0.9, 0.99, 1.2]), "s") == "900 … 1,200"
    assert figures.spread(summarize([0.5, 0.5]), "s") == "500"


def test_parameters_read_as_a_phrase() -> None:
    told = {"prompt_tokens": 4096, "clients": 4, "warm": True, "shared": False, "rate": 2.5, "mode": "poisson"}
    said = "4,096 prompt tokens, 4 clients, warm, no shared, rate 2.5, mode poisson"
    assert figures.parameters(cell(parameters=told)) == said


def test_one_of_something_is_singular() -> None:
    told = {"clients": 1, "requests": 1, "share": 1, "tokens": 0, "warm_requests": 1.5}
    assert figures.parameters(cell(parameters=told)) == "1 client, 1 request, share 1, 0 tokens, 1.5 warm requests"


def test_a_change_and_what_counts_are_written_on_one_scale() -> None:
    slower = compare(batch(1), batch(2, 1.2)).differences[0]
    assert re.fullmatch(r"\+\d\d\.\d %", figures.change(slower))
    assert re.fullmatch(r"\+\d\d\.\d %", figures.floor(slower))
    faster = compare(batch(1), batch(2, 0.1)).differences[0]
    assert float(figures.floor(faster).strip("\N{MINUS SIGN} %")) < 100, "a time can become no shorter than by 100 %"
    assert figures.floor(faster).startswith("\N{MINUS SIGN}")
    sides = [[run({"loglik": [value]}, metrics=(LOGLIK,), number=i)] for i, value in enumerate((-2.3, -2.4))]
    assert figures.change(compare(*sides).differences[0]) == "\N{MINUS SIGN}0.100 nats"
    sides = [[run({"valid": [value] * 5}, metrics=(VALID,), number=i)] for i, value in enumerate((0.9, 0.7))]
    assert figures.change(compare(*sides).differences[0]) == "\N{MINUS SIGN}0.200"


def test_the_table_of_runs_shows_every_figure_and_every_trouble() -> None:
    runs = [*batch(1), failed("The stream stalled.", of=cell("benjy"))]
    said = shown(tables.runs_table(runs))
    assert "beast · qwen3-8b" in said
    assert "128 prompt tokens, 64 output tokens" in said
    assert said.count("time to first token") == 3
    assert "failed: The stream stalled." in said


def test_failed_samples_of_a_run_are_counted_beside_its_figures() -> None:
    whole = batch(1)[0]
    partly = evolve(whole, samples=(*whole.samples, Sample(5, START, {}, "It stalled.")))
    for said in (shown(tables.runs_table([partly])), markdown.runs([partly]), page([partly], title="t", now=NOW)):
        assert "1 of 6 samples failed" in said


def test_the_table_of_a_comparison_shows_verdicts_and_what_is_lost_and_new() -> None:
    after = [*batch(2, 1.2, BUILD_B)[1:], run(of=cell("new"), number=2)]
    said = shown(tables.comparison_table(compare(batch(1), after)))
    assert said.count("regression") == 4 + 1
    assert "Lost: beast · qwen3-8b, chat (128 prompt tokens, 64 output tokens): It was not measured." in said
    assert "New: new · qwen3-8b, chat" in said
    assert "4 regressions, no improvements, 1 cell lost, 4 changed." in said


LONG = {"clients": 4, "prompt_tokens": 128, "output_tokens": 128, "requests": 2, "ttft_target": 1.0, "tpot_target": 0.1}
WIDE = evolve(TTFT, name="wide", title="time to first token, cold, of many")


def long_lines(number: int, factor: float = 1.0) -> list[Run]:
    values = {"ttft": [0.1 * factor] * 5, "decode": [12345.6] * 5, "wide": [0.2 * factor] * 5}
    of = cell(scenario="throughput", parameters=LONG)
    return [run(values, of=of, metrics=(TTFT, DECODE, WIDE), number=number)]


def test_at_eighty_columns_every_figure_stands_on_one_line_and_a_scenario_above_on_as_few_as_it_needs() -> None:
    told = "throughput (4 clients, 128 prompt tokens, 128 output tokens, 2 requests, ttft target 1.0, tpot target 0.1)"
    compared = shown(tables.comparison_table(compare(long_lines(1), long_lines(2, 1.5))), 80)
    for said in (shown(tables.runs_table(long_lines(1)), 80), compared):
        lines = said.splitlines()
        assert max(map(len, lines)) <= 80
        (place,) = (n for n, line in enumerate(lines) if line.startswith("  throughput"))
        assert " ".join(lines[place].split() + lines[place + 1].split()) == told
        assert said.count("time to first token, cold, of many") == 1
    assert re.search(r"(?m)^    time to first token +100 → 150 ms +\+50\.0 % .* regression$", compared)
    assert re.search(r"(?m)^    time to first token, cold, of many\n +200 → 300 ms +\+50\.0 % .* regression$", compared)
    assert re.search(r"(?m)^    decode +12,346 → 12,346 tokens/s +\+0\.0 % .* same$", compared)


@pytest.mark.parametrize("width", [1, 20, 40, 79, 200])
def test_at_any_width_no_figure_is_cut(width: int) -> None:
    said = shown(tables.comparison_table(compare(long_lines(1), long_lines(2, 1.5))), width)
    whole = "".join(said.split())
    assert "200→300ms" in whole
    assert "12,346→12,346tokens/s" in whole
    assert "+50.0%" in whole


def test_what_is_aligned_stands_under_its_head() -> None:
    lines = shown(tables.runs_table([*long_lines(1), *batch(1)]), 80).splitlines()
    (head,) = (line for line in lines if line.startswith("metric"))
    rows = [line for line in lines if line.startswith("    ")]
    assert {line.rindex(line.split()[-1]) + 1 for line in rows} == {len(head)}
    end = head.index("median") + len("median")
    assert {line[end - 1 : end + 2].isspace() or line[end : end + 2].isspace() for line in rows} == {True}


def test_a_comparison_of_nothing_says_so() -> None:
    compared = compare([], [])
    assert "Nothing that both sides measured." in shown(tables.comparison_table(compared))
    assert "counts from" not in shown(tables.comparison_table(compared)), "heads of nothing"
    assert "Nothing that both sides measured." in markdown.comparison(compared)
    assert markdown.runs([]) == "Nothing was measured.\n"


def test_compared_targets_are_both_named() -> None:
    compared = compare([run(of=cell("old"))], [run(of=cell("new"), number=1)])
    assert "old → new · qwen3-8b" in shown(tables.comparison_table(compared))
    assert "### old → new · qwen3-8b" in markdown.comparison(compared)


def test_markdown_of_runs_is_as_it_was() -> None:
    assert markdown.runs([*batch(1), failed(of=cell("benjy"))]) == (GOLDEN / "bench_runs.md").read_text("utf-8")


def test_markdown_of_a_comparison_is_as_it_was() -> None:
    compared = compare(batch(1), [*batch(2, 1.2, BUILD_B)[1:], run(of=cell("new"), number=2)])
    assert markdown.comparison(compared) == (GOLDEN / "bench_comparison.md").read_text("utf-8")


def test_names_are_text_in_a_terminal() -> None:
    compared = compare([named(EVIL)], [evolve(named(EVIL), id="2", batch="2")])
    for said in (shown(tables.runs_table([named(EVIL)]), 400), shown(tables.comparison_table(compared), 400)):
        assert "\x1b" not in said
        assert "<script>alert(1)</script>[bold]|`x` [31m # y" in said


def test_names_are_text_in_markdown() -> None:
    compared = compare([named(EVIL)], [evolve(named(EVIL), id="2", batch="2")])
    for said in (markdown.runs([named(EVIL)]), markdown.comparison(compared)):
        assert "<script" not in said.replace("\\<", "")
        rows = [line for line in said.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
        assert not re.search(r"(?m)^# y", said)


@settings(max_examples=25)  # a page takes some 10 ms
@given(st.text(max_size=30))
def test_names_of_any_kind_leave_the_page_whole(name: str) -> None:
    plain, strange = page([named("x")], title="t", now=NOW), page([named(name)], title=name, now=NOW)
    tags = [[tag for tag in read(whole).tags if tag != "text"] for whole in (plain, strange)]  # long names find no room
    assert tags[0] == tags[1] or not figures.plain(name)


def test_names_are_text_on_the_page() -> None:
    whole = page([named(EVIL), evolve(named(EVIL), id="2", build=BUILD_B)], title=EVIL, now=NOW)
    assert "script" not in read(whole).tags
    assert "<script" not in whole


def test_the_page_needs_nothing_from_elsewhere() -> None:
    whole = page([*batch(1), *batch(2, 1.2, BUILD_B)], title="t", now=NOW)
    elements = read(whole)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(elements.tags)
    assert not elements.values("src")
    assert all(reference.startswith("#") for reference in elements.values("href"))
    assert "url(" not in whole
    assert "@import" not in whole
    assert "default-src 'none'" in whole


def test_every_link_of_the_page_leads_somewhere_and_no_id_is_taken_twice() -> None:
    elements = read(page([*batch(1), *batch(2, 1.2, BUILD_B), failed(of=cell("benjy"))], title="t", now=NOW))
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in elements.values("href")} <= set(ids)


def test_the_page_shows_changes_figures_histories_and_builds() -> None:
    runs = [run for number in range(3) for run in batch(number)]
    runs += [run for number in range(3, 6) for run in batch(number, 1.25, BUILD_B)]
    whole = page(runs, title="Home fleet", now=NOW)
    assert "<title>Home fleet</title>" in whole
    assert "<b>6</b><span>regressions in newest builds" in whole
    assert whole.count("<svg") == 6
    assert whole.count('<text class="f bad"') == 6
    assert whole.count('class="badge regression"') == 6 + 6
    assert "18 runs of 3 cells, 2026-09-21 to 2026-09-26. Written 2026-12-30 14:13 UTC." in whole
    assert BUILD_A.id in whole
    assert BUILD_B.id in whole


def test_the_page_shows_why_a_cell_was_not_measured() -> None:
    runs = [*batch(1), failed("The stream stalled.", of=CELLS[0], number=2), failed("Refused.", of=cell("never"))]
    whole = page(runs, title="t", now=NOW)
    assert whole.count("2026-09-23 14:13 failed: The stream stalled.") == 1
    assert "failed: Refused." in whole
    assert "<b>2</b><span>cells with failures of late" in whole


def test_what_a_model_cannot_do_or_what_made_way_is_no_failure_on_the_page() -> None:
    skipped = evolve(failed("The model makes no embeddings.", of=cell("never")), outcome="skipped", samples=())
    yielded = evolve(failed("Others needed it.", of=cell("busy")), outcome="yielded", samples=())
    stopped = evolve(run(of=cell("stopped")), reason="Measuring was broken off.")
    whole = page([*batch(1), skipped, yielded, stopped], title="t", now=NOW)
    assert "<b>0</b><span>cells with failures of late" in whole
    assert "! 1" not in whole
    assert "skipped: The model makes no embeddings." in whole
    assert "Measuring was broken off" in whole
    partly = evolve(run(), samples=(*run().samples, Sample(5, START, {}, "It stalled.")))
    assert "<b>1</b><span>cells with failures of late" in page([*batch(1), skipped, partly], title="t", now=NOW)


def test_a_run_that_was_broken_off_says_so_beside_its_figures() -> None:
    stopped = evolve(run({"ttft": [0.1] * 2}), reason="Measuring was broken off.")
    assert figures.trouble(stopped) == "Measuring was broken off"
    partly = evolve(stopped, samples=(*stopped.samples, Sample(2, START, {}, "It stalled.")))
    assert figures.trouble(partly) == "Measuring was broken off; 1 of 3 samples failed"
    assert "Measuring was broken off" in shown(tables.runs_table([stopped]))


def test_a_page_of_nothing_is_a_page() -> None:
    whole = page([], title="t", now=NOW)
    assert "0 runs of 0 cells. Written" in whole
    assert "No build made a figure better or worse" in whole


def test_short_prompts_come_before_long_ones() -> None:
    whole = page(batch(1), title="t", now=NOW)
    assert whole.index("128 prompt tokens") < whole.index("4,096 prompt tokens")


def test_a_long_history_is_drawn_from_its_end() -> None:
    runs = [run({"ttft": [0.1 + 0.001 * number] * 5}, metrics=(TTFT,), number=number) for number in range(90)]
    whole = page(runs, title="t", now=NOW)
    assert whole.count('<g class="r') == 24
    assert "189 ms" in whole


def drawn(metric: Metric, *columns: list[float], builds: str = "") -> ET.Element:
    points = [
        Point(summarize(rounds), rounds, (builds or "a" * len(columns))[i], "name", "told")
        for i, rounds in enumerate(columns)
    ]
    return ET.fromstring(plots.history(points, metric, 1.0, metric.unit))


def places(svg: ET.Element) -> list[float]:
    """Every vertical place in a drawing's paths."""
    return [float(y) for path in svg.iter("path") for y in re.findall(r"M[\d.-]+ ([\d.-]+)", path.get("d", ""))]


@given(
    st.lists(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=7), min_size=1, max_size=30),
    st.sampled_from([TTFT, VALID, LOGLIK]),
)
def test_any_history_is_drawn_within_its_frame(columns: list[list[float]], metric: Metric) -> None:
    assert all(0 <= y <= plots.HEIGHT for y in places(drawn(metric, *columns)))


def test_one_run_of_zeros_is_drawn() -> None:
    assert places(drawn(DECODE, [0.0] * 5))
    assert places(drawn(VALID, [0.0] * 5))


def test_a_dot_far_out_does_not_flatten_the_rest() -> None:
    rounds = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0]
    ys = places(drawn(DECODE, rounds, [*rounds, 1000.0]))
    assert max(ys) - min(ys) > plots.HEIGHT / 2
    assert sum(y > plots.HEIGHT / 2 for y in ys) > 5


def test_every_other_build_is_shaded() -> None:
    svg = drawn(DECODE, *[[1.0]] * 6, builds="aabbca")
    assert sum(element.get("class") == "b" for element in svg.iter("rect")) == 2


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_are_few_ordered_and_within(low: float, span: float) -> None:
    high = low + max(span, abs(low) * 1e-3)
    found = plots.ticks(low, high)
    slack = (high - low) * 1e-6
    assert 1 <= len(found) <= 7
    assert found == sorted(found)
    assert all(low - slack <= value <= high + slack for value in found)


def test_the_page_of_many_cells_stays_small_enough_to_open() -> None:
    cells = [cell(model=f"model-{number:03}") for number in range(150)]
    machine = white(random.Random(1).randint(0, 9), 0.02)
    runs = [run for number in range(6) for run in measured(machine, cells, at=START + number * DAY)]
    whole = page(runs, title="t", now=NOW)
    assert whole.count("<svg") == 300
    assert len(whole) < 3_000_000
