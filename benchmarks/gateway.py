"""The gateway beside LiteLLM's proxy and a bare hypercorn server, in front of one canned upstream, in one run.

    .venv/bin/just bench-gateway [--rounds 5] [--seconds 3] [--litellm PATH] [--requests 100000] [--json FILE]

The server under test has one core to itself; the load generator and the canned upstream share another. The servers take
turns, round by round, so that a noisy machine hurts all alike; medians and ratios are printed as the Markdown of
``benchmarks/README.md``. LiteLLM takes part where its executable is named; it belongs in an environment of its own:
``python3 -m venv litellm && litellm/bin/pip install 'litellm[proxy]'``.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic

import httpx
import psutil
import trio
from loadgen import Sample, load, request

HERE = Path(__file__).resolve().parent
MODEL = "canned/model"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 16}
WHOLE = request(json.dumps(CHAT).encode())
STREAMED = request(json.dumps(CHAT | {"stream": True}).encode())
PACED = request(json.dumps(CHAT | {"stream": True, "user": "paced"}).encode())
HELEXA, LITELLM, BARE, DIRECT = "helexa", "LiteLLM", "bare hypercorn", "the upstream itself"
Ports = dict[str, int]
Figures = dict[str, float]
Task = tuple[str, bytes, int]
TASKS: tuple[Task, ...] = (("whole, 1", WHOLE, 1), ("whole, 32", WHOLE, 32), ("paced, 1", PACED, 1))
TASKS += (("paced, 64", PACED, 64), ("streams, 64", STREAMED, 64))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(stack: ExitStack, core: int, *command: str) -> int:
    """Run a server on one core until the stack closes; its process id."""
    process = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {core})  # threads and children made later inherit it
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process.pid


def wait_ready(url: str) -> None:
    deadline = monotonic() + 120
    while monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.TransportError:
            os.sched_yield()
    raise SystemExit(f"{url} is not ready")


def figures(answers: Sequence[Sample], seconds: float) -> Figures:
    samples = [each for each in answers if each.ok]
    totals, firsts = sorted(each.total for each in samples), sorted(each.first for each in samples)
    return {
        "rate": len(samples) / seconds,
        "events": sum(each.events for each in samples) / seconds,
        "p50": 1e3 * totals[len(totals) // 2],
        "p99": 1e3 * totals[int(len(totals) * 0.99)],
        "first": 1e3 * firsts[len(firsts) // 2],
    }


def measure(ports: Ports, rounds: int, seconds: float) -> dict[str, dict[str, Figures]]:
    """Medians by task and server."""
    found: dict[str, dict[str, Figures]] = {}
    for name, data, clients in TASKS:
        each: dict[str, list[Figures]] = {server: [] for server in ports}
        for number in range(rounds + 1):
            for server, port in ports.items():
                print(f"{name}: round {number} of {rounds}, {server}", file=sys.stderr)
                begin = monotonic()
                samples = trio.run(load, port, data, clients, seconds if number else 0.5)
                check(server, samples)
                if number:  # the first is a warm-up
                    each[server].append(figures(samples, monotonic() - begin))
        found[name] = {server: median(them) for server, them in each.items()}
    return found


def check(server: str, samples: Sequence[Sample]) -> None:
    """Errors are not counted as answers; from helexa not one is taken."""
    if failed := sum(not each.ok for each in samples):
        print(f"{server}: {failed} of {len(samples)} answers are errors", file=sys.stderr)
        if server != LITELLM:
            raise SystemExit(1)


def median(rounds: list[Figures]) -> Figures:
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def memory(port: int, pid: int, requests: int) -> list[tuple[int, float]]:
    """MiB that the gateway holds after so many requests."""
    process, done, found = psutil.Process(pid), 0, list[tuple[int, float]]()
    while done < requests:
        found.append((done, process.memory_info().rss / 2**20))
        goal = done + requests // 5
        while done < goal:
            done += len(trio.run(load, port, WHOLE, 32, 5.0))
        print(f"memory: {done} of {requests} requests", file=sys.stderr)
    return [*found, (done, process.memory_info().rss / 2**20)]


def topology(cortex: int, upstream: int, directory: Path) -> str:
    return f"""
[cortex]
host = "here"
listen = "127.0.0.1:{cortex}"
metrics_listen = "127.0.0.1:{free_port()}"
database = "sqlite:///{directory}/helexa.db"
[[neurons]]
name = "canned"
host = "elsewhere"
endpoint = "http://127.0.0.1:{upstream}"
[[models]]
id = "{MODEL}"
"""


def litellm_config(upstream: int) -> str:
    """As plain as it can be; like the others it asks for no key."""
    return f"""
