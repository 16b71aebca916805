"""Clients of a metered gateway that know exactly what they got: tokens, usage, and whether the answer was whole."""

import socket
import struct
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import httptools
import orjson
import trio
from attrs import define, field, frozen

MODEL: Final = "helexa/tiny"
PROMPTS: Final = ("Hello!", "Tell me a story about bears.", "Count from one to ten, slowly, and then back again.")
TOKENS: Final = (1, 4, 12, 24)
_AT_ONCE: Final = -1
_RESET: Final = struct.pack("ii", 1, 0)
_WHOLE: Final = {"message_stop", "response.completed", "response.incomplete"}


@frozen
class Order:
    """A request, and how long its client stays.

    Attributes:
        key: the name of the key that it bears; what it bears is `key-` and the name.
        route: its path.
        body: what is asked.
        prompt: what its prompt is known as: alike prompts on one route have as many tokens.
        most: completion tokens that can be made for it at most, over all choices.
        exact: completion tokens of every whole answer to it; None: where the model likes to end.
        leaves_after: events of its stream after which the client is gone; -1: as soon as it has asked; None: it stays.
        resets: whether it goes with a reset, and not with an orderly end.
    """

    key: str
    route: str
    body: dict[str, Any]
    prompt: tuple[str, str]
    most: int
    exact: int | None = None
    leaves_after: int | None = None
    resets: bool = False

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))


@frozen
class Got:
    """What came of one request.

    Attributes:
        order: what was asked for.
        request_id: by which name.
        status: of the answer; 0: none came.
        code: of the error, in the answer or in the middle of it.
        whole: whether all of an answer came.
        prompt: prompt tokens as the client was told; None: it was not.
        completion: completion tokens likewise.
        received: completion tokens that have come, at least.
        left: whether the client went away by its own choice.
        retry_after: what the answer says of it.
    """

    order: Order
    request_id: str
    status: int = 0
    code: str | None = None
    whole: bool = False
    prompt: int | None = None
    completion: int | None = None
    received: int = 0
    left: bool = False
    retry_after: int | None = None

    @property
    def broken(self) -> bool:
        """Whether someone else has cut it off: there was no end, or it came without having been asked for."""
        return not self.whole and not self.left and self.status in {0, 200}


class Orders:
    """Requests of every kind that usage is found out of in another way; drawn from a seed."""

    def __init__(self, random: Random, *, leaving: float = 0.2) -> None:
        self._random = random
        self._leaving = leaving

    def draw(self, key: str) -> Order:
        """One for a key."""
        random = self._random
        route = random.choice(("chat", "chat", "chat", "completions", "messages", "responses"))
        prompt, tokens, streamed = random.choice(PROMPTS), random.choice(TOKENS), random.random() < 0.6
        order = order_of(key, route, prompt, tokens, streamed=streamed, choices=random.choice((1, 1, 1, 2)))
        if random.random() >= self._leaving:
            return order
        patience = random.choice((_AT_ONCE, 0, 1, 3)) if streamed else _AT_ONCE
        return leaving(order, patience, resets=random.random() < 0.5)


def leaving(order: Order, patience: int, *, resets: bool) -> Order:
    """The same, of a client that goes away; ``patience`` is its ``leaves_after``."""
    parts = (order.key, order.route, order.body, order.prompt, order.most, order.exact)
    return Order(*parts, leaves_after=patience, resets=resets)


def order_of(  # noqa: PLR0913 - all that a request is told apart by
    key: str, route: str, prompt: str, tokens: int, *, streamed: bool = False, choices: int = 1
) -> Order:
    """A request of a route, ``chat``, ``completions``, ``messages`` or ``responses``."""
    if route in {"messages", "responses"}:
        return _foreign(key, route, prompt, tokens, streamed=streamed)
    body: dict[str, Any] = {"model": MODEL, "max_tokens": tokens, "ignore_eos": True, "temperature": 1.5}
    body |= {"n": choices} if choices > 1 else {}
    body |= {"stream": True, "stream_options": {"include_usage": len(prompt) % 2 == 0}} if streamed else {}
    most = tokens * choices
    if route == "completions":
        return Order(key, "/v1/completions", body | {"prompt": prompt}, (route, prompt), most, most)
    said = [{"role": "user", "content": prompt}]
    body |= {"logprobs": True} if streamed else {}  # which lists each token that comes
    return Order(key, "/v1/chat/completions", body | {"messages": said}, (route, prompt), most, most)


