"""Answers written as messages: the bytes, the official types, and blocks that stay whole whatever the chunks do."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from helexa.wire import errors, sse
from helexa.wire.anthropic.errors import envelope
from helexa.wire.anthropic.replies import MessageReply
from helexa.wire.errors import ApiError

GOLDEN = Path(__file__).parents[1] / "golden"
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
SPENT = {
    "input_tokens": 4,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 8,
    "output_tokens": 30,
    "output_tokens_details": {"thinking_tokens": 5},
}


def reply() -> MessageReply:
    return MessageReply("helexa/large", "msg_1")


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


def spoken(*, finish_reason: str | None = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "choices": [choice], "usage": usage}


def call(index: int, call_id: str, name: str = "look", arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def more(index: int, arguments: str) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


ROLE = chunk({"role": "assistant", "content": ""})
END = chunk({}, finish_reason="stop")
COST: dict[str, Any] = {"id": "chatcmpl-1", "choices": [], "usage": USAGE}
TEXT = [ROLE, chunk({"content": "Grüße "}), chunk({"content": "🦀\n"}), END, COST]
TOOLS = [
    ROLE,
    chunk({"reasoning_content": "Let me"}),
    chunk({"reasoning_content": " see."}),
    chunk({"content": "I look."}),
    chunk({"tool_calls": [call(0, "call_1")]}),
    chunk({"tool_calls": [more(0, '{"box":')]}),
    chunk({"tool_calls": [more(0, '"a"}')]}),
    chunk({"tool_calls": [call(1, "call_2", "ring", "{}")]}),
    chunk({}, finish_reason="tool_calls"),
    COST,
]
CALLS = [call(0, "call_1", arguments='{"box":"a"}'), call(1, "call_2", "ring", "{}")]


def streamed(chunks: Iterable[dict[str, Any]]) -> bytes:
    answer = reply()
    return b"".join([*(answer.push(each) for each in chunks), answer.finish()])


def broken() -> bytes:
    answer = reply()
    return answer.push(TEXT[1]) + answer.fail(errors.upstream_error("The engine gave the request up."))


SHAPES = {
    "anthropic_message.json": lambda: sse.dumps(reply().whole(spoken(content="Grüße 🦀\n", finish_reason="length"))),
    "anthropic_message_tools.json": lambda: sse.dumps(
        reply().whole(spoken(content="I look.", reasoning_content="Let me see.", tool_calls=CALLS))
    ),
    "anthropic_stream.sse": lambda: streamed(TEXT),
    "anthropic_stream_tools.sse": lambda: streamed(TOOLS),
    "anthropic_stream_error.sse": broken,
    "anthropic_error.json": lambda: sse.dumps(envelope(errors.model_not_found("gpt-9"), "req_1")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_answers_are_these_bytes(name: str) -> None:
    assert SHAPES[name]() == (GOLDEN / name).read_bytes()


def parsed(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each named by its type and of the official type."""
    found = []
    for each in stream.removesuffix(b"\n\n").split(b"\n\n"):
        name, data = each.split(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        if event["type"] == "error":
            ErrorResponse.model_validate(event)
        elif event["type"] != "ping":
            EVENTS.validate_python(event)
        found.append(event)
    return found


def assembled(stream: bytes) -> dict[str, Any]:
    """The message that a stream puts together; one block at a time, numbered in a row, or it fails."""
    message: dict[str, Any] = {}
    inside = False
    for event in parsed(stream):
        assert bool(message) == (event["type"] != "message_start")
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert (inside, event["index"]) == (False, len(message["content"]))
                inside = True
                message["content"].append({**event["content_block"], "arguments": ""})
            case "content_block_delta":
                assert (inside, event["index"]) == (True, len(message["content"]) - 1)
                add(message["content"][-1], event["delta"])
            case "content_block_stop":
                assert (inside, event["index"]) == (True, len(message["content"]) - 1)
                inside = False
            case "message_delta":
                assert not inside
                message |= event["delta"] | {"usage": event["usage"]}
    for block in message["content"]:
        close(block)
    return message


def add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    kind = delta.pop("type")
    ((key, words),) = delta.items()
    key = {"input_json_delta": "arguments", "text_delta": "text", "thinking_delta": "thinking"}[kind]
    block[key] += words


def close(block: dict[str, Any]) -> None:
    arguments = block.pop("arguments")
    if block["type"] == "tool_use":
        block["input"] = orjson.loads(arguments or "{}")


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        (TEXT, spoken(content="Grüße 🦀\n")),
        (TOOLS, spoken(content="I look.", reasoning_content="Let me see.", tool_calls=CALLS)),
        ([ROLE, END, COST], spoken(content="")),
        ([], {}),
    ],
)
def test_a_stream_puts_together_what_a_whole_answer_is(chunks: Any, whole: Any) -> None:
    found = reply().whole(whole)
    Message.model_validate(found, strict=True)
    assert assembled(streamed(chunks)) == found


