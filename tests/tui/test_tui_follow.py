"""Asking for what takes its time, and hearing meanwhile what happens: the answer counts, with events or without."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
import trio
from http_parts import start_app

from helexa.cortex.events import EventLog, Feed
from helexa.web.server import Receive, Scope, Send
from tui.client import FleetError
from tui.follow import ask

Answer = tuple[int, bytes]


class Fleet:
    """A gateway with one slow route and, if a test wants, events."""

    def __init__(self, answer: Answer = (200, b'{"node":"a"}'), events: EventLog | None = None) -> None:
        self.answer = answer
        self.events = events
        self.asked: list[tuple[str, Any, bytes]] = []
        self.go = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["path"] == "/fleet/events":
            await self._events(send)
        else:
            body = (await receive())["body"]
            self.asked.append((scope["path"], orjson.loads(body), dict(scope["headers"]).get(b"authorization", b"")))
            if self.events is not None:
                self.events.publish("model.loading", model="m")
                await self.go.wait()
            await respond(send, *self.answer)

    async def _events(self, send: Send) -> None:
        if self.events is None:
            await respond(send, 404, b"<html>")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for data in Feed(self.events, lambda: {"aliases": {}}, None):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


async def respond(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


Start = Callable[[Fleet], Awaitable[str]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with trio.open_nursery() as nursery:

        async def run(fleet: Fleet) -> str:
            return f"http://127.0.0.1:{await start_app(nursery, fleet)}"

        yield run
        nursery.cancel_scope.cancel()


async def test_events_are_heard_while_the_answer_is_awaited(start: Start) -> None:
    fleet = Fleet(events=EventLog())
    url = await start(fleet)
    heard: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["event"])
        if event["event"] == "model.loading":
            fleet.go.set()

    with trio.fail_after(5):
        assert await ask(url, "k", "/x", {"node": "b"}, hear) == {"node": "a"}
    assert heard == ["snapshot", "model.loading"]
    assert fleet.asked == [("/x", {"node": "b"}, b"Bearer k")]


async def test_without_events_the_answer_comes_all_the_same(start: Start) -> None:
    fleet = Fleet()
    assert await ask(await start(fleet), None, "/x", {}, lambda _: pytest.fail("there is nothing to hear")) == {
        "node": "a"
    }


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((503, b'{"error":{"message":"Not now."}}'), "Not now."),
        ((500, b"<html>"), "answered 500, and not as a fleet does."),
        ((200, b"[1]"), "answered 200, and not as a fleet does."),
    ],
)
async def test_a_refusal_is_one_sentence(start: Start, answer: Answer, sentence: str) -> None:
    with pytest.raises(FleetError) as raised:
        await ask(await start(Fleet(answer)), None, "/x", {}, lambda _: None)
    assert str(raised.value).endswith(sentence)


async def test_giving_up_leaves_nothing_behind(start: Start) -> None:
    fleet = Fleet(events=EventLog())
    url = await start(fleet)
    with trio.fail_after(5), trio.CancelScope() as scope:
        await ask(url, None, "/x", {}, lambda event: scope.cancel() if event["event"] == "model.loading" else None)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("url", "sentence"), [("http://127.0.0.1:9", "no fleet answers"), ("http://[::1", "cannot ask")]
)
async def test_no_fleet_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(FleetError, match=sentence):
        await ask(url, None, "/x", {}, lambda _: None)
