"""Downloads that go wrong: connections that die, files that are not what they should be, disks that are full."""

import fcntl
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hubs import COMMIT, LARGE, Fault, Hub, Repository, serving_hub

from helexa.neuron.sources.cache import Cache
from helexa.neuron.sources.download import Wanted, download
from helexa.neuron.sources.meter import Meter
from helexa.neuron.sources.registry import Registry
from helexa.neuron.sources.transfer import Patience
from helexa.wire.errors import ApiError

MODEL = "org/model"
FILE = "model.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 2000
KEY = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=3, first_attempts=4, first_wait=0.0)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub() as hub:
        hub.repositories[MODEL] = Repository({FILE: CONTENT})
        yield hub


@pytest.fixture
def wanted(hub: Hub, tmp_path: Path) -> Wanted:
    return Wanted(Registry("the hub", hub.endpoint, tmp_path / "cache", None, "TOKEN"), MODEL, FILE)


@pytest.fixture
def partial(wanted: Wanted) -> Path:
    """Where half a file lies."""
    found = wanted.cache.partial(KEY)
    found.parent.mkdir(parents=True)
    return found


def fetch(wanted: Wanted, meter: Meter | None = None) -> Path:
    return download(wanted, meter or Meter(), threading.Event(), QUICK)


def failure(wanted: Wanted) -> ApiError:
    with pytest.raises(ApiError) as caught:
        fetch(wanted)
    assert "\n" not in caught.value.message
    assert wanted.fetched() is None
    assert not wanted.cache.folder.joinpath("refs").exists()
    return caught.value


def left(wanted: Wanted) -> dict[str, int]:
    """The names and sizes of what lies among the contents."""
    folder = wanted.cache.folder / "blobs"
    return {each.name: each.stat().st_size for each in folder.iterdir()} if folder.exists() else {}


