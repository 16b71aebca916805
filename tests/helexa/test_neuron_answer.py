"""From token ids to what a reader sees and is told that it cost, with a real tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.answer import Answer, Message, delta_json
from helexa.text import ChatTokenizer, ContentDelta, ReasoningDelta, ToolCallDelta
from helexa.wire.chat import ChatRequest, Usage

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call>'
TOOLS = ({"type": "function", "function": {"name": "add"}},)
THOUGHT = "<think>\nHmm, how\n</think>\n\nHello"


@pytest.fixture(scope="module")
def text(qwen: Path) -> ChatTokenizer:
    return ChatTokenizer.load(qwen)


def begin(text: ChatTokenizer, *, stop: Sequence[str] = (), tools: bool = False, inside: bool = False) -> Answer:
    request = ChatRequest("m", (), tools=TOOLS if tools else (), stop=tuple(stop))
    return Answer.begin(text, request, 11, inside_reasoning=inside)


def end_id(text: ChatTokenizer) -> int:
    (found,) = text.eos_ids
    return found


def whole(answer: Answer, ids: Sequence[int], step: int = 1) -> dict[str, Any]:
    message = Message()
    for start in range(0, len(ids), step):
        message.add(answer.push(ids[start : start + step]))
    message.add(answer.finish())
    found: dict[str, Any] = message.to_json()
    return found


def test_text_comes_out_as_it_was_tokenized(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("Hello world, naïve 😀")
    message = whole(answer, ids)
    assert message == {"role": "assistant", "content": "Hello world, naïve 😀", "refusal": None}
    assert answer.usage() == Usage(11, len(ids), 0)


def test_the_end_token_is_counted_and_not_shown(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = [*text.encode("Hello"), end_id(text)]
    assert whole(answer, ids)["content"] == "Hello"
    assert answer.usage().completion_tokens == len(ids)
    assert answer.finish_reason("stop") == "stop"


def test_nothing_but_the_end_is_an_empty_answer(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert whole(answer, [end_id(text)])["content"] == ""
    assert answer.usage().completion_tokens == 1


def test_a_character_is_never_cut_in_two(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("😀")
    assert len(ids) == 4
    assert answer.push(ids[:3]) == []
    assert answer.push(ids[3:]) == [ContentDelta("😀")]


def test_a_character_that_never_ends_is_marked(text: ChatTokenizer) -> None:
    assert whole(begin(text), text.encode("a😀")[:3])["content"] == "a\ufffd"


def test_a_stop_string_ends_the_text_before_it(text: ChatTokenizer) -> None:
    answer = begin(text, stop=["wor"])
    ids = text.encode("Hello world, how are you?")
    assert whole(answer, ids)["content"] == "Hello "
    assert answer.stopped
    assert answer.finish_reason("length") == "stop"


def test_tokens_after_a_stop_string_are_neither_shown_nor_counted(text: ChatTokenizer) -> None:
    ids = text.encode("a b c d e f")
    answer = begin(text, stop=["c"])
    whole(answer, ids, step=len(ids))
    count = next(n for n in range(len(ids)) if "c" in begin_and_push(text, ids[:n]))
    assert answer.usage().completion_tokens == count


def begin_and_push(text: ChatTokenizer, ids: Sequence[int]) -> str:
    content: str = whole(begin(text), ids)["content"]
    return content


def test_the_start_of_a_stop_string_is_held_back_and_then_shown(text: ChatTokenizer) -> None:
    answer = begin(text, stop=["ab!"])
    deltas = answer.push(text.encode("xab"))
    assert deltas == [ContentDelta("x")]
    assert answer.finish() == [ContentDelta("ab")]
    assert not answer.stopped
    assert answer.finish_reason("length") == "length"


def test_a_stop_string_only_the_end_makes_certain(text: ChatTokenizer) -> None:
    """Of two that start together the longer wins, so the shorter is certain only when no more text comes."""
    answer = begin(text, stop=["ab", "abc"])
    assert whole(answer, text.encode("xab"))["content"] == "x"
    assert answer.stopped
    assert answer.finish_reason("length") == "stop"


def test_reasoning_comes_apart(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = [*text.encode(THOUGHT), end_id(text)]
    message = whole(answer, ids)
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "Hello")
    block = text.encode(THOUGHT.partition("\n\nHello")[0])
    assert answer.usage() == Usage(11, len(ids), len(block))


def test_reasoning_that_the_prompt_has_opened(text: ChatTokenizer) -> None:
    answer = begin(text, inside=True)
    ids = text.encode("Hmm</think>Hello")
    message = whole(answer, ids)
    assert (message["reasoning_content"], message["content"]) == ("Hmm", "Hello")
    assert answer.usage().reasoning_tokens == len(text.encode("Hmm</think>"))


def test_reasoning_cut_off_by_the_limit_is_all_there_is(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("<think>Hmm, how")
    message = whole(answer, ids)
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "")
    assert answer.usage().reasoning_tokens == len(ids)
    assert answer.finish_reason("length") == "length"


def test_the_end_right_after_reasoning_is_no_reasoning(text: ChatTokenizer) -> None:
    answer = begin(text)
    block = text.encode("<think>Hmm</think>")
    whole(answer, [*block, end_id(text)])
    assert answer.usage() == Usage(11, len(block) + 1, len(block))


def test_an_answer_without_reasoning_has_none(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert "reasoning_content" not in whole(answer, text.encode("Hello <think>no</think>"))
    assert answer.usage().reasoning_tokens == 0


def test_a_tool_call(text: ChatTokenizer) -> None:
    answer = begin(text, tools=True)
    message = whole(answer, [*text.encode(CALL), end_id(text)])
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "add"
    assert json.loads(call["function"]["arguments"]) == {"a": 1, "b": [2]}
    assert answer.finish_reason("stop") == "tool_calls"


def test_several_tool_calls_after_text_and_reasoning(text: ChatTokenizer) -> None:
    answer = begin(text, tools=True)
    message = whole(answer, text.encode(f"{THOUGHT}\n{CALL}\n{CALL}"))
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "Hello")
    assert len({call["id"] for call in message["tool_calls"]}) == 2


def test_without_tools_a_call_is_text(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert whole(answer, text.encode(CALL))["content"] == CALL
    assert answer.finish_reason("stop") == "stop"


def test_a_call_that_was_cut_off_is_text(text: ChatTokenizer) -> None:
    answer = begin(text, tools=True)
    cut = CALL[:20]
    assert whole(answer, text.encode(cut))["content"] == cut
    assert answer.finish_reason("length") == "length"


@pytest.mark.parametrize(("reason", "said"), [("stop", "stop"), ("length", "length"), ("abort", "stop")])
def test_finish_reasons(text: ChatTokenizer, reason: str, said: str) -> None:
    assert begin(text).finish_reason(reason) == said


@pytest.mark.parametrize(
    ("delta", "json_"),
    [
        (ContentDelta("x"), {"content": "x"}),
        (ReasoningDelta("x"), {"reasoning_content": "x"}),
        (
            ToolCallDelta(1, "call_1", "add", "{}"),
            {
                "tool_calls": [
                    {"index": 1, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
                ]
            },
        ),
    ],
)
def test_a_delta_as_a_chunk_carries_it(delta: Any, json_: dict[str, Any]) -> None:
    assert delta_json(delta) == json_


PIECES = ["Hello ", "<think>", "</think>", "\n", "\n\n", CALL, "<tool_call>", "😀", "END", "EN", "{", '"', "a"]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sets(st.sampled_from(["tools", "inside"])), st.integers(1, 9))
def test_how_the_tokens_arrive_changes_nothing(
    text: ChatTokenizer, pieces: list[str], switches: set[str], step: int
) -> None:
    ids = text.encode("".join(pieces))
    results = []
    for size in (1, step, max(1, len(ids))):
        answer = begin(text, stop=["END"], tools="tools" in switches, inside="inside" in switches)
        message = whole(answer, ids, size)
        for call in message.get("tool_calls", ()):
            del call["id"]
        results.append((message, answer.usage(), answer.stopped, answer.finish_reason("length")))
    assert results[0] == results[1] == results[2]
    message, usage, _, _ = results[0]
    assert "END" not in (message["content"] or "")
    assert 0 <= usage.reasoning_tokens <= usage.completion_tokens <= len(ids)
