"""Answers on their way to a client of the Responses API: chunks, the events made of them, and what holds for those."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import orjson
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from helexa.wire.responses.replies import ResponseReply
from helexa.wire.sse import EventReader

GOLDEN = Path(__file__).parents[1] / "golden"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
REQUEST: dict[str, Any] = {
    "model": "helexa/tiny",
    "input": "What is there?",
    "instructions": "Look first.",
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}, {"type": "web_search"}],
    "temperature": 0.5,
    "metadata": {"project": "crabs"},
}
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 30,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
ENTRY = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": None}],
}
SCORED = {**ENTRY, "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": []}]}


def reply(**fields: Any) -> ResponseReply:
    counts: Counter[str] = Counter()

    def numbered(prefix: str) -> str:
        counts[prefix] += 1
        return f"{prefix}_{counts[prefix]}"

    return ResponseReply({**REQUEST, **fields}, created=1_700_000_000, new_id=numbered)


def chunk(delta: dict[str, Any], reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **fields}]}


def fragment(
    index: int | None = 0, arguments: str = "", id_: str | None = None, name: str | None = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {"index": index, "id": id_, "type": "function", "function": function}
    return chunk({"tool_calls": [{key: value for key, value in call.items() if value is not None}]})


CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "I should "}),
    chunk({"reasoning_content": "look."}),
    chunk({"content": "Grüße 🦀\n"}),
    chunk({"content": "Hi"}, logprobs={"content": [ENTRY], "refusal": None}),
    fragment(0, "", "call_1", "look"),
    fragment(0, '{"where":'),
    fragment(0, '"here"}'),
    fragment(1, "{}", "call_2", "look"),
    chunk({}, "tool_calls"),
    {"choices": [], "usage": USAGE},
]
MESSAGE = {
    "role": "assistant",
    "content": "Grüße 🦀\nHi",
    "refusal": None,
    "reasoning_content": "I should look.",
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"where":"here"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ],
}


def completion(message: dict[str, Any], reason: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason, **fields}], "usage": USAGE}


def streamed(chunks: Iterable[dict[str, Any]], **fields: Any) -> bytes:
    writer = reply(**fields)
    return b"".join([writer.push(each) for each in chunks] + [writer.finish()])


def payloads(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(data) for data in EventReader().push(stream)]


def kinds(stream: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in payloads(stream)]


def last(stream: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", payloads(stream)[-1]["response"])


def check(stream: bytes) -> None:
    """What holds for every stream: names, numbers, the SDK's types, and deltas that add up to what is shown as done."""
    found = payloads(stream)
    names = [line.removeprefix(b"event: ").decode() for line in stream.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert names[:2] == ["response.created", "response.in_progress"]
    assert len({event["response"]["id"] for event in found if "response" in event}) == 1
    for event in found:
        assert EVENTS.validate_python(event, strict=True).type == event["type"]
    check_deltas(found)


def check_deltas(found: list[dict[str, Any]]) -> None:
    texts: Counter[tuple[str, int]] = Counter()
    said: dict[tuple[str, int], str] = {}
    for event in found:
        place = (event.get("item_id", ""), event.get("content_index", 0))
        if event["type"].endswith(".delta"):
            said[place] = said.get(place, "") + event["delta"]
        whole = next((event[key] for key in ("text", "refusal", "arguments") if key in event), None)
        if whole is not None:
            texts[place] += 1
            assert whole == said.get(place, "")
    assert set(texts.values()) <= {1}
    added = [event for event in found if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
