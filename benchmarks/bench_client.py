"""How truly the measuring client tells when chunks came, beside other clients, against a streamer that stamps them.

    .venv/bin/just bench-client [--rate 10000] [--seconds 3] [--rounds 3] [--streams 1 8 64] [--json FILE]

A process of its own streams chat chunks of about 210 bytes, evenly spaced and in turns over its streams; each bears the
time at which it went to the kernel, by the clock that the clients read too. The streamer has one core, the client
another. Clients take turns, round by round, so that a noisy machine hurts all alike. Medians of rounds are printed as
Markdown: the rate reached, the share of a core that the client used, and how far what it says of arrivals is from the
truth. That leaves out chunks whose sending was interrupted, as nobody knows when those went; "counted" are the others.

``httpx`` and ``aiohttp`` read lines and do nothing with them, which is the least that load generators built on them do,
as GuideLLM on the one and vLLM's on the other; that of vLLM takes part itself where it is installed. ``openai`` is the
official SDK. Clients that are not installed are left out, and named.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import httpx
import trio

HERE = Path(__file__).resolve().parent
PATH = "/v1/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
SURE = 50e-6
"""Seconds that sending a chunk may take."""
Arrivals = list[tuple[float, Any]]
"""When each chunk came as the client says, and its JSON or, where the client decodes, its content."""
Figures = dict[str, float]


# The streamer.


def chunk(at: float, took: float) -> bytes:
    """One chunk of a chat, HTTP framing included; its content is the time, and how long sending the one before took."""
    data = (
        b'data: {"id":"chatcmpl-4f1c9e2a7b","object":"chat.completion.chunk","created":1760000000,"model":"canned",'
        b'"choices":[{"index":0,"delta":{"content":"%017.9f %.9f,"},"logprobs":null,"finish_reason":null}]}\n\n'
    ) % (at, took)
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_request(stream: socket.socket) -> dict[str, Any] | None:
    """The JSON of the next request; nothing when the client is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := stream.recv(65_536)):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += stream.recv(65_536)
    return dict(json.loads(body))


def serve(listener: socket.socket) -> None:
    """Crowd after crowd: as many connections as their requests say, answered together."""
    while True:
        streams: list[socket.socket] = []
        request: dict[str, Any] = {"streams": 1}
        while len(streams) < request["streams"]:
            stream = listener.accept()[0]
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found = read_request(stream)
            if found is not None:
                streams, request = [*streams, stream], found
        pace(streams, request["rate"], request["chunks"])
        for stream in streams:
            stream.close()


def pace(streams: Sequence[socket.socket], rate: float, chunks: int) -> None:
    """So many chunks altogether. It spins: sleep is not true to 0.1 ms. What is late is not made up in a burst."""
    for stream in streams:
        stream.sendall(HEAD)
    gap, due, took = 1 / rate, time.perf_counter() + 0.05, 0.0
    for number in range(chunks):
        while (now := time.perf_counter()) < due:
            pass
        streams[number % len(streams)].sendall(chunk(now, took))
        took = time.perf_counter() - now
        due = max(due + gap, now + gap / 2)
    for stream in streams:
        stream.sendall(END)


# The clients. Each reads all streams and returns every chunk's arrival.


def content(found: bytes | str) -> str:
    """What a chunk says. Decoded after the measurement, unless the client always decodes."""
    return str(json.loads(found)["choices"][0]["delta"]["content"] if found[:1] in ("{", b"{") else found)


def lateness(arrivals: Arrivals) -> list[float]:
    """Milliseconds between each chunk's sending and what the client says, sorted.

    Without those whose sending took long: the streamer was interrupted then, and when they went is not known.
    """
    times = sorted((*map(float, content(found).strip(",").split()), at) for at, found in arrivals)
    sure = [this for this, following in pairwise(times) if following[1] < SURE]
    return sorted(abs(at - was) * 1e3 for was, _, at in sure)


def ours(url: str, body: dict[str, Any]) -> Arrivals:
    from helexa.bench.client.http import Client, Exchange

    found: list[Exchange] = []

    async def one(client: Client) -> None:
        found.append(await client.post(PATH, body))

    async def crowd() -> None:
        async with Client(url) as client, trio.open_nursery() as nursery:
            for _ in range(body["streams"]):
                nursery.start_soon(one, client)

    trio.run(crowd)
    return [event for each in found for event in each.events]


