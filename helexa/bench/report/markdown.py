"""The same tables as Markdown, for a pull request or a wiki."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from helexa.bench.analysis.compare import Comparison, Difference
from helexa.bench.records import Run
from helexa.bench.report import figures

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def runs(runs: Sequence[Run]) -> str:
    """Write the figures of runs with their intervals, a section for each target and model.

    Args:
        runs: in any order; those that measured nothing show why.
    """
    sections = [_runs_section(group) for group in figures.groups(runs)]
    return "\n\n".join(sections) + "\n" if sections else "Nothing was measured.\n"


def comparison(compared: Comparison) -> str:
    """Write figures before and after, the change, the size that counted, and what is made of it."""
    sides = f"Before: {_safe(figures.side(compared.before))}  \nAfter: {_safe(figures.side(compared.after))}"
    ordered = sorted(compared.differences, key=_place)
    sections = [_differences_section(*place, found) for place, found in groupby(ordered, key=_place)]
    return "\n\n".join([f"**{figures.headline(compared)}**", sides, *sections, *_unmatched(compared)]) + "\n"


def _runs_section(group: figures.Group) -> str:
    rows = [row for run in group.runs for row in _run_rows(run)]
    return _section(group.target, group.model, ["Scenario", "Metric", ">Median", ">95 % interval", ">Rounds"], rows)


def _run_rows(run: Run) -> Iterator[list[str]]:
    name, trouble = _safe(figures.scenario(run.cell)), figures.trouble(run)
    for shown in figures.shown(run):
        yield [name, _safe(shown.metric.title), _safe(shown.median), _safe(shown.interval), shown.rounds]
        name = ""
    if trouble:
        yield [name, _safe(trouble), "", "", ""]


def _place(found: Difference) -> tuple[str, str, str]:
    return found.cell.target, found.cell.model, found.against


def _differences_section(target: str, model: str, against: str, found: Iterable[Difference]) -> str:
    heads = ["Scenario", "Metric", ">Before", ">After", ">Change", ">Counts from", ">p", "Verdict"]
    rows = [row for _, of_cell in groupby(found, key=lambda one: one.cell.key) for row in _difference_rows(of_cell)]
    return _section(target if target == against else f"{against} → {target}", model, heads, rows)


def _difference_rows(differences: Iterable[Difference]) -> Iterator[list[str]]:
    for place, found in enumerate(differences):
        unit, verdict = found.metric.unit, found.verdict
        yield [
            "" if place else _safe(figures.scenario(found.cell)),
            _safe(found.metric.title),
            _safe(figures.figure(found.before.median, unit)),
            _safe(figures.figure(found.after.median, unit)),
            figures.change(found),
            figures.floor(found),
            _safe(figures.chance(found.p)),
            f"**{verdict}**" if verdict in {"regression", "improvement"} else verdict,
        ]


def _unmatched(compared: Comparison) -> Iterator[str]:
    if compared.lost:
        yield "\n".join(
            f"- Lost: {_cell(one.cell.target, one.cell.model, figures.scenario(one.cell))}: {_safe(one.reason)}"
            for one in compared.lost
        )
    if compared.new:
        yield "\n".join(f"- New: {_cell(cell.target, cell.model, figures.scenario(cell))}" for cell in compared.new)


def _cell(target: str, model: str, scenario: str) -> str:
    return _safe(f"{target} · {model} {scenario}")


def _section(target: str, model: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if head.startswith(">") else "---" for head in heads]
    lines = [_row([head.lstrip(">") for head in heads]), _row(rule), *(_row(row) for row in rows)]
    return "\n".join([f"### {_safe(target)} · {_safe(model)}", "", *lines])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _safe(text: str) -> str:
    """Escape what Markdown or HTML would read as anything but text."""
    return _SPECIAL.sub(r"\\\1", figures.plain(text))
