"""From token ids to what a reader sees and is told that it cost, with a real tokenizer."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from answers import CALL, PIECES, SWITCHES, begin, choice_of, deltas_of, end_id, whole
from hypothesis import given
from hypothesis import strategies as st

from helexa.neuron.answer import Answer, usage
from helexa.neuron.shapes import delta_json
from helexa.text import ChatTokenizer, ContentDelta, ReasoningDelta, ToolCallDelta
from helexa.wire.completion import Usage
from helexa.wire.structured import StructuredOutput
from helexa.wire.tools import ToolChoice

THOUGHT = "<think>\nHmm, how\n</think>\n\nHello"


def cost(answer: Answer) -> Usage:
    return usage(11, [answer], 1)


def test_text_comes_out_as_it_was_tokenized(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("Hello world, naïve 😀")
    message = whole(answer, ids)
    assert message == {"role": "assistant", "content": "Hello world, naïve 😀", "refusal": None}
    assert cost(answer) == Usage(11, len(ids), 0)


def test_the_end_token_is_counted_and_not_shown(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = [*text.encode("Hello"), end_id(text)]
    assert whole(answer, ids)["content"] == "Hello"
    assert cost(answer).completion_tokens == len(ids)
    assert answer.finish_reason == "stop"


def test_nothing_but_the_end_is_an_empty_answer(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert whole(answer, [end_id(text)])["content"] == ""
    assert cost(answer).completion_tokens == 1


def test_a_character_is_never_cut_in_two(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("😀")
    assert len(ids) == 4
    assert answer.push(ids[:3]) == []
    assert deltas_of(answer.push(ids[3:])) == [ContentDelta("😀")]


def test_a_character_that_never_ends_is_marked(text: ChatTokenizer) -> None:
    assert whole(begin(text), text.encode("a😀")[:3])["content"] == "a\ufffd"


def test_a_stop_string_ends_the_text_before_it(text: ChatTokenizer) -> None:
    answer = begin(text, stop=("wor",))
    ids = text.encode("Hello world, how are you?")
    assert whole(answer, ids, reason="length")["content"] == "Hello "
    assert answer.stopped
    assert answer.finish_reason == "stop"


def test_tokens_after_a_stop_string_are_neither_shown_nor_counted(text: ChatTokenizer) -> None:
    ids = text.encode("a b c d e f")
    answer = begin(text, stop=("c",))
    whole(answer, ids, step=len(ids))
    count = next(n for n in range(len(ids)) if "c" in begin_and_push(text, ids[:n]))
    assert cost(answer).completion_tokens == count


def begin_and_push(text: ChatTokenizer, ids: Sequence[int]) -> str:
    content: str = whole(begin(text), ids)["content"]
    return content


def test_the_start_of_a_stop_string_is_held_back_and_then_shown(text: ChatTokenizer) -> None:
    answer = begin(text, stop=("ab!",))
    assert deltas_of(answer.push(text.encode("xab"))) == [ContentDelta("x")]
    assert deltas_of(answer.finish("length")) == [ContentDelta("ab")]
    assert not answer.stopped
    assert answer.finish_reason == "length"


def test_a_stop_string_only_the_end_makes_certain(text: ChatTokenizer) -> None:
    """Of two that start together the longer wins, so the shorter is certain only when no more text comes."""
    answer = begin(text, stop=("ab", "abc"))
    assert whole(answer, text.encode("xab"), reason="length")["content"] == "x"
    assert answer.stopped
    assert answer.finish_reason == "stop"


def test_reasoning_comes_apart(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = [*text.encode(THOUGHT), end_id(text)]
    message = whole(answer, ids)
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "Hello")
    block = text.encode(THOUGHT.partition("\n\nHello")[0])
    assert cost(answer) == Usage(11, len(ids), len(block))


def test_reasoning_that_the_prompt_has_opened(text: ChatTokenizer) -> None:
    answer = begin(text, inside=True)
    ids = text.encode("Hmm</think>Hello")
    message = whole(answer, ids)
    assert (message["reasoning_content"], message["content"]) == ("Hmm", "Hello")
    assert cost(answer).reasoning_tokens == len(text.encode("Hmm</think>"))


def test_reasoning_cut_off_by_the_limit_is_all_there_is(text: ChatTokenizer) -> None:
    answer = begin(text)
    ids = text.encode("<think>Hmm, how")
    message = whole(answer, ids, reason="length")
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "")
    assert cost(answer).reasoning_tokens == len(ids)
    assert answer.finish_reason == "length"


def test_the_end_right_after_reasoning_is_no_reasoning(text: ChatTokenizer) -> None:
    answer = begin(text)
    block = text.encode("<think>Hmm</think>")
    whole(answer, [*block, end_id(text)])
    assert cost(answer) == Usage(11, len(block) + 1, len(block))


def test_an_answer_without_reasoning_has_none(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert "reasoning_content" not in whole(answer, text.encode("Hello <think>no</think>"))
    assert cost(answer).reasoning_tokens == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_call(text: ChatTokenizer, *, stream: bool) -> None:
    answer = begin(text, tools=ToolChoice(), stream=stream)
    message = whole(answer, [*text.encode(CALL), end_id(text)])
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "add"
    assert json.loads(call["function"]["arguments"]) == {"a": 1, "b": [2]}
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [True, False])
def test_several_tool_calls_after_text_and_reasoning(text: ChatTokenizer, *, stream: bool) -> None:
    answer = begin(text, tools=ToolChoice(), stream=stream)
    message = whole(answer, text.encode(f"{THOUGHT}\n{CALL}\n{CALL}"))
    assert (message["reasoning_content"], message["content"]) == ("Hmm, how", "Hello")
    assert len({call["id"] for call in message["tool_calls"]}) == 2


def test_arguments_come_while_they_are_generated(text: ChatTokenizer) -> None:
    answer = begin(text, tools=ToolChoice(), stream=True)
    deltas = deltas_of([piece for token in text.encode(CALL) for piece in answer.push([token])])
    assert all(isinstance(delta, ToolCallDelta) for delta in deltas)
    first, *more = [delta_json(delta)["tool_calls"][0] for delta in deltas]
    assert (first["index"], first["type"], first["function"]["name"]) == (0, "function", "add")
    assert len(more) > 3
    assert all(set(each) == {"index", "function"} and set(each["function"]) == {"arguments"} for each in more)
    written = "".join(each["function"]["arguments"] for each in (first, *more))
    assert json.loads(written) == {"a": 1, "b": [2]}


def test_without_tools_a_call_is_text(text: ChatTokenizer) -> None:
    answer = begin(text)
    assert whole(answer, text.encode(CALL))["content"] == CALL
    assert answer.finish_reason == "stop"


def test_an_answer_that_has_to_match_a_structure_is_text_even_if_it_reads_like_a_call(text: ChatTokenizer) -> None:
    answer = begin(text, tools=ToolChoice(parallel=False), structure=StructuredOutput("regex", ".*", "x"), stream=True)
    message = whole(answer, text.encode(CALL))
    assert message["content"] == CALL
    assert "tool_calls" not in message
    assert answer.finish_reason == "stop"


def test_a_call_that_was_cut_off_is_text(text: ChatTokenizer) -> None:
    answer = begin(text, tools=ToolChoice())
    cut = CALL[:20]
    assert whole(answer, text.encode(cut), reason="length")["content"] == cut
    assert answer.finish_reason == "length"


def test_the_limit_goes_before_the_calls_of_which_the_last_may_be_cut_off(text: ChatTokenizer) -> None:
    answer = begin(text, tools=ToolChoice(), stream=True)
    assert whole(answer, text.encode(CALL + CALL[:40]), reason="length")["tool_calls"]
    assert answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("choice", "said"), [(ToolChoice(forced=True), "tool_calls"), (ToolChoice(forced=True, name="add"), "stop")]
)
def test_a_call_the_model_was_told_to_make_by_name_is_a_plain_stop(
    text: ChatTokenizer, choice: ToolChoice, said: str
) -> None:
    answer = begin(text, tools=choice)
    assert whole(answer, text.encode(CALL))["tool_calls"]
    assert answer.finish_reason == said


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("step", [1, 1000])
def test_where_one_call_is_all_there_may_be_the_answer_ends_with_it(
    text: ChatTokenizer, step: int, *, stream: bool
) -> None:
    answer = begin(text, tools=ToolChoice(parallel=False), stream=stream)
    ids = text.encode(f"Hm {CALL}\nand {CALL}")
    message = whole(answer, ids, step, "abort")
    assert message["content"] == "Hm"
    assert len(message["tool_calls"]) == 1
    assert answer.stopped
    assert answer.finish_reason == "tool_calls"
    assert answer.completion_tokens == len(text.encode(f"Hm {CALL}"))


def test_a_call_that_only_the_end_makes_certain_counts(text: ChatTokenizer) -> None:
    answer = begin(text, tools=ToolChoice(parallel=False), stop=("</tool_call>!",))
    assert len(whole(answer, text.encode(CALL))["tool_calls"]) == 1
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize(("reason", "said"), [("stop", "stop"), ("length", "length"), ("abort", "stop")])
def test_finish_reasons(text: ChatTokenizer, reason: str, said: str) -> None:
    answer = begin(text)
    assert answer.finish_reason is None
    answer.finish(reason)
    assert answer.finish_reason == said


def test_a_token_of_the_caller_s_that_ends_the_answer_is_not_shown(text: ChatTokenizer) -> None:
    ids = text.encode("Hello!")
    answer = begin(text, ends=frozenset(ids[-1:]))
    assert whole(answer, ids)["content"] == "Hello"
    assert answer.completion_tokens == len(ids)


def test_an_end_token_that_does_not_end_the_answer_is_not_shown_either(text: ChatTokenizer) -> None:
    answer = begin(text, ends=frozenset())
    assert whole(answer, [*text.encode("a"), end_id(text), *text.encode("b")])["content"] == "ab"


def test_what_several_choices_cost(text: ChatTokenizer) -> None:
    answers = [begin(text) for _ in range(3)]
    for count, answer in enumerate(answers, 1):
        answer.push(text.encode("<think>a</think>" + "b" * count))
        answer.finish("stop", cached_tokens=16 * count)
    block = len(text.encode("<think>a</think>"))
    total = 3 * block + sum(len(text.encode("b" * count)) for count in (1, 2, 3))
    assert usage(40, answers, 3) == Usage(40, total, 3 * block, 16)
    assert usage(40, answers, 1) == Usage(40, total, 3 * block, 16 + 32 + 48)


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
        (ToolCallDelta(1, "", "", '{"a"'), {"tool_calls": [{"index": 1, "function": {"arguments": '{"a"'}}]}),
    ],
)
def test_a_delta_as_a_chunk_carries_it(delta: Any, json_: dict[str, Any]) -> None:
    assert delta_json(delta) == json_


@given(st.lists(st.sampled_from(PIECES), max_size=8), SWITCHES, st.integers(1, 9))
def test_how_the_tokens_arrive_changes_nothing(
    text: ChatTokenizer, pieces: list[str], switches: set[str], step: int
) -> None:
    ids = text.encode("".join(pieces))
    results = []
    for size in (1, step, max(1, len(ids))):
        answer = begin(
            text, stop=("END",), tools=choice_of(switches), inside="inside" in switches, stream="stream" in switches
        )
        message = whole(answer, ids, size, "length")
        for call in message.get("tool_calls", ()):
            del call["id"]
        results.append((message, cost(answer), answer.stopped, answer.finish_reason))
    assert results[0] == results[1] == results[2]
    message, costs, _, _ = results[0]
    assert "END" not in (message["content"] or "")
    assert 0 <= costs.reasoning_tokens <= costs.completion_tokens <= len(ids)
