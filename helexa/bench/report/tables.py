"""Tables for a terminal.

Everything shown is a `rich.text.Text`, never markup: a model may be called ``[bold]``.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from helexa.bench.analysis.compare import Comparison, Difference
from helexa.bench.records import Cell, Run
from helexa.bench.report import figures
from helexa.bench.report.listing import Heading, Line, Listing, Row

STYLES: Final = {
    "regression": "bold red",
    "improvement": "bold green",
    "changed": "yellow",
    "unclear": "yellow",
    "too few": "dim",
    "same": "dim",
}


def runs_table(runs: Sequence[Run]) -> RenderableType:
    """Show the figures of runs with their intervals, under a heading for each target and model.

    Args:
        runs: in any order; those that measured nothing show why.
    """
    lines: list[Line] = []
    for group in figures.groups(runs):
        lines += _heading(lines, group.target, group.model)
        lines += [line for run in group.runs for line in _run(run)]
    return Listing(("metric", ">median", ">95 % interval", ">rounds"), tuple(lines))


def comparison_table(comparison: Comparison) -> RenderableType:
    """Show figures before and after, the change, the size that counted, and what is made of it.

    Cells that one side alone measured come below, a sentence with the counts last.
    """
    lines: list[Line] = []
    ordered = sorted(comparison.differences, key=_place)
    for (target, model, against), found in groupby(ordered, key=_place):
        lines += _heading(lines, target if target == against else f"{against} → {target}", model)
        lines += _differences(found)
    listing = Listing(("metric", ">before → after", ">change", ">counts from", ">p", "verdict"), tuple(lines))
    headline = Text(figures.headline(comparison), style="bold")
    return Group(*_sides(comparison), listing if lines else Text(), *_unmatched(comparison), headline)


def _place(found: Difference) -> tuple[str, str, str]:
    return found.cell.target, found.cell.model, found.against


def _heading(above: Sequence[Line], target: str, model: str) -> list[Line]:
    heading = Heading(Text(f"{figures.plain(target)} · {figures.plain(model)}", style="bold"))
    return [Heading(Text()), heading] if above else [heading]


def _run(run: Run) -> Iterator[Line]:
    """The scenario over the whole width: beside its metrics it would be folded over many lines."""
    yield Heading(Text(figures.scenario(run.cell)), 2)
    for shown in figures.shown(run):
        cells = (figures.plain(shown.metric.title), shown.median, shown.interval, shown.rounds)
        yield Row(tuple(Text(cell, style=_style(primary=shown.metric.primary)) for cell in cells), 4)
    if trouble := figures.trouble(run):
        yield Heading(Text(trouble, style="yellow"), 4)


def _differences(differences: Iterable[Difference]) -> Iterator[Line]:
    for _, of_cell in groupby(differences, key=lambda found: found.cell.key):
        for place, found in enumerate(of_cell):
            if not place:
                yield Heading(Text(figures.scenario(found.cell)), 2)
            yield Row(_difference(found), 4)


def _difference(found: Difference) -> tuple[Text, ...]:
    cells = (
        figures.plain(found.metric.title),
        figures.both(found.before.median, found.after.median, found.metric.unit),
        figures.change(found),
        figures.floor(found),
        figures.chance(found.p),
    )
    style = _style(primary=found.metric.primary)
    return (*(Text(cell, style=style) for cell in cells), Text(found.verdict, style=STYLES[found.verdict]))


def _style(*, primary: bool) -> str:
    return "" if primary else "dim"


def _sides(comparison: Comparison) -> list[Text]:
    sides = (("before", comparison.before), ("after", comparison.after))
    return [Text.assemble((f"{name:<7}", "dim"), figures.side(side)) for name, side in sides]


def _unmatched(comparison: Comparison) -> list[Text]:
    lost = [Text(f"Lost: {_where(one.cell)}: {figures.plain(one.reason)}", style="red") for one in comparison.lost]
    return lost + [Text(f"New: {_where(cell)}", style="dim") for cell in comparison.new]


def _where(cell: Cell) -> str:
    return f"{figures.plain(cell.target)} · {figures.plain(cell.model)}, {figures.scenario(cell)}"
