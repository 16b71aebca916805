"""Chats written as Messages requests, and what a provider answers them: whole, or with an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from pydantic import TypeAdapter

from helexa.wire import sse
from helexa.wire.anthropic.upstream import to_completion, to_messages
from helexa.wire.errors import ApiError

GOLDEN = Path(__file__).parents[1] / "golden"
REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
HI = {"role": "user", "content": "Hi."}
HI_BLOCKS = {"role": "user", "content": [{"type": "text", "text": "Hi."}]}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
PNG = "data:image/png;base64,iVBORw0KGgo="
PNG_SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def called(call: str, arguments: Any = "{}") -> dict[str, Any]:
    return {"id": call, "type": "function", "function": {"name": "look", "arguments": arguments}}


def exhaust(value: Any) -> None:
    """Pydantic checks what is iterable while it is read."""
    if isinstance(value, dict):
        for each in value.values():
            exhaust(each)
    elif isinstance(value, list | tuple) or (isinstance(value, Iterator) and not isinstance(value, str)):
        for each in value:
            exhaust(each)


def messages(*said: Any, **more: Any) -> dict[str, Any]:
    found = to_messages({"model": "m", "messages": list(said) or [HI], **more})
    exhaust(REQUEST.validate_python({key: value for key, value in found.items() if key != "stream"}))
    return found


CHAT = {
    "model": "claude-sonnet-5",
    "max_completion_tokens": 4000,
    "max_tokens": 3000,
    "temperature": 1.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop": ["</done>", "\n\n"],
    "user": "u1",
    "seed": 7,
    "presence_penalty": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "high",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
    },
    "tools": [{**TOOL, "function": {**FUNCTION, "strict": True}}, {"type": "function", "function": {"name": "ring"}}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "messages": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": [text("What is in the box?"), {"type": "image_url", "image_url": {"url": PNG}}]},
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I should look.",
            "tool_calls": [called("call_1", '{"box":"a"}'), called("call_2", "")],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "A crab. 🦀"},
        {"role": "tool", "tool_call_id": "call_2", "content": [text("No"), text("such box.")]},
        {"role": "developer", "content": "Today is Friday."},
        {"role": "user", "content": "Well?"},
        {"role": "user", "content": "Go on."},
    ],
}
ANSWER = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        text("I "),
        {**text("look."), "citations": []},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"box": "a"}},
        {"type": "tool_use", "id": "toolu_2", "name": "ring", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 3,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 8,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 5},
        "service_tier": "standard",
    },
}
SHAPES = {
    "anthropic_upstream_request.json": lambda: sse.dumps(to_messages(CHAT)),
    "anthropic_upstream_completion.json": lambda: sse.dumps(to_completion(ANSWER, 1_700_000_000)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_translations_are_these_bytes(name: str) -> None:
    assert SHAPES[name]() == (GOLDEN / name).read_bytes()


def test_a_whole_chat_is_a_request_of_the_official_type() -> None:
    messages(*CHAT["messages"], **{key: value for key, value in CHAT.items() if key not in ("model", "messages")})


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_go_to_the_front(role: str) -> None:
    found = messages({"role": role, "content": "a"}, HI, {"role": role, "content": [text("b")]}, HI)
    assert found["system"] == [text("a"), text("b")]
    assert found["messages"] == [{"role": "user", "content": [text("Hi."), text("Hi.")]}]


def test_empty_texts_are_left_out() -> None:
    empty = {"role": "system", "content": " "}, {"role": "assistant", "content": ""}, {"role": "user", "content": "\n"}
    assert messages(*empty, HI) == {"model": "m", "messages": [HI_BLOCKS], "max_tokens": 8192}


def test_a_tool_may_answer_nothing() -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [called("1")]}
    found = messages(HI, said, {"role": "tool", "tool_call_id": "1", "content": ""})
    assert found["messages"][-1]["content"] == [{"type": "tool_result", "tool_use_id": "1"}]


def test_an_answer_begun_for_the_model_does_not_end_in_white_space() -> None:
    found = messages(HI, {"role": "assistant", "content": "Well, \n"})
    assert found["messages"][-1] == {"role": "assistant", "content": [text("Well,")]}


def test_a_refusal_is_what_the_assistant_said() -> None:
    found = messages(HI, {"role": "assistant", "content": None, "refusal": "No."}, HI)
    assert found["messages"][1]["content"] == [text("No.")]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, {"type": "image", "source": PNG_SOURCE}),
        (
            {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        ),
        (
            {"type": "file", "file": {"filename": "Bill", "file_data": "data:application/pdf;base64,JVBERi0="}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                "title": "Bill",
            },
        ),
    ],
)
def test_images_and_files_are_sources(part: Any, expected: Any) -> None:
    assert messages({"role": "user", "content": [part]})["messages"][0]["content"] == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ('{"a":', {"INVALID_JSON": '{"a":'}),
        ("[]", {"INVALID_JSON": "[]"}),
    ],
)
def test_arguments_become_an_object(arguments: Any, expected: Any) -> None:
    found = messages(HI, {"role": "assistant", "tool_calls": [called("1", arguments)]}, HI)
    assert found["messages"][1]["content"] == [{"type": "tool_use", "id": "1", "name": "look", "input": expected}]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, {"type": "tool", "name": "look"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_a_choice_of_tools_is_said_in_anthropics_words(more: Any, expected: Any) -> None:
    assert messages(tools=[TOOL], **more).get("tool_choice") == expected


def test_a_choice_without_tools_is_none() -> None:
    assert "tool_choice" not in messages(tools=[], tool_choice="none")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
    ],
)
def test_a_function_without_parameters_takes_an_empty_object(parameters: Any, expected: Any) -> None:
    found = messages(tools=[{"type": "function", "function": {"name": "look", "parameters": parameters}}])
    assert found["tools"] == [{"name": "look", "input_schema": expected}]


SAMPLING = {"temperature": 1.5, "top_p": 0.9, "top_k": 40}


@pytest.mark.parametrize(
    ("model", "more", "expected"),
    [
        ("kimi-k3", {}, {"temperature": 1, "top_p": 0.9, "top_k": 40}),
        ("claude-sonnet-4-20250514", {"temperature": 0}, {"temperature": 0, "top_p": 0.9, "top_k": 40}),
        ("claude-haiku-4-5-20251001", {"temperature": 0.5}, {"temperature": 0.5, "top_k": 40}),
        ("claude-haiku-4-5-20251001", {"temperature": None}, {"top_p": 0.9, "top_k": 40}),
        ("claude-opus-4-6", {"top_k": -1}, {"temperature": 1}),
        ("claude-opus-4-7", {}, {}),
        ("claude-opus-5-5", {}, {}),
        ("claude-haiku-4-5-20251001", {"reasoning_effort": "high"}, {}),
        ("claude-haiku-4-5-20251001", {"reasoning_effort": "none"}, {"temperature": 1, "top_k": 40}),
    ],
)
def test_sampling_is_passed_on_as_far_as_the_model_takes_it(model: str, more: Any, expected: Any) -> None:
    found = messages(**{**SAMPLING, "model": model, **more})
    assert {key: found[key] for key in SAMPLING if key in found} == expected


OPUS, HAIKU, OTHER = "claude-opus-5-5", "claude-haiku-4-5-20251001", "kimi-k3"
BUDGET = {"type": "enabled", "budget_tokens": 8192}
ADAPTIVE = {"type": "adaptive"}
OFF = {"type": "disabled"}


@pytest.mark.parametrize(
    ("model", "more", "most", "thinking", "effort"),
    [
        (OPUS, {}, 32_768, None, None),
        (HAIKU, {}, 8192, None, None),
        (OPUS, {"max_tokens": 1}, 1, None, None),
        (HAIKU, {"max_completion_tokens": 1, "max_tokens": 9}, 1, None, None),
        (OPUS, {"reasoning_effort": "max"}, 32_768, ADAPTIVE, "max"),
        (OPUS, {"reasoning_effort": "minimal", "max_tokens": 100}, 100, ADAPTIVE, "low"),
        ("claude-opus-4-6", {"reasoning_effort": "medium"}, 32_768, ADAPTIVE, "medium"),
        ("anthropic/claude-sonnet-4.6", {"reasoning_effort": "medium"}, 32_768, ADAPTIVE, "medium"),
        (HAIKU, {"reasoning_effort": "medium"}, 16_384, BUDGET, None),
        (OTHER, {"reasoning_effort": "medium"}, 16_384, BUDGET, None),
        ("claude-sonnet-4-20250514", {"reasoning_effort": "medium"}, 16_384, BUDGET, None),
        ("claude-3-7-sonnet-20250219", {"reasoning_effort": "medium"}, 16_384, BUDGET, None),
        (HAIKU, {"reasoning_effort": "high", "max_tokens": 16_384}, 16_384, BUDGET, None),
        (HAIKU, {"reasoning_effort": "low", "max_tokens": 2047}, 2047, None, None),
        (HAIKU, {"reasoning_effort": "none"}, 8192, OFF, None),
        (OPUS, {"reasoning_effort": "none"}, 32_768, OFF, None),
        (HAIKU, {"chat_template_kwargs": {"enable_thinking": False}}, 8192, OFF, None),
        (HAIKU, {"chat_template_kwargs": {"enable_thinking": True}}, 16_384, BUDGET, None),
        (HAIKU, {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, 8192, OFF, None),
        (OPUS, {"reasoning_effort": "high", "tools": [TOOL], "tool_choice": "required"}, 32_768, None, None),
        (OPUS, {"reasoning_effort": "high", "tools": [TOOL], "tool_choice": "auto"}, 32_768, ADAPTIVE, "high"),
    ],
)
def test_an_effort_is_thought_of_the_models_kind(model: str, more: Any, most: int, thinking: Any, effort: Any) -> None:
    found = messages(**{"model": model, **more})
    assert (found["max_tokens"], found.get("thinking")) == (most, thinking)
    assert found.get("output_config") == (None if effort is None else {"effort": effort})


@pytest.mark.parametrize(("model", "thinking"), [(HAIKU, None), (OPUS, ADAPTIVE)])
def test_unsigned_thoughts_are_not_asked_of_models_that_would_miss_them_amid_calls(model: str, thinking: Any) -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [called("1")]}
    answer = {"role": "tool", "tool_call_id": "1", "content": "x"}
    assert messages(HI, said, answer, model=model, reasoning_effort="high").get("thinking") == thinking


@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        ("model", None, "model", "missing_required_parameter"),
        ("messages", None, "messages", "missing_required_parameter"),
        ("messages", [], "messages", "invalid_value"),
        ("messages", [{"role": "system", "content": "a"}], "messages", "invalid_value"),
        ("messages", [{"role": "bot", "content": "a"}], "messages[0].role", "invalid_value"),
        ("messages", [{"role": "function", "name": "a", "content": "a"}], "messages[0].role", "unsupported_value"),
        ("messages", [{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ("messages", [{"role": "user", "content": 7}], "messages[0].content", "invalid_value"),
        ("messages", [{"role": "user", "content": [{}]}], "messages[0].content[0].type", "missing_required_parameter"),
        (
            "messages",
            [{"role": "user", "content": [{"type": "input_audio"}]}],
            "messages[0].content[0].type",
            "unsupported_value",
        ),
        (
            "messages",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}],
            "messages[0].content[0].image_url.url",
            "invalid_value",
        ),
        (
            "messages",
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
            "messages[0].content[0].file.file_data",
            "missing_required_parameter",
        ),
        ("messages", [{"role": "tool", "content": "a"}], "messages[0].tool_call_id", "missing_required_parameter"),
        (
            "messages",
            [{"role": "assistant", "tool_calls": [{"id": "1"}]}],
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
        ),
        ("n", 2, "n", "unsupported_value"),
        ("logprobs", True, "logprobs", "unsupported_value"),
        ("structured_outputs", {"regex": "a"}, "structured_outputs", "unsupported_value"),
        ("response_format", {"type": "json_object"}, "response_format.type", "unsupported_value"),
        ("response_format", {"type": "json_schema"}, "response_format.json_schema", "missing_required_parameter"),
        ("tools", [{"type": "custom"}], "tools[0].type", "unsupported_value"),
        ("tools", [{"type": "function", "function": {}}], "tools[0].function.name", "missing_required_parameter"),
        ("temperature", 3, "temperature", "invalid_value"),
        ("max_tokens", 0, "max_tokens", "invalid_value"),
        ("reasoning_effort", "huge", "reasoning_effort", "invalid_value"),
        (
            "chat_template_kwargs",
            {"enable_thinking": []},
            "chat_template_kwargs.enable_thinking",
            "invalid_value",
        ),
        ("stop", 7, "stop", "invalid_value"),
    ],
)
def test_what_a_message_cannot_say_is_refused(field: str, value: Any, param: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        to_messages({"model": "m", "messages": [HI], field: value})
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize("choice", ["some", {"type": "tool"}, {"type": "function"}, ["auto"]])
def test_a_choice_of_another_kind_is_refused(choice: Any) -> None:
    with pytest.raises(ApiError, match="tool_choice"):
        to_messages({"model": "m", "messages": [HI], "tools": [TOOL], "tool_choice": choice})
