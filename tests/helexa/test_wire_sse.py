"""Event streams: cut at the ends of events and read, wherever the network cuts them."""

from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.sse import DONE, EventCutter, EventReader, event

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM = b"".join(
    (GOLDEN / name).read_bytes()
    for name in ("chat_chunk_role.sse", "chat_chunk_content.sse", "chat_chunk_end.sse", "chat_usage_chunk.sse")
)
GOLDEN_STREAM = STREAM + DONE
CRLF_STREAM = GOLDEN_STREAM.replace(b"\n", b"\r\n")
STREAMS = pytest.mark.parametrize("stream", [GOLDEN_STREAM, CRLF_STREAM], ids=["lf", "crlf"])
DATA = [line.removeprefix("data: ") for line in GOLDEN_STREAM.decode().split("\n\n")[:-1]]


def read(pieces: list[bytes]) -> list[str]:
    reader = EventReader()
    return [data for piece in pieces for data in reader.push(piece)]


def ends_where_an_event_ends(data: bytes) -> bool:
    return data == b"" or data.endswith((b"\n\n", b"\n\r\n"))


@STREAMS
def test_a_reader_finds_the_same_events_in_every_split_in_two(stream: bytes) -> None:
    assert all(read([stream[:cut], stream[cut:]]) == DATA for cut in range(len(stream) + 1))


@STREAMS
def test_a_reader_finds_them_byte_by_byte(stream: bytes) -> None:
    assert read([bytes([byte]) for byte in stream]) == DATA


@STREAMS
def test_a_cutter_returns_every_byte_and_cuts_only_between_events(stream: bytes) -> None:
    for cut in range(len(stream) + 1):
        cutter = EventCutter()
        pieces = [cutter.push(stream[:cut]), cutter.push(stream[cut:])]
        assert all(map(ends_where_an_event_ends, pieces))
        assert b"".join(pieces) == stream
        assert cutter.finish() == b""


@STREAMS
def test_a_cutter_gives_each_event_as_soon_as_it_is_whole(stream: bytes) -> None:
    cutter = EventCutter()
    pieces = [piece for byte in stream if (piece := cutter.push(bytes([byte])))]
    assert read(pieces) == DATA
    assert len(pieces) == len(DATA)


@STREAMS
def test_an_unfinished_tail_is_kept_back_until_the_stream_ends_well(stream: bytes) -> None:
    cutter = EventCutter()
    assert cutter.push(stream + b"data: [DO") == stream
    assert (cutter.finish(), cutter.finish()) == (b"data: [DO", b"")


def test_lines_may_end_in_two_ways_within_one_event() -> None:
    for mixed in (b"data: 1\r\n\ndata: 2\n\r\n", b"data: 1\n\r\ndata: 2\r\n\n"):
        assert EventCutter().push(mixed) == mixed
        assert read([mixed]) == ["1", "2"]


CHUNKS = st.lists(st.sampled_from([b"data: x", b"data:y", b": note", b"id: 7", b"\n", b"\r\n", b"\n\n"]), max_size=20)


@given(CHUNKS, st.lists(st.integers(0, 200), max_size=5))
def test_reading_what_a_cutter_passes_on_is_reading_the_stream(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    cutter = EventCutter()
    pieces = [cutter.push(stream[a:b]) for a, b in pairwise(places)]
    assert all(map(ends_where_an_event_ends, pieces))
    assert b"".join(pieces) + cutter.finish() == stream
    assert read(pieces) == read([stream])


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b": comment\n\nevent: x\nid: 1\n\ndata: a\n\n", ["a"]),
        (b"data:\n\n", [""]),
        (b"\n\n\n", []),
        (b"data: a\n", []),
        ("data: ü🦀\n\n".encode(), ["ü🦀"]),
        (b"data: \xff\n\n", ["\ufffd"]),
    ],
)
def test_a_reader_follows_the_standard(stream: bytes, expected: list[str]) -> None:
    assert read([stream]) == expected


@given(st.dictionaries(st.text(), st.text()))
def test_any_payload_is_one_event(payload: dict[str, str]) -> None:
    (data,) = read([event(payload)])
    assert orjson.loads(data) == payload
