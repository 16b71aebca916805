"""Ollama's answers, streams and errors, however their bytes are cut and whatever they are."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from helexa.wire.errors import ApiError
from helexa.wire.ollama.upstream import OllamaReader, error_from, to_completion

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM = (GOLDEN / "ollama_stream.ndjson").read_bytes()
ANSWER = orjson.loads((GOLDEN / "ollama_answer.json").read_bytes())
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"where":"here"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "leap", "arguments": "{}"}},
]
SCORED = {
    "token": "Gr",
    "logprob": -0.5,
    "bytes": [71, 114],
    "top_logprobs": [{"token": "Gr", "logprob": -0.5, "bytes": None}],
}


def line(message: Any = None, **fields: Any) -> bytes:
    shown = {"role": "assistant", "content": ""} if message is None else message
    return (
        orjson.dumps({"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": shown, "done": False, **fields})
        + b"\n"
    )


def end(**fields: Any) -> bytes:
    return line(done=True, **{"done_reason": "stop", **fields})


def read(pieces: list[bytes]) -> list[dict[str, Any]]:
    reader = OllamaReader("helexa/model")
    return [chunk for piece in pieces for chunk in reader.push(piece)] + reader.finish()


def choices(chunks: list[dict[str, Any]]) -> list[Any]:
    return [(choice["delta"], choice["finish_reason"]) for chunk in chunks for choice in chunk["choices"]]


def test_an_answer_becomes_this_completion() -> None:
    found = to_completion(ANSWER, "helexa/model")
    ChatCompletion.model_validate(found)
    assert found.pop("id").startswith("chatcmpl-")
    message = {
        "role": "assistant",
        "content": "Grüße 🦀\n",
        "refusal": None,
        "reasoning_content": "I should look.",
        "tool_calls": CALLS,
    }
    logprobs = {"content": [SCORED], "refusal": None}
    assert found == {
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "helexa/model",
        "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "tool_calls"}],
        "usage": {
            "prompt_tokens": 26,
            "completion_tokens": 282,
            "total_tokens": 308,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_a_stream_becomes_these_chunks() -> None:
    chunks = read([STREAM])
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    assert choices(chunks) == [
        ({"role": "assistant", "content": ""}, None),
        ({"reasoning_content": "I should "}, None),
        ({"reasoning_content": "look."}, None),
        ({"content": "Grüße 🦀\n"}, None),
        ({"tool_calls": [{"index": 0, **CALLS[0]}]}, None),
        ({"tool_calls": [{"index": 1, **CALLS[1]}]}, None),
        ({}, "tool_calls"),
    ]
    assert chunks[3]["choices"][0]["logprobs"] == {"content": [SCORED], "refusal": None}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 308


def without_ids(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in chunk.items() if key != "id"} for chunk in chunks]


EXPECTED = without_ids(read([STREAM]))


@pytest.mark.parametrize("stream", [STREAM, STREAM.replace(b"\n", b"\r\n"), STREAM.replace(b"\n", b"\n\n")])
def test_a_stream_is_the_same_in_every_split_in_two(stream: bytes) -> None:
    assert all(without_ids(read([stream[:cut], stream[cut:]])) == EXPECTED for cut in range(len(stream) + 1))


def test_a_stream_is_the_same_byte_by_byte() -> None:
    assert without_ids(read([bytes([byte]) for byte in STREAM])) == EXPECTED


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    assert without_ids(read([STREAM[a:b] for a, b in pairwise(places)])) == EXPECTED


def test_chunks_come_with_their_lines() -> None:
    reader = OllamaReader("m")
    found = [(len(reader.push(each)), reader.complete) for each in STREAM.splitlines(keepends=True)]
    assert [count for count, _ in found] == [2, 1, 1, 1, 1, 2]
    assert [complete for _, complete in found] == [False] * 5 + [True]


def test_a_last_line_may_lack_its_end() -> None:
    assert without_ids(read([STREAM[:-1]])) == EXPECTED


@pytest.mark.parametrize("cut", [0, 1, 200, STREAM.rfind(b"\n", 0, -1) + 1])
def test_a_stream_that_was_cut_off_is_noticed(cut: int) -> None:
    reader = OllamaReader("m")
    reader.push(STREAM[:cut])
    with pytest.raises(ValueError, match=r"^it "):
        reader.finish()


@pytest.mark.parametrize(
    "bytes_", [b"<html>Bad gateway</html>\n", b"\xff\xfe\n", b"[]\n", b"7\n", b'{"done":false}\n', b'{"message":"x"}\n']
)
def test_what_is_no_line_of_ollamas_is_noticed(bytes_: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it [a-z ]*"):
        OllamaReader("m").push(bytes_)


def test_what_comes_after_the_end_is_passed_over() -> None:
    assert len(read([end(), b"garbage\n", end(), b"more"])) == 3


@pytest.mark.parametrize(
    ("bytes_", "status", "code"),
    [
        (b'{"error":"the model runner has stopped"}\n', 502, "upstream_error"),
        (b'{"error":"slow down","status":429}\n', 429, "rate_limit_exceeded"),
        (b'{"error":"odd","status":7}\n', 502, "upstream_error"),
    ],
)
def test_a_line_with_an_error_is_raised(bytes_: bytes, status: int, code: str) -> None:
    reader = OllamaReader("m")
    reader.push(line())
    with pytest.raises(ApiError) as caught:
        reader.push(bytes_)
    assert (caught.value.status, caught.value.code) == (status, code)
    with pytest.raises(ApiError):
        read([bytes_[:-1]])


@pytest.mark.parametrize(
    ("fields", "called", "reason"),
    [
        ({"done_reason": "stop"}, False, "stop"),
        ({"done_reason": "length"}, False, "length"),
        ({"done_reason": "length"}, True, "length"),
        ({"done_reason": "stop"}, True, "tool_calls"),
        ({"done_reason": None}, False, "stop"),
        ({"done_reason": "load"}, False, "stop"),
    ],
)
def test_ends_have_the_reasons_of_chats(fields: dict[str, Any], *, called: bool, reason: str) -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]}
    message = calls if called else {"role": "assistant", "content": "Hi"}
    answer = {"message": message, "done": True, **fields}
    assert to_completion(answer, "m")["choices"][0]["finish_reason"] == reason
    assert choices(read([orjson.dumps(answer)]))[-1] == ({}, reason)


def test_everything_may_come_in_one_last_line() -> None:
    found = read([orjson.dumps(ANSWER)])
    assert [list(delta) for delta, _ in choices(found)] == [
        ["role", "content"],
        ["reasoning_content"],
        ["content"],
        ["tool_calls"],
        ["tool_calls"],
        [],
    ]
    assert sum(choice["logprobs"] is not None for chunk in found for choice in chunk["choices"]) == 1


def test_log_probabilities_without_a_text_go_with_the_end() -> None:
    chunks = read([end(logprobs=[{"token": "x", "logprob": -1.0}])])
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["token"] == "x"


def test_calls_of_older_servers_get_ids() -> None:
    calls = [{"function": {"name": "look", "arguments": '{"a":1}'}}, {"function": {"name": "look"}}, {}, 7]
    found = to_completion({"message": {"role": "assistant", "content": "", "tool_calls": calls}}, "m")
    first, second = found["choices"][0]["message"]["tool_calls"]
    assert first["id"].startswith("call_")
    assert first["id"] != second["id"]
    assert [first["function"]["arguments"], second["function"]["arguments"]] == ['{"a":1}', "{}"]


@pytest.mark.parametrize("stamp", [None, 7, "yesterday", ""])
def test_a_time_that_is_none_is_now(stamp: object) -> None:
    found = to_completion({"message": {"content": "Hi"}, "created_at": stamp}, "m")
    assert found["created"] > 1_767_225_600
    assert found["usage"]["total_tokens"] == 0


@pytest.mark.parametrize("answer", [{}, {"message": "x"}, {"response": "x", "done": True}])
def test_an_answer_without_a_message_is_noticed(answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^it sent an answer without a message$"):
        to_completion(answer, "m")


def test_an_answer_may_be_an_error() -> None:
    with pytest.raises(ApiError, match="out of memory"):
        to_completion({"error": "out of memory"}, "m")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"error":"model \'x\' not found"}', ("invalid_request_error", "model_not_found", "model")),
        (400, b'{"error":"\\"m\\" does not support tools"}', ("invalid_request_error", "invalid_value", None)),
        (429, b'{"error":"slow down"}', ("rate_limit_error", "rate_limit_exceeded", None)),
        (503, b'{"error":"server busy"}', ("api_error", "service_unavailable", None)),
        (500, b'{"error":"llama runner process has terminated"}', ("api_error", "upstream_error", None)),
        (401, b'{"error":"unauthorized"}', ("api_error", "upstream_error", None)),
        (500, b'{"error":{"message":"in the other shape"}}', ("api_error", "upstream_error", None)),
    ],
)
def test_errors_are_read(status: int, body: bytes, expected: tuple[str, str, str | None]) -> None:
    found = error_from(status, body)
    assert found is not None
    assert (found.status, (found.type, found.code, found.param)) == (status, expected)
    assert found.message


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[]", b"{}", b'{"error":7}', b'{"error":{}}', b"\xff"])
def test_what_is_no_error_of_ollamas_is_none(body: bytes) -> None:
    assert error_from(500, body) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["content", "thinking", "tool_calls", "function", "name", "arguments", "token"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
KEYS = st.sampled_from(["message", "done", "done_reason", "logprobs", "eval_count", "created_at"])


@given(st.lists(st.dictionaries(KEYS, VALUES), max_size=3))
def test_any_lines_are_chunks_or_a_sentence(lines: list[dict[str, Any]]) -> None:
    try:
        chunks = read([orjson.dumps(each) + b"\n" for each in lines])
    except ValueError as error:
        assert str(error).startswith("it ")  # noqa: PT017 - either way is fine
    else:
        orjson.dumps(chunks)
