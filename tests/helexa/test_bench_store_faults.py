"""A database that is full, locked, damaged or not to be written: one line that says so, and nothing half done."""

import os
import random
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from attrs import evolve
from bench_stores import BUILDS, CHAT, EVERYTHING, NOW, ids, made

from helexa import database
from helexa.bench.records import Cell, Run, Sample
from helexa.bench.storage.kept import RefError
from helexa.bench.storage.store import Store, StoreError, StoreSettingError

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bench.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that are made from now on do not wait for locks."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.01)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    found = Store(f"sqlite:///{path}")
    yield found
    found.close()


def large(identity: str) -> Run:
    """Half a megabyte of samples."""
    return made(identity, samples=tuple(Sample(0, NOW, {"ttft": n / 7}) for n in range(10_000)))


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as raised:
        work()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does, by the system's own refusal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_a_run_as_a_whole_and_takes_it_when_there_is_room(store: Store) -> None:
    store.add(made("a-1"))
    with files_of_at_most(400_000):
        assert "disk" in refusal(lambda: store.add(large("a-2")))
        assert ids(store.runs()) == ["a-1"], "what is there can still be read"
    assert store.add(large("a-2")) is True
    assert [len(run.samples) for run in store.runs()] == [10_000, 1]


def test_a_full_database_can_be_pruned_and_has_room_again(store: Store) -> None:
    store.add(large("a-1"))
    with store._database.transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as few as there are
    assert refusal(lambda: store.add(large("b-1"))) == "OperationalError: database or disk is full"
    assert store.prune(NOW + 1) == 1
    assert store.add(evolve(large("b-1"), started_at=NOW + 2)) is True


def test_of_many_runs_those_before_the_disk_was_full_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helexa.bench.storage.store._AT_ONCE", 1)
    with files_of_at_most(1_500_000):
        refusal(lambda: store.add_all(large(f"a-{n}") for n in range(9)))
    there = len(store.runs())
    assert 0 < there < 9
    assert store.add_all(large(f"a-{n}") for n in range(9)) == 9 - there


def test_a_locked_file_can_be_read_and_is_written_when_it_is_free(impatient: None, store: Store, path: Path) -> None:
    store.add(made("a-1"))
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        for work in (lambda: store.add(made("a-2")), lambda: store.prune(NOW + 1)):
            assert refusal(work) == "OperationalError: database is locked"
        assert ids(store.runs()) == ["a-1"]
    assert store.add(made("a-2")) is True


def test_runs_that_are_read_page_by_page_keep_no_writer_waiting(impatient: None, store: Store) -> None:
    store.add_all(made(f"a-{n:03d}") for n in range(150))
    every = store.every()
    next(every)
    assert store.add(made("b-1")) is True
    assert store.prune(NOW + 1) == 151
    assert len(list(every)) == 99, "the page at hand; what was pruned is gone"


