"""The official SDKs against two neurons behind one gateway: each dialect whole, streamed, with tools, and refused."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from harness import Fleet, free_port, make_fleet, wait_until

pytestmark = pytest.mark.usefixtures("forked_fleets")
MODEL = "helexa/tiny"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "City name"}},
    "required": ["city"],
}
ABOUT = {"name": "get_weather", "description": "Get the current weather in a city"}
CHAT_TOOL: Any = {"type": "function", "function": {**ABOUT, "parameters": PARAMETERS}}
RESPONSE_TOOL: Any = {"type": "function", **ABOUT, "parameters": PARAMETERS, "strict": False}
MESSAGE_TOOL: Any = {**ABOUT, "input_schema": PARAMETERS}
WEATHER = "What is the weather in Paris?"
REPORT = '{"temperature": 21, "condition": "sunny"}'
COUNT = "Count from 1 to 12."
COLD = {"temperature": 0}
"""For an SDK that no longer has a parameter of that name; the protocol has."""
THINK = {"chat_template_kwargs": {"enable_thinking": True}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of two neurons that hold the same model."""
    second = f"""
[[neurons]]
name = "second"
listen = "127.0.0.1:{free_port()}"
devices = ["cpu"]
preload = ["{MODEL}"]
"""
    running = make_fleet(tmp_path_factory.mktemp("pair"), second).start()
    wait_until(lambda: len(running.model()["locations"]) == 2, 60, "both neurons")
    wait_until(lambda: {each["status"] for each in running.model()["locations"]} == {"loaded"}, 60, "both models")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def gpt(pair: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{pair.url}/v1", api_key="unused", max_retries=0, timeout=60) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def claude(pair: Fleet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=pair.url, api_key="unused", max_retries=0, timeout=60) as sdk:
        yield sdk


def user(text: str) -> Any:
    return {"role": "user", "content": text}


class TestChat:
    def test_a_stream_says_what_the_whole_answer_says(self, gpt: openai.OpenAI) -> None:
        asked: dict[str, Any] = {"model": MODEL, "messages": [user(COUNT)], "temperature": 0}
        whole = gpt.chat.completions.create(**asked)
        chunks = list(gpt.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage is not None
        assert whole.usage is not None
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens

    def test_the_streaming_helper_puts_a_tool_call_together(self, gpt: openai.OpenAI) -> None:
        with gpt.chat.completions.stream(
            model=MODEL, messages=[user(WEATHER)], tools=[CHAT_TOOL], temperature=0
        ) as stream:
            kinds = {event.type for event in stream}
            choice = stream.get_final_completion().choices[0]
        assert "tool_calls.function.arguments.done" in kinds
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls or []
        assert json.loads(call.function.arguments) == {"city": "Paris"}

    def test_headers_tell_what_happened(self, gpt: openai.OpenAI) -> None:
        raw = gpt.chat.completions.with_raw_response.create(
            model="tiny", messages=[user("Hello!")], extra_headers={"x-request-id": "mine-1"}
        )
        assert raw.headers["x-request-id"] == "mine-1"
        assert raw.headers["x-helexa-node"] in ("local", "second")
        assert raw.headers["x-helexa-attempts"] == "1"
        assert raw.headers["x-helexa-route"]
        assert raw.parse().choices[0].message.content

    def test_both_neurons_serve_when_many_ask(self, pair: Fleet) -> None:
        async def main() -> list[tuple[str, str, str]]:
            async with openai.AsyncOpenAI(base_url=f"{pair.url}/v1", api_key="unused", timeout=60) as sdk:
                return list(await asyncio.gather(*(ask(sdk, word) for word in words)))

        async def ask(sdk: openai.AsyncOpenAI, word: str) -> tuple[str, str, str]:
            raw = await sdk.chat.completions.with_raw_response.create(
                model=MODEL, messages=[user(f"Repeat after me: {word}")], temperature=0
            )
            return raw.headers["x-helexa-node"], word, raw.parse().choices[0].message.content or ""

        words = ("apple", "river", "stone", "music", "tiger", "window", "garden", "silver", "bread", "cloud")
        found = asyncio.run(main())
        assert {node for node, _, _ in found} == {"local", "second"}
        assert all(word == said for _, word, said in found)

    def test_text_completions(self, gpt: openai.OpenAI) -> None:
        asked: dict[str, Any] = {"model": MODEL, "prompt": "The capital of France", "max_tokens": 8, "temperature": 0}
        whole = gpt.completions.create(**asked)
        streamed = list(gpt.completions.create(**asked, stream=True))
        assert whole.object == "text_completion"
        assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == whole.choices[0].text
        assert whole.usage is not None
        assert whole.usage.completion_tokens <= 8
        echoed = gpt.completions.create(**asked, echo=True)
        assert echoed.choices[0].text.startswith("The capital of France")


class TestResponses:
    def test_a_string_in_and_text_out(self, gpt: openai.OpenAI) -> None:
        answer = gpt.responses.create(model=MODEL, input="What is the capital of France?", temperature=0)
        assert "Paris" in answer.output_text
        assert answer.status == "completed"
        assert answer.id.startswith("resp_")
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens

    def test_items_and_instructions_are_read(self, gpt: openai.OpenAI) -> None:
        items: Any = [
            user("My name is Anna."),
            {"role": "assistant", "content": "Nice to meet you, Anna."},
            {"role": "user", "content": [{"type": "input_text", "text": "What is my name?"}]},
        ]
        answer = gpt.responses.create(model=MODEL, input=items, instructions="Be brief.", temperature=0)
        assert "Anna" in answer.output_text

    def test_a_stream_is_the_whole_sequence_of_events(self, gpt: openai.OpenAI) -> None:
        whole = gpt.responses.create(model=MODEL, input=COUNT, temperature=0)
        events = list(gpt.responses.create(model=MODEL, input=COUNT, temperature=0, stream=True))
        kinds = [event.type for event in events]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert [event.sequence_number for event in events] == list(range(len(events)))
        order = [
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
        ]
        assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        final = events[-1].response  # type: ignore[union-attr]
        assert text == final.output_text == whole.output_text
        assert final.usage == whole.usage or final.usage.output_tokens == whole.usage.output_tokens  # type: ignore[union-attr]

    def test_the_streaming_helper_agrees(self, gpt: openai.OpenAI) -> None:
        with gpt.responses.stream(model=MODEL, input="What is the capital of Italy?", temperature=0) as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
        assert "".join(deltas) == final.output_text
        assert "Rome" in final.output_text

    def test_a_function_is_called_and_its_output_used(self, gpt: openai.OpenAI) -> None:
        first = gpt.responses.create(model=MODEL, input=WEATHER, tools=[RESPONSE_TOOL], temperature=0)
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
        history: Any = [
            user(WEATHER),
            *(item.model_dump(exclude_none=True) for item in first.output),
            {"type": "function_call_output", "call_id": call.call_id, "output": REPORT},
        ]
        answer = gpt.responses.create(model=MODEL, input=history, tools=[RESPONSE_TOOL], temperature=0)
        assert "21" in answer.output_text

    def test_a_streamed_call_adds_up(self, gpt: openai.OpenAI) -> None:
        events = list(
            gpt.responses.create(model=MODEL, input=WEATHER, tools=[RESPONSE_TOOL], temperature=0, stream=True)
        )
        pieces = [each.delta for each in events if each.type == "response.function_call_arguments.delta"]
        (done,) = [each for each in events if each.type == "response.function_call_arguments.done"]
        assert "".join(pieces) == done.arguments
        assert json.loads(done.arguments) == {"city": "Paris"}

    def test_a_format_binds_the_answer(self, gpt: openai.OpenAI) -> None:
        schema = {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        }
        form: Any = {"format": {"type": "json_schema", "name": "number", "schema": schema, "strict": True}}
        answer = gpt.responses.create(model=MODEL, input="Name a number.", text=form, temperature=0)
        assert set(json.loads(answer.output_text)) == {"n"}

    def test_too_few_tokens_leave_it_incomplete(self, gpt: openai.OpenAI) -> None:
        answer = gpt.responses.create(model=MODEL, input=COUNT, max_output_tokens=5, temperature=0)
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"

    def test_thinking_is_an_item_of_its_own(self, gpt: openai.OpenAI) -> None:
        answer = gpt.responses.create(
            model=MODEL, input="What is 12 plus 30?", reasoning={"effort": "medium"}, temperature=0, extra_body=THINK
        )
        assert "42" in answer.output_text
        assert answer.output[-1].type == "message"

    def test_state_is_refused_and_not_pretended(self, gpt: openai.OpenAI) -> None:
        raw = gpt.responses.with_raw_response.create(model=MODEL, input="Hello!")
        assert raw.headers["warning"].startswith("299 ")
        with pytest.raises(openai.BadRequestError) as caught:
            gpt.responses.create(model=MODEL, input="Go on.", previous_response_id=raw.parse().id)
        assert caught.value.code == "previous_response_id_not_supported"


class TestMessages:
    def ask(self, claude: anthropic.Anthropic, *messages: Any, **more: Any) -> anthropic.types.Message:
        asked = {"model": MODEL, "max_tokens": 200, "extra_body": COLD, **more}
        found: anthropic.types.Message = claude.messages.create(messages=list(messages), **asked)
        return found

    def text(self, message: anthropic.types.Message) -> str:
        return "".join(block.text for block in message.content if block.type == "text")

    def test_a_message_is_answered(self, claude: anthropic.Anthropic) -> None:
        answer = self.ask(claude, user("What is the capital of France?"), system="Be brief.")
        assert "Paris" in self.text(answer)
        assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
        assert answer.id.startswith("msg_")
        assert answer.usage.input_tokens > 0
        assert answer.usage.output_tokens > 0

    def test_blocks_and_turns_in_a_row_are_read(self, claude: anthropic.Anthropic) -> None:
        first = self.ask(claude, user("My name is Anna."))
        said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}
        blocks = {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]}
        assert "Anna" in self.text(self.ask(claude, user("My name is Anna."), said, blocks))
        assert self.text(self.ask(claude, user("My name is Anna."), user("What is my name?")))

    def test_a_stream_says_what_the_whole_answer_says(self, claude: anthropic.Anthropic) -> None:
        whole = self.ask(claude, user(COUNT))
        with claude.messages.stream(model=MODEL, max_tokens=200, extra_body=COLD, messages=[user(COUNT)]) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == self.text(whole) == self.text(final)
        assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)

    def test_events_come_in_their_order(self, claude: anthropic.Anthropic) -> None:
        events = claude.messages.create(
            model=MODEL, max_tokens=200, extra_body=COLD, messages=[user(COUNT)], stream=True
        )
        kinds = [event.type for event in events]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert (
            kinds.index("content_block_start") < kinds.index("content_block_delta") < kinds.index("content_block_stop")
        )

    def test_a_tool_is_used_and_its_result_read(self, claude: anthropic.Anthropic) -> None:
        first = self.ask(claude, user(WEATHER), tools=[MESSAGE_TOOL])
        assert first.stop_reason == "tool_use"
        (use,) = [block for block in first.content if block.type == "tool_use"]
        assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
        said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": REPORT}]}
        assert "21" in self.text(self.ask(claude, user(WEATHER), said, result, tools=[MESSAGE_TOOL]))

    def test_a_streamed_tool_use_adds_up(self, claude: anthropic.Anthropic) -> None:
        with claude.messages.stream(
            model=MODEL, max_tokens=200, extra_body=COLD, messages=[user(WEATHER)], tools=[MESSAGE_TOOL]
        ) as stream:
            pieces = [event.partial_json for event in stream if event.type == "input_json"]
            final = stream.get_final_message()
        (use,) = [block for block in final.content if block.type == "tool_use"]
        assert use.input == json.loads("".join(pieces)) == {"city": "Paris"}

    def test_a_tool_choice_is_obeyed(self, claude: anthropic.Anthropic) -> None:
        forced = self.ask(claude, user("Hello!"), tools=[MESSAGE_TOOL], tool_choice={"type": "any"})
        assert forced.stop_reason == "tool_use"
        barred = self.ask(claude, user(WEATHER), tools=[MESSAGE_TOOL], tool_choice={"type": "none"})
        assert all(block.type == "text" for block in barred.content)

    def test_limits_and_stops_end_the_answer(self, claude: anthropic.Anthropic) -> None:
        short = self.ask(claude, user(COUNT), max_tokens=5)
        assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 5)
        stopped = self.ask(claude, user(COUNT), stop_sequences=["7"])
        assert "6" in self.text(stopped)
        assert "7" not in self.text(stopped)
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "7")

    def test_thinking_is_a_block_of_its_own(self, claude: anthropic.Anthropic) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        answer = self.ask(claude, user("What is 12 plus 30?"), max_tokens=1500, thinking=thinking)
        assert [block.type for block in answer.content] == ["thinking", "text"]
        assert "42" in self.text(answer)

    def test_tokens_are_counted_as_they_are_used(self, claude: anthropic.Anthropic) -> None:
        counted = claude.messages.count_tokens(model=MODEL, messages=[user(COUNT)], system="Be brief.")
        used = self.ask(claude, user(COUNT), system="Be brief.").usage
        assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)

    def test_errors_are_the_dialects_own(self, claude: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as missing:
            self.ask(claude, user("Hello!"), model="nobody/nothing")
        assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
        with pytest.raises(anthropic.BadRequestError) as wrong:
            self.ask(claude, user("Hello!"), extra_body={"temperature": 7})
        assert "temperature" in wrong.value.message
        with pytest.raises(anthropic.BadRequestError):
            self.ask(claude, user("one two three " * 3000))


class TestAsynchronously:
    """Asyncio beside the sockets of a fleet on trio: the SDKs' own asynchronous clients."""

    def test_openai(self, pair: Fleet) -> None:
        async def main() -> tuple[str, str]:
            async with openai.AsyncOpenAI(base_url=f"{pair.url}/v1", api_key="unused", timeout=60) as sdk:
                stream = await sdk.responses.create(
                    model=MODEL, input="What is the capital of Italy?", temperature=0, stream=True
                )
                streamed = "".join([each.delta async for each in stream if each.type == "response.output_text.delta"])
                chat = await sdk.chat.completions.create(
                    model=MODEL, messages=[user("What is the capital of France?")], temperature=0
                )
                return streamed, chat.choices[0].message.content or ""

        streamed, whole = asyncio.run(main())
        assert "Rome" in streamed
        assert "Paris" in whole

    def test_anthropic(self, pair: Fleet) -> None:
        async def main() -> tuple[str, int]:
            async with anthropic.AsyncAnthropic(base_url=pair.url, api_key="unused", timeout=60) as sdk:
                asked: dict[str, Any] = {"model": MODEL, "messages": [user("What is the capital of Italy?")]}
                async with sdk.messages.stream(**asked, max_tokens=100, extra_body=COLD) as stream:
                    text = "".join([piece async for piece in stream.text_stream])
                return text, (await sdk.messages.count_tokens(**asked)).input_tokens

        text, count = asyncio.run(main())
        assert "Rome" in text
        assert count > 0


def test_the_prefix_of_some_proxies_leads_to_the_same_routes(pair: Fleet) -> None:
    with openai.OpenAI(base_url=f"{pair.url}/api/v1/openai/v1", api_key="unused", max_retries=0) as sdk:
        assert sdk.responses.create(model=MODEL, input="Hello!").output_text
        assert {model.id for model in sdk.models.list()} == {MODEL, "tiny"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [user("x")]}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/messages", {"messages": [user("x")], "max_tokens": 5}),
        ("/v1/messages/count_tokens", {"messages": [user("x")]}),
    ],
)
def test_every_dialect_refuses_what_is_unknown_or_wrong_in_its_own_words(
    pair: Fleet, path: str, body: dict[str, Any]
) -> None:
    messages = path.startswith("/v1/messages")
    for wrong, status in (({**body, "model": "nobody/x"}, 404), ({**body, "model": 5}, 400), (body, 400)):
        answer = httpx.post(pair.url + path, json=wrong, timeout=30)
        assert answer.status_code == status
        found = answer.json()
        assert found.get("type") == ("error" if messages else None)
        assert found["error"]["message"]
        assert answer.headers["x-request-id"]
    assert httpx.post(pair.url + path, content=b"{", timeout=30).status_code == 400