def _foreign(key: str, route: str, prompt: str, tokens: int, *, streamed: bool) -> Order:
    body: dict[str, Any] = {"model": MODEL, "stream": streamed}
    if route == "messages":
        said = [{"role": "user", "content": prompt}]
        return Order(key, "/v1/messages", body | {"max_tokens": tokens, "messages": said}, ("chat", prompt), tokens)
    return Order(key, "/v1/responses", body | {"max_output_tokens": tokens, "input": prompt}, ("chat", prompt), tokens)


@define(eq=False)
class _Reading:
    """What llhttp's callbacks see of one response."""

    status: int = 0
    retry_after: int | None = None
    body: bytearray = field(factory=bytearray)
    done: bool = False
    parser: httptools.HttpResponseParser = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.retry_after = int(value)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True

    def has_left(self, patience: int | None) -> bool:
        return patience is not None and self.body.count(b"\n\n") > patience


async def ask(port: int, order: Order, request_id: str) -> Got:
    """Make one request on a connection of its own; whatever becomes of it is the answer."""
    reading = _Reading()
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(written(order, request_id))
            await _read(stream, reading, order.leaves_after)
            if order.resets and not reading.done:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except (OSError, trio.BrokenResourceError):
        return understood(order, request_id, reading, left=False)
    return understood(order, request_id, reading, left=not reading.done and reading.has_left(order.leaves_after))


async def _read(stream: trio.SocketStream, reading: _Reading, patience: int | None) -> None:
    while not reading.done and not reading.has_left(patience):
        piece = await stream.receive_some()
        if not piece:
            return
        reading.parser.feed_data(bytes(piece))


def written(order: Order, request_id: str) -> bytes:
    """The bytes of a request."""
    data = orjson.dumps(order.body)
    head = f"POST {order.route} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer key-{order.key}\r\n"
    head += f"x-request-id: {request_id}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def understood(order: Order, request_id: str, reading: _Reading, *, left: bool) -> Got:
    """What a client makes of what it read."""
    status, retry_after = reading.status, reading.retry_after
    if status not in {0, 200}:
        if not reading.done:
            return Got(order, request_id)
        code = _error(orjson.loads(reading.body)) if reading.body else "no body"
        return Got(order, request_id, status, code, retry_after=retry_after)
    if not order.streamed:
        events = [orjson.loads(reading.body)] if reading.done and status else []
    else:
        events = list(_events(bytes(reading.body)))
    ended = bool(events) and (not order.streamed or _is_end(events[-1]))
    code = next(filter(None, map(_error, events)), None)
    prompt, completion = _usage(events)
    received = sum(map(_tokens, events))
    return Got(order, request_id, status, code, ended and code is None, prompt, completion, received, left, retry_after)


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    """The data of the events that came whole; `[DONE]` is an event of that type."""
    for part in body.split(b"\n\n")[:-1]:
        for line in part.split(b"\n"):
            if line.startswith(b"data: "):
                yield {"type": "[DONE]"} if line == b"data: [DONE]" else orjson.loads(line[6:])


def _is_end(event: dict[str, Any]) -> bool:
    return event.get("type") == "[DONE]" or event.get("type") in _WHOLE


def _error(event: dict[str, Any]) -> str | None:
    """The code of an error, in whichever dialect it is told."""
    told = event.get("error") or (event.get("response") or {}).get("error")
    if not told and event.get("type") != "error":
        return None
    told = told or event
    return str(told.get("code") or told.get("type"))


def _usage(events: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens, as the last event that speaks of them says."""
    prompt, completion = None, None
    for event in events:
        told = event.get("usage") or (event.get("response") or {}).get("usage")
        if not told or event.get("type") == "message_start":
            continue
        completion = told.get("completion_tokens", told.get("output_tokens"))
        prompt = told.get("prompt_tokens", told.get("input_tokens"))
        prompt += told.get("cache_read_input_tokens") or 0  # Anthropic counts them beside the others
    return prompt, completion


def _tokens(event: dict[str, Any]) -> int:
    """Completion tokens that an event brings, at least."""
    kind = event.get("type", "")
    if kind == "content_block_delta" or kind.endswith("_text.delta"):
        return 1
    return sum(map(_choice_tokens, event.get("choices", ())))


def _choice_tokens(choice: dict[str, Any]) -> int:
    listed = (choice.get("logprobs") or {}).get("content")
    if listed:
        return len(listed)
    said = choice.get("delta") or choice
    return int(bool(said.get("content") or said.get("text") or said.get("reasoning_content")))
