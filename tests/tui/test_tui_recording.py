"""What a console saw is kept in a file, and shown again in its own time."""

import asyncio
import errno
import gzip
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.message import Message

from tui import recording
from tui.messages import Happened, LinkChanged, Seen
from tui.recording import Recorder, RecordingError, Replay, read
from tui.shapes import Event

HEAD = {"helexa_recording": 1, "url": "http://fleet"}
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def written(path: Path, *lines: Any, head: Any = HEAD) -> Path:
    """A recording of these lines, whatever they are."""
    with gzip.open(path, "wb") as file:
        for line in (head, *lines):
            file.write(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n")
    return path


def told(path: Path) -> list[Message]:
    return [message for _, message in read(path)]


def replayed(source: Replay, until: Callable[[list[Message]], bool]) -> list[Message]:
    """What a replay tells until that is so."""
    heard: list[Message] = []

    async def main() -> None:
        enough = asyncio.Event()

        def tell(message: Message) -> None:
            heard.append(message)
            if until(heard):
                enough.set()

        running = asyncio.ensure_future(source.run(frozenset, tell))
        await asyncio.wait_for(enough.wait(), 10)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())
    return heard


def ended(heard: list[Message]) -> bool:
    return heard[-1] == LinkChanged("ended", heard[-1].reason) if isinstance(heard[-1], LinkChanged) else False


def test_everything_that_was_told_is_read_again_in_order(tmp_path: Path) -> None:
    messages: list[Message] = [
        Seen("fleet", {"nodes": [{"name": "ä"}]}, 10.0),
        Seen("keys", None, 11.0, "This key may not."),
        Happened([Event(3, 11.5, "node.up", {"node": "a"})]),
    ]
    with Recorder(tmp_path / "rec", "http://fleet") as recorder:
        for message in messages:
            recorder.tell(message)
        recorder.tell(LinkChanged("lost", "gone"))
    assert told(tmp_path / "rec")[:2] == messages[:2]
    happened, link = told(tmp_path / "rec")[2:]
    assert isinstance(happened, Happened)
    assert list(happened.events) == [Event(3, 11.5, "node.up", {"node": "a"})]
    assert isinstance(link, LinkChanged)
    assert link.reason == "gone"


@given(data=plain)
def test_whatever_a_feed_answers_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("rec") / "rec"
    with Recorder(path, "http://fleet") as recorder:
        recorder.tell(Seen("raw", data, 5.0))
    assert told(path) == [Seen("raw", data, 5.0)]


def test_a_recording_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Recorder(tmp_path / "rec", "http://fleet"):
        assert stat.S_IMODE((tmp_path / "rec").stat().st_mode) == 0o600


def test_what_was_written_is_readable_while_the_console_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_FLUSH_SECONDS", -1.0)
    with Recorder(tmp_path / "rec", "http://fleet") as recorder:
        recorder.tell(Seen("fleet", {}, 1.0))
        copy = tmp_path / "copy"
        copy.write_bytes((tmp_path / "rec").read_bytes())  # as if the console were killed now
        assert told(copy) == [Seen("fleet", {}, 1.0)]


def test_a_recording_cut_anywhere_ends_there(tmp_path: Path) -> None:
    whole = written(tmp_path / "rec", *({"at": float(number), "feed": "fleet", "data": number} for number in range(50)))
    data, cut = whole.read_bytes(), tmp_path / "cut"
    for length in range(len(data) - 1, 20, -7):
        cut.write_bytes(data[:length])
        with suppress(RecordingError):  # not even its first line
            found = told(cut)
            assert found == told(whole)[: len(found)]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot record to .*: no such file or directory\."):
        Recorder(tmp_path / "absent" / "rec", "http://fleet")


