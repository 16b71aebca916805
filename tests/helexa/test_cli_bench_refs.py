"""What a batch is compared with unless somebody says so."""

from pathlib import Path

import pytest
from attrs import evolve
from bench_runs import BUILD_A, BUILD_B, cell, failed, run

from helexa.bench.storage.store import Store
from helexa.cli.bench.refs import earlier, history, is_file, runs_of

OTHER = cell(model="other")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/bench.db")


def test_of_nothing_nothing_is_compared(store: Store) -> None:
    assert earlier(store, [run()]) == []


def test_it_is_the_newest_batch_of_another_build(store: Store) -> None:
    store.add_all([run(number=1), run(number=2), run(number=3, build=BUILD_B)])
    found = earlier(store, [run(number=4, build=BUILD_B)])
    assert [each.batch for each in found] == ["batch-0002"]


def test_without_another_build_it_is_the_newest(store: Store) -> None:
    store.add_all([run(number=1), run(number=2)])
    assert [each.batch for each in earlier(store, [run(number=3)])] == ["batch-0002"]


def test_batches_that_measured_something_else_or_failed_do_not_count(store: Store) -> None:
    store.add_all([run(number=1), failed(number=2), run(number=3, of=OTHER, build=BUILD_B)])
    assert [each.batch for each in earlier(store, [run(number=4, build=BUILD_B)])] == ["batch-0001"]


def test_what_was_broken_off_is_not_compared_with_unless_it_is_named(store: Store) -> None:
    stopped = [evolve(run(number=2, of=of), reason="Measuring was broken off.") for of in (cell(), OTHER)]
    store.add_all([run(number=1), run(number=1, of=OTHER), *stopped])
    assert [each.batch for each in earlier(store, [run(number=3, build=BUILD_B)])] == ["batch-0001"]
    assert len(runs_of("batch-0002", store)) == 2
    both = [run(number=4), evolve(run(number=4, of=OTHER), reason="Measuring was broken off.")]
    store.add_all(both)
    now = [run(number=5, build=BUILD_B), run(number=5, of=OTHER, build=BUILD_B)]
    assert [(each.batch, each.cell.model) for each in earlier(store, now)] == [("batch-0004", "qwen3-8b")]


def test_a_batch_is_never_compared_with_itself(store: Store) -> None:
    store.add_all([run(number=1)])
    assert earlier(store, [run(number=1)]) == []


def test_only_cells_that_were_measured_again_are_compared(store: Store) -> None:
    both = [run(number=1, batch="b"), run(number=1, batch="b", of=OTHER)]
    store.add_all(both)
    assert [each.cell.model for each in earlier(store, [run(number=2, of=OTHER)])] == ["other"]


def test_what_figures_do_by_themselves_is_told_by_all_earlier_runs_of_the_cells(store: Store) -> None:
    store.add_all([run(number=1), run(number=2, build=BUILD_B), failed(number=3), run(number=4, of=OTHER)])
    assert {each.batch for each in history(store, [run(number=5)])} == {"batch-0001", "batch-0002"}


def test_a_file_is_meant_where_there_is_one(store: Store, tmp_path: Path) -> None:
    from helexa.bench.storage.transfer import export

    file = tmp_path / "before.json"
    export([run(number=1)], file, "json")
    assert [each.id for each in runs_of(str(file), store)] == [run(number=1).id]


def test_a_target_is_meant_as_it_was_measured_last(store: Store) -> None:
    store.add_all([run(number=1), run(number=1, of=OTHER), run(number=2), run(number=3, of=cell(target="desk"))])
    found = {(each.cell.model, each.batch) for each in runs_of("beast", store)}
    assert found == {("qwen3-8b", "batch-0002"), ("other", "batch-0001")}


def test_a_label_is_not_taken_for_a_directory_or_a_file_without_a_suffix(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kernels").write_text("")
    (tmp_path / "kernels.d").mkdir()
    assert not is_file("kernels")
    assert not is_file("kernels.d")
    labelled = evolve(run(number=1, build=BUILD_A), label="kernels")
    store.add(labelled)
    assert [each.label for each in runs_of("kernels", store)] == ["kernels"]
