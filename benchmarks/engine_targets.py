"""One engine, measured once in a process of its own: ``python benchmarks/engine_targets.py TARGET DIRECTORY``.

Prints one JSON object. Every target does the same work: a batch of random prompts of ``PROMPT`` tokens, ``OUTPUT``
greedy tokens each, and the time at which each token was there. Used by ``engine.py``, which gives the targets turns.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import torch

PROMPT, OUTPUT, LONG = 32, 32, 1024
BATCHES = (1, 8, 32)
Prompts = list[list[int]]
Stamps = list[list[float]]
"""Seconds at which each token of each sequence was there."""


def prompts(count: int, length: int, seed: int) -> Prompts:
    """Random token ids, the same for every target."""
    random = Random(seed)
    return [[random.randrange(1000) for _ in range(length)] for _ in range(count)]


def decode_rate(stamps: Stamps) -> float:
    """Tokens per second once every sequence has its first token."""
    begin = max(each[0] for each in stamps)
    late = [stamp for each in stamps for stamp in each if stamp > begin]
    return len(late) / (max(late) - begin)


def read_bandwidth() -> float:
    """Bytes per second that all threads together read from memory."""
    data = torch.rand(1 << 27)  # random: pages of one value might be held once
    times = []
    for _ in range(5):
        start = perf_counter()
        data.sum()
        times.append(perf_counter() - start)
    return data.nbytes / min(times)


def in_common(generate: Callable[[Prompts, int], Stamps], batches: Sequence[int]) -> dict[str, Any]:
    """What is measured of every target."""
    generate(prompts(1, PROMPT, 99), 4)
    figures: dict[str, Any] = {"decode": {}, "total": {}}
    for batch in batches:
        start = perf_counter()
        stamps = generate(prompts(batch, PROMPT, batch), OUTPUT)
        figures["decode"][str(batch)] = decode_rate(stamps)
        figures["total"][str(batch)] = batch * OUTPUT / (max(map(max, stamps)) - start)
    start = perf_counter()
    figures["first_token"] = generate(prompts(1, LONG, 7), 2)[0][0] - start
    return figures


class Helexa:
    """helexa's engine, driven as its worker drives it."""

    def __init__(self, directory: Path, device: str, quant: Any = None) -> None:
        from helexa.engine import environment
        from helexa.engine.core import Engine
        from helexa.engine.threads import ThreadGovernor
        from helexa.engine.weights.loading import load_model

        environment.prepare()
        self.threads = ThreadGovernor(torch.get_num_threads(), torch.set_num_threads)
        self.model = load_model(str(directory), device, quant=quant)
        self.engine = Engine(self.model)
        self.count = 0
        self.profile: dict[str, float] = {}

    def submit(self, ids: list[int], output: int) -> str:
        from helexa.engine.protocol import Submit
        from helexa.wire.sampling import SamplingParams

        self.count += 1
        request = str(self.count)
        refused = self.engine.submit(Submit(request, "", ids, SamplingParams(max_tokens=output, temperature=0)))
        if refused:
            raise SystemExit(f"refused: {refused}")
        return request

    def __call__(self, batch: Prompts, output: int) -> Stamps:
        stamps: dict[str, list[float]] = {self.submit(ids, output): [] for ids in batch}
        while self.engine.has_work:
            with self.threads.step():
                deltas, _ = self.engine.step()
            now = perf_counter()
            for delta in deltas:
                stamps[delta.request].append(now)
        return list(stamps.values())

    def first_token(self, ids: list[int]) -> float:
        start = perf_counter()
        return self([ids], 1)[0][0] - start


def helexa(directory: Path, device: str) -> dict[str, Any]:
    """helexa, with what only it has: the prefix cache, and the shares of a step."""
    run = Helexa(directory, device)
    figures = in_common(run, BATCHES)
    again = prompts(1, LONG, 7)[0]
    figures["first_token_again"] = run.first_token(again)
    bandwidth = read_bandwidth()
    figures["bandwidth"] = bandwidth
    figures["floor"] = bandwidth / (weight_bytes(directory) + kv_bytes(directory, PROMPT + OUTPUT / 2))
    return figures | shares(run)


def shares(run: Helexa) -> dict[str, Any]:
    """The scheduler's part of a step of 64 sequences, and of a first token when nothing is found in the cache."""
    scheduler = run.engine._scheduler  # noqa: SLF001 - a profile looks inside
    spent = {"schedule": 0.0, "commit": 0.0}

    def timed(name: str) -> None:
        original = getattr(scheduler, name)

        def call(*arguments: Any) -> Any:
            start = perf_counter()
            try:
                return original(*arguments)
            finally:
                spent[name] += perf_counter() - start

        setattr(scheduler, name, call)

    timed("schedule")
    timed("commit")
    start = perf_counter()
    run(prompts(64, PROMPT, 64), 16)
    scheduling = sum(spent.values()) / (perf_counter() - start)
    spent["schedule"] = 0.0
    cold = run.first_token(prompts(1, LONG, 8)[0])
    return {"scheduler_share": scheduling, "miss_share": spent["schedule"] / cold}


def weight_bytes(directory: Path) -> int:
    """What one token reads of the weights: all of them, the output layer once."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def kv_bytes(directory: Path, length: float) -> float:
    """What one token reads of the KV cache of its sequence."""
    config = json.loads((directory / "config.json").read_text())
    per_token = config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 2 * 2
    return float(per_token * length)


def load_module(directory: Path, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype="auto").to(device).eval()


def generate(directory: Path, device: str) -> dict[str, Any]:
    """What transformers calls ``generate``."""
    from transformers.generation.streamers import BaseStreamer

    module = load_module(directory, device)

    class Clock(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.stamps: list[float] = []

        def put(self, value: object) -> None:  # noqa: ARG002 - the interface's
            self.stamps.append(perf_counter())

        def end(self) -> None:
            """Nothing to flush."""

    @torch.inference_mode()
    def run(batch: Prompts, output: int) -> Stamps:
        ids, clock = torch.tensor(batch, device=device), Clock()
        length = {"max_new_tokens": output, "min_new_tokens": output}
        module.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, streamer=clock, pad_token_id=0, **length
        )
        return [clock.stamps[1:]] * len(batch)  # the first is the prompt's

    return in_common(run, BATCHES)


def generate_batch(directory: Path, device: str) -> dict[str, Any]:
    """What transformers calls ``generate_batch``: continuous batching of its own."""
    from transformers import GenerationConfig

    module = load_module(directory, device)

    def run(batch: Prompts, output: int) -> Stamps:
        config = GenerationConfig(max_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0)
        start = perf_counter()
        found = module.generate_batch(batch, generation_config=config, record_timestamps=True, progress_bar=False)
        elapsed = perf_counter() - start
        stamps = [each.timestamps for each in found.values()]
        if len(stamps) != len(batch) or not all(stamps):
            raise SystemExit(f"{len(stamps)} of {len(batch)} sequences after {elapsed:.1f} s")
        return stamps

    return in_common(run, BATCHES)


def llama_cpp(directory: Path, device: str) -> dict[str, Any]:
    """llama.cpp on the CPU, where it is installed."""
    from llama_target import LlamaCpp

    if device != "cpu":
        raise SystemExit("compared on the CPU alone")
    return in_common(LlamaCpp(directory, torch.get_num_threads()), BATCHES)


TARGETS = {"helexa": helexa, "generate": generate, "generate_batch": generate_batch, "llama.cpp": llama_cpp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(json.dumps(TARGETS[options.target](options.directory, options.device)))


if __name__ == "__main__":
    main()
