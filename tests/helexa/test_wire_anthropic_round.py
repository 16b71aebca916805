"""Chats and answers that go through Messages and back are what they were."""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from helexa.wire.anthropic.replies import MessageReply
from helexa.wire.anthropic.requests import to_chat
from helexa.wire.anthropic.upstream import MessageReader, to_completion, to_messages

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text.strip())
PLAIN = WORDS.map(lambda text: text.strip() + ".")
ARGUMENTS = st.dictionaries(WORDS, WORDS | st.integers(0, 9) | st.lists(WORDS, max_size=2), max_size=2)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/webp;base64,UklGRg=="}}


def call(number: int, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": "look", "arguments": orjson.dumps(arguments).decode()}
    return {"id": f"call_{number}", "type": "function", "function": function}


@st.composite
def exchanges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A user's turn, the assistant's calls and words, and the answers of the tools."""
    user = draw(WORDS | WORDS.map(lambda text: [{"type": "text", "text": text}, IMAGE]))
    calls = [call(number, arguments) for number, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=2)))]
    words = draw(PLAIN | st.none()) if calls else draw(PLAIN)
    said = {"role": "assistant", "content": words, **({"tool_calls": calls} if calls else {})}
    answers = [{"role": "tool", "tool_call_id": each["id"], "content": draw(WORDS)} for each in calls]
    return [{"role": "user", "content": user}, said, *answers]


@given(st.lists(exchanges(), min_size=1, max_size=3), st.none() | WORDS)
def test_a_chat_is_the_same_after_a_round_through_messages(found: Any, system: str | None) -> None:
    begun = [] if system is None else [{"role": "system", "content": system}]
    chat = {"model": "m", "messages": [*begun, *(message for each in found for message in each)]}
    back = to_chat(to_messages(chat), strip_billing=False).chat
    assert back == {**chat, "max_completion_tokens": 8192}


def test_five_megabytes_go_through_and_back() -> None:
    words = "Grüße 🦀\x00\x1b." * 400_000
    chat = {"model": "m", "messages": [{"role": "user", "content": words}]}
    assert to_chat(to_messages(chat), strip_billing=True).chat["messages"] == chat["messages"]


def completion(thought: str, words: str, calls: list[Any], reason: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": words or (None if calls else ""), "refusal": None}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 30,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    return {"object": "chat.completion", "created": 7, "model": "m", "choices": [choice], "usage": usage}


@st.composite
def completions(draw: st.DrawFn) -> dict[str, Any]:
    calls = [call(number, arguments) for number, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3)))]
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    return completion(draw(WORDS | st.just("")), draw(WORDS | st.just("")), calls, reason)


@given(completions())
def test_an_answer_is_the_same_after_a_round_through_messages(given_: Any) -> None:
    back = to_completion(MessageReply("m", "msg_1").whole(given_), created=7)
    assert back == {"id": "chatcmpl-msg_1", **given_}


def chunks(whole: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """A completion as a stream of it, in pieces of so many characters."""
    message = whole["choices"][0]["message"]
    deltas = [{"reasoning_content": piece} for piece in pieces(message.get("reasoning_content"), size)]
    deltas += [{"content": piece} for piece in pieces(message["content"], size)]
    for index, each in enumerate(message.get("tool_calls", [])):
        deltas.append({"tool_calls": [{**each, "index": index, "function": {"name": "look", "arguments": ""}}]})
        fragments = pieces(each["function"]["arguments"], size)
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in fragments]
    told = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": whole["choices"][0]["finish_reason"]}]}
    return [*told, end, {"choices": [], "usage": whole["usage"]}]


def pieces(text: str | None, size: int) -> list[str]:
    return [(text or "")[place : place + size] for place in range(0, len(text or ""), size)]


def joined(stream: list[dict[str, Any]]) -> dict[str, Any]:
    """The completion that a stream tells."""
    thought, words, calls, reason = "", "", [], ""
    for chunk in stream:
        for choice in chunk["choices"]:
            reason = choice["finish_reason"] or reason
            delta = choice["delta"]
            thought += delta.get("reasoning_content", "")
            words += delta.get("content", "")
            for each in delta.get("tool_calls", []):
                add(calls, each)
    return completion(thought, words, calls, reason) | {"usage": stream[-1]["usage"]}


def add(calls: list[Any], piece: dict[str, Any]) -> None:
    if "id" in piece:
        function = dict(piece["function"])
        calls.append({"id": piece["id"], "type": piece["type"], "function": function})
    else:
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


@given(completions(), st.integers(1, 9), st.lists(st.integers(0, 4000), max_size=6))
def test_a_stream_is_the_same_after_a_round_through_messages(whole: Any, size: int, places: list[int]) -> None:
    reply, reader = MessageReply("m", "msg_1"), MessageReader(7)
    data = b"".join(map(reply.push, chunks(whole, size))) + reply.finish()
    cuts = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    stream = [chunk for a, b in pairwise(cuts) for chunk in reader.push(data[a:b])] + reader.finish()
    assert joined(stream) == whole
