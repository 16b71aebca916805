"""A page for a browser that needs nothing but itself: no script, nothing fetched, light or dark as the reader's is."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from helexa.bench.records import Run
from helexa.bench.report import figures, views

if TYPE_CHECKING:
    from jinja2 import Template


def page(runs: Sequence[Run], *, title: str, now: float) -> str:
    """Write the page: what changed, the newest figures of every cell, their histories, the builds.

    Args:
        runs: in any order, of as many builds as the histories shall show.
        title: of the page.
        now: Unix time in seconds, for the line that says when it was written.

    Returns:
        A whole HTML document. Every text that comes from outside is escaped.
    """
    found = views.by_cell(runs)
    models = views.models(runs, found)
    newest_first = sorted((step for cell in found.values() for step in cell), key=lambda step: -step.at)
    starts = [run.started_at for run in runs]
    return _template().render(
        title=figures.plain(title),
        written=figures.moment(now),
        runs=len(runs),
        since=figures.day(min(starts)) if starts else "",
        until=figures.day(max(starts)) if starts else "",
        targets=[(target, list(group)) for target, group in groupby(models, key=lambda model: model.target)],
        cells=sum(len(model.cells) for model in models),
        worse=sum(model.worse for model in models),
        better=sum(model.better for model in models),
        troubled=sum(model.troubled for model in models),
        arrivals=views.arrivals(newest_first),
        builds=views.builds(runs),
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja")
