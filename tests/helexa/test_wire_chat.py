"""`chat.parse`: what is refused and how, what passes; and the bytes of what is answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire import chat, sse
from helexa.wire.chat import ChatRequest, Head, Usage
from helexa.wire.errors import ApiError
from helexa.wire.fields import parse_object
from helexa.wire.sampling import MAX_SEED

T = TypeVar("T")
GOLDEN = Path(__file__).parents[1] / "golden"
USER = {"role": "user", "content": "hi"}
MISSING = "missing_required_parameter"
ROLES = "'system', 'developer', 'user', 'assistant', 'tool', 'function'"
CONTENT = "expected a string or a list of parts"
NO_GRAMMAR = "this build decodes without a grammar; use 'auto' or 'none'"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def request(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **changes}


def failure(body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        chat.parse(body)
    return raised.value


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in request().items() if name != key}


def saying(*messages: Any) -> dict[str, Any]:
    return request(messages=list(messages))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        (without("model"), "model"),
        (request(model=None), "model"),
        (without("messages"), "messages"),
        (request(messages=None), "messages"),
        (saying({"content": "hi"}), "messages[0].role"),
        (saying({"role": "user"}), "messages[0].content"),
        (saying(USER, {"role": "tool", "content": None}), "messages[1].content"),
        (saying({"role": "user", "content": [{"text": "hi"}]}), "messages[0].content[0].type"),
        (saying({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
        (saying({"role": "assistant", "content": [{"type": "refusal"}]}), "messages[0].content[0].refusal"),
        (saying({"role": "assistant", "tool_calls": [{}]}), "messages[0].tool_calls[0].function"),
        (saying({"role": "assistant", "tool_calls": [{"function": {}}]}), "messages[0].tool_calls[0].function.name"),
        (request(tools=[{"function": {"name": "f"}}]), "tools[0].type"),
        (request(tools=[TOOL, {"type": "function"}]), "tools[1].function"),
        (request(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    ],
)
def test_what_is_missing_is_named(body: dict[str, Any], param: str) -> None:
    error = failure(body)
    assert (error.status, error.type, error.code, error.param) == (400, "invalid_request_error", MISSING, param)
    assert error.message == f"Missing required parameter: '{param}'."


@pytest.mark.parametrize(
    ("changes", "param", "problem"),
    [
        ({"model": 1}, "model", "expected a string"),
        ({"messages": "hi"}, "messages", "expected a list of objects"),
        ({"messages": ["hi"]}, "messages", "expected a list of objects"),
        ({"messages": []}, "messages", "expected at least one message"),
        ({"messages": [{"role": "me", "content": ""}]}, "messages[0].role", f"expected one of {ROLES}"),
        ({"messages": [{"role": ["user"], "content": ""}]}, "messages[0].role", f"expected one of {ROLES}"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", CONTENT),
        ({"messages": [{"role": "assistant", "content": {}}]}, "messages[0].content", CONTENT),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]", "expected an object"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0].text",
            "expected a string",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": "x"}]},
            "messages[0].tool_calls",
            "expected a list of objects",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": "f"}]}]},
            "messages[0].tool_calls[0].function",
            "expected an object",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]},
            "messages[0].tool_calls[0].function.name",
            "expected a string",
        ),
        ({"tools": {}}, "tools", "expected a list of objects"),
        ({"tools": [TOOL] * 129}, "tools", "expected at most 128 tools"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "expected one of 'function'"),
        ({"tools": [{"type": "function", "function": []}]}, "tools[0].function", "expected an object"),
        ({"tools": [{"type": "function", "function": {"name": 1}}]}, "tools[0].function.name", "expected a string"),
        ({"tool_choice": "always"}, "tool_choice", "expected 'auto' or 'none'"),
        ({"tool_choice": ["auto"]}, "tool_choice", "expected 'auto' or 'none'"),
        ({"tool_choice": 0}, "tool_choice", "expected 'auto' or 'none'"),
        ({"tool_choice": ""}, "tool_choice", "expected 'auto' or 'none'"),
        ({"max_tokens": 0}, "max_tokens", "expected an integer between 1 and 2147483647"),
        ({"max_tokens": 1.5}, "max_tokens", "expected an integer between 1 and 2147483647"),
        ({"max_tokens": True}, "max_tokens", "expected an integer between 1 and 2147483647"),
        ({"max_tokens": "16"}, "max_tokens", "expected an integer between 1 and 2147483647"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "expected an integer between 1 and 2147483647"),
        ({"temperature": -0.1}, "temperature", "expected a number between 0 and 2"),
        ({"temperature": 2.1}, "temperature", "expected a number between 0 and 2"),
        ({"temperature": float("nan")}, "temperature", "expected a number between 0 and 2"),
        ({"temperature": False}, "temperature", "expected a number between 0 and 2"),
        ({"temperature": "1"}, "temperature", "expected a number between 0 and 2"),
        ({"top_p": 0}, "top_p", "expected a number above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p", "expected a number between 0 and 1"),
        ({"top_p": "x"}, "top_p", "expected a number between 0 and 1"),
        ({"top_k": -2}, "top_k", "expected an integer between -1 and 2147483647"),
        ({"min_p": 2}, "min_p", "expected a number between 0 and 1"),
        ({"seed": 0.5}, "seed", f"expected an integer between {-MAX_SEED} and {MAX_SEED}"),
        ({"seed": 2**63}, "seed", f"expected an integer between {-MAX_SEED} and {MAX_SEED}"),
        ({"stop": 1}, "stop", "expected a string or a list of strings"),
        ({"stop": {}}, "stop", "expected a string or a list of strings"),
        ({"stop": ["a", None]}, "stop", "expected a string or a list of strings"),
        ({"stop": ""}, "stop", "expected at most 16 strings of 1 to 256 characters"),
        ({"stop": ["x"] * 17}, "stop", "expected at most 16 strings of 1 to 256 characters"),
        ({"stop": "x" * 257}, "stop", "expected at most 16 strings of 1 to 256 characters"),
        ({"stream": 1}, "stream", "expected a boolean"),
        ({"stream": "true"}, "stream", "expected a boolean"),
        ({"stream_options": {}}, "stream_options", "only allowed together with 'stream': true"),
        ({"stream": True, "stream_options": []}, "stream_options", "expected an object"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "expected a boolean",
        ),
        ({"chat_template_kwargs": []}, "chat_template_kwargs", "expected an object"),
        ({"n": 0}, "n", "expected an integer between 1 and 128"),
        ({"logprobs": 1}, "logprobs", "expected a boolean"),
        ({"presence_penalty": 3}, "presence_penalty", "expected a number between -2 and 2"),
        ({"frequency_penalty": "0"}, "frequency_penalty", "expected a number between -2 and 2"),
        ({"logit_bias": []}, "logit_bias", "expected an object"),
        ({"response_format": "json"}, "response_format", "expected an object"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(changes: dict[str, Any], param: str, problem: str) -> None:
    error = failure(request(**changes))
    assert error.message == f"Invalid value for '{param}': {problem}."
    expected = (400, "invalid_request_error", "invalid_value", param)
    assert (error.status, error.type, error.code, error.param) == expected


@pytest.mark.parametrize(
    ("changes", "param", "problem"),
    [
        ({"n": 2}, "n", "this build returns one choice per request"),
        ({"logprobs": True}, "logprobs", "this build does not return log probabilities"),
        ({"presence_penalty": 0.5}, "presence_penalty", "only 0 is supported by this build"),
        ({"repetition_penalty": 1.2}, "repetition_penalty", "only 1 is supported by this build"),
        ({"frequency_penalty": -1}, "frequency_penalty", "only 0 is supported by this build"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "this build does not bias logits"),
        (
            {"response_format": {"type": "json_object"}},
            "response_format",
            "this build decodes without a grammar; only 'text' is supported",
        ),
        ({"response_format": {}}, "response_format", "this build decodes without a grammar; only 'text' is supported"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice", NO_GRAMMAR),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice", NO_GRAMMAR),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "the loaded models read text parts only",
        ),
    ],
)
def test_what_this_build_would_ignore_is_refused(changes: dict[str, Any], param: str, problem: str) -> None:
    error = failure(request(**changes))
    assert error.message == f"Unsupported value for '{param}': {problem}."
    assert (error.status, error.code, error.param) == (400, "unsupported_value", param)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 1, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}},
        {"response_format": {"type": "text"}, "tool_choice": "auto", "tools": [], "stop": None},
        {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "stream": False, "stop": []},
        {"user": "someone", "store": False, "metadata": {}, "service_tier": "auto", "parallel_tool_calls": True},
        dict.fromkeys(
            ("n", "logprobs", "presence_penalty", "logit_bias", "response_format", "tools", "tool_choice", "seed")
        ),
        dict.fromkeys(("temperature", "top_p", "top_k", "stream", "stream_options", "max_tokens", "stop")),
    ],
)
def test_neutral_values_and_null_are_as_absent(changes: dict[str, Any]) -> None:
    assert chat.parse(request(**changes)) == chat.parse(request()) == ChatRequest("m", (USER,))


def test_every_field_arrives() -> None:
    given = request(
        tools=[TOOL],
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=4,
        min_p=0.1,
        seed=-3,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
        chat_template_kwargs={"enable_thinking": False},
    )
    found = chat.parse(given)
    sampling = found.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (7, 0.0, 0.5, 4)
    assert (sampling.min_p, sampling.seed, sampling.stop_token_ids) == (0.1, -3, ())
    assert (found.tools, found.stop, found.stream, found.include_usage) == ((TOOL,), ("a", "b"), True, True)
    assert found.template_kwargs == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"max_tokens": 5, "max_completion_tokens": 9}, 9), ({"max_completion_tokens": 9}, 9), ({"max_tokens": 5}, 5)],
)
def test_the_newer_name_of_the_token_limit_wins(changes: dict[str, Any], expected: int) -> None:
    assert chat.parse(request(**changes)).sampling.max_tokens == expected


def test_minus_one_as_top_k_keeps_all_candidates() -> None:
    assert chat.parse(request(top_k=-1)).sampling.top_k == 0


def test_tools_are_dropped_when_none_may_be_chosen_and_still_checked() -> None:
    assert chat.parse(request(tools=[TOOL], tool_choice="none")).tools == ()
    assert failure(request(tools=[{}], tool_choice="none")).param == "tools[0].type"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
    ],
)
def test_messages_pass_as_sent(message: dict[str, Any]) -> None:
    assert chat.parse(saying(message)).messages == (message,)


KEYS = [*(f for f in ChatRequest.__annotations__ if f != "sampling"), "n", "stop", "stream_options", "tool_choice"]
KEYS += ["temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "logit_bias", "response_format", "logprobs"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["text", "refusal", 3]) | JSON, "text": JSON})
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(chat.ROLES) | JSON,
        "content": st.text() | st.lists(PARTS | JSON, max_size=3) | JSON,
        "tool_calls": st.lists(st.fixed_dictionaries({}, optional={"function": JSON}), max_size=2) | JSON,
    },
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGES, max_size=3) | JSON},
    optional={key: JSON for key in KEYS if key not in ("model", "messages")},
)


def outcome(attempt: Callable[[], T]) -> T | ApiError:
    try:
        return attempt()
    except ApiError as error:
        return error


@given(JSON | BODIES)
def test_any_json_is_a_request_or_an_error_of_the_caller(value: Any) -> None:
    found = outcome(lambda: chat.parse(parse_object(orjson.dumps(value))))
    if isinstance(found, ApiError):
        assert (found.status, found.type) == (400, "invalid_request_error")
        assert orjson.loads(found.body())["error"]["message"].endswith(".")
    else:
        assert 0 < found.sampling.top_p <= 1
        assert found.messages


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_invalid_json(body: bytes) -> None:
    found = outcome(lambda: parse_object(body))
    assert isinstance(found, dict) or (found.status, found.code, found.param) == (400, "invalid_json", None)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"x"', b"null", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match=r"^The request body is not valid JSON: .+\.$"):
        parse_object(body)


HEAD = Head("chatcmpl-1", "helexa/tiny", 1_700_000_000)
USAGE = Usage(12, 30, 5)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("chat_chunk_role.sse", sse.event(HEAD.chunk({"role": "assistant", "content": ""}))),
        ("chat_chunk_content.sse", sse.event(HEAD.chunk({"content": "Grüße 🦀\n"}))),
        ("chat_chunk_end.sse", sse.event(HEAD.chunk({}, "stop"))),
        ("chat_usage_chunk.sse", sse.event(HEAD.usage_chunk(USAGE))),
        (
            "chat_completion.json",
            sse.dumps(HEAD.completion({"role": "assistant", "content": "Hi.", "refusal": None}, "length", USAGE)),
        ),
    ],
)
def test_answers_are_these_bytes(name: str, found: bytes) -> None:
    assert found == (GOLDEN / name).read_bytes()
