"""Everything wrong in a Messages request is a 400 that names the field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.anthropic.errors import envelope
from helexa.wire.anthropic.requests import to_chat
from helexa.wire.errors import ApiError

HI = {"role": "user", "content": "Hi."}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
WHOLE = {"model": "m", "max_tokens": 10, "messages": [HI]}


def error_of(body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        to_chat(body, strip_billing=True)
    assert caught.value.status == 400
    assert caught.value.param is not None
    assert f"'{caught.value.param}'" in caught.value.message
    assert envelope(caught.value)["error"]["type"] == "invalid_request_error"
    return caught.value


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
@pytest.mark.parametrize("absent", [True, False])
def test_a_missing_field_is_named(field: str, *, absent: bool) -> None:
    rest = {key: value for key, value in WHOLE.items() if key != field}
    error = error_of(rest if absent else {**rest, field: None})
    assert (error.param, error.code) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("model", 7, "model"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 1.5, "max_tokens"),
        ("max_tokens", True, "max_tokens"),
        ("temperature", 1.1, "temperature"),
        ("temperature", "0", "temperature"),
        ("top_p", -0.1, "top_p"),
        ("top_k", -1, "top_k"),
        ("stop_sequences", "a", "stop_sequences"),
        ("stop_sequences", [""], "stop_sequences"),
        ("stop_sequences", ["a"] * 17, "stop_sequences"),
        ("stream", "yes", "stream"),
        ("system", 7, "system"),
        ("system", ["a"], "system"),
        ("system", [{"type": "image"}], "system[0].type"),
        ("system", [{"type": "text"}], "system[0].text"),
        ("thinking", "on", "thinking"),
        ("thinking", {}, "thinking.type"),
        ("thinking", {"type": "on"}, "thinking.type"),
        ("thinking", {"type": "enabled"}, "thinking.budget_tokens"),
        ("thinking", {"type": "enabled", "budget_tokens": 1023}, "thinking.budget_tokens"),
        ("output_config", [], "output_config"),
        ("output_config", {"effort": "huge"}, "output_config.effort"),
        ("output_config", {"format": {"type": "grammar"}}, "output_config.format.type"),
        ("output_config", {"format": {"type": "json_schema"}}, "output_config.format.schema"),
        ("output_format", {"type": "json_schema", "schema": 1}, "output_format.schema"),
        ("tools", {}, "tools"),
        ("tools", [1], "tools"),
        ("tools", [{"type": 7}], "tools[0].type"),
        ("tools", [TOOL, {"input_schema": {}}], "tools[1].name"),
        ("tools", [{"name": "", "input_schema": {}}], "tools[0].name"),
        ("tools", [{"name": "look"}], "tools[0].input_schema"),
        ("tools", [{**TOOL, "description": 7}], "tools[0].description"),
        ("tool_choice", "auto", "tool_choice"),
        ("tool_choice", {"type": "some"}, "tool_choice.type"),
        ("tool_choice", {"type": "any"}, "tool_choice.type"),
        ("messages", [], "messages"),
        ("messages", "Hi.", "messages"),
        ("messages", ["Hi."], "messages"),
        ("messages", [{"content": "Hi."}], "messages[0].role"),
        ("messages", [{"role": "tool", "content": "Hi."}], "messages[0].role"),
        ("messages", [{"role": "user"}], "messages[0].content"),
        ("messages", [{"role": "user", "content": 7}], "messages[0].content"),
        ("messages", [HI, {"role": "user", "content": ["Hi."]}], "messages[1].content"),
        ("messages", [{"role": "system", "content": [{"type": "image"}]}], "messages[0].content[0].type"),
    ],
)
def test_a_wrong_value_is_named(field: str, value: Any, param: str) -> None:
    assert error_of({**WHOLE, field: value}).param == param


@pytest.mark.parametrize(
    ("role", "block", "param"),
    [
        ("user", {}, "type"),
        ("user", {"type": "thought"}, "type"),
        ("user", {"type": "tool_use", "id": "1", "name": "look", "input": {}}, "type"),
        ("user", {"type": "text"}, "text"),
        ("user", {"type": "text", "text": ["Hi."]}, "text"),
        ("user", {"type": "image"}, "source"),
        ("user", {"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ("user", {"type": "image", "source": {"type": "base64", "data": ""}}, "source.media_type"),
        (
            "user",
            {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": ""}},
            "source.media_type",
        ),
        ("user", {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}, "source.data"),
        ("user", {"type": "image", "source": {"type": "url"}}, "source.url"),
        ("user", {"type": "document", "source": {"type": "url", "url": "https://a.example"}}, "source.type"),
        ("user", {"type": "document", "source": {"type": "text"}}, "source.data"),
        ("user", {"type": "document", "source": {"type": "content"}}, "source.content"),
        ("user", {"type": "document", "source": {"type": "content", "content": [{}]}}, "source.content[0].type"),
        (
            "user",
            {"type": "document", "source": {"type": "content", "content": [{"type": "document"}]}},
            "source.content[0].type",
        ),
        ("user", {"type": "search_result", "title": "T", "source": "S"}, "content"),
        (
            "user",
            {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "image"}]},
            "content[0].type",
        ),
        ("user", {"type": "tool_result"}, "tool_use_id"),
        ("user", {"type": "tool_result", "tool_use_id": "1", "content": 7}, "content"),
        ("user", {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "x"}]}, "content[0].type"),
        ("user", {"type": "tool_result", "tool_use_id": "1", "is_error": "yes"}, "is_error"),
        ("assistant", {"type": "tool_result", "tool_use_id": "1"}, "type"),
        ("assistant", {"type": "image"}, "type"),
        ("assistant", {"type": "thinking"}, "thinking"),
        ("assistant", {"type": "tool_use", "name": "look", "input": {}}, "id"),
        ("assistant", {"type": "tool_use", "id": "1", "input": {}}, "name"),
        ("assistant", {"type": "tool_use", "id": "1", "name": "look", "input": "{}"}, "input"),
    ],
)
def test_a_wrong_block_is_named(role: str, block: Any, param: str) -> None:
    messages = [HI, {"role": role, "content": [{"type": "text", "text": "Well."}, block]}]
    assert error_of({**WHOLE, "messages": messages}).param == f"messages[1].content[1].{param}"


def test_arguments_nested_deeper_than_can_be_written_are_refused() -> None:
    arguments: dict[str, Any] = {}
    for _ in range(300):
        arguments = {"a": arguments}
    use = {"type": "tool_use", "id": "1", "name": "look", "input": arguments}
    error = error_of({**WHOLE, "messages": [{"role": "assistant", "content": [use]}, HI]})
    assert error.param == "messages[0].content[0].input"


def test_a_tool_that_is_to_be_called_has_to_be_there() -> None:
    error = error_of({**WHOLE, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "ring"}})
    assert error.param == "tool_choice.name"


KEYS = st.sampled_from(
    [
        "type",
        "text",
        "role",
        "content",
        "source",
        "data",
        "media_type",
        "url",
        "tool_use_id",
        "input",
        "id",
        "name",
        "thinking",
        "budget_tokens",
        "effort",
        "format",
        "schema",
        "input_schema",
        "is_error",
        "title",
    ]
)
TYPES = st.sampled_from(
    [
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "base64",
        "url",
        "content",
        "search_result",
        "redacted_thinking",
        "server_tool_use",
        "web_search_tool_result",
        "enabled",
        "any",
        "tool",
        "json_schema",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
BLOCKS = st.dictionaries(KEYS, TYPES | JSON, max_size=6)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(BLOCKS, max_size=3) | JSON}
)
FIELDS = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.just(9), "messages": st.lists(MESSAGES, min_size=1, max_size=3)},
    optional={
        "system": JSON | st.lists(BLOCKS, max_size=2),
        "tools": st.lists(BLOCKS, max_size=2),
        "tool_choice": BLOCKS,
        "thinking": BLOCKS,
        "output_config": BLOCKS,
        "stop_sequences": JSON,
        "temperature": JSON,
        "top_k": JSON,
    },
)


@given(FIELDS)
def test_any_json_at_all_is_a_chat_or_a_named_mistake(body: dict[str, Any]) -> None:
    found = read(body)
    if isinstance(found, ApiError):
        assert (found.status, bool(found.param)) == (400, True)
    else:
        assert {message["role"] for message in found["messages"]} <= {"system", "user", "assistant", "tool"}


def read(body: dict[str, Any]) -> dict[str, Any] | ApiError:
    try:
        return to_chat(body, strip_billing=True).chat
    except ApiError as error:
        return error
