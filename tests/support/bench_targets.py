"""Small real servers to be measured: they answer as OpenAI's API and neurons do, or wrongly, as a test says.

Tokens are counted as words, and each chat has three more.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import trio
from attrs import define, field, frozen

from helexa.bench.measuring.targets import Access
from helexa.bench.records import Target, TargetKind
from helexa.wire import fleet
from helexa.wire.fleet import (
    DeviceHealth,
    DeviceInfo,
    Discovery,
    Health,
    Limit,
    ModelReport,
    Processor,
    Version,
)

MODEL = "m"
OVERHEAD = 3
VERSION = Version("0.1.0", "ac1aa60c2f", False, None, "3.11.7", "2.13.0", "5.23.0", None, 5.0)
DISCOVERY = Discovery(
    "box",
    "Linux 6.1",
    "570.1",
    (DeviceInfo(0, "cuda:0", "NVIDIA RTX", 24_000), DeviceInfo(1, "cuda:1", "NVIDIA RTX", 24_000)),
    processor=Processor("EPYC", 8, 16),
)
REPORT = ModelReport(MODEL, "loaded", "cuda:0", 100, Limit(2048, 2048, 2048), ("chat", "tool_call"))
Handler = Callable[["Canned", dict[str, Any]], Awaitable["Reply"]]


@frozen
class Reply:
    """What a request is answered with: pieces with pauses before them, or a whole body."""

    body: bytes = b""
    status: int = 200
    pieces: tuple[tuple[float, bytes], ...] = ()
    headers: Mapping[str, str] = {}
    ended: bool = True
    """Whether the stream ends as HTTP has it; otherwise the connection breaks off."""


def as_json(payload: Any, status: int = 200) -> Reply:
    return Reply(payload if isinstance(payload, bytes) else orjson.dumps(payload), status)


def refused(message: str, status: int = 400) -> Reply:
    return as_json({"error": {"message": message}}, status)


def always(reply: Reply) -> Handler:
    async def handler(_server: "Canned", _body: dict[str, Any]) -> Reply:
        return reply

    return handler


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def choice(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def usage(prompt: int, answer: int, cached: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return found if cached is None else {**found, "prompt_tokens_details": {"cached_tokens": cached}}


@define(eq=False)
class Canned:
    """A server.

    Attributes:
        pause: seconds before each token.
        routes: what to answer in place of what a good server would, by path.
        asked: every request so far: its path and its body.
        busy: requests for answers that are in progress.
        most: of them at a time, so far.
        power: W that the neuron's devices draw; ``None``: not told.
        report: what the neuron says of its model.
        beside: requests of others that the neuron counts.
    """

    pause: float = 0.0
    routes: dict[str, Handler] = field(factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(factory=list)
    busy: int = 0
    most: int = 0
    power: float | None = None
    report: ModelReport = REPORT
    beside: int = 0
    url: str = ""

    async def start(self, nursery: trio.Nursery) -> "Canned":
        """Serve until the nursery is cancelled."""
        listeners = await nursery.start(trio.serve_tcp, self._serve, 0)
        host, port = listeners[0].socket.getsockname()[:2]
        del host
        self.url = f"http://127.0.0.1:{port}"
        return self

    def access(self, kind: TargetKind = "openai", name: str = "box") -> Access:
        return Access(Target(name, kind, self.url))

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = bytearray()
        try:
            while await self._serve_one(stream, data):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _serve_one(self, stream: trio.SocketStream, data: bytearray) -> bool:
        if not await _filled(stream, data, lambda: b"\r\n\r\n" in data):
            return False
        head, _, _ = bytes(data).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), 0)
        if not await _filled(stream, data, lambda: len(data) >= len(head) + 4 + length):
            return False
        body = bytes(data[len(head) + 4 : len(head) + 4 + length])
        del data[: len(head) + 4 + length]
        return await self._answer(stream, lines[0].split()[1], orjson.loads(body) if body else {})

    async def _answer(self, stream: trio.SocketStream, path: str, body: dict[str, Any]) -> bool:
        self.asked.append((path, body))
        self.busy += bool(body)
        self.most = max(self.most, self.busy)
        try:
            reply = await self.routes.get(path, _DEFAULTS.get(path, _unknown))(self, body)
            return await _send(stream, reply)
        finally:
            self.busy -= bool(body)


async def _filled(stream: trio.SocketStream, data: bytearray, enough: Callable[[], bool]) -> bool:
    while not enough():
        more = await stream.receive_some()
        if not more:
            return False
        data += more
    return True


async def _send(stream: trio.SocketStream, reply: Reply) -> bool:
    extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    if not reply.pieces:
        head = f"HTTP/1.1 {reply.status} x\r\n{extra}content-length: {len(reply.body)}\r\n\r\n"
        await stream.send_all(head.encode() + reply.body)
        return True
    kind = "content-type: text/event-stream\r\ntransfer-encoding: chunked"
    await stream.send_all(f"HTTP/1.1 {reply.status} x\r\n{extra}{kind}\r\n\r\n".encode())
    for pause, piece in reply.pieces:
        if pause:
            await trio.sleep(pause)
        await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
    if reply.ended:
        await stream.send_all(b"0\r\n\r\n")
    else:
        await stream.aclose()
    return reply.ended


def count(body: dict[str, Any]) -> int:
    return OVERHEAD + sum(len(str(each["content"]).split()) for each in body["messages"])


def streamed(prompt: int, tokens: int, pause: float = 0.0, told: Any = ..., cached: int | None = None) -> Reply:
    """A stream of so many tokens; ``told``: the usage that it ends with, where that is another."""
    pieces = [(0.0, choice({"role": "assistant", "content": ""}))]
    pieces += [(pause, choice({"content": "a "})) for _ in range(tokens)]
    pieces += [(0.0, choice({}, "length"))]
    found = usage(prompt, tokens, cached) if told is ... else told
    pieces += [(0.0, event({"choices": [], "usage": found}))] if found is not None else []
    return Reply(pieces=(*pieces, (0.0, b"data: [DONE]\n\n")))


async def _chat(server: Canned, body: dict[str, Any]) -> Reply:
    tokens = body.get("max_tokens", body.get("max_completion_tokens", 4))
    if body.get("stream"):
        return streamed(count(body), tokens, server.pause, cached=0)
    message = {"role": "assistant", "content": "a " * tokens}
    return as_json({"choices": [{"message": message, "finish_reason": "length"}], "usage": usage(count(body), tokens)})


async def _completions(_server: Canned, body: dict[str, Any]) -> Reply:
    words = len(body["prompt"].split())
    told = [None, *(-0.5 for _ in range(words - 1)), -9.0]
    return as_json({"choices": [{"text": "", "logprobs": {"token_logprobs": told}}], "usage": usage(words, 1)})


async def _embeddings(_server: Canned, body: dict[str, Any]) -> Reply:
    tokens = sum(len(text.split()) for text in body["input"])
    data = [{"embedding": [0.5, -0.5], "index": index} for index in range(len(body["input"]))]
    return as_json({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


async def _listed(_server: Canned, _body: dict[str, Any]) -> Reply:
    return as_json({"object": "list", "data": [{"id": MODEL, "max_model_len": 8192}]})


async def _version(_server: Canned, _body: dict[str, Any]) -> Reply:
    return as_json(fleet.to_json(VERSION))


async def _discovery(_server: Canned, _body: dict[str, Any]) -> Reply:
    return as_json(fleet.to_json(DISCOVERY))


async def _models(server: Canned, _body: dict[str, Any]) -> Reply:
    busy = server.busy + server.beside
    report = {**fleet.to_dict(server.report), "running": busy}
    return as_json({"models": [report]})


async def _health(server: Canned, _body: dict[str, Any]) -> Reply:
    devices = tuple(DeviceHealth(f"cuda:{index}", 24_000, 0, power=server.power) for index in range(2))
    return as_json(fleet.to_json(Health("ok", 1.0, devices)))


async def _unknown(_server: Canned, _body: dict[str, Any]) -> Reply:
    return refused("There is no such route.", 404)


_DEFAULTS: dict[str, Handler] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/embeddings": _embeddings,
    "/v1/models": _listed,
    "/version": _version,
    "/discovery": _discovery,
    "/models": _models,
    "/health": _health,
}