def test_a_disk_that_is_full_is_one_sentence_and_leaving_says_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recorder(tmp_path / "rec", "http://fleet") as recorder:

        def full(_data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(recorder._file, "write", full)
        monkeypatch.setattr(recorder._raw, "write", full)
        with pytest.raises(RecordingError, match="has ended: No space left"):
            recorder.tell(Seen("fleet", {}, 1.0))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"helexa_recording": 2}, "another version"),
        ({"other": 1}, "no recording"),
        ([1], "no recording"),
        (b"not json\n", "no recording"),
        (b"", "no recording"),
    ],
)
def test_what_is_no_recording_is_said_before_anything_is_drawn(tmp_path: Path, head: Any, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        Replay(written(tmp_path / "rec", head=head))


@pytest.mark.parametrize("content", [b"", b"plain text", b"\x1f\x8b\x08"])
def test_what_is_no_gzip_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rec").write_bytes(content)
    with pytest.raises(RecordingError):
        Replay(tmp_path / "rec")


def test_a_missing_recording_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot replay .*: no such file or directory\."):
        Replay(tmp_path / "absent")
    with pytest.raises(RecordingError, match="is a directory"):
        Replay(tmp_path)


def test_lines_of_another_kind_are_passed_over_and_strange_times_are_made_ones(tmp_path: Path) -> None:
    lines = [[1], 7, None, {"at": "late", "feed": "a"}, {"at": 1e300, "feed": "b"}, {"at": -5, "events": 3}]
    found = list(read(written(tmp_path / "rec", *lines)))
    assert [at for at, _ in found] == [0.0, 32_503_680_000.0, 0.0]


def lines_at(*times: float) -> list[dict[str, Any]]:
    return [{"at": at, "feed": "fleet", "data": {"at": at}} for at in times]


def test_a_replay_tells_what_was_seen_and_then_that_it_has_ended(tmp_path: Path) -> None:
    path = written(tmp_path / "rec", *lines_at(100.0, 100.5), {"at": 101.0, "link": "lost"}, *lines_at(102.0))
    heard = replayed(Replay(path, 1000.0), ended)
    assert heard[0] == LinkChanged("replay", str(path))
    assert [each.at for each in heard if isinstance(each, Seen)] == [100.0, 100.5, 102.0]


class Watch:
    """A clock that goes on where a replay waits, and where what it has told is drawn."""

    def __init__(self) -> None:
        self.now, self.drawing = 7.0, 0.0
        self.told: list[tuple[float, float]] = []

    def replay(self, monkeypatch: pytest.MonkeyPatch, path: Path, speed: float) -> list[tuple[float, float]]:
        """What was told, with the seconds since the beginning."""

        async def wait(_: Replay, seconds: float | None) -> None:
            assert seconds is not None
            self.now += max(0.0, seconds)

        async def main() -> None:
            done, begin = asyncio.Event(), self.now

            def tell(message: Message) -> None:
                if isinstance(message, Seen):
                    self.told.append((round(self.now - begin, 6), message.at))
                    self.now += self.drawing
                elif message == LinkChanged("ended", str(path)):
                    done.set()

            running = asyncio.ensure_future(Replay(path, speed).run(frozenset, tell))
            await done.wait()
            running.cancel()

        monkeypatch.setattr(Replay, "_wait", wait)
        monkeypatch.setattr("tui.recording.time.monotonic", lambda: self.now)
        asyncio.run(main())
        return self.told


def test_a_replay_takes_as_long_as_what_it_shows_over_its_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "rec", *lines_at(50.0, 53.0, 59.0))
    assert Watch().replay(monkeypatch, path, 4.0) == [(0.0, 50.0), (0.75, 53.0), (2.25, 59.0)]


def test_what_is_drawn_slowly_is_waited_for_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, watch = written(tmp_path / "rec", *lines_at(50.0, 53.0, 59.0)), Watch()
    watch.drawing = 0.5
    assert watch.replay(monkeypatch, path, 4.0) == [(0.0, 50.0), (0.75, 53.0), (2.25, 59.0)]


def test_what_cannot_be_drawn_as_fast_is_late_and_not_ever_later_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, watch = written(tmp_path / "rec", *lines_at(0.5, *range(1, 11), 50.0)), Watch()
    watch.drawing = 2.0
    told = watch.replay(monkeypatch, path, 1.0)
    assert [at for at, _ in told[1:11]] == [2.0 * each for each in range(1, 11)]
    assert told[11] == (59.0, 50.0), "a second is caught up with, and no more"


def test_a_night_without_a_console_is_leapt_over(tmp_path: Path) -> None:
    path = written(tmp_path / "rec", *lines_at(0.5, 40_000.0, 10.0))
    assert len([each for each in replayed(Replay(path), ended) if isinstance(each, Seen)]) == 3


def test_a_replay_that_stands_still_tells_nothing_until_it_goes_on(tmp_path: Path) -> None:
    source = Replay(written(tmp_path / "rec", *lines_at(1.0, 1.1)), 100.0)
    source.pause()
    heard = list[Message]()

    async def main() -> None:
        running = asyncio.ensure_future(source.run(frozenset, heard.append))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(heard) == 1
        source.pause()
        while not ended(heard):  # noqa: ASYNC110 - nothing there to set an event
            await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(main())
    assert len(heard) == 4
