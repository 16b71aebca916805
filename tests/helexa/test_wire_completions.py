"""Text completions: which requests are taken, and the bytes of answers, one file per shape."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from helexa.wire import completions, sse
from helexa.wire.completion import Usage, token_logprob
from helexa.wire.completions import CompletionRequest, PromptToken, TextHead, TextLogprobs, text_choice
from helexa.wire.errors import ApiError
from helexa.wire.sampling import SamplingParams
from helexa.wire.structured import StructuredOutput

GOLDEN = Path(__file__).parents[1] / "golden"
HEAD = TextHead("cmpl-1", "helexa/tiny", 1_700_000_000)
USAGE = Usage(12, 30, 0, 8)
CRAB = "🦀".encode()
NEUTRAL = SamplingParams()
PLAIN = SamplingParams(max_tokens=16)
ENTRIES = [
    {**token_logprob(b"Hi", -0.5), "top_logprobs": [token_logprob(b"Hi", -0.5), token_logprob(b"Ho", -1.25)]},
    {**token_logprob(CRAB[:2], -0.25), "top_logprobs": [token_logprob(b"!", -0.125)]},
    {**token_logprob(CRAB[2:], -1.0), "top_logprobs": []},
    {**token_logprob(b".", -2.0), "top_logprobs": []},
]


def parse(defaults: SamplingParams = NEUTRAL, vocabulary: int | None = 300, **fields: Any) -> CompletionRequest:
    return completions.parse({"model": "m", "prompt": "Hello", **fields}, defaults, vocabulary)


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    assert caught.value.status == 400
    return caught.value


# requests


def test_what_a_request_that_says_nothing_gets() -> None:
    assert parse() == CompletionRequest("m", ("Hello",), sampling=PLAIN)


def test_a_request_that_says_everything() -> None:
    found = parse(
        suffix=" end",
        echo=True,
        add_special_tokens=False,
        max_tokens=7,
        n=3,
        best_of=3,
        temperature=0.5,
        stop=["a", "b"],
        seed=5,
        logit_bias={"7": -100},
        stream=True,
        stream_options={"include_usage": True},
        user="somebody",
    )
    assert found == CompletionRequest(
        "m",
        ("Hello",),
        suffix=" end",
        echo=True,
        special_tokens=False,
        sampling=SamplingParams(n=3, max_tokens=7, temperature=0.5, seed=5, logit_bias=((7, -100.0),)),
        stop=("a", "b"),
        stream=True,
        include_usage=True,
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ("",)),
        ("Hello", ("Hello",)),
        (["Hello"], ("Hello",)),
        (["a", "", "c"], ("a", "", "c")),
        ([1, 2, 299], ((1, 2, 299),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_prompts(prompt: Any, expected: Any) -> None:
    assert parse(prompt=prompt).prompts == expected


@pytest.mark.parametrize(
    "prompt",
    [
        7,
        True,
        {},
        [],
        [[]],
        [None],
        ["a", 1],
        [1, "a"],
        ["a", [1]],
        [[1], "a"],
        [[1], []],
        [1, True],
        [1.0],
        [-1],
        [300],
    ],
)
def test_prompts_that_are_none(prompt: Any) -> None:
    error = refused(prompt=prompt)
    assert (error.code, error.param) == ("invalid_value", "prompt")


def test_a_prompt_has_to_be_there() -> None:
    assert refused(prompt=None).code == "missing_required_parameter"


def test_how_many_prompts_there_may_be() -> None:
    assert len(parse(prompt=["a"] * 1024).prompts) == 1024
    assert refused(prompt=["a"] * 1025).param == "prompt"
    assert refused(prompt=["a"] * 10, n=103).param == "n"
    assert parse(prompt=["a"] * 10, n=102).sampling.n == 102


@pytest.mark.parametrize(("given_", "expected"), [(None, None), (0, 0), (5, 5)])
def test_log_probabilities_are_a_number_here(given_: int | None, expected: int | None) -> None:
    assert parse(logprobs=given_).sampling.logprobs == expected


@pytest.mark.parametrize("fields", [{"max_tokens": None}, {}, {"max_completion_tokens": None}])
def test_a_length_that_is_not_said_is_openai_s(fields: dict[str, Any]) -> None:
    assert parse(**fields).sampling.max_tokens == 16


def test_a_length_under_its_newer_name_counts() -> None:
    assert parse(max_completion_tokens=40).sampling.max_tokens == 40


def test_the_publisher_s_defaults_fill_in() -> None:
    found = parse(SamplingParams(temperature=0.6, top_k=20), top_p=0.5)
    assert found.sampling == evolve(PLAIN, temperature=0.6, top_k=20, top_p=0.5)


def test_a_structure() -> None:
    assert parse(structured_outputs={"regex": "a+"}).structure == StructuredOutput("regex", "a+", "structured_outputs")


@pytest.mark.parametrize("suffix", ["", None])
def test_nothing_after_the_hole_is_no_hole(suffix: str | None) -> None:
    assert parse(suffix=suffix).suffix is None


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": 7}, "invalid_value", "model"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 5, "min_tokens": 6}, "invalid_value", "min_tokens"),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"logprobs": True}, "invalid_value", "logprobs"),
        ({"logprobs": -1}, "invalid_value", "logprobs"),
        ({"n": 0}, "invalid_value", "n"),
        ({"best_of": 2}, "unsupported_value", "best_of"),
        ({"best_of": "2"}, "invalid_value", "best_of"),
        ({"echo": "yes"}, "invalid_value", "echo"),
        ({"echo": True, "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"logprobs": 1, "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"echo": True, "logprobs": 1, "max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"echo": True, "logprobs": 1, "max_tokens": False}, "invalid_value", "max_tokens"),
        ({"echo": True, "logprobs": 1, "max_tokens": 0, "min_tokens": 1}, "invalid_value", "min_tokens"),
        ({"echo": True, "logprobs": 1, "max_completion_tokens": 5, "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"echo": True, "max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
        ({"echo": True, "logprobs": 0, "suffix": "x"}, "invalid_value", "suffix"),
        ({"suffix": 7}, "invalid_value", "suffix"),
        ({"suffix": "x", "prompt": [1]}, "invalid_value", "suffix"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stream": True, "stream_options": 7}, "invalid_value", "stream_options"),
        ({"ignore_eos": True, "structured_outputs": {"regex": "a"}}, "invalid_value", "ignore_eos"),
        ({"guided_regex": "a"}, "unsupported_value", "guided_regex"),
        ({"temperature": 3}, "invalid_value", "temperature"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], code: str, param: str) -> None:
    error = refused(**fields)
    assert (error.code, error.param) == (code, param)


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"max_completion_tokens": 0}, {"max_tokens": 0, "n": 2}])
def test_no_token_may_be_wanted_where_the_prompt_is_scored(fields: dict[str, Any]) -> None:
    found = parse(echo=True, logprobs=0, **fields)
    assert found.sampling.max_tokens == 0
    assert found.scores_prompts


def test_an_echo_without_log_probabilities_scores_nothing() -> None:
    assert not parse(echo=True).scores_prompts
    assert not parse(logprobs=1).scores_prompts


def test_the_body_is_left_as_it_was() -> None:
    body = {"model": "m", "prompt": "x", "logprobs": 2}
    completions.parse(body, SamplingParams())
    assert body == {"model": "m", "prompt": "x", "logprobs": 2}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["prompt", "suffix", "echo", "logprobs", "n", "best_of", "stop", "stream", "stream_options", "max_tokens"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_no_body_makes_it_fail_in_another_way(fields: dict[str, Any]) -> None:
    with suppress(ApiError):
        assert parse(**fields).prompts


# answers


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("completions_chunk_text.sse", sse.event(HEAD.chunk(text_choice(1, "Grüße 🦀\n")))),
        (
            "completions_chunk_logprobs.sse",
            sse.event(HEAD.chunk(text_choice(0, "Hi", None, TextLogprobs().to_json(ENTRIES[:2])))),
        ),
        ("completions_chunk_end.sse", sse.event(HEAD.chunk(text_choice(0, "", "length")))),
        ("completions_usage_chunk.sse", sse.event(HEAD.usage_chunk(USAGE))),
        ("completions_answer.json", sse.dumps(HEAD.completion([text_choice(0, "Hi.", "stop")], USAGE))),
        (
            "completions_choices.json",
            sse.dumps(
                HEAD.completion(
                    [
                        text_choice(0, "Hi🦀.", "stop", TextLogprobs().to_json(ENTRIES)),
                        text_choice(1, "", "length", TextLogprobs().to_json([])),
                    ],
                    USAGE,
                )
            ),
        ),
    ],
)
def test_answers_are_these_bytes(name: str, found: bytes) -> None:
    assert found == (GOLDEN / name).read_bytes()
    data = found.removeprefix(b"data: ")
    if b'"finish_reason":null' not in data:  # the SDK's type is that of whole answers
        Completion.model_validate(orjson.loads(data))


def test_offsets_are_those_of_characters() -> None:
    found = TextLogprobs().to_json(ENTRIES)
    assert found["text_offset"] == [0, 2, 2, 3]
    assert found["tokens"] == ["Hi", r"bytes:\xf0\x9f", r"bytes:\xa6\x80", "."]
    assert found["token_logprobs"] == [-0.5, -0.25, -1.0, -2.0]


def test_the_picked_token_is_always_among_the_likeliest() -> None:
    found = TextLogprobs().to_json(ENTRIES)["top_logprobs"]
    assert found[0] == {"Hi": -0.5, "Ho": -1.25}
    assert found[1] == {"!": -0.125, r"bytes:\xf0\x9f": -0.25}


@given(st.integers(0, 4), st.integers(0, 4))
def test_offsets_go_on_from_chunk_to_chunk(first: int, second: int) -> None:
    whole, pieces = TextLogprobs().to_json(ENTRIES), TextLogprobs()
    first, second = sorted((first, second))
    parts = [pieces.to_json(part) for part in (ENTRIES[:first], ENTRIES[first:second], ENTRIES[second:])]
    assert [each for part in parts for each in part["text_offset"]] == whole["text_offset"]


# what is known of a prompt


TOKENS = (
    PromptToken.of(b"Hi", 0, None, ()),
    PromptToken.of(b"\xf0\x9f", 2, -0.5, [(b"!", -0.25), (b"\xf0\x9f", -0.5)]),
    PromptToken.of(b"\xa6\x80", 2, -math.inf, [(b"!", -0.25)]),
)


def test_tokens_of_a_prompt_come_before_those_of_the_answer() -> None:
    found = TextLogprobs(3).to_json(ENTRIES[:1], TOKENS)
    assert found == {
        "text_offset": [0, 2, 2, 3],
        "token_logprobs": [None, -0.5, -9999.0, -0.5],
        "tokens": ["Hi", r"bytes:\xf0\x9f", r"bytes:\xa6\x80", "Hi"],
        "top_logprobs": [
            None,
            {"!": -0.25, r"bytes:\xf0\x9f": -0.5},
            {"!": -0.25, r"bytes:\xa6\x80": -9999.0},
            {"Hi": -0.5, "Ho": -1.25},
        ],
    }
