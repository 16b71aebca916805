"""Runs in a database: the same promises of SQLite and of a real PostgreSQL."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve
from bench_stores import BUILDS, CHAT, EVERYTHING, NOW, ODD, TTFT, failed, ids, made
from postgres import Server, serving

from helexa.bench.analysis.statistics import of_run
from helexa.bench.records import Build, Cell, Metric, Sample, Target
from helexa.bench.storage import rows
from helexa.bench.storage.kept import MetricSummary, Seen, SeenBuild, SeenName, SeenScenario
from helexa.bench.storage.store import Filter, RefError, Store, StoreError

LATER = r"^its tables of bench have schema 2 of a later helexa, and this one knows 1 at most$"
GPU2 = Cell("gpu2", "qwen", "chat", {"prompt_tokens": 128})
LONG = Cell("gpu1", "qwen", "chat", {"prompt_tokens": 4096})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def stores() -> Iterator[list[Store]]:
    """Stores to be closed at the end."""
    found: list[Store] = []
    yield found
    for store in found:
        store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path, stores: list[Store]) -> Callable[[], Store]:
    """Makes stores of one database, as several processes would have them. It is empty at first."""
    url = f"sqlite:///{tmp_path}/bench.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("server").empty()

    def make() -> Store:
        stores.append(Store(url))
        return stores[-1]

    return make


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()


def test_a_run_comes_back_as_it_was(new_store: Callable[[], Store]) -> None:
    assert new_store().add(EVERYTHING) is True
    (found,) = new_store().runs()
    assert found == EVERYTHING
    assert found.cell.parameters == EVERYTHING.cell.parameters
    assert found.build.id == EVERYTHING.build.id
    assert list(found.samples[0].values) == ["ttft", "decode"]


def test_a_run_that_is_there_stays_as_it_is(store: Store) -> None:
    assert store.add(made("a-1")) is True
    assert store.add(made("a-1", values=(9.0,))) is False
    assert store.add_all([made("a-2", values=(5.0,)), made("a-1"), made("a-2", values=(6.0,))]) == 1
    assert [run.values("ttft") for run in store.runs()] == [[5.0], [1.0]]


def test_the_newest_are_first_by_id_though_clocks_jump(store: Store) -> None:
    identities = ["a-09", "a-10", "B-1", "a-1", "é-1", "a_1", "zz-1"]
    store.add_all(made(each, started_at=NOW - n * 1e6) for n, each in enumerate(identities))
    expected = sorted(identities, reverse=True)
    assert ids(store.runs()) == expected, "byte by byte, whatever the language of the server"
    assert ids(store.summaries()) == expected
    assert ids(store.every()) == expected
    assert store.newest()[0].id == "é-1"
    assert store.dimensions().targets[0].seen == Seen(7, NOW - 6e6, NOW, "é-1")


def test_pages_follow_each_other_without_gaps(store: Store) -> None:
    store.add_all(made(f"a-{n}") for n in range(7))
    first = store.runs(limit=3)
    second = store.runs(limit=3, before=first[-1].id)
    assert ids([*first, *second]) == ["a-6", "a-5", "a-4", "a-3", "a-2", "a-1"]
    assert ids(store.summaries(limit=5, before=second[-1].id)) == ["a-0"]
    assert store.runs(before="a-0") == []
    assert store.runs(limit=0) == []


def test_all_runs_are_read_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.bench.storage.store._AT_ONCE", 2)
    assert store.add_all(made(f"a-{n}") for n in range(5)) == 5
    every = store.every()
    assert next(every).id == "a-4"
    store.add(made("a-9"))
    assert ids(every) == ["a-3", "a-2", "a-1", "a-0"], "what comes meanwhile does not count"


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (Filter(), ["d-1", "c-1", "b-1", "a-1"]),
        (Filter(targets=()), ["d-1", "c-1", "b-1", "a-1"]),
        (Filter(targets=("gpu2",)), ["c-1"]),
        (Filter(targets=("gpu1", "gpu2"), models=("qwen",), scenarios=("chat",)), ["d-1", "c-1", "b-1", "a-1"]),
        (Filter(models=("llama",)), []),
        (Filter(scenarios=("prefix",)), []),
        (Filter(cells=(LONG, GPU2)), ["c-1", "b-1"]),
        (Filter(cells=(LONG,), targets=("gpu2",)), []),
        (Filter(builds=(BUILDS[1].id,)), ["b-1"]),
        (Filter(batches=("b", "c")), ["c-1", "b-1"]),
        (Filter(labels=("before",)), ["a-1"]),
        (Filter(outcomes=("failed", "yielded")), ["d-1"]),
        (Filter(ids=("a-1", "d-1", "x")), ["d-1", "a-1"]),
        (Filter(since=NOW + 1), ["d-1", "c-1", "b-1"]),
        (Filter(since=NOW + 1, until=NOW + 3), ["c-1", "b-1"]),
        (Filter(targets=("' OR '1'='1", "%", "\ud800")), []),
    ],
)
def test_a_filter_lets_through_what_every_field_of_it_does(store: Store, which: Filter, expected: list[str]) -> None:
    store.add(made("a-1", label="before"))
    store.add(made("b-1", LONG, BUILDS[1], started_at=NOW + 1))
    store.add(made("c-1", GPU2, started_at=NOW + 2))
    store.add(failed("d-1", started_at=NOW + 3))
    assert ids(store.runs(which)) == expected
    assert ids(store.summaries(which)) == expected


def test_a_summary_has_the_figures_of_a_run_and_how_many_samples(store: Store) -> None:
    store.add(EVERYTHING)
    (found,) = store.summaries()
    assert (found.samples, found.failures) == (3, 1)
    assert (found.cell, found.build, found.target) == (EVERYTHING.cell, EVERYTHING.build, EVERYTHING.target)
    assert found.metrics == EVERYTHING.metrics
    figure = of_run(EVERYTHING, "ttft")
    assert figure is not None
    assert found.figure("ttft") == MetricSummary(TTFT, figure.n, figure.median, figure.low, figure.high)
    assert [each.metric.name for each in found.figures] == ["ttft", "decode"]
    (only,) = store.summaries(metrics=("decode", "unheard of"))
    assert [each.metric.name for each in only.figures] == ["decode"]
    assert only.figure("ttft") is None


def test_the_newest_run_of_each_cell_is_one_that_measured_something(store: Store) -> None:
    store.add_all([made("a-1"), made("b-1"), failed("c-1"), made("a-2", LONG), failed("a-3", cell=GPU2)])
    assert ids(store.newest()) == ["b-1", "a-2"]
    assert ids(store.newest(Filter(outcomes=("failed",)))) == ["c-1", "a-3"]
    assert ids(store.newest(Filter(cells=(LONG,)))) == ["a-2"]


def test_what_the_newest_builds_did_is_said_cell_by_cell(store: Store) -> None:
    for n, build in enumerate((0, 1, 1, 2, 0)):  # back to the first build at last
        store.add(made(f"{n}-1", CHAT, BUILDS[build]))
    store.add_all([made("0-2", GPU2, BUILDS[1]), made("1-2", GPU2, BUILDS[2]), failed("9-2", build=BUILDS[3])])
    assert ids(store.newest_builds()) == ["4-1", "3-1", "1-2", "0-2", "0-1"]
    assert ids(store.newest_builds(builds=1)) == ["4-1", "1-2", "0-1"]
    assert ids(store.newest_builds(builds=3, runs=1)) == ["4-1", "3-1", "2-1", "1-2", "0-2"]
    assert ids(store.newest_builds(Filter(targets=("gpu2",)))) == ["1-2", "0-2"]


def test_only_what_is_ok_counts_for_a_cell_and_a_build(store: Store) -> None:
    store.add_all([made("a-1"), made("a-2"), failed("a-3"), made("a-4", LONG), made("a-5", build=BUILDS[1])])
    assert store.count(CHAT, BUILDS[0].id) == 2
    assert store.count(Cell("gpu1", "qwen", "chat", {"prompt_tokens": 128}), BUILDS[1].id) == 1
    assert store.count(GPU2, BUILDS[0].id) == 0
    assert store.count(CHAT, "") == 0


BROKEN_OFF = "Measuring was broken off."


def test_what_was_broken_off_is_kept_and_stands_for_nothing(store: Store) -> None:
    """Two rounds before Ctrl-C are no run that a build is measured by."""
    store.add_all([made("a-1"), made("b-1", build=BUILDS[1], reason=BROKEN_OFF), made("b-2", LONG, reason=BROKEN_OFF)])
    assert ids(store.runs()) == ["b-2", "b-1", "a-1"]
    assert [each.broken_off for each in store.runs()] == [True, True, False]
    assert [each.broken_off for each in store.summaries()] == [True, True, False]
    assert store.count(CHAT, BUILDS[1].id) == 0
    assert store.count(CHAT, BUILDS[0].id) == 1
    assert ids(store.newest()) == ["a-1"]
    assert ids(store.newest_builds()) == ["a-1"]
    assert ids(store.newest(Filter(outcomes=("ok",)))) == ["b-2", "b-1"]


def test_parameters_come_back_in_the_scenarios_order(store: Store) -> None:
    parameters = {"prompt_tokens": 128, "output_tokens": 64, "clients": 4}
    store.add_all([made("a-1", Cell("gpu1", "qwen", "chat", parameters))])
    (run,), (summary,), (scenario,) = store.runs(), store.summaries(), store.dimensions().scenarios
    for found in (run.cell.parameters, summary.cell.parameters, scenario.parameters):
        assert list(found) == list(parameters)
    turned = Cell("gpu1", "qwen", "chat", dict(reversed(parameters.items())))
    assert store.count(turned, BUILDS[0].id) == 1, "it is the same cell in any order"


def test_dimensions_say_what_there_is_and_since_when(store: Store) -> None:
    assert store.dimensions().targets == ()
    store.add(made("a-1", label="before"))
    store.add(made("b-1", LONG, BUILDS[1], started_at=NOW + 1))
    store.add(made("c-1", GPU2, BUILDS[1], started_at=NOW - 2, label="after"))
    found = store.dimensions()
    assert found.targets == (
        SeenName("gpu1", Seen(2, NOW, NOW + 1, "b-1")),
        SeenName("gpu2", Seen(1, NOW - 2, NOW - 2, "c-1")),
    )
    assert found.models == (SeenName("qwen", Seen(3, NOW - 2, NOW + 1, "c-1")),)
    assert found.scenarios == (
        SeenScenario("chat", {"prompt_tokens": 128}, Seen(2, NOW - 2, NOW, "c-1")),
        SeenScenario("chat", {"prompt_tokens": 4096}, Seen(1, NOW + 1, NOW + 1, "b-1")),
    )
    assert found.builds == (
        SeenBuild(BUILDS[1], ("gpu1", "gpu2"), Seen(2, NOW - 2, NOW + 1, "c-1")),
        SeenBuild(BUILDS[0], ("gpu1",), Seen(1, NOW, NOW, "a-1")),
    )
    assert [each.name for each in found.batches] == ["c", "b", "a"]
    assert [each.name for each in found.labels] == ["after", "before"]


def test_pruning_forgets_old_runs_and_what_only_they_referred_to(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.bench.storage.store._PRUNED_AT_ONCE", 2)
    store.add_all(made(f"a-{n}", GPU2, BUILDS[1], started_at=NOW + n) for n in range(5))
    store.add(made("b-1", started_at=NOW + 10))
    assert store.prune(NOW) == 0
    assert store.prune(NOW + 5) == 5
    assert ids(store.runs()) == ["b-1"]
    assert [each.name for each in store.dimensions().targets] == ["gpu1"]
    with store._database.transaction(reading=True) as connection:
        tables = (rows.cells, rows.builds, rows.metric_sets, rows.samples, rows.figures)
        counts = [len(connection.execute(table.select()).all()) for table in tables]
    assert counts == [1] * 5
    assert store.add(made("a-1", GPU2, BUILDS[1])) is True, "what was forgotten can come back"
    assert len(store.runs()) == 2


@pytest.mark.parametrize("limit", [-math.inf, math.nan])
def test_a_limit_that_is_no_time_forgets_nothing(store: Store, limit: float) -> None:
    store.add(made("a-1"))
    assert store.prune(limit) == 0
    assert len(store.runs()) == 1


def test_what_no_database_has_a_place_for_is_replaced(store: Store) -> None:
    lie = "a\0b\udcffc"
    target, cell = Target(lie, "openai", lie), Cell(lie, lie, lie, {lie: [lie, {"x": lie}]})
    samples = (
        Sample(0, math.nan, {"ttft": math.nan, "decode": math.inf}),
        Sample(1, NOW, {"ttft": True, "decode": 2**70}),  # type: ignore[dict-item]
        Sample(2, NOW, {}, lie * 1000),
    )
    odd = evolve(EVERYTHING, target=target, cell=cell, build=Build(lie, {lie: lie}), label=lie, samples=samples)
    odd = evolve(odd, started_at=math.inf, seconds=math.nan)
    assert store.add_all([odd, evolve(odd, id="b7-00", outcome="failed", reason=lie)]) == 2
    found, other = store.runs()
    assert other.reason == "a\ufffdb?c"
    assert found.target == Target("a\ufffdb?c", "openai", "a\ufffdb?c")
    assert found.samples[0].values == {}
    assert found.samples[1].values == {"ttft": 1.0, "decode": float(2**70)}
    assert len(found.samples[2].error or "") == 2000
    assert (found.started_at, found.seconds, found.samples[0].at) == (0.0, 0.0, 0.0)
    assert store.count(cell, found.build.id) == 1, "it is found by what was asked for"
    assert ids(store.runs(Filter(targets=(lie,), models=(lie,), labels=(lie,), cells=(cell,)))) == ["b7-01", "b7-00"]
    assert ids(store.find(f"label:{lie}")) == ["b7-01", "b7-00"]


def test_metrics_of_odd_names_or_of_one_name_keep_no_run_out(store: Store) -> None:
    metrics = tuple(Metric(name, name, name, "lower") for name in ("\ud800", "a\0", "a\ufffd", "b", "b"))
    store.add(made("a-1", metrics=metrics, samples=(Sample(0, NOW, {"a\0": 1.0, "b": 2.0, "\ud800": 3.0}),)))
    (found,) = store.summaries()
    assert [(each.metric.name, each.median) for each in found.figures] == [("?", 3.0), ("a\ufffd", 1.0), ("b", 2.0)]
    assert store.runs()[0].samples[0].values == {"a\ufffd": 1.0, "b": 2.0, "?": 3.0}


def test_a_build_keeps_its_id_whatever_it_says(store: Store) -> None:
    build = Build("nul \0", {"device": "\0"})
    store.add(made("a-1", build=build))
    assert store.count(CHAT, build.id) == 1
    assert store.runs()[0].build == build


def test_long_names_and_many_parameters_are_kept(store: Store) -> None:
    cell = Cell("t" * 5000, "m" * 5000, "s", {f"p{n}": "x" * 100 for n in range(100)})
    store.add(made("a-1", cell, label="l" * 5000))
    assert store.runs()[0].cell == cell
    assert store.count(cell, BUILDS[0].id) == 1
    assert ids(store.find("l" * 5000)) == ["a-1"]


def test_metrics_of_a_scenario_may_change_from_run_to_run(store: Store) -> None:
    energy = Metric("energy", "energy", "J/token", "lower")
    store.add_all([made("a-1"), made("a-2", metrics=(TTFT, energy)), made("a-3", metrics=())])
    assert [run.metrics for run in store.runs()] == [(), (TTFT, energy), (TTFT,)]


def test_runs_are_found_by_what_an_operator_calls_them(store: Store) -> None:
    store.add_all([made("2026a-1", label="before"), made("2026b-1", GPU2, BUILDS[1]), made("2026b-2", LONG, BUILDS[2])])
    for ref in ("last", "2026b", "batch:2026b"):
        assert ids(store.find(ref)) == ["2026b-2", "2026b-1"]
    for ref in ("previous", "before", "2026a-1", BUILDS[0].id[:6]):
        assert ids(store.find(ref)) == ["2026a-1"]
    assert ids(store.find("gpu1")) == ["2026b-2", "2026a-1"]
    with pytest.raises(RefError, match=r"'2026' is the beginning of several: batch 2026b, batch 2026a\. Say more"):
        store.find("2026")


def test_processes_that_write_at_once_lose_nothing(new_store: Callable[[], Store]) -> None:
    together = [new_store() for _ in range(4)]
    runs = [made(f"a-{n:02d}", Cell("gpu1", f"m{n % 3}", "chat"), BUILDS[n % 2]) for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda n: together[n % 4].add_all(runs[n // 2 : n // 2 + 6]), range(38)))
    assert sum(added) == 24
    assert ids(together[0].runs()) == sorted(ids(runs), reverse=True)


def test_a_later_schema_is_left_alone(new_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*rows._MIGRATIONS, ("ALTER TABLE helexa_bench_runs ADD COLUMN later TEXT",))
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_MIGRATIONS", later)
        new_store().add(EVERYTHING)
    with pytest.raises(StoreError, match=LATER):
        new_store().add(made("a-1"))
    with pytest.raises(StoreError, match=LATER):
        new_store().runs()


def test_an_error_repeats_nothing_that_servers_said(store: Store) -> None:
    store.add(made("a-1"))
    with store._database._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE helexa_bench_samples")
    with pytest.raises(StoreError, match="helexa_bench_samples") as raised:
        store.add(EVERYTHING)
    assert ODD not in repr(raised.value.__cause__)
    assert "\n" not in str(raised.value)
    with pytest.raises(StoreError):
        store.runs()
    assert ids(store.summaries()) == ["a-1"], "nothing of the run that failed was kept"
