"""Calls to a neuron's application in memory, with a stand-in for its engines."""

from collections.abc import Callable
from typing import Any

import orjson
import trio
from engine_port import FakeEngines, Submitted
from http_parts import Call, sse_data
from trio.testing import wait_all_tasks_blocked

from helexa.neuron.app import make_app
from helexa.neuron.discovery import Host
from helexa.neuron.ports import End
from helexa.neuron.service import Service
from helexa.text import ChatTokenizer
from helexa.web.front import Front
from helexa.web.server import Drain
from helexa.wire.fleet import DeviceInfo, Discovery

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def app_of(service: Service, drain: Drain, secret: str | None = None) -> Front:
    host = Host(Discovery("box", "Linux", None, (DeviceInfo(0, "cpu", "x86", 1000),), "no GPU"), None)
    return make_app(service, host, drain, secret)


def ask(**fields: Any) -> Call:
    return Call.post(CHAT, orjson.dumps({"model": "m", "messages": HELLO, **fields}))


def complete(**fields: Any) -> Call:
    return Call.post(COMPLETIONS, orjson.dumps({"model": "m", "prompt": "Hello", **fields}))


async def play(app: Front, call: Call, engines: FakeEngines, *scripts: Callable[[Submitted], None]) -> Call:
    """Make the call; once the engine has the request, do what `scripts` do with it, each when nothing happens."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run, app)
            while not engines.submitted:
                assert not call.messages, call.answer
                await trio.sleep(0.001)
            for script in scripts:
                await wait_all_tasks_blocked()
                script(engines.submitted[-1])
    return call


def say(text: ChatTokenizer, words: str, end: End | None = None) -> Callable[[Submitted], None]:
    def script(submitted: Submitted) -> None:
        submitted.extend(text.encode(words))
        submitted.finish(end or End("stop"))

    return script


def answer(call: Call) -> dict[str, Any]:
    """The object of an answer in one piece."""
    assert call.status == 200, call.answer
    found: dict[str, Any] = orjson.loads(call.answer)
    return found


def choices_of(call: Call) -> dict[int, list[dict[str, Any]]]:
    """The chunks of a stream by choice; each must have its role first and its finish reason last."""
    *events, done = sse_data(call.answer)
    assert done == "[DONE]"
    found: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        for choice in event["choices"]:
            found.setdefault(choice["index"], []).append(choice)
    for chunks in found.values():
        assert [chunk["delta"].get("role") for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
        assert [chunk["finish_reason"] is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return found


def content_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"].get("content", "") for chunk in chunks)
