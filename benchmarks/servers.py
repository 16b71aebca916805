"""The servers that the gateway is measured beside and in front of: ``python servers.py bare|canned PORT MODEL``.

``bare`` is hypercorn on trio with an ASGI application that answers every request with the canned completion, or with
the canned stream. ``canned`` speaks just enough of the neuron API on raw sockets that a gateway routes to it, and is
never the bottleneck; asked for it, it says what has been used, as a neuron does. A stream is ``EVENTS`` chunks, written
one by one as fast as they go; for the user ``paced`` it is the last ``PACED`` of them, one every ``PACE`` seconds.
"""

import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

EVENTS = 200
PACE, PACED = 0.005, 20
_HEAD = {"id": "chatcmpl-0", "created": 0, "model": "canned/model"}
ANSWER = json.dumps(
    _HEAD
    | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I help you today?"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19},
    }
).encode()


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: " + json.dumps(_HEAD | {"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


CHUNKS = [chunk({"role": "assistant", "content": ""})]
CHUNKS += [chunk({"content": f" word{number}"}) for number in range(EVENTS - 3)]
CHUNKS += [chunk({}, "stop"), b"data: [DONE]\n\n"]
METERED = [each + b":u 9 %d 0\n" % number for number, each in enumerate(CHUNKS[:-1])] + CHUNKS[-1:]
"""The same with what has been used after each write, as neurons tell gateways that ask."""


def is_streamed(body: bytes) -> bool:
    """Whether a request asks for a stream, however its JSON is spaced."""
    return b'"stream":true' in body.replace(b" ", b"")


async def paced(body: bytes, chunks: Sequence[bytes] = CHUNKS) -> AsyncIterator[bytes]:
    """The chunks, at the pace that the request asks for."""
    slowly = b'"paced"' in body
    for each in chunks[-PACED:] if slowly else chunks:
        yield each
        if slowly:
            await trio.sleep(PACE)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, answer it."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await (_stream(send, body) if is_streamed(body) else _whole(send))


async def _whole(send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


async def _stream(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for each in paced(body):
        await send({"type": "http.response.body", "body": each, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def bare(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = 10**9
    trio.run(serve, hello, config)


def neuron_answers(model: str) -> dict[bytes, bytes]:
    limit = {"context": 4096, "input": 4095, "output": 4095}
    report = {"id": model, "status": "loaded", "limit": limit, "capacity": 64}
    versions = dict.fromkeys(("version", "python", "torch", "transformers"), "0")
    answers: dict[bytes, Any] = {
        b"/health": {"status": "ok", "uptime_seconds": 1.0, "models": [report], "activation": {"state": "ready"}},
        b"/discovery": {"hostname": "canned", "os": "none", "driver": None, "devices": []},
        b"/version": {**versions, "git_sha": None, "dirty": None, "build_time": None, "cuda": None, "started_at": 0.0},
        b"/actors": [],
        b"/models/estimate": {"models": []},
    }
    return {path: json.dumps(answer).encode() for path, answer in answers.items()}


def canned(port: int, model: str) -> None:
    answers = neuron_answers(model)

    async def answer(stream: trio.SocketStream, path: bytes, body: bytes, *, metered: bool) -> None:
        if is_streamed(body):
            await _send_events(stream, body, metered=metered)
            return
        data, told = answers.get(path, ANSWER), b"x-helexa-usage: 9 10 0\r\n" if metered else b""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
        await stream.send_all(head % (told, len(data)) + data)

    async def handle(stream: trio.SocketStream) -> None:
        data = b""
        while piece := await stream.receive_some():
            data += piece
            while (end := data.find(b"\r\n\r\n")) >= 0:
                head = data[:end].lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                if len(data) < end + 4 + length:
                    break
                body, data = data[end + 4 : end + 4 + length], data[end + 4 + length :]
                await answer(stream, head.split(b" ")[1], body, metered=b"\r\nx-helexa-meter: 1" in head)

    trio.run(trio.serve_tcp, handle, port)


async def _send_events(stream: trio.SocketStream, body: bytes, *, metered: bool) -> None:
    told = b"x-helexa-meter: 1\r\n" if metered else b""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%stransfer-encoding: chunked\r\n\r\n"
    await stream.send_all(head % told)
    async for each in paced(body, METERED if metered else CHUNKS):
        await stream.send_all(b"%x\r\n%s\r\n" % (len(each), each))
    await stream.send_all(b"0\r\n\r\n")


if __name__ == "__main__":
    kind, port, model = sys.argv[1:]
    bare(int(port)) if kind == "bare" else canned(int(port), model)
