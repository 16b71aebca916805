"""The input of a response as the messages of a chat: every item, every part, and nothing lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from response_requests import PIXEL, body, call, called, messages, output, thought, user

from helexa.wire.responses.content import seal, unseal
from helexa.wire.responses.requests import to_chat


def test_instructions_come_first() -> None:
    assert messages(user("Hi"), instructions="Be brief.") == [{"role": "system", "content": "Be brief."}, user("Hi")]


def test_what_else_is_said_before_the_conversation_joins_the_instructions() -> None:
    found = messages(
        {"role": "developer", "content": "B"}, {"role": "system", "content": "C"}, user("Hi"), instructions="A"
    )
    assert found == [{"role": "system", "content": "A\n\nB\n\nC"}, user("Hi")]


def test_a_system_message_in_the_middle_stays_there() -> None:
    found = messages(user("a"), {"role": "developer", "content": "b"}, user("c"), instructions="A")
    assert [message["role"] for message in found] == ["system", "user", "system", "user"]


def test_instructions_with_parts_stay_a_message_of_their_own() -> None:
    parts = [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]
    found = messages({"role": "developer", "content": parts}, user("Hi"), instructions="A")
    assert [message["content"] for message in found[:2]] == [
        "A",
        [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}],
    ]


def test_consecutive_messages_of_a_user_stay_apart() -> None:
    assert messages(user("a"), user(""), user("b")) == [user("a"), user(""), user("b")]


def test_one_part_of_text_becomes_a_string() -> None:
    assert messages({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}) == [
        user("Hi")
    ]


def test_no_part_at_all_becomes_an_empty_string() -> None:
    assert messages({"role": "user", "content": []}) == [user("")]


def test_pictures_files_and_sounds_are_carried() -> None:
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
        {"type": "input_image", "image_url": "https://example.com/cat.png"},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,YQ=="},
        {"type": "input_file", "file_data": "YQ=="},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    (found,) = messages({"role": "user", "content": content})
    assert found["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,YQ=="}},
        {"type": "file", "file": {"file_data": "YQ=="}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]


def test_what_a_model_said_is_one_string() -> None:
    content = [{"type": "output_text", "text": "I ", "annotations": []}, {"type": "refusal", "refusal": "cannot."}]
    assert messages({"role": "assistant", "content": content, "id": "msg_1", "status": "completed"}) == [
        {"role": "assistant", "content": "I cannot."}
    ]


def test_one_turn_of_a_model_is_one_message() -> None:
    said = {"role": "assistant", "content": "Let me see."}
    assert messages(user("?"), thought("hm"), said, call("a"), call("b", '{"x":1}'))[1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "hm",
            "tool_calls": [called("a"), called("b", '{"x":1}')],
        }
    ]


def test_a_call_without_words_has_no_content() -> None:
    assert messages(call()) == [{"role": "assistant", "content": None, "tool_calls": [called()]}]


def test_two_messages_of_a_model_in_a_row_stay_apart() -> None:
    found = messages({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"})
    assert [message["content"] for message in found] == ["a", "b"]


def test_a_thought_belongs_to_what_was_said_after_it() -> None:
    found = messages({"role": "assistant", "content": "a"}, thought("hm"), {"role": "assistant", "content": "b"})
    assert [message.get("reasoning_content") for message in found] == [None, "hm"]


def test_words_and_thoughts_after_a_call_do_not_part_it_from_its_output() -> None:
    found = messages(
        thought("x"), call("a"), {"role": "assistant", "content": "w"}, thought("y"), call("b"), output("o", "a")
    )
    assert [message["role"] for message in found] == ["assistant", "tool"]
    assert (found[0]["content"], found[0]["reasoning_content"], len(found[0]["tool_calls"])) == ("w", "x\n\ny", 2)
    more = messages({"role": "assistant", "content": "v"}, call(), {"role": "assistant", "content": "w"})
    assert more[0]["content"] == "v\nw"


def test_after_an_output_a_new_turn_begins() -> None:
    found = messages(call("a"), output("1", "a"), thought("y"), call("b"), output("2", "b"))
    assert [message["role"] for message in found] == ["assistant", "tool", "assistant", "tool"]
    assert ("reasoning_content" in found[0], found[2]["reasoning_content"]) == (False, "y")


def test_a_thought_without_an_answer_is_left_out() -> None:
    assert messages(user("a"), thought("hm"), user("b"), {"role": "assistant", "content": "c"}) == [
        user("a"),
        user("b"),
        {"role": "assistant", "content": "c"},
    ]
    assert messages(user("a"), thought("hm")) == [user("a")]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"content": [{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]}, "a\n\nb"),
        ({"summary": [{"type": "summary_text", "text": "short"}]}, "short"),
        ({"content": [{"type": "reasoning_text", "text": "a"}], "summary": [{"text": "s"}]}, "a"),
        ({"content": None, "encrypted_content": seal("ours 🦀")}, "ours 🦀"),
        ({"encrypted_content": seal("ours"), "summary": [{"text": "s"}]}, "ours"),
        ({"encrypted_content": "gAAAAAB-someone-else's", "summary": [{"text": "s"}]}, "s"),
        ({"encrypted_content": "helexa1:%%%"}, None),
        ({"encrypted_content": 7}, None),
    ],
)
def test_reasoning_is_read_from_wherever_it_stands(item: dict[str, Any], expected: str | None) -> None:
    (found,) = messages({"type": "reasoning", **item}, {"role": "assistant", "content": "ok"})
    assert found.get("reasoning_content") == expected


@given(st.text())
def test_what_was_sealed_can_be_read(text: str) -> None:
    expected = text.encode("utf-8", "replace").decode()
    assert unseal(seal(text)) == expected
    assert seal(text).isascii()


def test_outputs_are_text() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages(call(), output("x"), output(parts), output(""))[1:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        {"role": "tool", "tool_call_id": "call_1", "content": "a\nb"},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
    ]


def test_pictures_in_outputs_follow_when_all_outputs_are_there() -> None:
    picture = {"type": "input_image", "image_url": PIXEL}
    found = messages(
        call("a"), call("b"), output([{"type": "input_text", "text": "!"}, picture], "a"), output("x", "b"), user("?")
    )
    assert [message["role"] for message in found] == ["assistant", "tool", "tool", "user", "user"]
    assert found[1]["content"] == "!"
    assert found[3]["content"] == [
        {"type": "text", "text": "From the output of a:"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    assert messages(call("a"), output([picture], "a"))[-1]["role"] == "user"


def test_calls_of_tools_with_free_text_are_calls() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": 'a"b'}
    found = messages(custom, {"type": "custom_tool_call_output", "call_id": "c", "output": "done"})
    assert found[0]["tool_calls"][0]["function"] == {"name": "patch", "arguments": '{"input":"a\\"b"}'}
    assert found[1] == {"role": "tool", "tool_call_id": "c", "content": "done"}


def test_what_hosted_tools_left_is_passed_over_with_one_warning_for_each_type() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    translated = to_chat(body(input=[user("a"), search, search, {"type": "compaction", "encrypted_content": "x"}]))
    assert translated.chat["messages"] == [user("a")]
    assert [warning.split("'")[1] for warning in translated.warnings] == ["web_search_call", "compaction"]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_survives(text: str) -> None:
    parts = [{"type": "input_text", "text": text}, {"type": "input_text", "text": "b"}]
    found = messages(
        user(text), {"role": "user", "content": parts}, {"role": "assistant", "content": text}, output(text)
    )
    assert [found[0]["content"], found[1]["content"][0]["text"], found[2]["content"], found[3]["content"]] == [text] * 4
