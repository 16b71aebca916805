"""The bytes between ranks: what goes in comes out, and nothing else is taken for a frame."""

import pickle
import socket
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.engine.parallel import frames as parallel_frames
from helexa.engine.parallel.frames import (
    Challenge,
    Drop,
    Join,
    LoadShard,
    RankFrame,
    RankProtocolError,
    Row,
    Step,
    Vote,
    Welcome,
    decode,
    encode,
    receive,
)
from helexa.engine.scheduling.plan import Chunk, StepPlan

INT32 = st.integers(-(2**31), 2**31 - 1)
POSITION = st.integers(0, 2**31)
CHUNKS = st.builds(
    Chunk,
    number=POSITION,
    ids=st.lists(INT32),
    start=POSITION,
    blocks=st.lists(INT32),
    due=st.booleans(),
    scored=POSITION,
)


@pytest.mark.parametrize(
    "frame",
    [
        Challenge(1, b"\0\xff"),
        Join(2, b"proof", b"nonce"),
        Welcome(b"proof", 4711),
        LoadShard("m", "/m", 64, None),
        LoadShard("m", "/m", 64, 2**40, "int4"),
        Vote(17),
        Vote(0, "no room"),
        Drop("m"),
    ],
)
def test_a_frame_comes_out_as_it_went_in(frame: RankFrame) -> None:
    assert decode(encode(frame)[4:]) == frame


@given(st.lists(CHUNKS, min_size=1, max_size=4))
def test_a_step_comes_out_as_it_went_in(chunks: list[Chunk]) -> None:
    plan = StepPlan(tuple(chunks))
    sent = decode(encode(Step.of("m", plan))[4:])
    assert isinstance(sent, Step)
    assert sent.plan == plan


@given(st.binary(max_size=200))
def test_other_bytes_are_no_frame(body: bytes) -> None:
    with pytest.raises(RankProtocolError, match="not a frame"):
        decode(body)


@pytest.mark.parametrize(
    "found",
    [
        {"_type": "Vote", "value": "7", "error": None},
        {"_type": "Vote", "value": True, "error": None},
        {"_type": "Drop", "model": None},
        {"_type": "Drop"},
        {"_type": "Step", "model": "m", "rows": [{"number": 1, "start": 0, "due": 1, "ids": b"", "blocks": b""}]},
        {"_type": "LoadShard", "model": "m", "path": "/m", "running": 1, "memory": None, "quant": "int2"},
        {"_type": "Popen", "args": "sh"},
        ["Vote", 1],
    ],
)
def test_a_frame_of_other_types_is_refused(found: object) -> None:
    with pytest.raises(RankProtocolError):
        decode(msgpack.packb(found))


def test_a_pickle_is_not_even_looked_at() -> None:
    with pytest.raises(RankProtocolError):
        decode(pickle.dumps(Vote(1)))


def test_a_row_of_odd_bytes_is_refused() -> None:
    with pytest.raises(RankProtocolError, match="5 bytes are no row"):
        _ = Step("m", (Row(1, 0, True, b"12345", b""),)).plan


def test_frames_are_read_one_by_one_until_the_other_end_closes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(encode(Drop("a")) + encode(Drop("b")))
        assert [receive(ours), receive(ours), receive(ours)] == [Drop("a"), Drop("b"), None]


@pytest.mark.parametrize("data", [b"\0\0", b"\0\0\0\7\x81"])
def test_a_connection_that_ends_within_a_frame_is_broken(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(data)
        with pytest.raises((OSError, RankProtocolError)):
            receive(ours)


def test_an_overlong_frame_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack(">I", parallel_frames.MAX_FRAME_BYTES + 1))
        with pytest.raises(RankProtocolError, match="are allowed"):
            receive(ours)
