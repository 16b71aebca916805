"""The frames between neuron and worker: what goes in comes out, however the bytes are cut; nothing else comes out."""

import struct
from pathlib import Path
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.engine import protocol
from helexa.engine.protocol import (
    MAX_FRAME_BYTES,
    Abort,
    Began,
    Dying,
    Failed,
    Finished,
    Frame,
    FrameReader,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    ModelLoad,
    Progress,
    ProtocolError,
    ScoringParams,
    Submit,
    TokenDelta,
    TokenLogprob,
    Tokens,
    Unload,
    Unloaded,
    encode,
)
from helexa.wire.sampling import MAX_SEED, SamplingParams

GOLDEN = Path(__file__).parents[1] / "golden" / "frames.txt"
SAMPLING = SamplingParams(
    n=2,
    max_tokens=7,
    min_tokens=1,
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    min_p=0.1,
    presence_penalty=0.5,
    frequency_penalty=-0.5,
    repetition_penalty=1.1,
    logit_bias=((7, -100.0),),
    seed=-MAX_SEED,
    logprobs=1,
    stop_token_ids=(1, 2),
    grammar="start: /a+/",
)
LOAD = ModelLoad("org/model", 2, 1, 9, 3, 4, 50, 16, 1, 8, 1.5, 64, 16)
EXAMPLES: dict[str, Frame] = {
    "hello": Hello(1, 4711, "cuda:0", "2.13.0"),
    "load": Load("org/model", "/models/m"),
    "load-memory": Load("org/model", "/models/m", 24 * 2**30),
    "load-quant": Load("org/model", "/models/m", quant="int4"),
    "unload": Unload("org/model"),
    "submit": Submit("cpu/1", "org/model", [1, 2, 300_000], SAMPLING, "team", -1),
    "submit-defaults": Submit("cpu/2", "org/model", [0]),
    "submit-scoring": Submit("cpu/4", "org/model", [0, 1], ScoringParams(max_tokens=1, logprobs=2, prompt_logprobs=2)),
    "submit-progress": Submit("cpu/3", "org/model", [0], progress=[Progress(0, [5, 6]), Progress(2)]),
    "abort": Abort("cpu/1"),
    "abort-choice": Abort("cpu/1", 1),
    "loading": Loading("org/model", 3 * 2**30, 15 * 2**30),
    "loaded": Loaded("org/model", 1200, 32_768, 1.5, 800, 64),
    "load-failed": LoadFailed("org/model", "OSError: naïve"),
    "unloaded": Unloaded("org/model"),
    "began": Began(["cpu/1", "cpu/2"]),
    "tokens": Tokens(12, [TokenDelta("cpu/1", [5]), TokenDelta("cpu/2", [6, 7])]),
    "tokens-logprobs": Tokens(13, [TokenDelta("cpu/1", [5], 1, [TokenLogprob(-0.5, [(5, -0.5), (6, -1.0)])])]),
    "tokens-prompt": Tokens(
        14,
        [
            TokenDelta(
                "cpu/4", [5, 6], 0, [TokenLogprob(None, prompt=True), TokenLogprob(-0.5, [(6, -0.5)], prompt=True)]
            )
        ],
    ),
    "finished": Finished("cpu/1", "length", 20, 7),
    "finished-cached": Finished("cpu/1", "stop", 20, 7, 1, 16),
    "failed": Failed("cpu/1", "context_length_exceeded", "prompt of 0 tokens, context of 4096"),
    "dying": Dying("the device is broken (RuntimeError: CUDA error)"),
    "heartbeat": Heartbeat(12, 0.25, loading=True, models=[LOAD]),
    "heartbeat-step": Heartbeat(13, 0.25, loading=False, models=[], tokens=512, longest=1.5, largest=2048),
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGER = st.integers(-(2**63), 2**63 - 1)
IDS = st.lists(INTEGER, max_size=40)
NUMBER = st.floats(allow_nan=False)
SAMPLINGS = st.builds(
    SamplingParams,
    max_tokens=st.none() | INTEGER,
    temperature=NUMBER,
    top_p=NUMBER,
    top_k=INTEGER,
    min_p=NUMBER,
    seed=st.none() | INTEGER,
    stop_token_ids=st.lists(INTEGER, max_size=5).map(tuple),
    n=INTEGER,
    logit_bias=st.lists(st.tuples(INTEGER, NUMBER), max_size=3).map(tuple),
    logprobs=st.none() | INTEGER,
    grammar=st.none() | TEXT,
)
SCORINGS = st.builds(ScoringParams, max_tokens=st.none() | INTEGER, logprobs=INTEGER, prompt_logprobs=INTEGER)
LOGPROBS = st.builds(TokenLogprob, st.none() | NUMBER, st.lists(st.tuples(INTEGER, NUMBER), max_size=3), st.booleans())
LOADS = st.builds(ModelLoad, TEXT, INTEGER, INTEGER, step_seconds=NUMBER)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, INTEGER, INTEGER, TEXT, TEXT),
    st.builds(Load, TEXT, TEXT, st.none() | INTEGER),
    st.builds(Unload, TEXT),
    st.builds(
        Submit,
        TEXT,
        TEXT,
        IDS,
        SAMPLINGS | SCORINGS,
        TEXT,
        INTEGER,
        st.lists(st.builds(Progress, INTEGER, IDS), max_size=3),
    ),
    st.builds(Began, st.lists(TEXT, max_size=4)),
    st.builds(Dying, TEXT),
    st.builds(Abort, TEXT, st.none() | INTEGER),
    st.builds(Loaded, TEXT, INTEGER, INTEGER, NUMBER, INTEGER, INTEGER),
    st.builds(Loading, TEXT, INTEGER, INTEGER),
    st.builds(LoadFailed, TEXT, TEXT),
    st.builds(Unloaded, TEXT),
    st.builds(
        Tokens, INTEGER, st.lists(st.builds(TokenDelta, TEXT, IDS, INTEGER, st.lists(LOGPROBS, max_size=2)), max_size=4)
    ),
    st.builds(Finished, TEXT, TEXT, INTEGER, INTEGER, INTEGER, INTEGER),
    st.builds(Failed, TEXT, TEXT, TEXT),
    st.builds(Heartbeat, INTEGER, NUMBER, st.booleans(), st.lists(LOADS), INTEGER, NUMBER, INTEGER),
)