model_list:
  - model_name: {MODEL}
    litellm_params: {{model: openai/{MODEL}, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
"""


def whole_table(results: dict[str, dict[str, Figures]]) -> None:
    print("| clients | server | requests/s | p50 ms | p99 ms | added at p50, ms | helexa's requests/s ÷ its |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for clients, task in ((1, "whole, 1"), (32, "whole, 32")):
        direct, ours = results[task][DIRECT], results[task][HELEXA]
        for server, each in results[task].items():
            cells = [f"{each['rate']:,.0f}", f"{each['p50']:.2f}", f"{each['p99']:.2f}"]
            cells += ["" if server == DIRECT else f"{each['p50'] - direct['p50']:.2f}", ratio(ours, each, "rate")]
            print(f"| {clients} | {server} | " + " | ".join(cells) + " |")


def stream_table(results: dict[str, dict[str, Figures]]) -> None:
    print("\n| 64 streams through | events/s | helexa's ÷ its |\n|---|--:|--:|")
    ours = results["streams, 64"][HELEXA]
    for server, each in results["streams, 64"].items():
        print(f"| {server} | {each['events']:,.0f} | {ratio(ours, each, 'events')} |")


def first_byte_table(results: dict[str, dict[str, Figures]]) -> None:
    print("\n| paced streams | server | first byte p50 ms | added, ms |\n|--:|---|--:|--:|")
    for streams, task in ((1, "paced, 1"), (64, "paced, 64")):
        for server, each in results[task].items():
            added = "" if server == DIRECT else f"{each['first'] - results[task][DIRECT]['first']:.2f}"
            print(f"| {streams} | {server} | {each['first']:.2f} | {added} |")


def ratio(ours: Figures, its: Figures, key: str) -> str:
    return "" if ours is its else f"{ours[key] / its[key]:.2f}"


def memory_table(found: list[tuple[int, float]]) -> None:
    print("\n| requests served | resident memory, MiB |\n|--:|--:|")
    for done, size in found:
        print(f"| {done:,} | {size:.1f} |")


def servers(stack: ExitStack, directory: Path, cores: tuple[int, int], litellm: Path | None) -> tuple[Ports, int]:
    """Start everything; ports by server, and the gateway's process."""
    names = [HELEXA, LITELLM, BARE, DIRECT] if litellm else [HELEXA, BARE, DIRECT]
    ports, (first, second) = {name: free_port() for name in names}, cores
    run: Callable[..., int] = partial(start, stack)
    upstream = ports[DIRECT]
    (directory / "topology.toml").write_text(topology(ports[HELEXA], upstream, directory))
    (directory / "litellm.yaml").write_text(litellm_config(upstream))
    run(second, sys.executable, "benchmarks/servers.py", "canned", str(upstream), MODEL)
    run(first, sys.executable, "benchmarks/servers.py", "bare", str(ports[BARE]), MODEL)
    if litellm:
        config = ("--config", str(directory / "litellm.yaml"), "--port", str(ports[LITELLM]))
        run(first, str(litellm), *config, "--host", "127.0.0.1", "--num_workers", "1")
        wait_ready(f"http://127.0.0.1:{ports[LITELLM]}/health/liveliness")
    topology_file = str(directory / "topology.toml")
    pid = run(first, sys.executable, "-m", "helexa", "up", topology_file, "--host", "here")
    wait_ready(f"http://127.0.0.1:{ports[BARE]}/")
    wait_ready(f"http://127.0.0.1:{ports[HELEXA]}/ready")
    return ports, pid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--litellm", type=Path, help="its executable, in an environment of its own")
    parser.add_argument("--requests", type=int, default=0, help="measure memory over so many requests as well")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    cores = (first, others[0] if others else first)
    os.sched_setaffinity(0, {cores[1]})
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        ports, pid = servers(stack, Path(directory), cores, options.litellm)
        results = measure(ports, options.rounds, options.seconds)
        sizes = memory(ports[HELEXA], pid, options.requests) if options.requests else []
    whole_table(results)
    stream_table(results)
    first_byte_table(results)
    if sizes:
        memory_table(sizes)
    if options.json:
        options.json.write_text(json.dumps({"results": results, "memory": sizes}, indent=1))


if __name__ == "__main__":
    main()
