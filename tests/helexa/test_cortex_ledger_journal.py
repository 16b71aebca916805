"""The journal: what was added is there, once, whenever the process ends."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.ledger import journal as module
from helexa.cortex.ledger.journal import Journal
from helexa.cortex.ledger.rows import Row

ROW = Row("1", 1.5, "key:k", "ci", "team", "m", "n", "/v1", 10, 2, 4, 99, "req")


def row(identity: int) -> Row:
    return ROW._replace(id=str(identity))


def opened(path: Path) -> Journal:
    journal = Journal(path)
    journal.open()
    return journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.journal"


@given(
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    at=st.floats(0, 1e12),
    number=st.integers(0, 2**62),
)
def test_a_row_is_read_as_it_was_added(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: float, number: int
) -> None:
    journal = opened(tmp_path_factory.mktemp("journal") / "x.journal")
    added = ROW._replace(model=text, request_id=text, at=at, cost=number)
    journal.append([added])
    assert journal.read(0, 10).rows == (added,)


def test_rows_are_read_in_parts_in_their_order_and_forgotten_when_nothing_is_behind(path: Path) -> None:
    journal = opened(path)
    assert not path.exists()
    journal.append(map(row, range(3)))
    first = journal.read(0, 2)
    assert [each.id for each in first.rows] == ["0", "1"]
    assert not journal.forget(first.end)
    journal.append([row(3)])
    rest = journal.read(first.end, 100)
    assert [each.id for each in rest.rows] == ["2", "3"]
    assert journal.rows == 4
    assert journal.forget(rest.end)
    assert (journal.rows, path.exists(), journal.read(0, 1).rows) == (0, False, ())
    journal.append([row(4)])
    assert [each.id for each in journal.read(0, 9).rows] == ["4"]


def test_what_was_added_is_there_after_a_restart(path: Path) -> None:
    opened(path).append(map(row, range(3)))
    again = opened(path)
    assert again.rows == 3
    assert len(again.read(0, 9).rows) == 3


@given(cut=st.integers(1, 400))
def test_the_end_of_a_process_in_the_middle_of_a_line_costs_that_line_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "x.journal"
    opened(path).append(map(row, range(3)))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    journal = opened(path)
    left = journal.rows
    assert left == path.read_bytes().count(b"\n")
    journal.append([row(9)])
    assert [each.id for each in opened(path).read(0, 9).rows] == [*map(str, range(left)), "9"]


@pytest.mark.parametrize("line", [b"nonsense", b"{}", b"[1]", b"null", b"[" + b'"1",' * 12 + b'"1"]'])
def test_a_line_that_is_no_row_is_kept_aside_and_the_others_are_read(path: Path, line: bytes) -> None:
    opened(path).append([row(0)])
    with path.open("ab") as file:
        file.write(line + b"\n")
    journal = opened(path)
    journal.append([row(1)])
    read = journal.read(0, 9)
    assert [each.id for each in read.rows] == ["0", "1"]
    assert read.unreadable == (line + b"\n",)
    aside = journal.set_aside(read.unreadable)
    assert aside.read_bytes() == line + b"\n"
    assert journal.forget(read.end)


def test_of_rows_that_could_not_be_written_none_is_in_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(path)
    journal.append([row(0)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append([row(1), row(2)])
    assert journal.rows == 1
    journal.append([row(3)])
    assert [each.id for each in opened(path).read(0, 9).rows] == ["0", "3"]


def test_the_journal_is_for_its_owner_alone(path: Path) -> None:
    opened(path).append([row(0)])
    assert path.stat().st_mode & 0o777 == 0o600
