"""``helexa bench run``: measure, show, keep, and tell what has become of it since last time."""

import sys
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from helexa.cli.bench.options import NOTHING
from helexa.cli.bench.output import REGRESSION, Failure, print_json, show
from helexa.cli.bench.ways import Wanted, Way, ways
from helexa.cli.output import DONE, FAILED, fail, say

if TYPE_CHECKING:
    from helexa.bench.analysis.compare import Comparison
    from helexa.bench.records import Run
    from helexa.bench.scenarios import Scenario
    from helexa.bench.storage.store import Store


@frozen
class Plan:
    """What was asked for.

    Attributes:
        wanted: targets.
        models: names; empty: what is loaded.
        scenarios: what is asked of each model.
        rounds: how often.
        label: what the batch is called; may be empty.
        database: where runs are kept.
        against: what to compare with; ``None``: whatever suits, ``none``: nothing.
        smallest: the smallest change that counts, a fraction.
        save: whether runs are kept.
        as_json: the result is printed as JSON.
    """

    wanted: Wanted
    models: Sequence[str] = ()
    scenarios: "Sequence[Scenario]" = ()
    rounds: int = 5
    label: str = ""
    database: str = field(default="", repr=False)
    against: str | None = None
    smallest: float = 0.05
    save: bool = True
    as_json: bool = False


@frozen
class Result:
    """What has come of it.

    Attributes:
        runs: that have ended.
        troubles: a sentence for each thing that could not be measured at all.
        broken_off: whether somebody stopped it.
        comparison: with an earlier batch; ``None``: there is none, or nobody asked.
    """

    runs: "Sequence[Run]" = ()
    troubles: Sequence[str] = ()
    broken_off: bool = False
    comparison: "Comparison | None" = None

    @property
    def code(self) -> int:
        """The exit code: a regression above all, for that is what scripts wait for."""
        if self.comparison is not None and self.comparison.regressions:
            return REGRESSION
        failed = any(run.outcome == "failed" for run in self.runs)
        measured = any(run.outcome == "ok" for run in self.runs)
        return FAILED if failed or not measured or self.troubles or self.broken_off else DONE


def run(plan: Plan) -> int:
    """Measure, show, keep, compare; the exit code."""
    from helexa.bench.storage.store import Store

    found = ways(plan.wanted)
    with closing(Store(plan.database)) as store:
        before = _before_measuring(plan, store, {each.access.target.name for each in found})
        result = _measure(plan, found)
        try:  # before they are kept: else they were part of their own history
            compared = result if result.broken_off else _with_comparison(plan, store, result, before)
        finally:
            kept = _keep(plan, store, result.runs)
    _show(plan, compared)
    return compared.code if kept else FAILED


def _before_measuring(plan: Plan, store: "Store", targets: Collection[str]) -> "list[Run] | None":
    """Find out now what would be found out minutes later: that nothing can be kept, that there is no such ref."""
    from helexa.cli.bench.refs import runs_of

    if plan.save:
        store.prune(0.0)  # nothing is as old as that: it only takes what it takes to write
    if plan.against in {None, NOTHING} or _is_beside(plan, targets):
        return None
    return runs_of(str(plan.against), store)


def _is_beside(plan: Plan, targets: Collection[str]) -> bool:
    """Whether targets are compared with one that is measured with them."""
    return plan.against in targets and len(targets) > 1


def _measure(plan: Plan, found: Sequence[Way]) -> Result:
    import trio

    result: Result = trio.run(partial(_look_and_measure, plan, found))
    return result


async def _look_and_measure(plan: Plan, found: Sequence[Way]) -> Result:
    from helexa.bench.measuring.runner import Task
    from helexa.cli.bench.choosing import choose
    from helexa.cli.bench.measuring import look_at, measured
    from helexa.cli.bench.progress import Board

    known, silent = await look_at(found)
    choice = choose(known, plan.models)
    troubles = [*silent, *choice.troubles]
    if not choice.pairs:
        raise Failure(_in_one(troubles))
    for trouble in troubles:
        fail(trouble)
    tasks = [Task(access, model, scenario) for access, model in choice.pairs for scenario in plan.scenarios]
    with _shown() as shown:
        board = Board(tasks, plan.rounds, shown)
        done = await measured(tasks, board, plan.label)
    return Result(done.runs, troubles, done.broken_off)


def _in_one(troubles: Sequence[str]) -> str:
    return "\nhelexa: ".join(troubles) or "there is nothing to measure."


def _shown() -> Any:
    if sys.stderr.isatty():
        from helexa.cli.bench.picture import Picture

        return Picture()
    from helexa.cli.bench.progress import Lines

    return Lines(say)


def _with_comparison(plan: Plan, store: "Store", result: Result, before: "Sequence[Run] | None") -> Result:
    """What was measured is worth showing though there is nothing to be read of earlier runs."""
    from helexa.bench.storage.store import StoreError

    try:
        return evolve(result, comparison=_compared(plan, store, result.runs, before))
    except StoreError as error:
        trouble = f"what was measured is not compared: {error}."
        fail(trouble)
        return evolve(result, troubles=[*result.troubles, trouble])


def _compared(plan: Plan, store: "Store", runs: "Sequence[Run]", before: "Sequence[Run] | None") -> "Comparison | None":
    from helexa.bench.analysis.compare import compare
    from helexa.cli.bench.refs import earlier, history

    if plan.against == NOTHING or not runs:
        return None
    if _is_beside(plan, {run.cell.target for run in runs}):
        one, others = _parted(runs, str(plan.against))
        return compare(one, others, smallest=plan.smallest, same_target=False)
    against = earlier(store, runs) if before is None else before
    return compare(against, runs, smallest=plan.smallest, history=history(store, runs)) if against else None


def _parted(runs: "Sequence[Run]", target: str) -> "tuple[list[Run], list[Run]]":
    own = [run for run in runs if run.cell.target == target]
    return own, [run for run in runs if run.cell.target != target]


def _keep(plan: Plan, store: "Store", runs: "Sequence[Run]") -> bool:
    """Whether they are kept, if they ought to be. What was measured is shown in any case."""
    from helexa.bench.storage.store import StoreError

    if not plan.save or not runs:
        return True
    try:
        store.add_all(runs)
    except StoreError as error:
        fail(f"what was measured is not kept: {error}.")
        return False
    say(f"kept as batch {runs[0].batch}{f', {plan.label!r}' if plan.label else ''}.")
    return True


def _show(plan: Plan, result: Result) -> None:
    if plan.as_json:
        print_json(_plain(result))
        return
    from helexa.bench.report.tables import comparison_table, runs_table

    if result.runs:
        show(runs_table(result.runs))
    if result.comparison is not None:
        show(comparison_table(result.comparison))
        _hint(result.comparison, plan.rounds)
    if result.broken_off:
        fail("broken off; this is what was measured until then." if result.runs else "broken off.")
    elif all(run.outcome == "skipped" for run in result.runs):
        fail("nothing of it could be measured.")


def _hint(comparison: "Comparison", rounds: int) -> None:
    unclear = sum(each.verdict in {"unclear", "too few"} for each in comparison.differences if each.metric.primary)
    if unclear:
        say(f"{rounds} rounds do not tell whether {unclear} of what counts has changed; --rounds {2 * rounds} may.")


def _plain(result: Result) -> dict[str, Any]:
    return {
        "batch": result.runs[0].batch if result.runs else None,
        "runs": result.runs,
        "comparison": result.comparison,
        "problems": result.troubles,
        "broken_off": result.broken_off,
        "exit_code": result.code,
    }
