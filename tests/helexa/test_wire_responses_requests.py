"""Requests for responses, read into chats: every setting, and a sentence for whatever is wrong."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from response_requests import PIXEL, STATELESS, TOOL, body, call, chat, output, refused, thought, user

from helexa.wire import chat as wire_chat
from helexa.wire.errors import ApiError
from helexa.wire.responses.requests import stateless, to_chat

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_whole_request_becomes_this_chat() -> None:
    request = orjson.loads((GOLDEN / "responses_request.json").read_bytes())
    translated = to_chat(request)
    expected = orjson.loads((GOLDEN / "responses_request_chat.json").read_bytes())
    assert translated.chat == expected
    assert translated.warnings == (
        STATELESS,
        "Input items of type 'web_search_call' are passed over: they belong to tools that run elsewhere.",
        "Tools of type 'web_search' are passed over: only functions can be called here.",
        "Tools of type 'namespace' are passed over: only functions can be called here.",
    )


def test_a_string_is_what_the_user_says() -> None:
    assert chat() == {"model": "helexa/tiny", "messages": [user("Hi")]}


def test_a_chat_of_ours_passes_the_check_of_chats() -> None:
    request = body(
        input=[user("Look!"), call(), output("a cat")],
        tools=[TOOL],
        tool_choice="auto",
        stream=True,
        max_output_tokens=9,
    )
    parsed = wire_chat.parse(to_chat(request).chat)
    assert (parsed.stream, parsed.include_usage, parsed.sampling.max_tokens) == (True, True, 9)
    assert [message["role"] for message in parsed.messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"max_output_tokens": 16}, {"max_completion_tokens": 16}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": None}}, {}),
        ({"reasoning": None, "text": None, "tools": None, "metadata": None, "include": None}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False, "stream_options": {"include_obfuscation": True}}, {}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": False}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": False},
                }
            },
        ),
        ({"seed": 7, "stop": ["x"], "top_k": 4, "user": "u"}, {"seed": 7, "stop": ["x"], "top_k": 4, "user": "u"}),
        ({"chat_template_kwargs": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
        (
            {
                "service_tier": "flex",
                "prompt_cache_key": "k",
                "max_tool_calls": 3,
                "unknown": 1,
                "metadata": {"a": "b"},
            },
            {},
        ),
        ({"previous_response_id": None, "conversation": None, "background": False, "truncation": "disabled"}, {}),
    ],
)
def test_settings_have_their_names_of_chats(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = chat(**fields)
    assert {key: value for key, value in found.items() if key not in ("model", "messages")} == expected


FUNCTION = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}, "strict": True},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tools": []}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {}),
        ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [FUNCTION], "tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [FUNCTION], "tool_choice": "required"}),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"tools": [FUNCTION], "parallel_tool_calls": False}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "look"}},
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        ),
        (
            {
                "tools": [TOOL, {**TOOL, "name": "leap"}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "look"}, {"type": "mcp", "server_label": "x"}],
                },
            },
            {"tools": [FUNCTION], "tool_choice": "required"},
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
            {},
        ),
        (
            {"tools": [{"type": "function", "name": "a", "parameters": None, "strict": None}]},
            {"tools": [{"type": "function", "function": {"name": "a"}}]},
        ),
    ],
)
def test_tools_have_their_shape_of_chats(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = chat(**fields)
    assert {key: value for key, value in found.items() if key not in ("model", "messages")} == expected


@pytest.mark.parametrize("kind", ['x"\r\nSet-Cookie: a', "ü", "", "a" * 65])
def test_a_warning_holds_no_text_that_a_header_could_not(kind: str) -> None:
    (warning,) = to_chat(body(tools=[{"type": kind}])).warnings
    assert warning == "Tools of type '?' are passed over: only functions can be called here."


@pytest.mark.parametrize("store", [True, None])
def test_storing_is_answered_with_a_warning(store: object) -> None:
    assert to_chat(body(store=store)).warnings == (STATELESS,)
    assert stateless({"model": "m", "store": store}) == (STATELESS,)
    assert stateless({"model": "m", "store": False}) == ()


def test_shortening_is_answered_with_a_warning() -> None:
    assert to_chat(body(truncation="auto")).warnings == (
        "'truncation' is passed over: input that is too long is refused, not shortened.",
    )


def test_a_response_cannot_be_continued() -> None:
    error = refused(previous_response_id="resp_1")
    assert (error.status, error.code, error.param) == (
        400,
        "previous_response_id_not_supported",
        "previous_response_id",
    )
    with pytest.raises(ApiError):
        stateless({"previous_response_id": "resp_1"})


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": 7}, "invalid_value", "model"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": 7}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [thought("x")]}, "invalid_value", "input"),
        ({"input": ["x"]}, "invalid_value", "input"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"role": "user", "content": 7}]}, "invalid_value", "input[0].content"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "invalid_value", "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"content": "x"}]}, "missing_required_parameter", "input[0].role"),
        ({"input": [user("a"), {"type": "mesage"}]}, "invalid_value", "input[1].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "unsupported_value", "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"text": "x"}]}]},
            "missing_required_parameter",
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": [{"type": "smell"}]}]}, "invalid_value", "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "missing_required_parameter",
            "input[0].content[0].text",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "unsupported_value",
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "missing_required_parameter",
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com"}]}]},
            "unsupported_value",
            "input[0].content[0].file_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
            "missing_required_parameter",
            "input[0].content[0].input_audio.format",
        ),
        ({"input": [{**call(), "call_id": None}]}, "missing_required_parameter", "input[0].call_id"),
        ({"input": [{**call(), "name": ""}]}, "invalid_value", "input[0].name"),
        ({"input": [{**call(), "arguments": {}}]}, "invalid_value", "input[0].arguments"),
        ({"input": [output(None)]}, "missing_required_parameter", "input[0].output"),
        ({"input": [output({"a": 1})]}, "invalid_value", "input[0].output"),
        (
            {"input": [{"type": "function_call_output", "output": "x"}]},
            "missing_required_parameter",
            "input[0].call_id",
        ),
        ({"input": [{"type": "reasoning", "content": "x"}]}, "invalid_value", "input[0].content"),
        ({"input": [{"type": "reasoning", "summary": [{}]}]}, "missing_required_parameter", "input[0].summary[0].text"),
        ({"instructions": 7}, "invalid_value", "instructions"),
        ({"conversation": "conv_1"}, "unsupported_value", "conversation"),
        ({"conversation": {"id": "conv_1"}}, "unsupported_value", "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "unsupported_value", "prompt"),
        ({"background": True}, "unsupported_value", "background"),
        ({"background": "yes"}, "invalid_value", "background"),
        ({"store": "no"}, "invalid_value", "store"),
        ({"stream": 1}, "invalid_value", "stream"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"max_output_tokens": True}, "invalid_value", "max_output_tokens"),
        ({"top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"include": "x"}, "invalid_value", "include"),
        ({"include": [7]}, "invalid_value", "include"),
        ({"metadata": []}, "invalid_value", "metadata"),
        ({"max_tool_calls": "x"}, "invalid_value", "max_tool_calls"),
        ({"prompt_cache_key": 7}, "invalid_value", "prompt_cache_key"),
        ({"safety_identifier": 7}, "invalid_value", "safety_identifier"),
        ({"user": {}}, "invalid_value", "user"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": PIXEL}]}]},
            "invalid_value",
            "input[0].content",
        ),
        ({"truncation": "maybe"}, "invalid_value", "truncation"),
        ({"reasoning": "high"}, "invalid_value", "reasoning"),
        ({"reasoning": {"effort": "most"}}, "invalid_value", "reasoning.effort"),
        ({"text": []}, "invalid_value", "text"),
        ({"text": {"format": "json"}}, "invalid_value", "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter", "text.format.name"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a"}}},
            "missing_required_parameter",
            "text.format.schema",
        ),
        ({"text": {"verbosity": "loud"}}, "invalid_value", "text.verbosity"),
        ({"tools": {}}, "invalid_value", "tools"),
        ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
        ({"tools": [{"type": "function", "name": ""}]}, "invalid_value", "tools[0].name"),
        ({"tools": [{**TOOL, "parameters": []}]}, "invalid_value", "tools[0].parameters"),
        ({"tools": [{**TOOL, "strict": "yes"}]}, "invalid_value", "tools[0].strict"),
        ({"tools": [TOOL], "tool_choice": "any"}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": []}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {}}, "missing_required_parameter", "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "unsupported_value", "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "leap"}}, "invalid_value", "tool_choice.name"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "all", "tools": []}},
            "invalid_value",
            "tool_choice.mode",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}},
            "unsupported_value",
            "tool_choice",
        ),
        ({"tool_choice": "required"}, "unsupported_value", "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, "invalid_value", "parallel_tool_calls"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    error = refused(**fields)
    assert (error.status, error.code, error.param) == (400, code, param)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "user", "message", "input_text", "function", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "text",
                    "name",
                    "call_id",
                    "output",
                    "summary",
                    "arguments",
                    "input",
                    "mode",
                    "tools",
                    "format",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "metadata",
        "store",
        "stream",
        "top_logprobs",
    ]
)


@given(st.dictionaries(KEYS, JSON))
def test_any_object_is_read_or_refused(given_body: dict[str, Any]) -> None:
    with suppress(ApiError):
        orjson.dumps(to_chat({"model": "m", "input": "Hi", **given_body}).chat)
