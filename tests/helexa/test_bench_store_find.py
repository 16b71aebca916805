"""What an operator may call runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_stores import BUILDS, CHAT, failed, ids, made

from helexa.bench.records import Cell
from helexa.bench.storage.store import RefError, Store

GPU2 = Cell("gpu2", "qwen", "chat")
LLAMA = Cell("gpu2", "llama", "chat")
FIRST, SECOND, THIRD = (build.id for build in BUILDS[:3])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three batches on two targets, of three builds."""
    found = Store(f"sqlite:///{tmp_path}/bench.db")
    found.add_all([made("2026a-1", label="before"), made("2026a-2", GPU2, label="before")])
    found.add_all([made("2026b-1", build=BUILDS[1], label="gpu2"), made("2026b-2", GPU2, BUILDS[1], label="gpu2")])
    found.add_all([made("2027-1", build=BUILDS[2]), failed("2027-2", cell=LLAMA), made("2027-3", LLAMA)])
    yield found
    found.close()


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("last", ["2027-3", "2027-2", "2027-1"]),
        ("previous", ["2026b-2", "2026b-1"]),
        ("2026a", ["2026a-2", "2026a-1"]),
        ("2027", ["2027-3", "2027-2", "2027-1"]),
        ("2027-1", ["2027-1"]),
        ("202", None),
        ("2026", None),
        ("20", None),
        ("before", ["2026a-2", "2026a-1"]),
        ("befor", None),
        ("label:before", ["2026a-2", "2026a-1"]),
        ("batch:2027", ["2027-3", "2027-2", "2027-1"]),
        ("batch:2026", None),
        ("batch:2026b", ["2026b-2", "2026b-1"]),
        ("run:2026b-1", ["2026b-1"]),
        (FIRST, ["2027-3", "2027-2", "2026a-2", "2026a-1"]),
        (FIRST[:5], ["2027-3", "2027-2", "2026a-2", "2026a-1"]),
        (f"build:{SECOND[:4]}", ["2026b-2", "2026b-1"]),
        ("gpu1", ["2027-1"]),
        ("target:gpu2", ["2027-3", "2026b-2"]),
        ("label:gpu2", ["2026b-2", "2026b-1"]),
        ("gpu2", None),
        ("", None),
        ("label:", None),
        ("build:", None),
        (":", None),
        ("%", None),
        ("____", None),
        ("target:gpu", None),
        ("\ud800\0", None),
    ],
)
def test_a_reference_names_runs_or_is_an_error(store: Store, ref: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(RefError):
            store.find(ref)
    else:
        assert ids(store.find(ref)) == expected


def test_what_is_found_has_its_samples(store: Store) -> None:
    assert store.find("2026a-1")[0].values("ttft") == [1.0]


def test_a_beginning_of_several_lists_them(store: Store) -> None:
    with pytest.raises(RefError) as raised:
        store.find("2026")
    assert str(raised.value) == "'2026' is the beginning of several: batch 2026b, batch 2026a. Say more of it."


def test_a_name_of_two_kinds_says_how_to_tell_them_apart(store: Store) -> None:
    with pytest.raises(RefError) as raised:
        store.find("gpu2")
    assert str(raised.value) == "'gpu2' is a label and a target. Say which: label:gpu2 or target:gpu2."


def test_a_name_of_nothing_lists_what_there_is(store: Store) -> None:
    with pytest.raises(RefError) as raised:
        store.find("x" * 1000)
    assert str(raised.value) == (
        f"No run has the name '{'x' * 80}…'. There are batches 2027, 2026b, 2026a; labels gpu2, before;"
        f" builds {FIRST} (helexa 0.0), {THIRD} (helexa 0.2), {SECOND} (helexa 0.1); targets gpu1, gpu2."
    )


def test_lists_of_many_are_cut(store: Store) -> None:
    store.add_all(made(f"2026c{n}-1", label=f"l{n}") for n in range(20))
    with pytest.raises(RefError, match=r"^'2026c' is the beginning of several: (batch 2026c\d+, ){8}…\. Say more"):
        store.find("2026c")
    with pytest.raises(RefError, match=r"labels (l\d+, ){8}…;"):
        store.find("nothing")


def test_a_name_goes_before_the_word_for_a_kind_in_it(store: Store) -> None:
    store.add(made("3-1", label="label:before"))
    assert ids(store.find("label:before")) == ["3-1"]
    assert ids(store.find("label:label:before")) == ["3-1"]


def test_a_label_that_several_batches_have_means_all_of_them(store: Store) -> None:
    store.add(made("3-1", label="before"))
    assert ids(store.find("before")) == ["3-1", "2026a-2", "2026a-1"]


def test_a_target_means_the_newest_batch_of_each_of_its_cells(store: Store) -> None:
    """Not every run there ever was: fast and slow hours together are compared with nothing."""
    store.add_all([made("3-1", CHAT, BUILDS[0]), made("3-2", CHAT, BUILDS[0]), failed("4-1", build=BUILDS[3])])
    store.add(made("5-1", CHAT, BUILDS[0], reason="Measuring was broken off."))
    assert ids(store.find("gpu1")) == ["3-2", "3-1"]
    store.add(made("6-1", Cell("gpu1", "qwen", "prefix"), BUILDS[0]))
    assert ids(store.find("gpu1")) == ["6-1", "3-2", "3-1"], "a batch of something else does not hide the rest"
    store.add(made("7-1", CHAT, BUILDS[0]))
    assert ids(store.find("gpu1")) == ["7-1", "6-1"], "the build is that of before, and the batch is not"


def test_before_the_first_batch_there_is_none(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(RefError, match=r"^'last' names nothing: there are no runs yet\.$"):
        store.find("last")
    store.add(made("a-1"))
    with pytest.raises(RefError, match=r"^There is no batch before the last one\. There are batches a; builds"):
        store.find("previous")
    store.close()