class StopsWhenWaited(threading.Event):
    """Set by the first who waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.set()
        return True


# connections that die


def test_a_connection_that_dies_is_resumed_where_it_broke(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(cut_at=100_000), Fault(cut_at=200_000)]
    meter = Meter()
    assert fetch(wanted, meter).read_bytes() == CONTENT
    assert hub.fetches(FILE) == [None, "bytes=100000-", "bytes=300000-"]
    assert (meter.progress.done, meter.progress.total) == (len(CONTENT), len(CONTENT))


def test_a_server_that_keeps_breaking_off_is_borne_as_long_as_something_comes(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(cut_at=50_000)] * 10
    assert fetch(wanted).read_bytes() == CONTENT
    assert len(hub.fetches(FILE)) == 11


def test_a_server_that_brings_nothing_is_given_up_and_the_next_load_goes_on(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(cut_at=100_000), Fault(cut_at=0), Fault(cut_at=0)]
    error = failure(wanted)
    assert (error.status, error.code) == (502, "download_failed")
    assert error.message.startswith(f"'{MODEL}' cannot be fetched from the hub: ")
    assert left(wanted) == {f"{KEY}.incomplete": 100_000}
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE)[-1] == "bytes=100000-"


def test_bytes_that_were_here_are_no_speed(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT[:-10])
    now = iter(range(1000))
    meter = Meter(lambda: next(now))
    fetch(wanted, meter)
    told = meter.progress
    assert (told.done, told.total) == (len(CONTENT), len(CONTENT))
    assert 0 < told.rate <= 10


def test_an_answer_that_ends_too_early_as_if_it_were_all(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(short_at=1000)]
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == [None, "bytes=1000-"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(hub: Hub, wanted: Wanted, status: int) -> None:
    hub.faults = {MODEL: [Fault(status)] * 2, FILE: [Fault(status)] * 2}
    assert fetch(wanted).read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up(hub: Hub, wanted: Wanted) -> None:
    hub.faults[MODEL] = [Fault(503)] * 4
    error = failure(wanted)
    assert error.code == "download_failed"
    assert error.message == f"'{MODEL}' cannot be fetched from the hub: it answered with status 503."
    assert left(wanted) == {}
    assert len(hub.asked) == QUICK.first_attempts


def test_a_status_that_means_nothing_here_is_said_at_once(hub: Hub, wanted: Wanted) -> None:
    hub.faults[MODEL] = [Fault(418)]
    assert failure(wanted).message.endswith("it answered with status 418.")
    assert len(hub.asked) == 1


def test_a_registry_that_nobody_runs(wanted: Wanted, tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound and not listening: connections are refused, and nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        error = failure(Wanted(Registry("the hub", endpoint, tmp_path / "c", None, "TOKEN"), MODEL, FILE))
    assert (error.status, error.code) == (502, "download_failed")
    assert "ConnectError" in error.message


# ranges


def test_a_server_that_knows_no_ranges_is_read_from_the_start(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT[:1000])
    hub.faults[FILE] = [Fault(whole=True)]
    meter = Meter()
    assert fetch(wanted, meter).read_bytes() == CONTENT
    assert meter.progress.done == len(CONTENT)


def test_a_server_that_knows_no_ranges_and_always_breaks_off_is_given_up(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(whole=True, cut_at=size) for size in (9000, 5000, 9000, 8000, 9000, 7000)]
    assert failure(wanted).code == "download_failed"
    assert len(hub.fetches(FILE)) < 5


def test_another_part_than_was_asked_for_is_not_taken(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT[:1000])
    hub.faults[FILE] = [Fault(shift=1)]
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == ["bytes=1000-", None]


def test_a_part_of_a_compressed_body_is_not_taken(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT[:1000])
    hub.faults[FILE] = [Fault(headers={"Content-Encoding": "identity, gzip"})]
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == ["bytes=1000-", None]


def test_a_range_that_the_server_does_not_have(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT[:1000])
    hub.faults[FILE] = [Fault(416)]
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == ["bytes=1000-", None]


def test_a_half_that_is_longer_than_the_whole_is_begun_anew(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT + b"x")
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == [None]


def test_a_stop_ends_the_reading_of_what_was_here(hub: Hub, wanted: Wanted, partial: Path) -> None:
    hub.repositories[MODEL].files[FILE] = b"GGUF" + bytes(5 << 20)
    key = hashlib.sha256(hub.repositories[MODEL].files[FILE]).hexdigest()
    wanted.cache.partial(key).write_bytes(hub.repositories[MODEL].files[FILE])
    stop = threading.Event()

    class Stops(Meter):
        def have(self, count: int) -> None:
            super().have(count)
            stop.set()

    meter = Stops()
    with pytest.raises(ApiError) as caught:
        download(wanted, meter, stop, QUICK)
    assert caught.value.code == "download_stopped"
    assert meter.progress.done == 1 << 20


def test_a_half_that_lacks_nothing_needs_no_network(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(CONTENT)
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == []


# contents that are not what they should be


def test_a_content_with_another_checksum_is_not_kept(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(spoil=True)]
    error = failure(wanted)
    assert (error.status, error.code) == (502, "checksum_mismatch")
    why = "does not have the checksum that the hub tells of it, and has been removed"
    assert error.message == f"'{MODEL}' cannot be fetched: '{FILE}' {why}."
    assert left(wanted) == {}


def test_a_half_that_has_rotted_is_fetched_anew(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.write_bytes(b"x" * 1000)
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == ["bytes=1000-", None]


def test_small_files_are_checked_as_well(hub: Hub, wanted: Wanted) -> None:
    hub.repositories[MODEL].files["tokenizer.json"] = b"{}"
    hub.faults["tokenizer.json"] = [Fault(spoil=True)]
    assert failure(wanted).code == "checksum_mismatch"


def test_more_than_the_whole_is_not_taken(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(extra=b"x")]
    assert fetch(wanted).read_bytes() == CONTENT
    assert hub.fetches(FILE) == [None, None]


def test_a_server_that_always_sends_too_much_is_given_up(hub: Hub, wanted: Wanted) -> None:
    hub.faults[FILE] = [Fault(extra=b"x")] * 3
    assert f"it sends more than the {len(CONTENT)} bytes of '{FILE}'" in failure(wanted).message


@pytest.mark.parametrize(
    "sums",
    [
        {},
        {"blobId": None, "lfs": None},
        {"blobId": 7},
        {"blobId": "../../../x"},
        {"blobId": "A" * 40},
        {"lfs": {"size": len(CONTENT)}},
        {"lfs": {"size": len(CONTENT), "sha256": "../../../x"}},
        {"lfs": {"size": len(CONTENT), "sha256": "0" * 63}},
    ],
)
def test_a_registry_without_checksums_is_believed_by_size(hub: Hub, wanted: Wanted, sums: dict[str, Any]) -> None:
    told = {"rfilename": FILE, "size": len(CONTENT), **sums}
    hub.repositories[MODEL].listing = lambda _: {"sha": COMMIT, "siblings": [told]}
    assert fetch(wanted).read_bytes() == CONTENT
    (name,) = left(wanted)
    assert len(name) == 64


def test_an_empty_file_is_fetched_without_asking(hub: Hub, wanted: Wanted) -> None:
    hub.repositories[MODEL].files["added.json"] = b""
    assert (fetch(wanted).parent / "added.json").read_bytes() == b""
    assert hub.fetches("added.json") == []


@pytest.mark.parametrize(
    "told",
    [
        [],
        "text",
        {},
        {"sha": COMMIT},
        {"sha": "../..", "siblings": []},
        {"sha": ".", "siblings": []},
        {"sha": COMMIT, "siblings": [7]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a"}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a", "size": -1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a", "size": "9"}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "../a", "size": 1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "/etc/a", "size": 1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a/./b", "size": 1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a\\b", "size": 1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "a\0b", "size": 1}]},
        {"sha": COMMIT, "siblings": [{"rfilename": None, "size": 1}]},
    ],
)
def test_a_listing_that_is_none_or_leads_elsewhere_is_not_followed(hub: Hub, wanted: Wanted, told: Any) -> None:
    hub.repositories[MODEL].listing = lambda _: told
    error = failure(wanted)
    assert error.code == "download_failed"
    assert "it does not answer as a registry does" in error.message
    assert left(wanted) == {}


# disks


def test_what_cannot_fit_is_refused_before_it_is_begun(hub: Hub, wanted: Wanted) -> None:
    told = {"rfilename": FILE, "size": 2**62, "lfs": {"size": 2**62}}
    hub.repositories[MODEL].listing = lambda _: {"sha": COMMIT, "siblings": [told]}
    error = failure(wanted)
    assert (error.status, error.code) == (507, "disk_full")
    assert error.message.startswith(f"'{MODEL}' needs 4294967296.0 GiB more in {wanted.cache.folder}, where ")
    assert hub.fetches(FILE) == []
    assert left(wanted) == {}


def test_a_disk_that_is_full_is_not_left_with_half_a_file(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.symlink_to("/dev/full")
    error = failure(wanted)
    assert (error.status, error.code) == (507, "disk_full")
    assert "make room, or set HF_HOME to a larger disk" in error.message
    assert not partial.is_symlink()


def test_on_a_full_disk_no_other_half_is_left_either(hub: Hub, wanted: Wanted, partial: Path) -> None:
    other = b"GGUF" + b"x" * 100_000
    hub.repositories[MODEL].files = {"q-00001-of-00002.gguf": CONTENT, "q-00002-of-00002.gguf": other}
    slow = Fault(wait_at=5000)
    hub.faults["q-00002-of-00002.gguf"] = [slow]
    partial.symlink_to("/dev/full")
    stop = threading.Event()
    thread = threading.Thread(target=lambda: (stop.wait(30), slow.go.set()))
    thread.start()
    with pytest.raises(ApiError) as caught:
        download(evolve(wanted, gguf="q-00001-of-00002.gguf"), Meter(), stop, QUICK)
    thread.join()
    assert caught.value.code == "disk_full"
    assert left(wanted) == {}


def test_a_cache_that_is_not_ours_to_write(hub: Hub, wanted: Wanted) -> None:
    wanted.registry.cache.parent.joinpath("cache").write_text("a file")
    error = failure(wanted)
    assert (error.status, error.code) == (507, "cache_error")
    assert f"'{MODEL}' cannot be written to {wanted.cache.folder}: " in error.message


def test_a_place_that_is_taken_by_something_else(hub: Hub, wanted: Wanted, partial: Path) -> None:
    partial.mkdir()
    assert failure(wanted).code == "cache_error"


# several at a time


def test_the_failure_of_one_file_ends_the_others(hub: Hub, wanted: Wanted) -> None:
    slow, slower = Fault(wait_at=10), Fault(wait_at=1000)
    hub.repositories[MODEL].files |= {"a.json": b"[" + b" " * 100_000 + b"]", "b.json": b"{}"}
    hub.faults = {"a.json": [slow], FILE: [slower], "b.json": [Fault(404)]}
    stop = threading.Event()
    thread = threading.Thread(target=lambda: (stop.wait(30), slow.go.set(), slower.go.set()))
    thread.start()
    with pytest.raises(ApiError) as caught:
        download(wanted, Meter(), stop, QUICK)
    thread.join()
    assert caught.value.code == "download_failed"
    assert "it lists 'b.json' and does not have it" in caught.value.message
    assert left(wanted).get(KEY) is None


def test_two_who_want_the_same_fetch_it_once(hub: Hub, wanted: Wanted) -> None:
    slow = Fault(wait_at=1000)
    hub.faults[FILE] = [slow]
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(wanted))) for _ in range(2)]
    threads[0].start()
    assert slow.wait.wait(30)
    threads[1].start()
    slow.go.set()
    for thread in threads:
        thread.join()
    assert [each.read_bytes() == CONTENT for each in found] == [True, True]
    assert hub.fetches(FILE) == [None]


def test_a_stop_is_heard_while_another_fetches_the_same(hub: Hub, wanted: Wanted) -> None:
    lock = wanted.cache.lock(KEY)
    lock.parent.mkdir(parents=True)
    stop = StopsWhenWaited()
    held = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ApiError) as caught:
        download(wanted, Meter(), stop, QUICK)
    os.close(held)
    assert caught.value.code == "download_stopped"
    assert hub.fetches(FILE) == []


def test_a_stop_ends_the_wait_between_attempts(hub: Hub, wanted: Wanted) -> None:
    hub.faults[MODEL] = [Fault(503)]
    stop = StopsWhenWaited()
    with pytest.raises(ApiError) as caught:
        download(wanted, Meter(), stop, Patience(first_wait=100.0, longest_wait=100.0))
    assert caught.value.code == "download_stopped"


def test_waits_grow_up_to_a_bound() -> None:
    assert [Patience().seconds(n) for n in (1, 2, 3, 5, 6, 60)] == [1.0, 2.0, 4.0, 16.0, 20.0, 20.0]


def test_the_lock_is_the_one_that_hugging_face_s_library_takes(hub: Hub, wanted: Wanted) -> None:
    from filelock import FileLock, Timeout

    slow = Fault(wait_at=10)
    hub.faults[FILE] = [slow]
    thread = threading.Thread(target=fetch, args=(wanted,))
    thread.start()
    assert slow.wait.wait(30)
    theirs = FileLock(wanted.registry.cache / ".locks" / "models--org--model" / f"{KEY}.lock")
    with pytest.raises(Timeout):
        theirs.acquire(timeout=0)
    slow.go.set()
    thread.join()
    with theirs:
        assert Cache(wanted.registry.cache, MODEL).blob(KEY).is_file()
    assert FILE.endswith(LARGE)
