"""Tables for a terminal.

Everything shown is a `rich.text.Text`, never markup: a model may be called ``[bold]``.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from helexa.bench.analysis.compare import Comparison, Difference
from helexa.bench.records import Cell, Run
from helexa.bench.report import figures

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
    table = _table("scenario", "metric", ">median", ">95 % interval", ">rounds")
    for group in figures.groups(runs):
        _heading(table, group.target, group.model)
        for run in group.runs:
            _add_run(table, run)
    return table


def comparison_table(comparison: Comparison) -> RenderableType:
    """Show figures before and after, the change, the size that counted, and what is made of it.

    Cells that one side alone measured come below, a sentence with the counts last.
    """
    table = _table("scenario", "metric", ">before", ">after", ">change", ">counts from", ">p", "verdict")
    ordered = sorted(comparison.differences, key=_place)
    for (target, model, against), found in groupby(ordered, key=_place):
        _heading(table, target if target == against else f"{against} → {target}", model)
        _add_differences(table, found)
    return Group(*_sides(comparison), table, *_unmatched(comparison), Text(figures.headline(comparison), style="bold"))


def _place(found: Difference) -> tuple[str, str, str]:
    return found.cell.target, found.cell.model, found.against


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


def _heading(table: Table, target: str, model: str) -> None:
    if table.row_count:
        table.add_row()
    table.add_row(Text(f"{figures.plain(target)} · {figures.plain(model)}", style="bold"))


def _add_run(table: Table, run: Run) -> None:
    name, trouble = Text("  " + figures.scenario(run.cell)), figures.trouble(run)
    for shown in figures.shown(run):
        style = "" if shown.metric.primary else "dim"
        cells = (figures.plain(shown.metric.title), shown.median, shown.interval, shown.rounds)
        table.add_row(name, *(Text(cell, style=style) for cell in cells))
        name = Text()
    if trouble:
        table.add_row(name, Text(trouble, style="yellow"))


def _add_differences(table: Table, differences: Iterable[Difference]) -> None:
    for _, of_cell in groupby(differences, key=lambda found: found.cell.key):
        name = ""
        for found in of_cell:
            shown = "" if name == found.cell.key else "  " + figures.scenario(found.cell)
            name = found.cell.key
            table.add_row(Text(shown), *_difference(found))


def _difference(found: Difference) -> list[Text]:
    unit, style = found.metric.unit, "" if found.metric.primary else "dim"
    cells = (
        figures.plain(found.metric.title),
        figures.figure(found.before.median, unit),
        figures.figure(found.after.median, unit),
        figures.change(found),
        figures.floor(found),
        figures.chance(found.p),
    )
    return [*(Text(cell, style=style) for cell in cells), Text(found.verdict, style=STYLES[found.verdict])]


def _sides(comparison: Comparison) -> list[Text]:
    sides = (("before", comparison.before), ("after", comparison.after))
    return [Text.assemble((f"{name:<7}", "dim"), figures.side(side)) for name, side in sides]


def _unmatched(comparison: Comparison) -> list[Text]:
    lost = [Text(f"Lost: {_where(one.cell)}: {figures.plain(one.reason)}", style="red") for one in comparison.lost]
    return lost + [Text(f"New: {_where(cell)}", style="dim") for cell in comparison.new]


def _where(cell: Cell) -> str:
    return f"{figures.plain(cell.target)} · {figures.plain(cell.model)}, {figures.scenario(cell)}"
