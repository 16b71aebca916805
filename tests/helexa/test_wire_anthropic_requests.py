"""Messages requests read as chats."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire import chat as chats
from helexa.wire.anthropic.requests import to_chat
from helexa.wire.errors import ApiError

GOLDEN = Path(__file__).parents[1] / "golden"
HI = {"role": "user", "content": "Hi."}
TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": [HI], **more}


def chat(**more: Any) -> dict[str, Any]:
    return to_chat(body(**more), strip_billing=True).chat


def said(*messages: Any, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(messages=list(messages), **more)["messages"]
    return found


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(call: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": "look", "input": arguments}


def result(call: str, content: Any = None, **more: Any) -> dict[str, Any]:
    found = {"type": "tool_result", "tool_use_id": call, **more}
    return found if content is None else {**found, "content": content}


AGENT = {
    "model": "helexa/large",
    "max_tokens": 32_000,
    "stream": True,
    "temperature": 1,
    "top_p": 0.9,
    "top_k": 40,
    "stop_sequences": ["</done>"],
    "metadata": {"user_id": "u1"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "service_tier": "auto",
    "system": [
        text("x-anthropic-billing-header: cc_version=2; cch=36ee5;"),
        {**text("You are terse."), "cache_control": {"type": "ephemeral"}},
        text("Today is Friday. 🦀"),
    ],
    "tools": [
        {**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}},
        {"type": "custom", "name": "ring", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [
        user(text("What is in the box?"), {"type": "image", "source": PNG}),
        assistant(
            {"type": "thinking", "thinking": "I should look.", "signature": "c2ln"},
            text("Let me look."),
            use("toolu_1", box="a\n\u0000b"),
            use("toolu_2"),
        ),
        user(result("toolu_1", "A crab."), result("toolu_2", [text("No"), text("such box.")], is_error=True)),
        user({**text("Well?"), "cache_control": {"type": "ephemeral"}}),
    ],
}


def test_an_agents_request_is_this_chat() -> None:
    found = to_chat(AGENT, strip_billing=True)
    assert orjson.dumps(found.chat) == (GOLDEN / "anthropic_request_as_chat.json").read_bytes()
    assert found.warnings == ("The tool of type 'web_search_20250305' is not known here and was passed over.",)


def test_a_chat_of_text_is_one_that_a_node_takes() -> None:
    messages = [user(text("Look.")), *AGENT["messages"][1:]]  # type: ignore[misc,index]
    parsed = chats.parse(to_chat({**AGENT, "messages": messages}, strip_billing=True).chat)
    assert (parsed.stream, parsed.include_usage, parsed.sampling.max_tokens) == (True, True, 32_000)
    assert parsed.template_kwargs == {"enable_thinking": True, "reasoning_effort": "high"}
    assert parsed.stop == ("</done>",)
    assert not parsed.tool_choice.parallel


def test_billing_headers_stay_where_they_are_wanted() -> None:
    found = to_chat(AGENT, strip_billing=False).chat["messages"][0]["content"]
    assert found.startswith("x-anthropic-billing-header: ")


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("You are terse.", "You are terse."),
        ([text("a"), text("b")], "a\nb"),
        ([{**text("a"), "cache_control": {"type": "ephemeral"}}], "a"),
    ],
)
def test_a_system_prompt_goes_first(system: Any, expected: str) -> None:
    assert said(HI, system=system) == [{"role": "system", "content": expected}, HI]


@pytest.mark.parametrize("system", [None, []])
def test_no_system_prompt_is_no_message(system: Any) -> None:
    assert said(HI, system=system) == [HI]


def test_system_messages_join_the_prompt_at_the_beginning_and_stay_in_their_place_later() -> None:
    system = {"role": "system", "content": "b"}
    assert said(system, HI, {**system, "content": [text("c")]}, HI, system="a") == [
        {"role": "system", "content": "a\nb"},
        HI,
        {"role": "system", "content": "c"},
        HI,
    ]


def test_turns_of_one_role_are_one_and_nothing_is_lost() -> None:
    calls = assistant(text("d"), use("1", a=1)), assistant(use("2"), text("e"))
    assert said(
        {"role": "user", "content": "a"}, user(text("b"), text("c")), *calls, user(result("1"), result("2"))
    ) == [
        {"role": "user", "content": "a\nb\nc"},
        {"role": "assistant", "content": "d\ne", "tool_calls": [called("1", '{"a":1}'), called("2", "{}")]},
        {"role": "tool", "tool_call_id": "1", "content": ""},
        {"role": "tool", "tool_call_id": "2", "content": ""},
    ]


def called(call: str, arguments: str) -> dict[str, Any]:
    return {"id": call, "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_a_text_that_citations_cut_is_put_together_as_it_was() -> None:
    assert said(HI, assistant(text("The sky "), text("is blue."), use("1"), text("Right?")), HI)[1]["content"] == (
        "The sky is blue.\nRight?"
    )


def test_thoughts_are_kept_beside_the_words_and_those_nobody_can_read_are_not() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    assert said(HI, assistant(thought, hidden, {**thought, "thinking": "So."}, text("Yes.")), HI)[1] == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hm.\nSo.",
    }


def test_answers_of_tools_come_right_after_the_calls_whatever_else_the_user_says() -> None:
    assert said(HI, assistant(use("1")), user(text("Here:"), result("1", "x")), user(text("Well?")))[2:] == [
        {"role": "tool", "tool_call_id": "1", "content": "x"},
        {"role": "user", "content": "Here:\nWell?"},
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (result("1", ""), ""),
        (result("1", []), ""),
        (result("1", "x", is_error=False), "x"),
        (result("1", "x", is_error=True), "Error: x"),
        (result("1", "ERROR 7", is_error=True), "ERROR 7"),
        (result("1", is_error=True), "Error: "),
        (result("1", [text("a"), {"type": "tool_reference", "tool_name": "ring"}]), "a\nring"),
    ],
)
def test_an_answer_of_a_tool_is_text_that_says_if_it_failed(block: Any, expected: str) -> None:
    assert said(HI, assistant(use("1")), user(block))[2:] == [
        {"role": "tool", "tool_call_id": "1", "content": expected}
    ]


def test_an_image_in_an_answer_of_a_tool_stands_beside_it() -> None:
    shot = result("1", [text("Done."), {"type": "image", "source": PNG}])
    assert said(HI, assistant(use("1")), user(shot, text("Well?")))[2:] == [
        {"role": "tool", "tool_call_id": "1", "content": "Done."},
        user(text("Of the result of 1:"), PNG_PART, text("Well?")),
    ]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/gif", "image/webp"])
def test_an_image_of_any_kind_is_a_data_url(kind: str) -> None:
    (message,) = said(user({"type": "image", "source": {"type": "base64", "media_type": kind, "data": "AA=="}}))
    assert message["content"][0]["image_url"]["url"] == f"data:{kind};base64,AA=="


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "image", "source": PNG}, [PNG_PART]),
        (
            {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
            [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}],
        ),
        (
            {"type": "document", "source": PDF, "title": "Bill"},
            [
                text("Bill"),
                {"type": "file", "file": {"filename": "Bill", "file_data": "data:application/pdf;base64,JVBERi0="}},
            ],
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": PNG}]}},
            [PNG_PART],
        ),
    ],
)
def test_what_is_not_text_is_a_part(block: Any, expected: Any) -> None:
    assert said(user(block)) == [user(*expected)]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a b"}}, "a b"),
        (
            {"type": "document", "title": "T", "context": "C", "source": {"type": "content", "content": "a"}},
            "T\nC\na",
        ),
        ({"type": "document", "source": {"type": "content", "content": [text("a"), text("b")]}}, "a\nb"),
        ({"type": "search_result", "title": "T", "source": "S", "content": [text("a"), text("b")]}, "T\nS\na\nb"),
    ],
)
def test_documents_are_read_as_text_where_they_are_text(block: Any, expected: str) -> None:
    assert said(user(block)) == [{"role": "user", "content": expected}]


@pytest.mark.parametrize("content", ["", [], [text("")]])
def test_empty_content_stays_empty(content: Any) -> None:
    empty = {"role": "user", "content": content}, {"role": "assistant", "content": content}
    assert said(*empty, HI) == [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, HI]


def test_an_answer_begun_by_the_client_is_told_to_be_none() -> None:
    found = to_chat(body(messages=[HI, assistant(text("Well,"))]), strip_billing=True)
    assert found.chat["messages"][-1] == {"role": "assistant", "content": "Well,"}
    assert found.warnings == (
        "The last message is the assistant's: it is read as a turn of its own, and not continued.",
    )


def test_what_server_tools_did_is_passed_over_and_said_once() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found_ = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    found = to_chat(body(messages=[HI, assistant(search, found_, text("Blue.")), HI]), strip_billing=True)
    assert found.chat["messages"][1] == {"role": "assistant", "content": "Blue."}
    assert found.warnings == ("Calls and results of server tools in earlier turns were passed over.",)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "look"}, {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"type": "tool", "name": "bash"}, {"tool_choice": "auto"}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_a_choice_of_tools_is_said_in_the_chats_words(choice: Any, expected: Any) -> None:
    tools = [TOOL, {"type": "bash_20250124", "name": "bash"}]
    found = chat(tools=tools, tool_choice=choice)
    assert {key: found[key] for key in ("tool_choice", "parallel_tool_calls") if key in found} == expected
    chats.parse(found)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "bash"}, {"type": "auto"}, None])
def test_where_no_tool_is_left_none_has_to_be_called(choice: Any) -> None:
    found = chat(tools=[{"type": "bash_20250124", "name": "bash"}], tool_choice=choice)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & found.keys()


def test_a_tools_strange_type_is_safe_in_a_header() -> None:
    tool = {"type": "a\r\nset-cookie: x" + "\u2028é" * 99, "name": "x"}
    (warning,) = to_chat(body(tools=[tool]), strip_billing=True).warnings
    assert warning.isascii()
    assert warning.isprintable()
    assert len(warning) < 500


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"thinking": {"type": "adaptive"}}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ({"thinking": {"type": "between_tools"}}, {}),
        ({"output_config": {"effort": "xhigh"}}, {"reasoning_effort": "xhigh"}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "medium"},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 16_384}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "high"},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": {"effort": "max"}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "max"},
        ),
    ],
)
def test_thinking_is_a_switch_and_an_effort(more: Any, expected: Any) -> None:
    found = chat(**more)
    assert {key: found[key] for key in ("chat_template_kwargs", "reasoning_effort") if key in found} == expected
    chats.parse(found)


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_for_the_answer_is_the_chats_response_format(where: str) -> None:
    format_ = {"type": "json_schema", "schema": {"type": "object"}}
    found = chat(**{where: {"format": format_} if where == "output_config" else format_})
    structure = chats.parse(found).structure
    assert structure is not None
    assert (structure.kind, structure.value) == ("json_schema", {"type": "object"})


def test_a_stream_asks_for_its_usage_and_a_whole_answer_does_not() -> None:
    assert chat(stream=True)["stream_options"] == {"include_usage": True}
    assert not {"stream", "stream_options"} & chat(stream=False).keys()


def test_a_request_to_count_says_nothing_of_the_answer() -> None:
    asked = {"model": "m", "messages": [HI], "system": "a", "tools": [TOOL]}
    found = to_chat(asked, strip_billing=True, counting=True).chat
    assert found.keys() == {"model", "messages", "tools"}
    with pytest.raises(ApiError, match="max_tokens"):
        to_chat(asked, strip_billing=True)


WORDS = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), WORDS), min_size=1, max_size=8))
def test_every_word_is_in_the_chat_in_its_order(turns: list[tuple[str, str]]) -> None:
    found = said(*({"role": role, "content": words} for role, words in turns))
    assert [a["role"] for a in found] == [
        role for i, (role, _) in enumerate(turns) if i == 0 or turns[i - 1][0] != role
    ]
    whole = "\n".join(message["content"] for message in found)
    place = 0
    for _, words in turns:
        place = whole.index(words, place) + len(words)


def test_five_megabytes_are_read_as_they_are() -> None:
    words = "Grüße 🦀\x00\x1b" * 400_000
    assert said(user(text(words)))[0]["content"] == words
