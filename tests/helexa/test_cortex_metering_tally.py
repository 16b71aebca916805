"""Tokens of streams that no neuron makes: as they are told, or as they can be counted."""

from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_answers import STREAMS

from helexa.cortex.exchange.tally import Tally, about, of_answer
from helexa.cortex.telemetry.metrics_usage import MAX_BYTES
from helexa.wire.sse import DONE, event

GOLDEN = Path(__file__).parents[1] / "golden"
CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
MESSAGE_USAGE = {"input_tokens": 1, "cache_read_input_tokens": 6, "cache_creation_input_tokens": 2, "output_tokens": 1}
ROLE = event({"choices": [{"delta": {"role": "assistant", "content": ""}}], "usage": None})
WORD = event({"choices": [{"delta": {"content": "a"}}], "usage": None})


def told(*pieces: bytes, prompt: int = 100) -> Tally:
    tally = Tally(prompt)
    for piece in pieces:
        assert tally.push(piece) == piece
    return tally


def ended(*pieces: bytes) -> Tally:
    tally = told(*pieces)
    assert tally.finish() == b""
    return tally


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
def test_what_a_server_tells_at_its_end_is_exact_however_its_stream_is_cut(kind: str) -> None:
    stream = STREAMS[kind][1]
    for cut in range(len(stream) + 1):
        tally = ended(stream[:cut], stream[cut:])
        assert (tally.totals, tally.estimated) == ((3, 5, 0), False)


@pytest.mark.parametrize("name", ["anthropic_upstream_stream.sse", "anthropic_stream.sse", "responses_stream.sse"])
def test_a_stream_of_named_events_is_counted_however_it_is_cut(name: str) -> None:
    stream = (GOLDEN / name).read_bytes()
    whole = ended(stream)
    assert whole.totals is not None
    assert min(whole.totals[:2]) > 0
    for cut in range(0, len(stream), 11):
        assert ended(stream[:cut], stream[cut:]).totals == whole.totals


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n", b""])
def test_the_last_event_may_lack_its_end(end: bytes) -> None:
    tally = ended(ROLE + WORD, b"data: " + orjson.dumps({"choices": [], "usage": CHAT_USAGE}) + end)
    assert (tally.totals, tally.estimated) == ((9, 4, 8), False)


def test_a_stream_that_tells_nothing_is_counted_by_its_deltas() -> None:
    tally = Tally(100)
    assert tally.totals is None
    for pieces, expected in (((ROLE,), 0), ((WORD, WORD), 2), ((WORD[:9],), 2), ((WORD[9:], DONE), 3)):
        for piece in pieces:
            tally.push(piece)
        assert (tally.totals, tally.estimated) == ((100, expected, 0), True)


def test_what_was_told_at_the_beginning_alone_is_made_up_for_by_the_deltas() -> None:
    begin = event({"type": "message_start", "message": {"usage": MESSAGE_USAGE}})
    delta = event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}})
    end = event({"type": "message_delta", "usage": {"output_tokens": 3, "input_tokens": None}})
    tally = told(begin)
    assert (tally.totals, tally.estimated) == ((9, 1, 6), False)
    tally.push(delta * 5)
    assert (tally.totals, tally.estimated) == ((9, 5, 6), True)
    tally.push(end)
    assert (tally.totals, tally.estimated) == ((9, 3, 6), False)


def test_the_last_of_a_streams_counts_counts() -> None:
    growing = [
        event({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 9, "completion_tokens": count}})
        for count in range(9)
    ]
    tally = told(*growing)
    assert (tally.totals, tally.estimated) == ((9, 8, 0), False)


def test_what_a_model_says_is_not_taken_for_counts() -> None:
    said = '{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\ndata: {"usage": {"prompt_tokens": 7}}'
    assert told(event({"choices": [{"delta": {"content": said}}]})).totals == (100, 1, 0)


def test_a_neurons_comments_are_nothing_when_others_send_them() -> None:
    assert told(WORD, b":u 1000 1000 0\n", WORD).totals == (100, 2, 0)


def test_an_event_too_long_to_be_read_is_not_read() -> None:
    line = b'data: {"x": "' + b"x" * MAX_BYTES + b'", "usage": {"prompt_tokens": 9}}\n\n'
    assert told(line[:-100], line[-100:]).totals == (100, 0, 0)


def test_an_answer_in_one_piece_that_tells_nothing_is_estimated_by_its_length() -> None:
    body = orjson.dumps({"choices": [{"message": {"content": "a" * 400}}]})
    assert of_answer(body, 7) == ((7, about(len(body)), 0), True)
    assert of_answer(orjson.dumps({"usage": CHAT_USAGE}), 7) == ((9, 4, 8), False)
    assert (about(0), about(1), about(4), about(5)) == (0, 1, 1, 2)


@given(st.lists(st.binary(max_size=30) | st.sampled_from([WORD, b"\n", b'data: {"usage": {', b"data:", b'"usage":{}'])))
def test_whatever_comes_is_passed_on_and_counted_once(pieces: list[bytes]) -> None:
    apart, together = ended(*pieces), ended(b"".join(pieces))
    assert (apart.totals is None) == (not pieces)
    if pieces:
        assert apart.totals == together.totals


@given(st.lists(st.integers(0, len(WORD) * 5)))
def test_deltas_are_counted_once_however_they_are_cut(cuts: list[int]) -> None:
    stream = WORD * 5
    ends = sorted({0, len(stream), *cuts})
    assert told(*(stream[start:end] for start, end in pairwise(ends))).totals == (100, 5, 0)
