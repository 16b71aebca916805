"""What is read off an answer's bytes, of every dialect."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.telemetry.metrics_usage import MAX_BYTES, code_of, has_token, of_body
from helexa.wire.completion import Usage
from helexa.wire.sse import event

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
RESPONSE_USAGE = {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 8}}
MESSAGE_USAGE = {
    "input_tokens": 1,
    "cache_read_input_tokens": 6,
    "cache_creation_input_tokens": 2,
    "output_tokens": 4,
}


@pytest.mark.parametrize(
    ("usage", "cached"), [(CHAT_USAGE, 8), (RESPONSE_USAGE, 8), (MESSAGE_USAGE, 6)], ids=["chat", "response", "message"]
)
def test_the_prompt_counts_with_its_cached_part_in_every_dialect(usage: dict[str, int], cached: int) -> None:
    assert of_body(orjson.dumps({"usage": usage})) == Usage(9, 4, cached_tokens=cached)


@pytest.mark.parametrize(
    "name", ["chat_completion.json", "completions_answer.json", "responses_whole.json", "anthropic_message.json"]
)
def test_an_answer_of_ours_in_one_piece_tells_what_it_has_cost(name: str) -> None:
    found = of_body(golden(name))
    assert found is not None
    assert found.prompt_tokens > 0
    assert found.completion_tokens > 0


def test_counts_of_nothing_are_no_counts() -> None:
    for body in (b"", b"[]", b'"usage"', b'{"usage": null}', b'{"usage": {}}', b'{"usage": 3}', b'{"input_tokens": 3}'):
        assert of_body(body) is None


@pytest.mark.parametrize("wrong", [-1, 1.5, "9", True, None, [], 2**41])
def test_a_count_that_is_none_is_nothing(wrong: object) -> None:
    usage = {"prompt_tokens": wrong, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": wrong}}
    assert of_body(orjson.dumps({"usage": usage})) == Usage(0, 4)


def test_no_more_of_a_prompt_is_cached_than_there_is() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    assert of_body(orjson.dumps({"usage": usage})) == Usage(2, 4, cached_tokens=2)


def test_ollamas_counts_have_names_of_their_own() -> None:
    assert of_body(orjson.dumps({"prompt_eval_count": 9, "eval_count": 4})) == Usage(9, 4)
    assert of_body(b'{"eval_count": 4}') == Usage(0, 4)  # a prompt that it had cached as a whole


def test_what_a_model_says_is_not_taken_for_counts() -> None:
    said = '{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\ndata: {"usage": {"prompt_tokens": 7}}'
    body = orjson.dumps({"choices": [{"message": {"content": said}}], "usage": CHAT_USAGE})
    assert of_body(body) == Usage(9, 4, cached_tokens=8)


def test_an_answer_too_long_to_be_read_by_the_way_is_not_read() -> None:
    body = orjson.dumps({"x": "x" * MAX_BYTES, "usage": CHAT_USAGE})
    assert of_body(body) is None


ANNOUNCING = [
    golden("chat_chunk_role.sse"),
    event({"choices": [{"delta": {"role": "assistant", "content": None, "refusal": None}, "finish_reason": None}]}),
    event({"choices": [], "prompt_filter_results": []}),
    b": ping\n\n",
    b"event: message_start\n" + event({"type": "message_start", "message": {"content": [], "usage": {}}}),
    event({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}),
    event({"type": "ping"}),
    event({"type": "response.created", "response": {"instructions": "x", "text": {"format": {"type": "text"}}}}),
    event({"type": "response.output_item.added", "item": {"content": [], "role": "assistant"}}),
    event({"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}),
]


@pytest.mark.parametrize("events", ANNOUNCING)
def test_what_only_announces_an_answer_is_not_its_first_token(events: bytes) -> None:
    assert not has_token(events)


def spaced(payload: object) -> bytes:
    """As servers write that do not bother to be short."""
    return event(payload).replace(b'":', b'": ')


TOKENS = [
    {"choices": [{"delta": {"content": "a"}}]},
    {"choices": [{"delta": {"content": '"'}}]},
    {"choices": [{"delta": {"reasoning_content": "a"}}]},
    {"choices": [{"delta": {"reasoning": "a"}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [{"text": "a"}]},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "a"}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "response.output_text.delta", "delta": "a"},
    {"type": "response.function_call_arguments.delta", "delta": "{"},
]


@pytest.mark.parametrize("write", [event, spaced])
@pytest.mark.parametrize("payload", TOKENS, ids=str)
def test_the_first_token_is_known_in_every_dialect(payload: object, write: object) -> None:
    assert callable(write)
    assert has_token(write(payload))
    assert has_token(b"".join(ANNOUNCING) + write(payload))


@pytest.mark.parametrize(
    "name", ["completions_chunk_text.sse", "chat_chunk_content.sse", "chat_chunk_call.sse", "responses_stream.sse"]
)
def test_the_first_token_is_known_in_our_own_streams(name: str) -> None:
    assert has_token(golden(name))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (golden("error.json"), "model_not_found"),
        (golden("anthropic_error.json"), orjson.loads(golden("anthropic_error.json"))["error"]["type"]),
        (b'{"error": {"code": 429, "type": "rate_limited"}}', "rate_limited"),
        (b'{"error": {"code": null, "type": ""}}', None),
        (b'{"error": "busy"}', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_an_errors_code_is_its_code_or_its_type(body: bytes, code: str | None) -> None:
    assert code_of(body) == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["usage", "response", "message", "error", "input_tokens", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, st.binary(max_size=40), st.integers(0, 60))
def test_whatever_comes_is_passed_over_or_counted(payload: object, junk: bytes, cut: int) -> None:
    body = orjson.dumps(payload)
    for found in (of_body(body), of_body(junk + b'"usage"'), of_body(event(payload)[:cut] + b'"usage"')):
        assert found is None or min(found.prompt_tokens, found.completion_tokens, found.cached_tokens) >= 0
    has_token(junk + event(payload))
    code_of(body)
