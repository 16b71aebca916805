"""Streams of responses from whatever chunks a server sends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from response_streams import ENTRY, GOLDEN, SCORED, check, chunk, fragment, last, payloads, streamed

from helexa.wire.ollama.upstream import OllamaReader


def test_words_between_calls_are_messages_of_their_own() -> None:
    chunks = [
        chunk({"content": "a"}),
        fragment(0, "{}", "c", "look"),
        chunk({"content": "b"}),
        chunk({"reasoning_content": "c"}),
    ]
    stream = streamed(chunks)
    check(stream)
    assert [item["type"] for item in last(stream)["output"]] == ["message", "function_call", "message", "reasoning"]


def test_a_refusal_after_words_is_a_part_of_the_same_message() -> None:
    stream = streamed([chunk({"content": "a"}), chunk({"refusal": "No."}), chunk({"content": "b"})])
    check(stream)
    (item,) = last(stream)["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal", "output_text"]


@pytest.mark.parametrize(
    "fragments",
    [
        [
            fragment(0, "", "a", "look"),
            fragment(0, "{"),
            fragment(1, "", "b", "leap"),
            fragment(0, "}"),
            fragment(1, "[]"),
        ],
        [fragment(None, "{}", "a", "look"), fragment(None, "[", "b", "leap"), fragment(None, "]")],
        [fragment(0, "{}", "a", "look"), fragment(0, "[", "b", "leap"), fragment(0, "]")],
        [fragment(0, "{", "a", "look"), fragment(0, "}", "a", "look"), fragment(1, "[]", "b", "leap")],
        [fragment(0, "{}", "a"), fragment(0, "", None, "look"), fragment(1, "[]", "b", "leap")],
    ],
    ids=["interleaved", "unnumbered", "all-numbered-0", "repeated-ids", "named-late"],
)
def test_calls_are_told_apart_however_a_server_numbers_them(fragments: list[dict[str, Any]]) -> None:
    stream = streamed(fragments)
    check(stream)
    assert [(item["call_id"], item["name"], item["arguments"]) for item in last(stream)["output"]] == [
        ("a", "look", "{}"),
        ("b", "leap", "[]"),
    ]


def test_a_call_without_an_id_gets_one() -> None:
    (item,) = last(streamed([fragment(0, "{}", None, "look")]))["output"]
    assert item["call_id"] == "call_1"


def test_log_probabilities_go_with_their_text() -> None:
    scored = {"content": [ENTRY], "refusal": None}
    stream = streamed(
        [
            chunk({"reasoning_content": "a"}, logprobs=scored),
            chunk({"content": "b"}, logprobs=scored),
            chunk({}, "stop", logprobs=scored),
        ]
    )
    check(stream)
    deltas = [event for event in payloads(stream) if event["type"] == "response.output_text.delta"]
    assert [(event["delta"], event["logprobs"]) for event in deltas] == [("b", [SCORED]), ("", [SCORED])]
    assert last(stream)["output"][1]["content"][0]["logprobs"] == [SCORED] * 2


def test_only_the_first_choice_is_shown() -> None:
    second = {"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}
    found = last(streamed([chunk({"content": "a"}, "stop"), {"choices": [second]}]))
    assert (found["status"], found["output"][0]["content"][0]["text"]) == ("completed", "a")


DELTAS = st.one_of(
    st.builds(
        lambda key, text: {key: text},
        st.sampled_from(["content", "reasoning_content", "reasoning", "refusal"]),
        st.text(max_size=3),
    ),
    st.builds(
        lambda index, id_, text: fragment(index, text, id_, "f")["choices"][0]["delta"],
        st.none() | st.integers(0, 2),
        st.none() | st.sampled_from("ab"),
        st.text(max_size=3),
    ),
    st.just({}),
)


@given(st.lists(st.builds(chunk, DELTAS, st.sampled_from([None, "stop", "length"])), max_size=12))
def test_any_chunks_are_a_stream_that_adds_up(chunks: list[dict[str, Any]]) -> None:
    stream = streamed(chunks)
    check(stream)
    done = [event for event in payloads(stream) if event["type"] == "response.output_item.done"]
    by_place = sorted(done, key=lambda event: event["output_index"])
    assert [event["item"] for event in by_place] == last(stream)["output"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "usage",
                    "logprobs",
                    "text",
                    "prompt_tokens",
                    "token",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage"]), VALUES), max_size=4))
def test_chunks_of_no_shape_at_all_do_no_harm(chunks: list[dict[str, Any]]) -> None:
    check(streamed(chunks))


def test_a_stream_of_ollamas_becomes_one_of_responses() -> None:
    reader = OllamaReader("helexa/tiny")
    chunks = reader.push((GOLDEN / "ollama_stream.ndjson").read_bytes()) + reader.finish()
    stream = streamed(chunks)
    check(stream)
    found = last(stream)
    assert [item["type"] for item in found["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert (found["status"], found["usage"]["total_tokens"]) == ("completed", 308)
