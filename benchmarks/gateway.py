"""Requests per second of the gateway in front of a canned upstream, beside a bare hypercorn server, in one run.

The server under test has one core to itself; the load generator and the canned upstream share another. The two servers
take turns, round by round, so that a noisy machine hurts both alike; the medians and their ratio are printed.

    .venv/bin/python benchmarks/gateway.py [--rounds 5] [--seconds 3] [--json FILE]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, perf_counter

import httpx
import trio

HERE = Path(__file__).resolve().parent
CLIENTS = (1, 32)
MODEL = "canned/model"
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
REQUEST += b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(stack: ExitStack, core: int, *command: str) -> None:
    """Run a server on one core until the stack closes."""
    process = subprocess.Popen([sys.executable, *command], cwd=HERE.parent, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {core})
    stack.callback(process.wait, 15)
    stack.callback(process.terminate)


def wait_ready(url: str) -> None:
    deadline = monotonic() + 60
    while monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        os.sched_yield()
    raise SystemExit(f"{url} is not ready")


async def one_client(port: int, until: float, latencies: list[float]) -> None:
    """One connection, one request after the other."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        while (begin := perf_counter()) < until:
            await stream.send_all(REQUEST)
            await read_response(stream)
            latencies.append(perf_counter() - begin)


async def read_response(stream: trio.SocketStream) -> None:
    data = b""
    while (split := data.find(b"\r\n\r\n")) < 0:
        data += await receive(stream)
    head = data[:split].lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"unexpected answer: {data[:200]!r}")
    rest = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]) - (len(data) - split - 4)
    while rest > 0:
        rest -= len(await receive(stream))


async def receive(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some())
    if not data:
        raise SystemExit("the server closed a connection in the middle of the run")
    return data


async def load(port: int, clients: int, seconds: float) -> list[float]:
    """Latencies in seconds of every request that ``clients`` connections made in ``seconds``."""
    latencies: list[float] = []
    until = perf_counter() + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(one_client, port, until, latencies)
    return latencies


def figures(latencies: list[float], seconds: float) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "requests_per_second": len(ordered) / seconds,
        "p50_ms": 1e3 * ordered[len(ordered) // 2],
        "p99_ms": 1e3 * ordered[int(len(ordered) * 0.99)],
    }


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def measure(ports: dict[str, int], rounds: int, seconds: float) -> dict[int, dict[str, dict[str, float]]]:
    found: dict[int, dict[str, list[dict[str, float]]]] = {clients: {name: [] for name in ports} for clients in CLIENTS}
    for clients in CLIENTS:
        for port in ports.values():
            trio.run(load, port, clients, 0.5)  # warm-up, not counted
        for _ in range(rounds):
            for name, port in ports.items():
                latencies = trio.run(load, port, clients, seconds)
                found[clients][name].append(figures(latencies, seconds))
    return {clients: {name: median(each) for name, each in by_name.items()} for clients, by_name in found.items()}


def topology(cortex_port: int, upstream_port: int) -> str:
    return f"""
[cortex]
host = "here"
listen = "127.0.0.1:{cortex_port}"
metrics_listen = "127.0.0.1:{free_port()}"
[[neurons]]
name = "canned"
host = "elsewhere"
endpoint = "http://127.0.0.1:{upstream_port}"
[[models]]
id = "{MODEL}"
"""


def table(results: dict[int, dict[str, dict[str, float]]]) -> str:
    lines = [
        "| clients | server | requests/s | p50 ms | p99 ms | of the bare server's requests/s |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for clients, by_name in results.items():
        bare = by_name["bare hypercorn"]["requests_per_second"]
        for name, each in by_name.items():
            share = "" if name == "bare hypercorn" else f"{each['requests_per_second'] / bare:.0%}"
            rate, p50, p99 = each["requests_per_second"], each["p50_ms"], each["p99_ms"]
            lines.append(f"| {clients} | {name} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the gateway beside a bare server.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    second = others[0] if others else first
    os.sched_setaffinity(0, {second})
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        bare, cortex, upstream = free_port(), free_port(), free_port()
        file = Path(directory) / "topology.toml"
        file.write_text(topology(cortex, upstream))
        start(stack, second, "benchmarks/servers.py", "canned", str(upstream), MODEL)
        start(stack, first, "benchmarks/servers.py", "bare", str(bare), MODEL)
        start(stack, first, "-m", "helexa", "up", str(file), "--host", "here")
        wait_ready(f"http://127.0.0.1:{bare}/")
        wait_ready(f"http://127.0.0.1:{cortex}/ready")
        ports = {"bare hypercorn": bare, "helexa gateway": cortex}
        results = measure(ports, arguments.rounds, arguments.seconds)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
