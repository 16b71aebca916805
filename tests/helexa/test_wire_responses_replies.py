"""Completions written as responses: whole, event by event, and as the official SDK reads them."""

from typing import Any

import httpx
import openai
import orjson
import pytest
from openai.types.responses import Response
from response_streams import CHUNKS, ENTRY, GOLDEN, MESSAGE, check, chunk, completion, kinds, last, reply, streamed

from helexa.wire import errors
from helexa.wire.responses.content import unseal


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("responses_stream.sse", streamed(CHUNKS)),
        ("responses_incomplete.sse", streamed([chunk({"content": "Hi"}), chunk({}, "length")])),
        ("responses_refusal.sse", streamed([chunk({"refusal": "No"}), chunk({"refusal": "."}), chunk({}, "stop")])),
        ("responses_empty.sse", streamed([chunk({"role": "assistant", "content": ""}), chunk({}, "stop")])),
    ],
)
def test_streams_are_these_bytes(name: str, stream: bytes) -> None:
    check(stream)
    assert stream == (GOLDEN / name).read_bytes()


def test_a_stream_that_fails_is_these_bytes() -> None:
    writer = reply()
    stream = writer.push(chunk({"content": "Hi"})) + writer.fail(errors.upstream_error("The engine broke."))
    check(stream)
    assert stream == (GOLDEN / "responses_failed.sse").read_bytes()


def test_a_whole_response_is_these_bytes() -> None:
    found = reply().whole(completion(MESSAGE, "tool_calls", logprobs={"content": [ENTRY], "refusal": None}))
    Response.model_validate(found, strict=True)
    assert orjson.dumps(found) == (GOLDEN / "responses_whole.json").read_bytes()


def test_a_stream_ends_with_what_would_have_come_whole() -> None:
    logprobs = {"content": [ENTRY], "refusal": None}
    assert last(streamed(CHUNKS)) == reply().whole(completion(MESSAGE, "tool_calls", logprobs=logprobs))


def test_the_sdk_puts_the_events_together() -> None:
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=streamed(CHUNKS)))
    with (
        httpx.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=http) as client,
        client.responses.stream(model="helexa/tiny", input="What is there?") as stream,
    ):
        found = stream.get_final_response()
    assert found.output_text == "Grüße 🦀\nHi"
    assert [item.type for item in found.output] == ["reasoning", "message", "function_call", "function_call"]
    assert found.usage is not None
    assert found.usage.total_tokens == 42


def test_events_come_with_their_chunks() -> None:
    writer = reply()
    found = [kinds(writer.push(each)) for each in CHUNKS] + [kinds(writer.finish())]
    assert found[0] == ["created", "in_progress"]
    assert found[1] == ["output_item.added", "content_part.added", "reasoning_text.delta"]
    assert found[2] == ["reasoning_text.delta"]
    assert found[3] == [
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
    ]
    assert found[5] == ["output_text.done", "content_part.done", "output_item.done", "output_item.added"]
    assert found[6:8] == [["function_call_arguments.delta"]] * 2
    assert found[8] == ["output_item.added", "function_call_arguments.delta"]
    assert found[9:11] == [[], []]
    assert found[11] == ["function_call_arguments.done", "output_item.done"] * 2 + ["completed"]


@pytest.mark.parametrize(
    ("reason", "status", "details", "item"),
    [
        ("stop", "completed", None, "completed"),
        ("tool_calls", "completed", None, "completed"),
        (None, "completed", None, "completed"),
        ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
        ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
    ],
)
def test_the_status_says_whether_the_answer_is_complete(
    reason: str | None, status: str, details: dict[str, str] | None, item: str
) -> None:
    stream = streamed([chunk({"content": "Hi"}, reason)])
    check(stream)
    found = last(stream)
    assert (found["status"], found["incomplete_details"], found["output"][0]["status"]) == (status, details, item)
    assert kinds(stream)[-1] == status


def test_only_the_last_item_was_cut_off() -> None:
    found = last(streamed([*CHUNKS[:9], chunk({}, "length")]))
    assert [item["status"] for item in found["output"]] == ["completed", "completed", "completed", "incomplete"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.upstream_error("It broke."), "server_error"),
        (errors.unavailable("It is down.", 2), "server_error"),
        (errors.rate_limited("Too much.", 1), "rate_limit_exceeded"),
        (errors.invalid_value("input", "no"), "invalid_prompt"),
    ],
)
def test_a_stream_that_breaks_off_says_why(error: errors.ApiError, code: str) -> None:
    writer = reply()
    stream = b"".join(map(writer.push, CHUNKS[:9])) + writer.fail(error)
    check(stream)
    found = last(stream)
    assert (found["status"], found["error"]) == ("failed", {"code": code, "message": error.message})
    assert [item["status"] for item in found["output"]] == ["completed", "completed", "incomplete", "incomplete"]


def test_a_stream_may_fail_before_it_has_said_anything() -> None:
    stream = reply().fail(errors.upstream_error("It broke."))
    check(stream)
    assert kinds(stream) == ["created", "in_progress", "failed"]


def test_usage_has_its_own_names() -> None:
    usage = reply().whole(completion(MESSAGE))["usage"]
    assert usage == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 42,
    }


@pytest.mark.parametrize(
    "given_usage", [None, {}, {"prompt_tokens": None, "completion_tokens": "x"}, {"prompt_tokens_details": None}]
)
def test_counts_that_a_server_leaves_out_are_none_at_all_or_zero(given_usage: dict[str, Any] | None) -> None:
    found = reply().whole({**completion(MESSAGE), "usage": given_usage})
    Response.model_validate(found, strict=True)
    assert found["usage"] is None or found["usage"]["total_tokens"] == 0


def test_a_response_repeats_its_settings() -> None:
    found = reply(
        max_output_tokens=9,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_object"}},
        tool_choice="required",
        parallel_tool_calls=False,
        store=True,
        user="u",
        top_logprobs=2,
    ).whole(completion(MESSAGE))
    Response.model_validate(found, strict=True)
    assert found["tools"] == [
        {"type": "function", "name": "look", "description": None, "parameters": {"type": "object"}, "strict": None}
    ]
    expected = {
        "instructions": "Look first.",
        "max_output_tokens": 9,
        "metadata": {"project": "crabs"},
        "model": "helexa/tiny",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": None},
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "required",
        "top_logprobs": 2,
        "top_p": None,
        "user": "u",
    }
    assert {key: found[key] for key in expected} == expected


def test_null_settings_are_as_good_as_none() -> None:
    absent = dict.fromkeys(("text", "reasoning", "tools", "metadata", "tool_choice", "include", "parallel_tool_calls"))
    Response.model_validate(reply(**absent).whole(completion(MESSAGE)), strict=True)


def test_reasoning_is_sealed_for_who_asks() -> None:
    found = last(streamed(CHUNKS, include=["reasoning.encrypted_content"]))["output"][0]
    assert unseal(found["encrypted_content"]) == "I should look."
    assert "encrypted_content" not in last(streamed(CHUNKS))["output"][0]
    check(streamed(CHUNKS, include=["reasoning.encrypted_content"]))


def test_other_names_for_reasoning_are_read_once() -> None:
    found = last(
        streamed([chunk({"reasoning": "a", "reasoning_content": "a"}), chunk({"reasoning": "b", "content": "c"})])
    )
    assert [item["content"][0]["text"] for item in found["output"]] == ["ab", "c"]


def test_content_in_parts_is_text() -> None:
    found = reply().whole(completion({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {}]}))
    assert found["output"][0]["content"][0]["text"] == "ab"