def framed(body: object) -> bytes:
    packed: bytes = msgpack.packb(body)
    return struct.pack(">I", len(packed)) + packed


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(frame) for frame in EXAMPLES.values()} == set(get_args(Frame))


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_bytes(name: str) -> None:
    """The protocol is fixed: other bytes are another protocol and need another `VERSION`."""
    golden = dict(line.split(maxsplit=1) for line in GOLDEN.read_text().splitlines())
    assert encode(EXAMPLES[name]).hex() == golden[name]
    assert FrameReader().push(bytes.fromhex(golden[name])) == [EXAMPLES[name]]


def test_golden_bytes_are_of_this_version() -> None:
    assert protocol.VERSION == 6


@given(st.lists(FRAMES, max_size=5))
def test_what_is_encoded_is_read_back(frames: list[Frame]) -> None:
    assert FrameReader().push(b"".join(map(encode, frames))) == frames


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_split_in_two(name: str) -> None:
    frames = [EXAMPLES[name], EXAMPLES["abort"]]
    data = b"".join(map(encode, frames))
    for cut in range(len(data) + 1):
        reader = FrameReader()
        assert reader.push(data[:cut]) + reader.push(data[cut:]) == frames


@given(st.lists(FRAMES, max_size=4), st.data())
def test_any_split_into_many(frames: list[Frame], data: st.DataObject) -> None:
    stream, reader, found = b"".join(map(encode, frames)), FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.push(stream[:size])
        stream = stream[size:]
    assert found == frames


def test_byte_by_byte() -> None:
    reader = FrameReader()
    stream = b"".join(map(encode, EXAMPLES.values()))
    assert [frame for byte in stream for frame in reader.push(bytes([byte]))] == list(EXAMPLES.values())


def test_an_oversized_length_is_refused_before_its_body_comes() -> None:
    with pytest.raises(ProtocolError, match=f"{MAX_FRAME_BYTES + 1} bytes; at most {MAX_FRAME_BYTES}"):
        FrameReader().push(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_the_largest_length_is_waited_for() -> None:
    assert FrameReader().push(struct.pack(">I", MAX_FRAME_BYTES)) == []


@given(st.binary(min_size=1, max_size=60))
def test_garbage_is_a_protocol_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().push(struct.pack(">I", len(body)) + body)


def test_an_empty_body_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        FrameReader().push(struct.pack(">I", 0))


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        [],
        {},
        "Abort",
        {"_type": None},
        {"_type": ["Abort"], "request": "r"},
        {"_type": "Reboot"},
        {"_type": "TokenDelta", "request": "r", "ids": []},
        {"_type": "Abort"},
        {"_type": "Abort", "request": None},
        {"_type": "Abort", "request": 5},
        {"_type": "Abort", "request": b"r"},
        {"_type": "Hello", "version": "1", "pid": 1, "device": "cpu", "torch": "2"},
        {"_type": "Hello", "version": True, "pid": 1, "device": "cpu", "torch": "2"},
        {"_type": "Hello", "version": 1.0, "pid": 1, "device": "cpu", "torch": "2"},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": "123"},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": 3},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": [1, "2"]},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": [1.5]},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": [1], "sampling": {"temperature": "hot"}},
        {"_type": "Submit", "request": "r", "model": "m", "prompt_ids": [1], "sampling": {"max_tokens": "7"}},
        {"_type": "Tokens", "step": 1, "deltas": [{"request": "r"}]},
        {"_type": "Heartbeat", "step": 1, "stalled_seconds": 0.0, "loading": 1, "models": []},
    ],
    ids=repr,
)
def test_a_wrong_type_is_a_protocol_error(body: object) -> None:
    """Nothing is converted: a worker that is sent the text "123" for three ids must not generate from them."""
    with pytest.raises(ProtocolError):
        FrameReader().push(framed(body))


def test_a_whole_number_may_stand_where_a_fraction_is_meant() -> None:
    (frame,) = FrameReader().push(encode(Submit("r", "m", [1], SamplingParams(temperature=0, top_p=1))))
    assert isinstance(frame, Submit)
    assert (frame.sampling.temperature, frame.sampling.top_p) == (0.0, 1.0)


def test_frames_before_a_broken_one_are_not_lost_in_a_later_push() -> None:
    reader = FrameReader()
    assert reader.push(encode(Abort("r"))) == [Abort("r")]
    with pytest.raises(ProtocolError, match="not a frame"):
        reader.push(framed({"_type": "Abort"}))


def test_parameters_that_score_prompts_stay_what_they_are() -> None:
    """They are a kind of the others, and must not be read as those."""
    for params in (SamplingParams(), SAMPLING, ScoringParams(prompt_logprobs=0)):
        (found,) = FrameReader().push(encode(Submit("r", "m", [1], params)))
        assert isinstance(found, Submit)
        assert type(found.sampling) is type(params)