def test_nothing_said_is_a_message_without_blocks() -> None:
    assert reply().whole(spoken(content=None))["content"] == []
    assert [event["type"] for event in parsed(streamed([ROLE, END]))] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]


def test_the_message_begins_with_the_very_first_chunk() -> None:
    answer = reply()
    (start, ping) = parsed(answer.push(ROLE))
    assert (start["type"], ping["type"]) == ("message_start", "ping")
    assert answer.push(chunk({})) == b""


def test_every_chunk_is_passed_on_at_once() -> None:
    answer = reply()
    deltas = [[event.get("delta") for event in parsed(answer.push(each)) if "delta" in event] for each in TOOLS[:-2]]
    assert [len(found) for found in deltas] == [0, 1, 1, 1, 0, 1, 1, 1]


def test_ids_are_new_ones() -> None:
    first, second = (MessageReply("m").whole({})["id"] for _ in range(2))
    assert first != second
    assert first.startswith("msg_")


@pytest.mark.parametrize(
    ("finish_reason", "more", "expected"),
    [
        ("stop", {}, ("end_turn", None)),
        ("length", {}, ("max_tokens", None)),
        ("tool_calls", {}, ("tool_use", None)),
        ("function_call", {}, ("tool_use", None)),
        ("content_filter", {}, ("refusal", None)),
        ("something_new", {}, ("end_turn", None)),
        (None, {}, ("end_turn", None)),
        (7, {}, ("end_turn", None)),
        ("stop", {"stop_reason": "</done>"}, ("stop_sequence", "</done>")),
        ("stop", {"stop_reason": 151643}, ("end_turn", None)),
        ("stop", {"stop_reason": None}, ("end_turn", None)),
        ("length", {"stop_reason": "</done>"}, ("max_tokens", None)),
    ],
)
def test_why_it_ended_is_said_in_anthropics_words(finish_reason: Any, more: Any, expected: Any) -> None:
    completion = spoken(content="Hi.", finish_reason=finish_reason)
    completion["choices"][0] |= more
    ending = chunk({}, finish_reason=finish_reason, **more)
    for found in (reply().whole(completion), assembled(streamed([TEXT[1], ending, COST]))):
        assert (found["stop_reason"], found["stop_sequence"]) == expected


@pytest.mark.parametrize(
    ("finish_reason", "expected"), [("stop", "tool_use"), (None, "tool_use"), ("length", "max_tokens")]
)
def test_a_function_that_had_to_be_called_is_a_call_all_the_same(finish_reason: Any, expected: str) -> None:
    whole = reply().whole(spoken(content=None, tool_calls=CALLS, finish_reason=finish_reason))
    stream = assembled(streamed([*TOOLS[4:8], chunk({}, finish_reason=finish_reason)]))
    assert (whole["stop_reason"], stream["stop_reason"]) == (expected, expected)


DEEP = '{"a":' * 300 + "1" + "}" * 300
WIDE = orjson.dumps({"a": [{}] * 300}).decode()


def test_arguments_may_be_wide() -> None:
    found = reply().whole(spoken(content=None, tool_calls=[call(0, "call_1", arguments=WIDE)]))
    assert found["content"][0]["input"] == {"a": [{}] * 300}


@pytest.mark.parametrize("arguments", ['{"box":', "[1]", "nope", "7", DEEP])
def test_arguments_that_are_no_object_stand_within_one(arguments: str) -> None:
    found = reply().whole(spoken(content=None, tool_calls=[call(0, "call_1", arguments=arguments)]))
    assert found["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_a_refusal_is_what_was_said() -> None:
    found = reply().whole(spoken(content=None, refusal="No.", finish_reason="content_filter"))
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_have_two_names(field: str) -> None:
    found = reply().whole(spoken(content="Hi.", **{field: "Hm."}))
    assert found["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": ""}


def test_only_the_first_choice_is_told() -> None:
    other = {"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}
    found = assembled(streamed([{"choices": [other]}, chunk({"content": "A"}), {"choices": [other]}]))
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "A"}], "end_turn")


