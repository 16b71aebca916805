"""What the Bench screen shows: a line for each cell's metric, its course, what is known of it. Pure."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen
from rich.text import Text

from helexa.bench.report.figures import figure as in_words
from helexa.bench.report.figures import number, unit_of
from tui.glyphs import sign
from tui.views.bench_data import BETTER, WORSE, Build, Change, Figure, Measured, Point, Run
from tui.views.figures import span
from tui.views.safe import line
from tui.widgets.plot import Spot
from tui.widgets.table import Column, Row

ALL_FIT: Final = 200
"""Characters from which on all there is to say has room."""
_WORDS: Final = {WORSE: "worse", BETTER: "better"}
NARROW: Final = (
    Column("sign", "", 1),
    Column("model", "Model", 14),
    Column("what", "Scenario", 19),
    Column("metric", "Metric", 10),
    Column("median", "Median", 15, right=True),
    Column("change", "Change", 6, right=True),
)
WIDE: Final = (
    Column("sign", "", 1),
    Column("target", "Target", 14),
    Column("model", "Model", 32),
    Column("what", "Scenario", 44),
    Column("metric", "Metric", 22),
    Column("median", "Median", 16, right=True),
    Column("interval", "95 % interval", 20, right=True),
    Column("n", "Rounds", 6, right=True),
    Column("change", "Change", 8, right=True),
    Column("build", "Build", 28),
    Column("at", "Ago", 5, right=True),
)
NARROW_TWO: Final = (
    Column("sign", "", 1),
    Column("model", "Model", 13),
    Column("what", "Scenario", 16),
    Column("metric", "Metric", 8),
    Column("before", "Before", 10, right=True),
    Column("after", "After", 10, right=True),
    Column("change", "Change", 6, right=True),
)
WIDE_TWO: Final = (
    *WIDE[:5],
    Column("before", "Before", 16, right=True),
    Column("interval_before", "95 % interval", 20, right=True),
    Column("after", "After", 16, right=True),
    Column("interval", "95 % interval", 20, right=True),
    Column("change", "Change", 8, right=True),
)


@frozen
class Entry:
    """A line of the list.

    Attributes:
        run: the newest of its cell; of two builds, the later one's.
        figure: the metric.
        change: the newest that was judged one.
        before: of two builds, the earlier one's figure.
        compared: whether two builds are compared.
    """

    run: Run
    figure: Figure
    change: Change | None = None
    before: Figure | None = None
    compared: bool = False

    @property
    def key(self) -> str:
        """Unique in the list."""
        return f"{self.run.cell.key}\n{self.figure.name}"

    @property
    def cell(self) -> Measured:
        """What was measured."""
        return self.run.cell

    @property
    def size(self) -> float | None:
        """The change, as a share of the earlier figure, or as the judge has told it."""
        if not self.compared:
            return None if self.change is None else self.change.size
        if self.before is None or not self.before.median:
            return None
        return self.figure.median / self.before.median - 1

    @property
    def verdict(self) -> str:
        """``regression``, ``improvement``, or nothing.

        Of two builds side by side: their intervals lie apart. That is coarser than the judge of the benchmarks' API,
        which looks at every round and at the noise of the machine; it compares neighbours alone.
        """
        if not self.compared:
            return "" if self.change is None else self.change.verdict
        if self.before is None or not self.figure.primary:
            return ""
        lower, higher = self.figure.high < self.before.low, self.figure.low > self.before.high
        if not (lower or higher):
            return ""
        return BETTER if higher == (self.figure.better == "higher") else WORSE


def entries(runs: Iterable[Run], changes: Mapping[tuple[str, str], Change], *, every: bool) -> list[Entry]:
    """The list: what became worse on top, then by model and scenario.

    Args:
        runs: the newest of each cell.
        changes: the newest of each cell's metric.
        every: all metrics; else those that changes are called by.
    """
    found = [
        Entry(run, each, changes.get((run.cell.key, each.name))) for run in runs for each in _figures(run, every=every)
    ]
    return sorted(found, key=_order)


def compared(before: Iterable[Run], after: Iterable[Run], *, every: bool) -> list[Entry]:
    """The same of two builds: cells that were measured with both."""
    earlier = {run.cell.key: run for run in before}
    found = []
    for run in after:
        if (other := earlier.get(run.cell.key)) is not None:
            known = {each.name: each for each in other.figures}
            pairs = ((each, known.get(each.name)) for each in _figures(run, every=every))
            found += [Entry(run, each, None, old, compared=True) for each, old in pairs if old is not None]
    return sorted(found, key=_order)


def _figures(run: Run, *, every: bool) -> Sequence[Figure]:
    return [each for each in run.figures if every or each.primary] or run.figures


def _order(entry: Entry) -> tuple[Any, ...]:
    cell = entry.cell
    return entry.verdict != WORSE, cell.model, cell.target, cell.what, entry.figure.name


def columns(width: int, *, two: bool) -> tuple[Column, ...]:
    """Those of the list, in so many characters, for one build or two; what names things gets what room is left."""
    if width >= ALL_FIT:
        return WIDE_TWO if two else WIDE
    plan, left = NARROW_TWO if two else NARROW, max(0, width - 80)
    more = {"model": left // 4, "what": left // 2, "metric": left // 4}
    return tuple(evolve(each, width=each.width + more.get(each.key, 0)) for each in plan)


def telling(listed: Iterable[Entry]) -> dict[str, frozenset[str]]:
    """By scenario, the parameters that tell what was measured apart: those of which there are several values."""
    values: dict[str, dict[str, set[str]]] = {}
    for entry in listed:
        known = values.setdefault(entry.cell.scenario, {})
        for name, value in entry.cell.parameters.items():
            known.setdefault(name, set()).add(str(value))
    return {each: frozenset(name for name in known if len(known[name]) > 1) for each, known in values.items()}


def row(entry: Entry, now: float, told: frozenset[str] | None = None) -> Row:
    """A line of the list; ``told``: the only parameters that there is room for. ``None``: all, and for all else."""
    run, cell, wide = entry.run, entry.cell, told is None
    cells: dict[str, str | Text] = {
        "sign": _sign(entry),
        "target": line(cell.target),
        "model": line(cell.model),
        "what": line(cell.what if told is None else _brief(cell, told)),
        "build": line(run.build.name),
        "at": span(max(0.0, now - run.started_at)),
        **_figure_cells(entry, wide=wide),
    }
    words = " ".join([cell.target, cell.model, cell.what, run.build.name, _WORDS.get(entry.verdict, "")])
    return Row(entry.key, cells, f"{words} {entry.figure.title} {entry.figure.name}".lower())


def _brief(cell: Measured, told: frozenset[str]) -> str:
    """The scenario with some of its parameters, each called by its first word."""
    known = (f"{name.partition('_')[0]} {value}" for name, value in cell.parameters.items() if name in told)
    return " ".join([cell.scenario, *known])


def _sign(entry: Entry) -> Text:
    return sign(entry.verdict) if entry.verdict in _WORDS else Text("")


def _figure_cells(entry: Entry, *, wide: bool) -> dict[str, str | Text]:
    found = entry.figure
    cells: dict[str, str | Text] = {
        "metric": line(found.title if wide else found.name),
        "median": figure(found.median, found.unit),
        "interval": interval(found),
        "n": str(found.n),
        "change": change(entry),
        "after": figure(found.median, found.unit),
    }
    if entry.before is not None:
        cells |= {"before": figure(entry.before.median, found.unit), "interval_before": interval(entry.before)}
    return cells


def figure(value: float, unit: str) -> str:
    """A value with its unit, short."""
    return in_words(value, unit).replace("tokens/s", "tok/s").replace("requests/s", "req/s").replace("/token", "/tok")


def interval(found: Figure) -> str:
    """Its ends, in the unit that its median has."""
    factor, _ = unit_of(found.unit, found.median)
    return f"{number(found.low * factor)} - {number(found.high * factor)}"


def change(entry: Entry) -> Text:
    """How much it changed; empty: it did not, as far as can be told."""
    if (size := entry.size) is None:
        return Text("")
    style = {WORSE: "bold red", BETTER: "green"}.get(entry.verdict, "dim")
    plain = entry.figure.unit in ("", "nats/token") and not entry.compared
    return Text(f"{size:+.2f}" if plain else f"{size:+.0%}", style)


def spots(points: Sequence[Point], changed: Change | None, *, unicode: bool) -> list[Spot]:
    """A course to be drawn; the run that something changed with is marked."""
    return [
        Spot(each.median, each.low, each.high, _mark(each, changed, unicode=unicode), line(each.build.short))
        for each in points
    ]


def _mark(point: Point, changed: Change | None, *, unicode: bool) -> tuple[str, str] | None:
    if changed is None or point.run != changed.run or changed.verdict not in _WORDS:
        return None
    found = sign(changed.verdict, unicode=unicode)
    return found.plain, f"bold {found.style}"


def title(entry: Entry, points: Sequence[Point]) -> Text:
    """The line above a plot."""
    cell, count = entry.cell, len(points)
    text = Text.assemble((f" {line(entry.figure.title)}", "bold blue"), (f"  {line(cell.model)}", "bold"))
    text.append(f" on {line(cell.target)}  {count} run{'' if count == 1 else 's'}, {entry.figure.better} is better")
    return text.append(f"  {line(cell.what)}", "dim")


def details(entry: Entry, now: float) -> Text:
    """All that is known of a line, line by line."""
    text = Text()
    for name, value in _facts(entry, now):
        text.append(f"{name:<11}", "dim").append_text(value).append("\n")
    text.append("\n")
    for each in entry.run.figures:
        text.append(f"{line(each.title):<24}", "" if each.primary else "dim")
        text.append(f"{figure(each.median, each.unit):>15}  {interval(each)}\n", "" if each.primary else "dim")
    return text


def _facts(entry: Entry, now: float) -> Iterator[tuple[str, Text]]:
    run, cell = entry.run, entry.cell
    for name, value in (("model", cell.model), ("target", cell.target), ("scenario", cell.what)):
        yield name, Text(line(value), "bold")
    yield "build", Text(line(run.build.name))
    for name, value in run.build.details.items():
        yield f"  {line(name)}"[:11], Text(line(str(value)), "dim")
    yield "measured", Text(f"{_date(run.started_at)}, {span(max(0.0, now - run.started_at))} ago")
    if run.failures:
        yield "failed", Text(f"{run.failures} of its rounds", "red")
    if (found := entry.change) is not None:
        yield (
            _WORDS.get(found.verdict, line(found.verdict)),
            change(entry).append(f"  {_date(found.at)}", "not bold default"),
        )
        yield "  before", Text(line(found.before.name), "dim")
        yield "  since", Text(line(found.after.name), "dim")


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) + " UTC"


def summary(status: Any, listed: Sequence[Entry], two: tuple[Build, Build] | None) -> Text:
    """The line above the list: what is compared, or what is measured now."""
    counts = Text(" ")
    for verdict, word in _WORDS.items():
        count = sum(each.verdict == verdict for each in listed)
        counts.append_text(sign(verdict)).append(f" {count} {word}  ")
    if two is not None:
        counts.append(f" {line(two[0].short)} > {line(two[1].short)}", "bold")
        said = "marked: intervals apart" if listed else "no cell was measured with both"
        return counts.append(f"  {said}  Esc: back", "dim")
    return counts.append(f"  {doing(status)}", "dim")


def doing(status: Any) -> str:
    """What the benchmarks' loop does now."""
    found = status if isinstance(status, Mapping) else {}
    now = found.get("measuring")
    if isinstance(now, Mapping):
        what = (str(now.get(name, "?")) for name in ("model", "scenario"))
        return f"measuring {line(' '.join(what))}, round {now.get('round', '?')} of {now.get('rounds', '?')}"
    state = str(found.get("state") or "")
    error = found.get("database") or _of(found.get("last_error"), "message")
    return line(" ".join(filter(None, (state and f"the loop is {state}", error and f"({error})"))))


def _of(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else None


def absence(errors: Mapping[str, str], known: bool, listed: bool) -> Text | None:  # noqa: FBT001 - two facts
    """Why there is nothing to be seen; ``None``: there is."""
    if (error := errors.get("bench_summary")) is not None and not known:
        return Text.assemble(
            ("The benchmarks cannot be read.\n", "bold"),
            f"{line(error)}\n\n",
            "They are another program than the gateway. It runs beside 'helexa up' where the topology\n"
            "has a [bench] table, and alone as 'helexa bench serve'; 'helexa console --bench-url URL'\n"
            "says where it answers, if that is elsewhere.",
        )
    if not known:
        return Text("Reading what was measured ...", "dim")
    if listed:
        return None
    return Text.assemble(
        ("Nothing was measured yet.\n", "bold"),
        "'helexa bench run' measures what is loaded now; 'helexa bench serve' does it again and again.",
    )
