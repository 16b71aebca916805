"""A store against a dictionary: whatever is added, asked and forgotten in whatever order, both say the same."""

import tempfile
from itertools import groupby
from pathlib import Path

from bench_stores import BUILDS, NOW, ids, made
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from helexa.bench.records import Cell, Outcome, Run
from helexa.bench.storage.store import Filter, Store

CELLS = tuple(Cell(f"gpu{n % 2}", f"m{n // 2 % 2}", "chat", {"n": n // 4}) for n in range(6))
_OUTCOMES: tuple[Outcome, ...] = ("ok", "ok", "failed", "yielded")
_RUNS = st.builds(
    lambda number, batch, cell, build, outcome, at, label: made(
        f"{batch}-{number}", CELLS[cell], BUILDS[build], (float(number),), outcome=outcome, started_at=at, label=label
    ),
    st.integers(0, 5), st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 3), st.sampled_from(_OUTCOMES),
    st.integers(-5, 5).map(lambda n: NOW + n), st.sampled_from(["", "x", "y"]),
)  # fmt: skip


def build_of(run: Run) -> tuple[str, str]:
    return run.cell.key, run.build.id


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.directory.name)}/bench.db")
        self.kept: dict[str, Run] = {}

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @property
    def newest_first(self) -> list[Run]:
        return sorted(self.kept.values(), key=lambda run: run.id, reverse=True)

    @property
    def fine(self) -> list[Run]:
        return [run for run in self.newest_first if run.outcome == "ok"]

    @rule(runs=st.lists(_RUNS, max_size=8))
    def add(self, runs: list[Run]) -> None:
        new = {run.id: run for run in reversed(runs) if run.id not in self.kept}
        assert self.store.add_all(runs) == len(new)
        self.kept |= new

    @rule(at=st.integers(-6, 6))
    def prune(self, at: int) -> None:
        old = [run.id for run in self.kept.values() if run.started_at < NOW + at]
        assert self.store.prune(NOW + at) == len(old)
        for each in old:
            del self.kept[each]

    @rule()
    def open_again(self) -> None:
        self.store.close()

    @rule(limit=st.integers(1, 5), where=st.sampled_from([None, ("gpu0",), ("gpu0", "gpu1")]), since=st.integers(-5, 5))
    def page(self, limit: int, where: tuple[str, ...] | None, since: int) -> None:
        which = Filter(targets=where, since=NOW + since, outcomes=("ok", "failed"))
        meant = [run for run in self.newest_first if run.outcome != "yielded" and run.started_at >= NOW + since]
        left = [run for run in meant if where is None or run.cell.target in where]
        before = None
        while left:
            found = self.store.runs(which, limit, before)
            assert ids(self.store.summaries(which, limit, before)) == ids(found)
            assert found == left[:limit]
            before, left = found[-1].id, left[limit:]
        assert self.store.runs(which, limit, before or "") == []

    @rule(builds=st.integers(1, 3), runs=st.integers(1, 3))
    def ask_for_builds(self, builds: int, runs: int) -> None:
        expected = []
        for _, of_cell in groupby(sorted(self.fine, key=lambda run: run.cell.key), lambda run: run.cell.key):
            by_build: dict[str, list[Run]] = {}
            for run in of_cell:
                by_build.setdefault(run.build.id, []).append(run)
            newest = sorted(by_build.values(), key=lambda found: found[0].id, reverse=True)[:builds]
            expected += [run for found in newest for run in found[:runs]]
        assert self.store.newest_builds(builds=builds, runs=runs) == sorted(
            expected, key=lambda it: it.id, reverse=True
        )

    @invariant()
    def the_newest_of_each_cell_are_known(self) -> None:
        newest: dict[str, Run] = {}
        for run in self.fine:
            newest.setdefault(run.cell.key, run)
        assert ids(self.store.newest()) == ids(newest.values())

    @invariant()
    def counts_are_right(self) -> None:
        for run in self.fine[:3]:
            same = [each for each in self.fine if build_of(each) == build_of(run)]
            assert self.store.count(run.cell, run.build.id) == len(same)

    @invariant()
    def dimensions_are_right(self) -> None:
        found = self.store.dimensions()
        assert {each.name for each in found.targets} == {run.cell.target for run in self.kept.values()}
        assert sum(each.seen.runs for each in found.models) == len(self.kept)
        assert sum(each.seen.runs for each in found.scenarios) == len(self.kept)
        assert sum(each.seen.runs for each in found.builds) == len(self.kept)
        assert [each.seen.newest for each in found.builds] == sorted(
            {_newest(self, run) for run in self.kept.values()}
        )[::-1]
        assert {each.name for each in found.labels} == {run.label for run in self.kept.values()} - {""}
        assert [each.name for each in found.batches] == sorted({run.batch for run in self.kept.values()})[::-1]


def _newest(stores: Stores, run: Run) -> str:
    return max(each.id for each in stores.kept.values() if each.build.id == run.build.id)


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
