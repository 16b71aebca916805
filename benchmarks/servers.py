"""The servers that the gateway is measured beside and in front of: ``python servers.py bare|canned PORT MODEL``.

``bare`` is hypercorn on trio with an ASGI application that answers every request with the canned completion. ``canned``
speaks just enough of the neuron API on raw sockets that a gateway routes to it, so that it is never the bottleneck.
"""

import json
import sys

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "canned/model",
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


async def hello(scope, receive, send) -> None:  # noqa: ANN001 - ASGI
    """Read the request, answer it."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def bare(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = 10**9
    trio.run(serve, hello, config)


def neuron_answers(model: str) -> dict[bytes, bytes]:
    limit = {"context": 4096, "input": 4095, "output": 4095}
    report = {"id": model, "status": "loaded", "limit": limit}
    versions = dict.fromkeys(("version", "python", "torch", "transformers"), "0")
    answers = {
        b"/health": {"status": "ok", "uptime_seconds": 1.0, "models": [report], "activation": {"state": "ready"}},
        b"/discovery": {"hostname": "canned", "os": "none", "driver": None, "devices": []},
        b"/version": {**versions, "git_sha": None, "dirty": None, "build_time": None, "cuda": None, "started_at": 0.0},
        b"/actors": [],
    }
    return {path: json.dumps(answer).encode() for path, answer in answers.items()}


def canned(port: int, model: str) -> None:
    answers = neuron_answers(model)

    def response(path: bytes) -> bytes:
        body = answers.get(path, ANSWER)
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def handle(stream: trio.SocketStream) -> None:
        data = b""
        while piece := await stream.receive_some():
            data += piece
            while (end := data.find(b"\r\n\r\n")) >= 0:
                head = data[:end].lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                if len(data) < end + 4 + length:
                    break
                data = data[end + 4 + length :]
                await stream.send_all(response(head.split(b" ")[1]))

    trio.run(trio.serve_tcp, handle, port)


if __name__ == "__main__":
    kind, port, model = sys.argv[1:]
    bare(int(port)) if kind == "bare" else canned(int(port), model)
