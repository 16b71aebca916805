"""Answers of models, as they stream: what is asked, what came of it, how fast. One connection for each answer."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import httpx
import orjson
from attrs import define, field, frozen

from helexa.wire.sse import EventReader
from tui.client import FAILURES, FleetError, refusal, trouble

Message = dict[str, Any]


@frozen
class Parameters:
    """How models are asked; what is ``None`` is the model's to choose.

    Attributes:
        system: what they are told first; may be empty.
        temperature: 0 to 2.
        top_p: above 0, to 1.
        max_tokens: of an answer.
        tools: that they may call, as in OpenAI's API.
    """

    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    def said(self) -> str:
        """Those that are set, in a line."""
        numbers = (("temperature", self.temperature), ("top-p", self.top_p), ("max tokens", self.max_tokens))
        found = [f"{name} {value:g}" for name, value in numbers if value is not None]
        found += ["system prompt"] if self.system else []
        found += [f"{len(self.tools)} tool{'' if len(self.tools) == 1 else 's'}"] if self.tools else []
        return ", ".join(found)


def body(model: str, messages: Sequence[Message], parameters: Parameters) -> dict[str, Any]:
    """The request for an answer that streams, and tells at its end what it used."""
    system = [{"role": "system", "content": parameters.system}] if parameters.system else []
    numbers = {"temperature": parameters.temperature, "top_p": parameters.top_p, "max_tokens": parameters.max_tokens}
    asked = {name: value for name, value in numbers.items() if value is not None}
    tools = {"tools": list(parameters.tools)} if parameters.tools else {}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return {"model": model, "messages": [*system, *messages], **asked, **tools, **stream}


@define
class Call:
    """A call of a tool, as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@define
class Answer:
    """An answer, as far as it has come.

    Attributes:
        begun: when it was asked for, in seconds of any clock.
        first: when its first token came, by the same clock.
        last: when its latest came.
        calls: by their index.
        finish: why it ended; ``""``: it has not told.
        prompt_tokens: ``None``, as those that follow: it has not told.
    """

    begun: float
    first: float | None = None
    last: float | None = None
    content: str = ""
    reasoning: str = ""
    calls: dict[int, Call] = field(factory=dict)
    finish: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None

    def take(self, chunk: Mapping[str, Any], at: float) -> None:
        """What came now; what is not as expected is passed over."""
        self._count(_object(chunk.get("usage")))
        for choice in _objects(chunk.get("choices")):
            self.finish = _text(choice.get("finish_reason")) or self.finish
            self._grow(_object(choice.get("delta")), at)

    def _grow(self, delta: Mapping[str, Any], at: float) -> None:
        content, reasoning = _text(delta.get("content")), _text(delta.get("reasoning_content"))
        calls = _objects(delta.get("tool_calls"))
        if not (content or reasoning or calls):
            return
        self.first, self.last = at if self.first is None else self.first, at
        self.content += content
        self.reasoning += reasoning
        for each in calls:
            self._call(each)

    def _call(self, found: Mapping[str, Any]) -> None:
        index, function = found.get("index"), _object(found.get("function"))
        call = self.calls.setdefault(index if isinstance(index, int) else 0, Call())
        call.id = _text(found.get("id")) or call.id
        call.name += _text(function.get("name"))
        call.arguments += _text(function.get("arguments"))

    def _count(self, usage: Mapping[str, Any]) -> None:
        if usage:
            self.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.completion_tokens = _count(usage.get("completion_tokens"))
            self.cached_tokens = _count(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))

    @property
    def wait(self) -> float | None:
        """Seconds until the first token."""
        return None if self.first is None else self.first - self.begun

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first one."""
        if self.first is None or self.last is None or not self.completion_tokens or self.last <= self.first:
            return None
        return (self.completion_tokens - 1) / (self.last - self.first)

    def message(self) -> Message:
        """As the next request tells it."""
        calls = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in self.calls.values()
        ]
        return {"role": "assistant", "content": self.content, **({"tool_calls": calls} if calls else {})}


def asked(messages: Sequence[Message], text: str) -> list[Message]:
    """What an operator says next: a message, or after calls of tools the result of each of them."""
    calls = messages[-1].get("tool_calls", ()) if messages else ()
    results = [{"role": "tool", "tool_call_id": each["id"], "content": text} for each in calls]
    return [*messages, *(results or [{"role": "user", "content": text}])]


async def chunks(client: httpx.AsyncClient, url: str, wanted: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Ask, and yield each chunk as it comes; whoever stops to listen closes the connection, which ends the answer.

    Args:
        client: with the fleet's base URL.
        url: what errors call it.
        wanted: see ``body``.

    Raises:
        FleetError: the fleet was not reached, refused, or broke off.
    """
    try:
        async with client.stream("POST", "/v1/chat/completions", json=wanted) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                await response.aread()
                raise refusal(response)
            reader = EventReader()
            async for piece in response.aiter_bytes():
                for data in reader.push(piece):
                    for chunk in _chunk(data, url):
                        yield chunk
    except FAILURES as error:
        raise trouble(url, error) from error


def _chunk(data: str, url: str) -> Iterator[dict[str, Any]]:
    if data.strip() == "[DONE]":
        return
    try:
        found = orjson.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FleetError(f"{url} streams something that is no answer of a model.")
    if "error" in found:
        raise FleetError(_text(_object(found["error"]).get("message")) or f"{url} says that it went wrong.")
    yield found


def _object(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _objects(found: Any) -> list[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""


def _count(found: Any) -> int | None:
    return found if isinstance(found, int) else None
