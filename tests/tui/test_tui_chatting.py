"""Answers of models: what is asked, what is made of chunks, and what servers do instead of answering."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fleet_servers import Answer as Told
from fleet_servers import answer, serving
from hypothesis import given
from hypothesis import strategies as st

from tui.chatting import Answer, Parameters, asked, body, chunks
from tui.client import FleetError
from tui.operations import Operations

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def sent(*chunks: Any) -> bytes:
    return HEAD + b"".join(
        b"data: %s\n\n" % (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in chunks
    )


def hear(told: Told) -> list[dict[str, Any]]:
    """What comes of a server that says this."""

    async def main() -> list[dict[str, Any]]:
        async with serving(v1__chat__completions=told) as server:
            operations = Operations(server.url, "hx-key")
            try:
                return [each async for each in operations.chat(body("m", [], Parameters()))]
            finally:
                await operations.aclose()

    return asyncio.run(main())


def test_an_answer_comes_chunk_by_chunk() -> None:
    told = [chunk(content="one"), chunk(content=" two"), chunk("stop")]
    assert hear(sent(*told, b"[DONE]")) == told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            answer({"error": {"message": "The model 'm' does not exist here."}}, 404),
            "The model 'm' does not exist here.",
        ),
        (answer({"error": {"message": "This key may not."}}, 403), "This key may not."),
        (answer(b"<html>", 200, "text/html"), "not as a fleet does"),
        (sent(chunk(content="one"), {"error": {"message": "The worker died."}}), "The worker died."),
        (sent({"error": 7}), "went wrong"),
        (sent(b"no JSON"), "no answer of a model"),
        (sent([1]), "no answer of a model"),
        (HEAD[:20], "broke off"),
    ],
)
def test_what_is_no_answer_is_told_in_a_sentence(told: bytes, said: str) -> None:
    with pytest.raises(FleetError, match=said):
        hear(told)


def test_nobody_there_is_told_with_the_address() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as client:
            async for _ in chunks(client, "http://127.0.0.1:9", {}):
                pass

    with pytest.raises(FleetError, match=r"no fleet answers at http://127\.0\.0\.1:9 "):
        asyncio.run(main())


def test_who_stops_listening_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def tell(writer: asyncio.StreamWriter) -> None:
        """Go on until nobody is there."""
        writer.write(sent(chunk(content="one")))
        try:
            for _ in range(100_000):
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b": keep-alive\n\n")
        except ConnectionError:
            closed.set()

    async def main() -> None:
        async with serving(v1__chat__completions=tell) as server:
            operations = Operations(server.url, None)
            answer = operations.chat({})
            assert await anext(answer) == chunk(content="one")
            await answer.aclose()  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                await closed.wait()
            await operations.aclose()

    asyncio.run(main())


def test_a_request_has_what_is_set_and_nothing_else() -> None:
    assert body("m", [{"role": "user", "content": "x"}], Parameters()) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    tool = {"type": "function", "function": {"name": "look"}}
    found = body("m", [], Parameters("Be brief.", 0.0, 0.9, 64, (tool,)))
    assert found["messages"] == [{"role": "system", "content": "Be brief."}]
    assert [found[name] for name in ("temperature", "top_p", "max_tokens", "tools")] == [0.0, 0.9, 64, [tool]]


def test_pieces_are_put_together_and_timed() -> None:
    found = Answer(begun=10.0)
    found.take(chunk(role="assistant", content=""), 10.1)
    assert found.wait is None  # a role is no token
    found.take(chunk(reasoning_content="Let me see."), 10.5)
    found.take(chunk(content="It is "), 11.0)
    found.take(chunk(content="so."), 12.5)
    found.take(chunk("stop"), 13.0)
    found.take({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 21}}, 13.0)
    assert (found.reasoning, found.content, found.finish) == ("Let me see.", "It is so.", "stop")
    assert (found.wait, found.rate) == (0.5, 10.0)
    assert found.message() == {"role": "assistant", "content": "It is so."}


def test_calls_of_tools_are_put_together_by_their_index() -> None:
    found = Answer(begun=0.0)
    for index, more in (
        (0, {"id": "a", "function": {"name": "look", "arguments": ""}}),
        (1, {"id": "b", "function": {"name": "go"}}),
    ):
        found.take(chunk(tool_calls=[{"index": index, **more}]), 1.0)
    for index, arguments in ((0, '{"a":'), (1, "{}"), (0, " 1}")):
        found.take(chunk(tool_calls=[{"index": index, "function": {"arguments": arguments}}]), 2.0)
    calls = found.message()["tool_calls"]
    assert [(each["id"], each["function"]["name"], each["function"]["arguments"]) for each in calls] == [
        ("a", "look", '{"a": 1}'),
        ("b", "go", "{}"),
    ]


def test_what_is_said_after_a_call_is_its_result() -> None:
    found = Answer(begun=0.0)
    found.take(chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "look"}}]), 1.0)
    *_, last = asked([{"role": "user", "content": "x"}, found.message()], "it rains")
    assert last == {"role": "tool", "tool_call_id": "a", "content": "it rains"}
    assert asked([], "hello") == [{"role": "user", "content": "hello"}]


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "index", "function", "name", "arguments", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(_json, max_size=4), _json)
def test_chunks_of_any_shape_are_read_as_far_as_they_go(choices: list[Any], usage: Any) -> None:
    found = Answer(begun=0.0)
    found.take({"choices": choices, "usage": usage}, 1.0)
    found.take({"choices": usage}, 1.0)
    assert isinstance(found.message()["content"], str)
