"""What providers that speak Messages answer: streams however they are cut, whole messages, errors."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from helexa.wire import sse
from helexa.wire.anthropic.errors import envelope
from helexa.wire.anthropic.upstream import MessageReader, error_from, to_completion
from helexa.wire.errors import ApiError

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM = (GOLDEN / "anthropic_upstream_stream.sse").read_bytes()
CHUNKS = (GOLDEN / "anthropic_upstream_chunks.sse").read_bytes()
START = {"type": "message_start", "message": {"id": "msg_01", "model": "m", "usage": {"input_tokens": 3}}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORDS = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
STOP = {"type": "message_stop"}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def stream(*events: Any) -> bytes:
    return b"".join(sse.event(event) for event in events)


def read(*pieces: bytes) -> list[dict[str, Any]]:
    reader = MessageReader(1_700_000_000)
    return [chunk for piece in pieces for chunk in reader.push(piece)] + reader.finish()


def outcome(*pieces: bytes) -> tuple[list[dict[str, Any]], str]:
    """The chunks, and the failure after them."""
    reader = MessageReader(1_700_000_000)
    found: list[dict[str, Any]] = []
    try:
        for piece in pieces:
            found += reader.push(piece)
        found += reader.finish()
    except (ApiError, ValueError) as error:
        return found, str(error)
    return found, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]


def test_a_stream_is_these_chunks_of_the_official_type() -> None:
    chunks = read(STREAM)
    assert b"".join(map(sse.event, chunks)) == CHUNKS
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_a_stream_may_be_cut_anywhere() -> None:
    whole = read(STREAM)
    for place in range(len(STREAM)):
        assert read(STREAM[:place], STREAM[place:]) == whole


def test_a_stream_may_come_byte_by_byte_and_with_other_line_ends() -> None:
    whole = read(STREAM)
    assert read(*(bytes([byte]) for byte in STREAM)) == whole
    assert read(STREAM.replace(b"\n", b"\r\n")) == whole
    assert read(STREAM.removesuffix(b"\n\n")) == whole
    assert read(STREAM + b"data: [DONE]\n\n") == whole


def test_a_stream_that_is_cut_short_is_told_from_a_whole_one() -> None:
    for place in range(len(STREAM) - 2):
        assert outcome(STREAM[:place])[1] == "it ended its stream before the message was complete"


FAILING = stream(START, TEXT, WORDS, OVERLOADED)
MUDDLED = stream(START, TEXT, WORDS) + b"data: <html>\n\n" + stream(STOP)


@given(st.sampled_from([FAILING, MUDDLED, FAILING[:-40], STREAM]), st.lists(st.integers(0, 1500), max_size=6))
def test_what_came_before_a_failure_is_the_same_however_the_stream_is_cut(data: bytes, places: list[int]) -> None:
    assert outcome(*cut(data, places)) == outcome(*(bytes([byte]) for byte in data))


def test_words_before_an_error_are_not_lost() -> None:
    found, failure = outcome(FAILING)
    assert (deltas(found)[-1], failure) == ({"content": "Hi."}, "Overloaded")


def test_a_failure_that_was_told_is_told_again() -> None:
    reader = MessageReader()
    reader.push(FAILING)
    assert reader.complete
    for _ in range(2):
        with pytest.raises(ApiError, match="Overloaded"):
            reader.push(b"")
    with pytest.raises(ApiError, match="Overloaded"):
        reader.finish()


@pytest.mark.parametrize("tail", [b"", b"\n\n"])
def test_an_error_may_be_the_only_event(tail: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read(sse.event(OVERLOADED).removesuffix(b"\n\n") + tail)
    assert (caught.value.status, caught.value.code) == (503, "service_unavailable")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<html>\n\n<body>Bad gateway</body>\n\n", "it ended its stream before the message was complete"),
        (b"", "it ended its stream before the message was complete"),
        (b"data: <html>\n\n", "it sent an event that is not JSON"),
        (b"data: \xff\xfe\n\n", "it sent an event that is not JSON"),
        (b"data: [1]\n\n", "it sent an event that is not an object"),
        (stream(WORDS), "it sent a stream that does not begin with a message"),
        (stream(STOP), "it sent a stream that does not begin with a message"),
        (stream({"id": "chatcmpl-1", "choices": []}), "it sent a stream that does not begin with a message"),
        (stream({"type": "error"}), "it sent an error without a message"),
        (stream({"type": "message_start"}), "it sent no object in 'message'"),
        (stream({"type": "message_start", "message": {"id": 7}}), "it sent no text in 'id'"),
        (stream(START, {**TEXT, "index": "0"}), "it sent a piece of content without its index"),
        (stream(START, {"type": "content_block_start", "index": 0}), "it sent no object in 'content_block'"),
        (stream(START, TEXT, {**WORDS, "delta": {"type": "text_delta"}}), "it sent no text in 'text'"),
        (stream(START, {"type": "message_delta", "usage": 7}), "it sent no object in 'usage'"),
    ],
)
def test_who_does_not_speak_the_dialect_is_told_apart(data: bytes, sentence: str) -> None:
    _, failure = outcome(data)
    assert failure == sentence


def test_what_the_dialect_may_grow_is_passed_over() -> None:
    odd = [
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "poem"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "verse_delta"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "applause"},
    ]
    assert read(stream({"type": "ping"}, START, *odd, TEXT, WORDS, *odd, STOP)) == read(
        stream(START, TEXT, WORDS, STOP)
    )


def test_nothing_more_is_read_once_the_message_has_ended() -> None:
    reader = MessageReader()
    assert [(bool(reader.push(sse.event(each))), reader.complete) for each in (START, TEXT, WORDS, STOP, WORDS)] == [
        (True, False),
        (False, False),
        (True, False),
        (True, True),
        (False, True),
    ]
    assert reader.finish() == []


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def test_arguments_nested_deeper_than_can_be_written_are_refused() -> None:
    block = {**CALL, "input": orjson.loads(nested(300))}
    with pytest.raises(ValueError, match=r"^it sent 'input' nested too deep$"):
        to_completion({**MESSAGE, "content": [block]})
    start = (
        f'data: {{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","input":{nested(300)}}}}}'
    )
    assert outcome(stream(START) + start.encode() + b"\n\n")[1] == "it sent 'input' nested too deep"


def test_a_stream_without_a_reason_ends_all_the_same() -> None:
    assert read(stream(START, STOP))[1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("events", "arguments"),
    [
        ([], "{}"),
        ([""], "{}"),
        (["", '{"a"', ":1}"], '{"a":1}'),
    ],
)
def test_a_call_always_has_arguments(events: list[str], arguments: str) -> None:
    start = {"type": "content_block_start", "index": 1, "content_block": CALL}
    more = [
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": each}}
        for each in events
    ]
    found = deltas(read(stream(START, start, *more, {"type": "content_block_stop", "index": 1}, STOP)))
    calls = [call for delta in found for call in delta.get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == arguments
    assert {call["index"] for call in calls} == {0}


def test_a_call_may_come_with_its_input() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {**CALL, "input": {"a": 1}}}
    found = deltas(read(stream(START, start, {"type": "content_block_stop", "index": 0}, STOP)))
    assert [delta["tool_calls"][0]["function"]["arguments"] for delta in found[1:2]] == ['{"a":1}']
    assert found[2:] == [{}]


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": None, "output_tokens": 2}])
def test_counts_at_the_end_go_over_those_of_the_beginning_where_there_are_any(usage: Any) -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    assert read(stream(START, end, STOP))[-1]["usage"]["prompt_tokens"] == 3


MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_why_it_ended_is_said_in_openais_words(stop_reason: Any, expected: str) -> None:
    whole = to_completion({**MESSAGE, "stop_reason": stop_reason})
    end = {"type": "message_delta", "delta": {"stop_reason": stop_reason}}
    assert whole["choices"][0]["finish_reason"] == expected
    assert read(stream(START, end, STOP))[1]["choices"][0]["finish_reason"] == expected


def test_the_stop_sequence_is_kept_where_vllm_has_it() -> None:
    end = {"stop_reason": "stop_sequence", "stop_sequence": "</done>"}
    whole = to_completion({**MESSAGE, **end})
    chunk = read(stream(START, {"type": "message_delta", "delta": end}, STOP))[1]
    assert [found["choices"][0]["stop_reason"] for found in (whole, chunk)] == ["</done>", "</done>"]


def test_a_message_is_a_completion_of_the_official_type() -> None:
    found = to_completion(MESSAGE)
    ChatCompletion.model_validate(found, strict=True)
    assert found["choices"][0]["message"] == {"role": "assistant", "content": "Hi.", "refusal": None}
    assert found["usage"]["total_tokens"] == 5
    assert found["created"] > 1_700_000_000


@pytest.mark.parametrize(("content", "expected"), [([], ""), ([CALL], None)])
def test_nothing_said_is_an_empty_text_and_beside_a_call_none(content: Any, expected: Any) -> None:
    assert to_completion({**MESSAGE, "content": content})["choices"][0]["message"]["content"] == expected


@pytest.mark.parametrize(
    "message",
    [
        {},
        {**MESSAGE, "type": "completion"},
        {**MESSAGE, "content": "Hi."},
        {**MESSAGE, "content": ["Hi."]},
        {**MESSAGE, "content": [{"type": "text"}]},
        {**MESSAGE, "content": [{"type": "thinking"}]},
        {**MESSAGE, "content": [{**CALL, "input": "{}"}]},
        {**MESSAGE, "content": [{**CALL, "id": None}]},
        {**MESSAGE, "id": None},
        {**MESSAGE, "model": 7},
        {**MESSAGE, "usage": []},
    ],
)
def test_an_answer_that_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(ValueError, match=r"^it sent "):
        to_completion(message)


@pytest.mark.parametrize(
    ("status", "kind", "type_", "code"),
    [
        (400, "invalid_request_error", "invalid_request_error", "invalid_value"),
        (401, "authentication_error", "invalid_request_error", "invalid_api_key"),
        (402, "billing_error", "insufficient_quota", "insufficient_quota"),
        (403, "permission_error", "permission_error", "insufficient_scope"),
        (404, "not_found_error", "invalid_request_error", "model_not_found"),
        (413, "request_too_large", "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
        (500, "api_error", "api_error", "upstream_error"),
        (504, "timeout_error", "api_error", "timeout"),
        (529, "overloaded_error", "api_error", "service_unavailable"),
        (418, "teapot_error", "api_error", "upstream_error"),
    ],
)
def test_a_providers_error_is_one_of_ours(status: int, kind: str, type_: str, code: str) -> None:
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": "No."}, "request_id": "req_1"})
    error = error_from(status, body)
    assert error is not None
    assert (error.status, error.message, error.type, error.code) == (status, "No.", type_, code)
    if kind != "teapot_error":
        assert envelope(error)["error"]["type"] == kind


def test_a_prompt_that_is_too_long_has_its_own_code() -> None:
    message = "prompt is too long: 210000 tokens > 200000 maximum"
    body = orjson.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    error = error_from(400, body)
    assert error is not None
    assert error.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"7",
        b"{}",
        b'{"type":"error"}',
        b'{"type":"error","error":"No."}',
        b'{"type":"error","error":{"type":"api_error"}}',
        b'{"error":{"type":"invalid_request_error","message":"OpenAI\'s"}}',
    ],
)
def test_what_is_not_anthropics_envelope_is_no_error_of_its(body: bytes) -> None:
    assert error_from(500, body) is None
