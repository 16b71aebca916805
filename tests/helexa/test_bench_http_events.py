"""Server-sent events and their times from pieces cut anywhere, beside a plain reading of the specification."""

import re
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.client.answers import EventTimes
from helexa.bench.client.connections import event_sizes

ATOMS = (b"\n", b"\r", b"\r\n", b"\n\n", b"data", b"data:", b"data: ", b":", b" ", b"x", b"id: 1", b"\xef\xbb\xbf")
texts = st.lists(st.sampled_from((*ATOMS, b"data: {}\n\n", b"data: [DONE]\n\n"))).map(b"".join)
cut_texts = texts.flatmap(lambda text: st.tuples(st.just(text), st.sets(st.integers(0, len(text)))))


def plain_reading(text: bytes) -> list[tuple[int, bytes]]:
    """Each event's data, and the place of the byte that ends it (WHATWG HTML, 9.2.6)."""
    found, data, begin = [], list[bytes](), 3 if text.startswith(b"\xef\xbb\xbf") else 0
    for end in re.finditer(rb"\r\n|\n|\r", text):
        line, begin = text[begin : end.start()], end.end()
        name, _, value = line.partition(b":")
        if line and name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            found.append((end.start(), b"\n".join(data)))
            data = []
    return found


def until_done(events: list[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], bool]:
    ends = [number for number, (_, data) in enumerate(events) if data.strip() == b"[DONE]"]
    return (events[: ends[0]], True) if ends else (events, False)


def read(text: bytes, cuts: set[int]) -> tuple[EventTimes, list[int]]:
    """What is found where each piece comes at the time of its number; and where pieces end."""
    ends = sorted({*cuts, len(text)} - {0})
    events, begin = EventTimes(), 0
    for number, end in enumerate(ends):
        events.push(number, text[begin:end])
        begin = end
    return events, ends


@given(cut_texts)
def test_events_are_those_of_the_specification_with_the_time_of_their_last_byte(case: tuple[bytes, set[int]]) -> None:
    text, cuts = case
    events, ends = read(text, cuts)
    expected, done = until_done(plain_reading(text))
    assert events.found == [(bisect_left(ends, place + 1), data) for place, data in expected]
    assert events.done is done


@given(cut_texts)
def test_a_finished_stream_has_all_its_data(case: tuple[bytes, set[int]]) -> None:
    text, cuts = case
    events, _ = read(text, cuts)
    events.finish(1000)
    expected, _ = until_done(plain_reading(text + (b"\n\n" if not text.endswith(b"\r") else b"\r\r")))
    assert [data for _, data in events.found] == [data for _, data in expected]


@given(texts)
def test_bytes_are_taken_so_that_each_take_ends_where_an_event_does(text: bytes) -> None:
    sizes = event_sizes(text or b"x")
    assert sum(sizes) == len(text or b"x")
    assert min(sizes) > 0
    for end in list(accumulate(sizes))[:-1]:
        assert text[:end].endswith((b"\n\n", b"\n\r\n", b"\r\r"))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_events_that_came_together_are_taken_one_by_one(line_end: bytes) -> None:
    one = b"data: x" + 2 * line_end
    assert event_sizes(one * 3) == [len(one)] * 3
    chunk = b"%x\r\n%b\r\n" % (len(one), one)
    ends = [len(chunk) - 2, len(chunk), len(chunk)]
    assert event_sizes(chunk * 3) == [*ends[:2], len(chunk) + 2]
    assert event_sizes(chunk * 3 + b"data") == [*ends, 6]
    assert event_sizes(chunk + b"data") == [ends[0], 6]


def test_one_event_is_taken_at_once() -> None:
    assert event_sizes(b"9\r\ndata: x\n\n\r\n") == [14]


def test_a_long_line_in_many_pieces_costs_what_its_bytes_do() -> None:
    events = EventTimes()
    events.push(0.0, b"data: ")
    for _ in range(50_000):
        events.push(1.0, b"x" * 1000)
    events.push(2.0, b"\n\n")
    assert [(at, len(data)) for at, data in events.found] == [(2.0, 50_000_000)]
