"""Chats as requests to Ollama, and what it cannot be asked for."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.errors import ApiError
from helexa.wire.ollama.upstream import to_ollama

GOLDEN = Path(__file__).parents[1] / "golden"
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "look"}}


def ask(**fields: Any) -> dict[str, Any]:
    return to_ollama({"model": "llama3", "messages": HI, **fields})


def sent(*messages: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(messages=list(messages))["messages"]
    return found


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


def calling(arguments: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def test_a_whole_chat_becomes_this_request() -> None:
    chat = orjson.loads((GOLDEN / "ollama_chat.json").read_bytes())
    assert to_ollama(chat) == orjson.loads((GOLDEN / "ollama_request.json").read_bytes())


def test_a_short_chat_says_no_more_than_it_has_to() -> None:
    # Without a word on streaming, Ollama streams.
    assert ask() == {"model": "llama3", "messages": HI, "stream": False}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
        ({"temperature": 0}, {"options": {"temperature": 0}}),
        ({"seed": None, "stop": None, "tools": None, "logprobs": None}, {}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"structured_outputs": {"json": {"type": "array"}}}, {"format": {"type": "array"}}),
        ({"tools": [TOOL]}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {}),
        ({"tools": []}, {}),
        ({"n": 1, "logit_bias": {}, "ignore_eos": False, "user": "u", "metadata": {}, "unknown": 1}, {}),
    ],
)
def test_settings_have_ollamas_names(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = ask(**fields)
    assert {key: value for key, value in found.items() if key not in ("model", "messages", "stream")} == expected


@pytest.mark.parametrize(
    ("model", "fields", "think"),
    [
        ("qwen3", {}, None),
        ("qwen3", {"reasoning_effort": "none"}, False),
        # A model that does not think is refused where it is told to; one that does needs no telling.
        ("qwen3", {"reasoning_effort": "high"}, None),
        ("qwen3", {"chat_template_kwargs": {"enable_thinking": False}}, False),
        ("qwen3", {"chat_template_kwargs": {"enable_thinking": True}}, None),
        ("gpt-oss:20b", {"reasoning_effort": "minimal"}, "low"),
        ("gpt-oss:20b", {"reasoning_effort": "medium"}, "medium"),
        ("me/GPT-OSS", {"reasoning_effort": "xhigh"}, "high"),
        ("gpt-oss:20b", {"chat_template_kwargs": {"reasoning_effort": "low"}}, "low"),
        ("gpt-oss:20b", {}, None),
    ],
)
def test_thinking_is_asked_for_only_where_it_can_be(model: str, fields: dict[str, Any], think: object) -> None:
    assert ask(model=model, **fields).get("think") == think


def test_roles_have_ollamas_names() -> None:
    found = sent(
        {"role": "developer", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "function", "name": "look", "content": "c"},
    )
    assert found == [
        {"role": "system", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "tool", "content": "c", "tool_name": "look"},
    ]


def test_what_a_model_refused_to_say_is_text() -> None:
    content = [{"type": "text", "text": "I "}, {"type": "refusal", "refusal": "cannot."}]
    assert sent({"role": "assistant", "content": content}) == [{"role": "assistant", "content": "I \ncannot."}]


def test_an_output_of_an_unknown_call_has_its_id_only() -> None:
    assert sent({"role": "tool", "tool_call_id": "x", "content": "c"}) == [
        {"role": "tool", "content": "c", "tool_call_id": "x"}
    ]


def test_a_call_may_lack_an_id() -> None:
    call = {"function": {"name": "look", "arguments": "{}"}}
    (found,) = sent({"role": "assistant", "tool_calls": [call]})
    assert found["tool_calls"] == [{"function": {"index": 0, "name": "look", "arguments": {}}}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":[1,"ü"]}', {"a": [1, "ü"]}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (" ", {}),
        (None, {}),
        ("{", {"arguments": "{"}),
        ("[1]", {"arguments": [1]}),
        ("null", {"arguments": None}),
        (7, {"arguments": 7}),
    ],
)
def test_arguments_are_an_object_whatever_the_model_wrote(arguments: Any, expected: dict[str, Any]) -> None:
    assert sent(calling(arguments))[0]["tool_calls"][0]["function"]["arguments"] == expected


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AAAA", "DATA:image/jpeg;charset=x;BASE64,AAAA", "data:;base64,AAAA"]
)
@pytest.mark.parametrize("as_text", [True, False])
def test_pictures_are_base64(url: str, *, as_text: bool) -> None:
    image = url if as_text else {"url": url}
    (found,) = ask(**part(type="image_url", image_url=image))["messages"]
    assert found == {"role": "user", "content": "", "images": ["AAAA"]}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": ["x"]}, "invalid_value", "messages"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [*HI, {"role": "robot"}]}, "invalid_value", "messages[1].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "invalid_value", "messages[0].content"),
        (part(), "missing_required_parameter", "messages[0].content[0].type"),
        (part(type="text"), "missing_required_parameter", "messages[0].content[0].text"),
        (part(type="input_audio"), "unsupported_value", "messages[0].content[0].type"),
        (part(type="image_url"), "missing_required_parameter", "messages[0].content[0].image_url"),
        (
            part(type="image_url", image_url={"url": "https://example.com/a.png"}),
            "unsupported_value",
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "invalid_value", "messages[0].tool_calls"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
            "missing_required_parameter",
            "messages[0].tool_calls[0].function",
        ),
        (
            {"messages": [{"role": "assistant", "reasoning_content": 7}]},
            "invalid_value",
            "messages[0].reasoning_content",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": 7}]}, "invalid_value", "messages[0].tool_call_id"),
        ({"n": 2}, "unsupported_value", "n"),
        ({"logit_bias": {"5": 1}}, "unsupported_value", "logit_bias"),
        ({"stop_token_ids": [1]}, "unsupported_value", "stop_token_ids"),
        ({"min_tokens": 3}, "unsupported_value", "min_tokens"),
        ({"ignore_eos": True}, "unsupported_value", "ignore_eos"),
        ({"tools": [TOOL], "tool_choice": "required"}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": TOOL}, "unsupported_value", "tool_choice"),
        ({"tools": "x"}, "invalid_value", "tools"),
        ({"tools": [{}]}, "missing_required_parameter", "tools[0].function"),
        ({"structured_outputs": {"regex": "a+"}}, "unsupported_value", "structured_outputs"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"temperature": "hot"}, "invalid_value", "temperature"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"stream": "yes"}, "invalid_value", "stream"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"reasoning_effort": "most"}, "invalid_value", "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "invalid_value", "chat_template_kwargs.enable_thinking"),
    ],
)
def test_what_is_wrong_or_cannot_be_had_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        ask(**fields)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "user", "assistant", "tool", "text", "function"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "name", "id", "function", "arguments", "tool_calls", "url"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "tool_choice", "response_format", "stop", "n"]), JSON))
def test_any_object_is_translated_or_refused(fields: dict[str, Any]) -> None:
    with suppress(ApiError):
        orjson.dumps(ask(**fields))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_survives(text: str) -> None:
    found = sent({"role": "user", "content": text}, {"role": "user", "content": ""}, {"role": "tool", "content": text})
    assert [message["content"] for message in found] == [text, "", text]
