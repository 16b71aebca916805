"""What neuron and gateway tell each other of tokens."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire import meter, sse
from helexa.wire.errors import ApiError
from helexa.wire.meter import Allowance, Reader, Totals

EVENTS = [sse.event({"choices": [{"delta": {"content": text}}]}) for text in ("a", "ü 🦀", "\n:u 9 9 9\n")]
TOLD: list[Totals] = [(7, 1, 0), (7, 2, 0), (7, 5, 3)]
METERED = b"".join(event + meter.comment(told) for event, told in zip(EVENTS, TOLD, strict=True)) + sse.DONE
PLAIN = b"".join(EVENTS) + sse.DONE


def covered(events: bytes) -> Totals | None:
    """What has been used up to the last of the events."""
    found = None
    for event, told in zip(EVENTS, TOLD, strict=True):
        found = told if event in events else found
    return found


def test_a_comment_is_a_line_that_readers_of_events_pass_over() -> None:
    assert meter.comment((12, 3, 0)) == b":u 12 3 0\n"
    assert sse.EventReader().push(METERED) == sse.EventReader().push(PLAIN)


@pytest.mark.parametrize("cut", range(len(METERED) + 1))
def test_no_event_is_handed_out_before_its_totals_wherever_the_stream_is_cut(cut: int) -> None:
    reader, found = Reader(), b""
    for piece in (METERED[:cut], METERED[cut:]):
        found += reader.push(piece)
        assert reader.totals == covered(found)
        assert found.endswith(b"\n\n") or not found
    assert (found, reader.finish(), reader.totals) == (PLAIN, b"", TOLD[-1])


@given(st.lists(st.integers(0, len(METERED)), max_size=20))
def test_the_comments_are_gone_however_often_the_stream_is_cut(cuts: list[int]) -> None:
    ends = sorted({0, len(METERED), *cuts})
    reader, found = Reader(), b""
    for start, end in pairwise(ends):
        found += reader.push(METERED[start:end])
        assert reader.totals == covered(found)
    assert found == PLAIN


LINES = st.sampled_from([
    b"data: a\n", b"\n", b":u 1 2 3\n", b":u 1 2\n", b":u 1 2 3 4\n", b": ping\n", b":u 1 2 3\r\n", b"data: :u 1 2 3\n",
    b":u 4 5 6\n", b":u  1 2 3\n", b"data: [DONE]\n\n", b":u -1 2 3\n", b":u 1 2 " + b"3" * 16 + b"\n",
])  # fmt: skip


@given(st.lists(LINES), st.lists(st.integers(0, 200)))
def test_every_line_but_a_comment_comes_through(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(lines)
    ends = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = Reader()
    found = [reader.push(stream[start:end]) for start, end in pairwise(ends)]
    comments = {b":u 1 2 3\n": (1, 2, 3), b":u 4 5 6\n": (4, 5, 6)}
    assert b"".join(found) + reader.finish() == b"".join(line for line in lines if line not in comments)
    assert reader.totals == next((comments[line] for line in reversed(lines) if line in comments), None)


def test_what_comes_after_the_last_comment_waits_for_the_streams_end() -> None:
    reader = Reader()
    assert reader.push(EVENTS[0] + meter.comment(TOLD[0]) + EVENTS[1]) == EVENTS[0]
    assert reader.push(EVENTS[1]) == b""
    assert reader.totals == TOLD[0]
    assert reader.finish() == EVENTS[1] * 2


def test_an_error_that_ends_a_stream_waits_for_nothing() -> None:
    reader, error = Reader(), sse.event({"error": {"code": "x"}}) + sse.DONE
    assert reader.push(EVENTS[0] + meter.comment(TOLD[0]) + error) == EVENTS[0] + error
    assert Reader().push(error) == error


@given(st.tuples(*[st.integers(0, 10**15 - 1)] * 3))
def test_totals_in_a_header_are_read_as_they_were_written(totals: Totals) -> None:
    assert meter.read_usage(meter.write_usage(totals)) == totals


@pytest.mark.parametrize("value", [None, b"", b"1 2", b"1 2 3 4", b"1 2 -3", b"1  2 3", b" 1 2 3", b"a b c"])
def test_what_is_no_usage_is_none(value: bytes | None) -> None:
    assert meter.read_usage(value) is None


@given(st.builds(Allowance, st.integers(0, 10**12), st.integers(0, 10**12)))
def test_an_allowance_is_read_as_it_was_written(allowance: Allowance) -> None:
    assert meter.read_allowance(meter.write_allowance(allowance)) == allowance


def test_an_allowance_of_less_than_nothing_is_of_nothing() -> None:
    assert meter.read_allowance(meter.write_allowance(Allowance(-3, -1))) == Allowance(0, 0)


@pytest.mark.parametrize("value", [b"", b"1", b"1 2 3", b"-1 2", b"1e3 2", b"9" * 16 + b" 1"])
def test_an_allowance_that_cannot_be_read_is_refused_and_not_ignored(value: bytes) -> None:
    with pytest.raises(ApiError, match="two numbers") as raised:
        meter.read_allowance(value)
    assert (raised.value.status, raised.value.code) == (400, "invalid_value")
    assert meter.read_allowance(None) is None


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 20))
def test_no_answers_to_a_prompt_use_more_than_was_allowed(total: int, output: int, prompt: int, choices: int) -> None:
    each = Allowance(total, output).each(prompt, choices)
    assert each < 1 or (prompt + each * choices <= total and each * choices <= output)
    more = each + 1
    assert prompt + more * choices > total or more * choices > output
