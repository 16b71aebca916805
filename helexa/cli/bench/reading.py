"""The commands that read what was measured: comparisons, reports, listings, files."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import frozen

from helexa.cli.bench.batches import Batch, batches_of
from helexa.cli.bench.output import REGRESSION, Failure, as_text, print_json, show
from helexa.cli.bench.refs import history, is_file, runs_of
from helexa.cli.manage import table, time_text
from helexa.cli.output import DONE, FAILED, WRONG, say

if TYPE_CHECKING:
    from helexa.bench.records import Run
    from helexa.bench.scenarios import Scenario
    from helexa.bench.storage.store import Filter, Store

Form: TypeAlias = Literal["table", "markdown", "html"]
_FORMS: dict[str, Form] = {".md": "markdown", ".html": "html", ".htm": "html"}


@frozen
class Where:
    """Which runs a command is about.

    Attributes:
        database: where they are kept.
        targets: only of these; empty: of all. The others likewise.
        since: the earliest start, Unix time in seconds; ``None``: ever.
    """

    database: str
    targets: Sequence[str] = ()
    models: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    since: float | None = None

    @property
    def filter(self) -> "Filter":
        """The same as the store takes it."""
        from helexa.bench.storage.store import Filter

        return Filter(
            targets=tuple(self.targets), models=tuple(self.models), scenarios=tuple(self.scenarios), since=self.since
        )


def compare(database: str, refs: tuple[str, str], smallest: float, form: str) -> int:
    """Compare two sets of runs; exits with 3 if something has become worse.

    Args:
        database: where runs are kept.
        refs: before and after.
        smallest: the smallest change that counts, a fraction.
        form: ``table``, ``markdown`` or ``json``.
    """
    from helexa.bench.analysis import compare as comparing
    from helexa.bench.report import markdown
    from helexa.bench.report.tables import comparison_table
    from helexa.bench.storage.store import Store

    with closing(Store(database)) as store:
        before, after = (runs_of(ref, store) for ref in refs)
        known = () if all(map(is_file, refs)) else history(store, after)
    found = comparing.compare(before, after, smallest=smallest, history=known)
    if form == "json":
        print_json(found)
    elif form == "markdown":
        sys.stdout.write(markdown.comparison(found))
    else:
        show(comparison_table(found))
    return REGRESSION if found.regressions else DONE


def report(where: Where, ref: str | None, form: Form | None, to: Path | None) -> int:
    """Show the newest figures, or a page with all there is."""
    from helexa.bench.storage.store import Store

    if form is None:
        form = "table" if to is None else _FORMS.get(to.suffix, "table")
    with closing(Store(where.database)) as store:
        runs = runs_of(ref, store) if ref is not None else _kept(store, where.filter, whole=form == "html")
    if not runs:
        raise Failure(f"no runs are kept{_that(where)}; 'helexa bench run' measures.")
    text = _report(runs, form)
    if to is None:
        sys.stdout.write(text)
    else:
        _write(to, text)
    return DONE


def _that(where: Where) -> str:
    given = (where.targets, where.models, where.scenarios, where.since)
    return " that are like this" if any(given) else ""


def _kept(store: "Store", which: "Filter", *, whole: bool) -> "list[Run]":
    """All runs for the page, which has their history; else the newest of each cell, and no more of them in memory."""
    found = store.every(which)
    return list(found) if whole else _newest(found)


def _newest(runs: "Iterable[Run]") -> "list[Run]":
    """Of each cell the newest run that has figures, else the newest."""
    found: dict[str, Run] = {}
    for each in runs:  # the newest comes first
        known = found.setdefault(each.cell.key, each)
        if known.outcome != "ok" and each.outcome == "ok":
            found[each.cell.key] = each
    return list(found.values())


def _report(runs: "Sequence[Run]", form: Form) -> str:
    from helexa.bench.report import markdown, page, tables

    if form == "html":
        return page.page(runs, title="helexa bench", now=time.time())
    return markdown.runs(runs) if form == "markdown" else as_text(tables.runs_table(runs))


def _write(to: Path, text: str) -> None:
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {to}: {(error.strerror or str(error)).lower()}.") from error
    say(f"wrote {to}")


def runs(where: Where, ref: str | None, limit: int, *, as_json: bool) -> int:
    """List batches, or the runs of one."""
    from helexa.bench.storage.store import Store

    with closing(Store(where.database)) as store:
        if ref is None:
            return _list(batches_of(store, where.filter, limit), as_json=as_json)
        found = runs_of(ref, store)
    if as_json:
        print_json(found)
    else:
        from helexa.bench.report.tables import runs_table

        show(runs_table(found))
    return DONE


_COLUMNS = ("BATCH", "BEGUN", "LABEL", "TARGETS", "MODELS", "BUILDS", "RUNS", "NOT OK")


def _list(found: Sequence[Batch], *, as_json: bool) -> int:
    if as_json:
        print_json(found)
    elif not found:
        say("no runs are kept; 'helexa bench run' measures.")
    else:
        table(_COLUMNS, map(_row, found), ("RUNS", "NOT OK"))
    return DONE


def _row(batch: Batch) -> tuple[str, ...]:
    names = (", ".join(each) for each in (batch.targets, batch.models, batch.builds))
    return (batch.id, time_text(batch.started_at), batch.label, *names, str(batch.runs), str(batch.not_ok or ""))


def export(where: Where, ref: str | None, to: str, form: Any) -> int:
    """Write runs to a file, or to stdout."""
    from helexa.bench.storage import transfer
    from helexa.bench.storage.store import Store

    if to == "-" and form is None:
        raise Failure("say with --format what stdout is to get: csv, json or parquet.", WRONG)
    with closing(Store(where.database)) as store:
        found = store.every(where.filter) if ref is None else iter(runs_of(ref, store))
        kind = form or transfer.format_of(Path(to))
        count = transfer.export(found, sys.stdout.buffer if to == "-" else Path(to), kind)
    say(f"wrote {_count(count)}{'' if to == '-' else f' to {to}'}")
    return DONE if count else FAILED


def bring_in(database: str, files: Sequence[Path]) -> int:
    """Take runs of files into the database."""
    from helexa.bench.storage import transfer
    from helexa.bench.storage.store import Store

    read = [(file, transfer.read(file)) for file in files]  # all of them before anything is changed
    with closing(Store(database)) as store:
        for file, found in read:
            new = store.add_all(found)
            there = f"; {len(found) - new} were there already" if new < len(found) else ""
            say(f"took {_count(new)} from {file}{there}")
    return DONE


def _count(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"


def scenarios(*, as_json: bool) -> int:
    """List what can be measured."""
    from helexa.bench.scenarios import SCENARIOS, SUITES, suite
    from helexa.cli.bench.progress import short

    if as_json:
        defaults = {name: kind().parameters for name, kind in SCENARIOS.items()}
        print_json({"scenarios": defaults, "suites": {name: [each.spelled for each in suite(name)] for name in SUITES}})
        return DONE
    rows = [(name, _given(kind().parameters), _counted(kind)) for name, kind in SCENARIOS.items()]
    table(("SCENARIO", "PARAMETERS", "WHAT COUNTS"), rows)
    sys.stdout.write("\n")
    table(("SUITE", "SCENARIOS"), [(name, "\n".join(map(short, suite(name)))) for name in SUITES])
    return DONE


def _counted(kind: "type[Scenario]") -> str:
    return "\n".join(metric.title for metric in kind.metrics if metric.primary)


def _given(parameters: Any) -> str:
    return "\n".join(f"{name}={value}" for name, value in parameters.items())
