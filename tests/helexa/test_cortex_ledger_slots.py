"""Slots in a mapped file: what was told survives the process, and every file has one owner."""

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.ledger import slots as module
from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.rows import Row
from helexa.cortex.ledger.slots import (
    CHUNK_SLOTS,
    MOST_COST,
    MOST_TOKENS,
    Identity,
    Slot,
    SlotFileError,
    Slots,
)

IDENTITY = Identity("1", "key:k", "ci", "team", "m", "/v1/chat/completions", "req_1")
PRICES = Prices(3, 5)


def begun(slots: Slots, identity: Identity = IDENTITY) -> Slot:
    slot = slots.take()
    slot.open(identity.encode(), "n0", PRICES, 1_000_000)
    return slot


def used(slots: Slots) -> Slot:
    slot = begun(slots)
    slot.sent("n1", Prices(7, 11))
    slot.deliver(10, 4, 2, 2_500_000)
    return slot


def test_a_slot_says_what_was_told() -> None:
    row = used(Slots.in_memory()).row()
    assert row == Row(
        "1", 2.5, "key:k", "ci", "team", "m", "n1", "/v1/chat/completions", 10, 2, 4, 10 * 7 + 4 * 11, "req_1"
    )


def test_a_request_that_was_not_served_counts_for_nothing_and_one_that_failed_elsewhere_first_counts_once() -> None:
    slot = begun(Slots.in_memory())
    assert (slot.was_sent, slot.row().node) == (True, "n0")
    slot.unsent()
    assert not slot.was_sent
    slot.sent("a-long-name-of-a-node", Prices(1, 1))
    slot.sent("b", Prices(2, 2))
    assert (slot.was_sent, slot.row().node, slot.row().amounts.requests) == (True, "b", 1)


def test_a_slot_that_is_used_again_has_nothing_of_the_request_before() -> None:
    slots = Slots.in_memory()
    used(slots).give_back()
    again = begun(slots)
    assert (again.used, again.was_sent, again.row().node, again.row().cached) == ((0, 0, 0), True, "n0", 0)


def test_numbers_that_no_request_can_have_stay_within_bounds() -> None:
    slot = begun(Slots.in_memory())
    slot.sent("n", Prices(10**9, 10**9))
    slot.deliver(2**200, -5, 2**200, 0)
    assert slot.used == (MOST_TOKENS, 0, MOST_COST)
    assert slot.row().cached == MOST_TOKENS


def test_more_of_a_prompt_cannot_have_been_cached_than_there_was() -> None:
    slot = begun(Slots.in_memory())
    slot.deliver(3, 0, 5, 0)
    assert slot.row().cached == 3


@given(model=st.text(max_size=4000), route=st.text(max_size=4000), request=st.text(max_size=4000))
def test_any_text_fits_into_a_slot_and_whose_request_it_is_is_never_cut(model: str, route: str, request: str) -> None:
    identity = Identity("x" * 50, "key:declared/" + "n" * 64, "n" * 64, "a" * 200, model, route, request)
    row = begun(Slots.in_memory(), identity).row()
    assert (row.id, row.key, row.name, row.account) == (identity.id, identity.key, identity.name, identity.account)
    assert model.startswith(row.model)


def test_half_a_character_is_no_reason_to_fail() -> None:
    assert begun(Slots.in_memory(), Identity("1", "k", "n", "a", "\ud800", "/", "r")).row().model == "?"


# Files


def test_what_is_open_or_settled_is_found_by_the_next_owner_under_the_same_name(tmp_path: Path) -> None:
    first = Slots.claim(tmp_path)
    slots = [used(first) for _ in range(3)]
    assert slots[1].settle(None, 9_000_000) == (10, 4, 10 * 7 + 4 * 11)
    slots[2].give_back()
    rows = sorted(slot.row().at for slot in slots[:2])
    first.close()
    second = Slots.claim(tmp_path)
    assert second.gateway == first.gateway
    assert sorted(slot.row().at for slot in second.left) == rows == [2.5, 9.0]
    assert second.in_use == 2
    for slot in second.left:
        slot.give_back()
    second.close()
    third = Slots.claim(tmp_path)
    assert third.left == []
    third.close()


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    first, second = Slots.claim(tmp_path), Slots.claim(tmp_path)
    assert first.gateway != second.gateway
    assert len(list(tmp_path.glob("*.slots"))) == 2
    first.close()
    third = Slots.claim(tmp_path)
    assert third.gateway == first.gateway
    second.close()
    third.close()


def test_a_file_grows_and_what_is_in_the_new_part_is_found_too(tmp_path: Path) -> None:
    first = Slots.claim(tmp_path)
    taken = [used(first) for _ in range(CHUNK_SLOTS + 1)]
    assert len({slot._begin + id(slot._words) for slot in taken}) == len(taken), "no slot is handed out twice"
    first.close()
    second = Slots.claim(tmp_path)
    assert len(second.left) == CHUNK_SLOTS + 1
    second.close()


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "ledger"
    slots = Slots.claim(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]
    slots.close()


@pytest.mark.parametrize("content", [b"", b"hxslots", b"x" * 200_000, b"hxslots9" + b"\0" * 200_000])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    strange = tmp_path / "0.slots"
    strange.write_bytes(content)
    slots = Slots.claim(tmp_path)
    assert slots.path != strange
    assert strange.read_bytes() == content
    slots.close()


def test_a_directory_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SlotFileError, match="file/ledger: not a directory"):
        Slots.claim(tmp_path / "file" / "ledger")


def test_a_full_disk_is_told_before_a_slot_is_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots.claim(tmp_path)
    taken = [slots.take() for _ in range(CHUNK_SLOTS)]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(SlotFileError, match="no space left on device"):
        slots.take()
    taken[0].give_back()
    assert slots.take() is taken[0]
    slots.close()
    with pytest.raises(SlotFileError, match="no space left"):
        Slots.claim(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == [], "no half a file is left behind"


_KILLED = """
import os, signal, sys
from pathlib import Path
from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.slots import Identity, Slots
slots = Slots.claim(Path(sys.argv[1]))
for number in range(3):
    slot = slots.take()
    slot.open(Identity(str(number), "key:k", "n", "a", "m", "/", "r").encode(), "n", Prices(1, 1), 0)
    slot.deliver(number, number, 0, 0)
slot.settle(None, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_told_survives_a_kill(tmp_path: Path) -> None:
    root = Path(module.__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False, cwd=root)
    assert done.returncode == -signal.SIGKILL
    found = Slots.claim(tmp_path)
    assert sorted((slot.row().id, slot.used[:2]) for slot in found.left) == [
        ("0", (0, 0)),
        ("1", (1, 1)),
        ("2", (2, 2)),
    ]
    found.close()


def test_an_identity_that_somebody_has_changed_is_noticed(tmp_path: Path) -> None:
    slot = begun(Slots.in_memory())
    slot.open(orjson.dumps(["too", "short"]), "n", PRICES, 0)
    with pytest.raises(ValueError, match="identity"):
        slot.row()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    Slots.claim(tmp_path).close()
    Slots.claim(tmp_path).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