def test_words_after_a_call_are_a_block_of_their_own() -> None:
    chunks = [chunk({"content": "a"}), chunk({"tool_calls": [call(0, "1", arguments="{}")]}), chunk({"content": "b"})]
    assert [block["type"] for block in assembled(streamed(chunks))["content"]] == ["text", "tool_use", "text"]


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    calls = [call(0, "1", "look", "{}"), call(0, "2", "ring", "{}"), call(0, "2", "ring", "")]
    found = assembled(streamed(chunk({"tool_calls": [each]}) for each in calls))["content"]
    assert [(block["id"], block["name"]) for block in found] == [("1", "look"), ("2", "ring")]


def test_a_call_without_an_id_gets_one() -> None:
    calls = [{"function": {"name": "look", "arguments": "{}"}}, {"function": {"name": "ring"}}]
    found = reply().whole(spoken(content=None, tool_calls=calls))["content"]
    assert len({block["id"] for block in found}) == 2
    assert all(block["id"].startswith("toolu_") for block in found)


def test_what_follows_a_call_without_arguments_comes_at_the_end() -> None:
    answer = reply()
    early = answer.push(chunk({"tool_calls": [call(0, "1"), call(1, "2", arguments="{}")]})) + answer.push(COST)
    assert b"content_block_stop" not in early
    found = assembled(early + answer.finish())["content"]
    assert [(block["id"], block["input"]) for block in found] == [("1", {}), ("2", {})]


ARGUMENTS = st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers(0, 9) | st.just({}), max_size=3)
SPLITS = st.lists(st.integers(0, 60), max_size=4)


@given(st.lists(st.tuples(ARGUMENTS, SPLITS), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_calls_that_come_in_turns_are_told_one_after_the_other(calls: Any, random: Any) -> None:
    queues = []
    for index, (arguments, places) in enumerate(calls):
        text = orjson.dumps(arguments).decode()
        cuts = [0, *sorted(min(place, len(text)) for place in places), len(text)]
        fragments = [more(index, text[a:b]) for a, b in pairwise(cuts)]
        queues.append([call(index, f"call_{index}"), *fragments])
    chunks = []
    while queues:
        queue = random.choice(queues)
        chunks.append(chunk({"tool_calls": [queue.pop(0)]}))
        queues = [each for each in queues if each]
    found = {block["id"]: block["input"] for block in assembled(streamed(chunks))["content"]}
    assert found == {f"call_{index}": arguments for index, (arguments, _) in enumerate(calls)}


DELTAS = st.fixed_dictionaries({}, optional={"content": st.text(max_size=4), "reasoning_content": st.text(max_size=4)})


@given(st.lists(DELTAS, max_size=12))
def test_every_word_arrives_in_its_order(deltas: list[dict[str, str]]) -> None:
    content = assembled(streamed(map(chunk, deltas)))["content"]
    for kind, key in (("text", "content"), ("thinking", "reasoning_content")):
        words = "".join(block[kind] for block in content if block["type"] == kind)
        assert words == "".join(delta.get(key, "") for delta in deltas)
    assert all(a["type"] != b["type"] for a, b in pairwise(content))


JSON = st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2))
ODD = st.recursive(
    JSON,
    lambda inner: st.dictionaries(
        st.sampled_from(["index", "delta", "message", "content", "tool_calls", "function", "arguments", "id", "usage"])
        | st.sampled_from(["choices", "finish_reason", "stop_reason", "prompt_tokens", "name", "reasoning"]),
        st.lists(inner, max_size=2) | inner,
        max_size=5,
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage"]), ODD | st.lists(ODD, max_size=2)), max_size=3))
def test_chunks_of_any_other_shape_are_passed_over(chunks: Any) -> None:
    assembled(streamed(chunks))
    for each in chunks:
        Message.model_validate(reply().whole(each), strict=True)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_type_for_their_status(status: int, expected: str) -> None:
    found = envelope(ApiError(status, "It broke.", "x", "y"))
    assert found == {"type": "error", "error": {"type": expected, "message": "It broke."}}