def with_httpx(url: str, body: dict[str, Any]) -> Arrivals:
    found: Arrivals = []

    async def one(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", url + PATH, json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    found.append((time.perf_counter(), line[6:]))

    async def crowd() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
            await asyncio.gather(*(one(client) for _ in range(body["streams"])))

    asyncio.run(crowd())
    return found


def with_aiohttp(url: str, body: dict[str, Any]) -> Arrivals:
    import aiohttp

    found: Arrivals = []

    async def one(client: aiohttp.ClientSession) -> None:
        async with client.post(url + PATH, json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    found.append((time.perf_counter(), line[6:]))

    async def crowd() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            await asyncio.gather(*(one(client) for _ in range(body["streams"])))

    asyncio.run(crowd())
    return found


def with_vllm(url: str, body: dict[str, Any]) -> Arrivals:
    """What ``vllm bench serve`` asks with. It tells of a stream's text, and of times between its chunks."""
    import aiohttp
    from vllm.benchmarks.lib import endpoint_request_func as vllm

    async def crowd() -> list[Any]:
        ask = vllm.RequestFuncInput("x", url + PATH, 1, 1, "m", extra_body=body)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            asking = (vllm.async_request_openai_chat_completions(ask, client) for _ in range(body["streams"]))
            return await asyncio.gather(*asking)

    found: Arrivals = []
    for each in asyncio.run(crowd()):
        times = accumulate([each.start_time + each.ttft, *each.itl])
        found += zip(times, each.generated_text.split(",")[:-1], strict=True)
    return found


def with_openai(url: str, body: dict[str, Any]) -> Arrivals:
    import openai

    found: Arrivals = []

    async def one(client: Any) -> None:
        stream = await client.chat.completions.create(model="m", messages=[], stream=True, extra_body=body)
        async for each in stream:
            found.append((time.perf_counter(), each.choices[0].delta.content))

    async def crowd() -> None:
        transport = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", http_client=transport) as client:
            await asyncio.gather(*(one(client) for _ in range(body["streams"])))

    asyncio.run(crowd())
    return found


CLIENTS: dict[str, Callable[[str, dict[str, Any]], Arrivals]] = {
    "helexa": ours,
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "vllm": with_vllm,
    "openai": with_openai,
}


# Measuring.


def figures(client: str, url: str, body: dict[str, Any]) -> Figures:
    used = time.process_time()
    arrivals = CLIENTS[client](url, body)
    used = time.process_time() - used
    if len(arrivals) != body["chunks"]:
        raise SystemExit(f"{client}: {len(arrivals)} of {body['chunks']} chunks came")
    first, last = min(at for at, _ in arrivals), max(at for at, _ in arrivals)
    late = lateness(arrivals)
    tail = {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)], "max": late[-1]}
    return {
        "rate": (len(arrivals) - 1) / (last - first),
        "sure": len(late) / len(arrivals),
        "cpu": used / (last - first),
        **tail,
    }


@contextmanager
def streamer(core: int) -> Iterator[str]:
    """The other process; its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = (sys.executable, __file__, "--serve", str(listener.fileno()))
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    os.sched_setaffinity(process.pid, {core})
    try:
        yield url
    finally:
        process.terminate()
        process.wait(30)


def present() -> list[str]:
    """The clients that can be imported, and on stderr those that cannot."""
    missing = [name for name in CLIENTS if importlib.util.find_spec(name) is None]
    for name in missing:
        print(f"{name} is left out: it is not installed", file=sys.stderr)
    return [name for name in CLIENTS if name not in missing]


def measure(url: str, streams: int, options: argparse.Namespace) -> dict[str, Figures]:
    """Medians of rounds by client."""
    clients = present()
    found: dict[str, list[Figures]] = {name: [] for name in clients}
    for number in range(options.rounds + 1):
        seconds = options.seconds if number else 0.2  # the first is a warm-up
        body = {"streams": streams, "rate": options.rate, "chunks": int(options.rate * seconds), "stream": True}
        for name in clients:
            print(f"{streams} streams: round {number} of {options.rounds}, {name}", file=sys.stderr)
            found[name].append(figures(name, url, body))
    return {name: median(each[1:]) for name, each in found.items()}


def median(rounds: Sequence[Figures]) -> Figures:
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def table(results: dict[int, dict[str, Figures]]) -> None:
    print("| streams | client | chunks/s | of a core | counted | off by p50 ms | p99 ms | max ms |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for streams, clients in results.items():
        for name, each in clients.items():
            tail = f"{each['p50']:.3f} | {each['p99']:.3f} | {each['max']:.2f}"
            print(f"| {streams} | {name} | {each['rate']:,.0f} | {each['cpu']:.0%} | {each['sure']:.1%} | {tail} |")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=10_000, help="chunks per second, over all streams")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    if chosen.serve is not None:
        serve(socket.socket(fileno=chosen.serve))
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {first})
    with streamer(others[0] if others else first) as url:
        results = {streams: measure(url, streams, chosen) for streams in chosen.streams}
    table(results)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