def test_a_file_that_is_no_database_is_left_alone(store: Store, path: Path) -> None:
    path.write_text("dear diary, " * 100)
    assert refusal(lambda: store.add(made("a-1"))) == "DatabaseError: file is not a database"
    assert refusal(store.dimensions) == "DatabaseError: file is not a database"
    assert path.read_text() == "dear diary, " * 100


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of some pages of every table."""
    path = tmp_path_factory.mktemp("sound") / "bench.db"
    store = Store(f"sqlite:///{path}")
    cells = [Cell(f"gpu{n}", "m" * 200, "chat", {"n": n}) for n in range(20)]
    store.add_all(made(f"{n:03d}-1", cells[n % 20], BUILDS[n % 4], [1.0] * 20, label=f"l{n}") for n in range(120))
    store.close()
    return path


@pytest.mark.parametrize("seed", range(24))
def test_a_damaged_file_is_said_to_be_damaged_or_read_as_far_as_it_is_whole(
    seed: int, sound: Path, store: Store, path: Path
) -> None:
    shutil.copy(sound, path)
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for _ in range(1 + seed % 5):
            file.seek(chance.randrange(100, sound.stat().st_size))
            file.write(chance.randbytes(chance.choice((1, 40, 4000))))
    works: tuple[Callable[[], object], ...] = (
        store.runs, store.summaries, store.newest, store.newest_builds, store.dimensions,
        lambda: store.find("l7"), lambda: store.find("nothing"), lambda: store.count(CHAT, BUILDS[0].id),
        lambda: store.add(EVERYTHING), lambda: store.prune(NOW + 1),
    )  # fmt: skip
    for work in works:
        try:
            work()
        except StoreError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one of many
        except RefError:
            assert work is not store.runs


def test_a_file_that_is_cut_off_is_said_to_be_damaged(sound: Path, store: Store, path: Path) -> None:
    path.write_bytes(sound.read_bytes()[:20_000])
    assert refusal(store.runs) == "DatabaseError: database disk image is malformed"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE helexa_bench_samples SET said = '['", "the row of a run 'a-1' is not as helexa writes it"),
        ("UPDATE helexa_bench_samples SET said = '[[1]]'", "the row of a run 'a-1' is not as helexa writes it"),
        ("UPDATE helexa_bench_samples SET said = 'null'", "the row of a run 'a-1' is not as helexa writes it"),
        ("DELETE FROM helexa_bench_samples", "the row of a run 'a-1' is not as helexa writes it"),
        ("UPDATE helexa_bench_cells SET said = '[1, 2]'", "the row of a cell is not as helexa writes it"),
        ("UPDATE helexa_bench_builds SET said = '{}'", "the row of a build is not as helexa writes it"),
        ("UPDATE helexa_bench_metrics SET said = '7'", "the row of a set of metrics is not as helexa writes it"),
        ("DELETE FROM helexa_bench_builds", "what the row of the run 'a-1' refers to is missing"),
        ("UPDATE helexa_bench_runs SET cell = 'x'", "what the row of the run 'a-1' refers to is missing"),
    ],
)
def test_a_row_that_somebody_broke_by_hand_is_named(store: Store, path: Path, statement: str, told: str) -> None:
    store.add(made("a-1"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    assert refusal(store.runs) == told


@pytest.fixture
def shut() -> Iterator[Path]:
    """A directory that may not be written, by a user who is bound by that."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    before = os.geteuid()
    directory.chmod(0o755)
    yield directory
    os.seteuid(before)
    directory.chmod(0o755)
    shutil.rmtree(directory)


def shut_off(directory: Path) -> None:
    for each in directory.iterdir():
        each.chmod(0o444)
    directory.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_a_directory_that_may_not_be_written_is_a_sentence(shut: Path) -> None:
    store = Store(f"sqlite:///{shut}/bench.db")
    shut_off(shut)
    assert refusal(lambda: store.add(made("a-1"))) == f"{shut}/bench.db: permission denied"
    assert refusal(store.runs) == f"{shut}/bench.db: permission denied"


def test_a_file_that_may_not_be_written_is_a_sentence(shut: Path) -> None:
    store = Store(f"sqlite:///{shut}/bench.db")
    store.add(made("a-1"))
    store.close()
    shut_off(shut)
    assert refusal(lambda: store.add(made("a-2"))).startswith("OperationalError: ")
    store.close()


def test_a_wrong_setting_is_said_to_be_the_benchs() -> None:
    with pytest.raises(StoreSettingError, match=r"^bench\.database: the '~' of"):
        Store("sqlite:///~no-such-user-here/bench.db")
    with pytest.raises(StoreSettingError, match=r"^bench\.database is not the URL of a PostgreSQL server\.$"):
        Store("postgresql://u:secret@host:port/db")


def test_the_file_is_its_owners_alone(path: Path, store: Store) -> None:
    store.add(EVERYTHING)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_store_that_was_closed_can_be_used_again(store: Store) -> None:
    store.add(made("a-1"))
    store.close()
    store.close()
    assert ids(store.runs()) == ["a-1"]


def test_samples_of_a_round_are_one_measurement(store: Store) -> None:
    samples = [Sample(turn, NOW, {"ttft": value}) for turn, value in ((0, 1.0), (0, 3.0), (1, 7.0))]
    store.add(made("a-1", samples=tuple(samples)))
    figure = store.summaries()[0].figure("ttft")
    assert figure is not None
    assert (figure.n, figure.median) == (2, 4.5)
