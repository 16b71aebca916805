"""What HTTP costs: clients with mixed lengths through ``helexa up``, beside the same work given to the engine alone.

    .venv/bin/just bench-engine-http [--rounds 3] [--clients 32] [--requests 2]

Everything runs on the same cores: gateway, neuron, engine worker and the clients themselves. Each client streams one
request after the other; prompts of 16 to 256 tokens, answers of 16 to 96, drawn from a seed. The two take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic, perf_counter

import httpx
import torch
import trio
from gateway import free_port
from shapes import SHAPES, checkpoint

ROOT = Path(__file__).resolve().parent.parent
MODEL = "bench/model"
Job = tuple[str, int]
"""A prompt's text and the number of tokens to answer with."""


def workload(clients: int, requests: int, seed: int) -> list[list[Job]]:
    """What each client asks, one after the other."""
    random = Random(seed)

    def job() -> Job:
        words = [str(random.randrange(10)) for _ in range(random.randrange(16, 257))]
        return " ".join(words), random.randrange(16, 97)

    return [[job() for _ in range(requests)] for _ in range(clients)]


class Alone:
    """The engine in this process, driven as its worker drives it."""

    def __init__(self, directory: Path) -> None:
        from helexa.engine import environment
        from helexa.engine.core import Engine
        from helexa.engine.threads import ThreadGovernor
        from helexa.engine.weights.loading import load_model
        from helexa.text import ChatTokenizer

        environment.prepare()
        self._engine = Engine(load_model(str(directory), "cpu"))
        self._text = ChatTokenizer.load(directory)
        self._threads = ThreadGovernor(torch.get_num_threads(), torch.set_num_threads)

    def run(self, jobs: list[list[Job]]) -> float:
        """Tokens per second."""
        waiting = [list(reversed(each)) for each in jobs]
        prompts = {text: self._text.prompt_ids(message(text)) for each in jobs for text, _ in each}
        tokens, start = 0, perf_counter()
        for client, mine in enumerate(waiting):
            self._submit(client, mine, prompts)
        while self._engine.has_work:
            with self._threads.step():
                deltas, ends = self._engine.step()
            tokens += sum(len(delta.ids) for delta in deltas)
            for end in ends:
                client = int(end.request.split("/")[0])
                if waiting[client]:
                    self._submit(client, waiting[client], prompts)
        return tokens / (perf_counter() - start)

    def _submit(self, client: int, mine: list[Job], prompts: dict[str, list[int]]) -> None:
        from helexa.engine.protocol import Submit
        from helexa.wire.sampling import SamplingParams

        text, output = mine.pop()
        sampling = SamplingParams(max_tokens=output, temperature=0)
        self._engine.submit(Submit(f"{client}/{len(mine)}", MODEL, prompts[text], sampling))


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def request(job: Job) -> bytes:
    text, output = job
    body = {"model": MODEL, "messages": message(text), "max_tokens": output, "temperature": 0, "ignore_eos": True}
    data = json.dumps(body | {"stream": True, "stream_options": {"include_usage": True}}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


async def client(port: int, jobs: list[Job], counts: list[int]) -> None:
    """One client: a connection per request, read to its end; usage tells the tokens."""
    for job in jobs:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request(job))
            data = b""
            while b"data: [DONE]" not in data[-64:]:
                data += await _receive(stream)
        if b'"completion_tokens":' not in data:
            raise SystemExit(f"unexpected answer: {data[-400:]!r}")
        counts.append(int(data.rpartition(b'"completion_tokens":')[2].partition(b",")[0]))


async def _receive(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some())
    if not data:
        raise SystemExit("the server closed a connection in the middle of the run")
    return data


async def through_http(port: int, jobs: list[list[Job]]) -> float:
    """Tokens per second of all clients together."""
    counts: list[int] = []
    start = perf_counter()
    async with trio.open_nursery() as nursery:
        for each in jobs:
            nursery.start_soon(client, port, each, counts)
    return sum(counts) / (perf_counter() - start)


@contextmanager
def fleet(directory: Path) -> Iterator[int]:
    """``helexa up`` with the checkpoint; its port."""
    port, neuron = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "topology.toml"
        file.write_text(
            f'[cortex]\nlisten = "127.0.0.1:{port}"\nmetrics_listen = "127.0.0.1:{free_port()}"\n'
            f'database = "sqlite:///{folder}/helexa.db"\n'
            f'[[neurons]]\nname = "local"\nlisten = "127.0.0.1:{neuron}"\ndevices = ["cpu"]\npreload = ["{MODEL}"]\n'
            f'[[models]]\nid = "{MODEL}"\nsource = "path:{directory}"\n'
        )
        command = [sys.executable, "-m", "helexa", "up", str(file)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_loaded(port)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def wait_loaded(port: int) -> None:
    deadline = monotonic() + 120
    while monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/models/{MODEL}", timeout=2).json().get("loaded"):
                return
        except (httpx.TransportError, ValueError):
            pass
        os.sched_yield()
    raise SystemExit("the model is not loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    directory = checkpoint(options.shape)
    alone, rates = Alone(directory), {"the engine alone": list[float](), "through HTTP": list[float]()}
    with fleet(directory) as port:
        trio.run(through_http, port, workload(2, 1, 99))
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            jobs = workload(options.clients, options.requests, number)
            rates["the engine alone"].append(alone.run(jobs))
            rates["through HTTP"].append(trio.run(through_http, port, jobs))
    own, http = (statistics.median(each) for each in rates.values())
    print(f"| {options.clients} clients | tokens/s |\n|---|--:|")
    for name, each in rates.items():
        print(f"| {name} | {statistics.median(each):.1f} |")
    print(f"| lost | {1 - http / own:.0%} |")


if __name__ == "__main__":
    main()
