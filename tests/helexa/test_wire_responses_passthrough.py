"""Other servers' responses under ids of ours, however their bytes are cut."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.responses.passthrough import IdRewriter, whole
from helexa.wire.sse import EventReader

GOLDEN = Path(__file__).parents[1] / "golden"
OURS = "resp_ours"
THEIRS = (GOLDEN / "responses_stream.sse").read_bytes()
EXPECTED = THEIRS.replace(b'"id":"resp_1"', b'"id":"resp_ours"')
STREAMS = pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])


def sse(payload: Any, name: bytes = b"response.created") -> bytes:
    return b"event: " + name + b"\ndata: " + orjson.dumps(payload) + b"\n\n"


def passed(pieces: list[bytes]) -> bytes:
    rewriter = IdRewriter(OURS)
    return b"".join([rewriter.push(piece) for piece in pieces] + [rewriter.finish()])


def payloads(stream: bytes) -> list[Any]:
    return [orjson.loads(data) for data in EventReader().push(stream)]


def test_a_whole_response_gets_our_id() -> None:
    theirs = orjson.loads((GOLDEN / "responses_whole.json").read_bytes())
    assert whole(theirs, OURS) == {**theirs, "id": OURS}
    assert theirs["id"] == "resp_1"


@pytest.mark.parametrize("answer", [{}, {"error": {"message": "No."}}, {"object": "list", "id": "x"}])
def test_what_is_no_response_stays_as_it_is(answer: dict[str, Any]) -> None:
    assert whole(answer, OURS) == answer


@STREAMS
def test_a_stream_gets_our_id_in_every_split_in_two(*, crlf: bool) -> None:
    stream = THEIRS.replace(b"\n", b"\r\n") if crlf else THEIRS
    # One place in every seven, and all of the first event: a split costs a whole reading.
    cuts = [*range(900), *range(900, len(stream) + 1, 7)]
    assert all(payloads(passed([stream[:cut], stream[cut:]])) == payloads(EXPECTED) for cut in cuts)


@STREAMS
def test_a_stream_gets_our_id_byte_by_byte(*, crlf: bool) -> None:
    stream = THEIRS.replace(b"\n", b"\r\n") if crlf else THEIRS
    found = passed([bytes([byte]) for byte in stream])
    assert payloads(found) == payloads(EXPECTED)
    if not crlf:
        assert found == EXPECTED


@given(st.lists(st.integers(0, len(THEIRS)), max_size=8))
def test_a_stream_gets_our_id_however_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(THEIRS)]
    assert passed([THEIRS[a:b] for a, b in pairwise(places)]) == EXPECTED


def test_only_events_that_show_the_response_are_written_anew() -> None:
    texts = b'event: response.output_text.delta\r\ndata:  {"delta":"resp_1 \\"response\\": {\\"id\\"" }\r\n\r\n'
    assert passed([texts]) == texts


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"response":{"id":\n\n',
        b'data: {"response":"resp_1"}\n\n',
        b'data: {"response":{"object":"response"}}\n\n',
        b'data: ["response"]\n\n',
        b': "response"\n\n',
        b"\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_what_shows_no_id_is_passed_on_as_it_is(event: bytes) -> None:
    assert passed([event]) == event
    assert passed([event, THEIRS]) == event + EXPECTED


def test_data_on_several_lines_becomes_one() -> None:
    event = b'id: 7\ndata: {"response":\ndata: {"id":"resp_1"}}\nevent: response.created\n\n'
    assert passed([event]) == b'id: 7\nevent: response.created\ndata: {"response":{"id":"resp_ours"}}\n\n'


def test_a_last_event_may_lack_its_blank_line() -> None:
    stream = sse({"response": {"id": "resp_1"}})
    assert passed([stream[:-1]]) == sse({"response": {"id": OURS}})[:-1]
    assert passed([stream[:-2]]) == sse({"response": {"id": OURS}})[:-1]


def test_events_are_passed_on_as_soon_as_they_are_whole() -> None:
    rewriter = IdRewriter(OURS)
    pieces = [piece for byte in THEIRS if (piece := rewriter.push(bytes([byte])))]
    assert [len(payloads(piece)) for piece in pieces] == [1] * len(payloads(THEIRS))
