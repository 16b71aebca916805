"""How fast a model is loaded, beside a plain read of the same files and beside transformers.

    .venv/bin/just bench-loading [--rounds 3] [--shape qwen3-0.6b] [--device cpu] [--quant int8] [--json FILE]

Each measurement in a process of its own, in turns, so that a noisy machine hurts all alike; medians are printed as the
Markdown of ``benchmarks/README.md``. Cold means that the files are not in the page cache: they are dropped from it
before, as any user may. A plain read brings the same files into new memory, as large and of the same kind (huge pages)
as that of the weights, in one thread.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from shapes import SHAPES, checkpoint

PIECE = 16 << 20
Figures = dict[str, Any]


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def warm(directory: Path) -> None:
    buffer = bytearray(PIECE)
    for file in directory.glob("*.safetensors"):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def cool(directory: Path) -> None:
    for file in directory.glob("*.safetensors"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())  # what is not on the disk yet cannot be dropped
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plain(directory: Path, _device: str, _quant: str | None) -> Figures:
    import torch

    start = perf_counter()
    for file in sorted(directory.glob("*.safetensors")):
        memory = torch.empty(file.stat().st_size, dtype=torch.uint8).numpy().data
        with file.open("rb", buffering=0) as opened:
            while count := opened.readinto(memory[:PIECE]):
                memory = memory[count:]
    return {"read": perf_counter() - start}


def reader(directory: Path, device: str, _quant: str | None) -> Figures:
    """Reading alone, as ``load_model`` does it."""
    import torch

    from helexa.engine import files
    from helexa.engine.reading import WeightReader

    start = perf_counter()
    with WeightReader(files.tensors(directory), torch.device(device), torch.bfloat16) as reads:
        kept = [reads.take(name) for name in reads.places]
    return {"read": perf_counter() - start, "tensors": len(kept)}


def helexa(directory: Path, device: str, quant: Any) -> Figures:
    from helexa.engine import loading

    loading.load_model(str(Path(__file__).parents[1] / "helexa" / "tiny" / "checkpoint"), device)  # imports, kernels
    before, marks = peak(), list[int]()
    make_cache = loading.pool_blocks

    def note(*sizes: int) -> int:
        marks.append(peak())  # all weights are there, nothing of the KV cache is
        return make_cache(*sizes)

    loading.pool_blocks = note
    model = loading.load_model(str(directory), device, running=8, quant=quant)
    memory = {"weights": model.memory_mb << 20, "arranging": marks[0] - before, "memory": peak() - before}
    return {**model.parts, **memory, "in all": model.seconds}


def transformers(directory: Path, device: str, _quant: str | None) -> Figures:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    start = perf_counter()
    module = AutoModelForCausalLM.from_pretrained(directory, dtype="auto").to(device)
    for parameter in module.parameters():  # it maps files; a page is read when it is looked at
        parameter.sum()
    return {"in all": perf_counter() - start}


TARGETS: dict[str, Callable[[Path, str, str | None], Figures]] = {
    "plain": plain,
    "reader": reader,
    "helexa": helexa,
    "transformers": transformers,
}


def measure(target: str, state: str, options: argparse.Namespace, directory: Path) -> Figures:
    """One target in a process of its own."""
    {"warm": warm, "cold": cool}[state](directory)
    command = [sys.executable, __file__, "--only", target, "--shape", options.shape, "--device", options.device]
    command += ["--quant", options.quant] if options.quant else []
    root = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": root})
    if done.returncode:
        raise SystemExit(f"{target}: {done.stderr.strip()}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(results: dict[str, dict[str, list[Figures]]], size: int) -> None:
    """What was measured, by state of the page cache."""

    def median(state: str, target: str, key: str) -> float:
        return statistics.median(each[key] for each in results[target][state])

    print(f"{size / 1e9:.2f} GB of files:\n\n| | warm | cold |\n|---|--:|--:|")
    for target, key in (("plain", "read"), ("reader", "read"), ("helexa", "in all"), ("transformers", "in all")):
        cells = [f"{(s := median(state, target, key)):.2f} s, {size / s / 1e9:.2f} GB/s" for state in ("warm", "cold")]
        print(f"| {NAMES[target]} | {' | '.join(cells)} |")
    shares = [median(state, "plain", "read") / median(state, "reader", "read") for state in ("warm", "cold")]
    print("| weights to the device, of the plain read | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    print("\n| parts of helexa's load | warm | cold |\n|---|--:|--:|")
    for part in ("open", "read", "arrange", "cache", "warm up"):
        cells = [f"{median(state, 'helexa', part):.2f} s" for state in ("warm", "cold")]
        print(f"| {part} | {' | '.join(cells)} |")
    for title, key in (("memory while weights were read and arranged", "arranging"), ("memory at most", "memory")):
        cells = [
            f"{median(state, 'helexa', key) / median(state, 'helexa', 'weights'):.2f}" for state in ("warm", "cold")
        ]
        print(f"| {title}, of what the weights hold | {' | '.join(cells)} |")


NAMES = {
    "plain": "plain read into new memory",
    "reader": "weights to the device",
    "helexa": "`load_model`, up to the first token",
    "transformers": "`from_pretrained`, every weight looked at once",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quant")
    parser.add_argument("--only", choices=sorted(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    directory = checkpoint(options.shape)
    if options.only:
        from helexa.engine import environment

        environment.prepare()
        print(json.dumps(TARGETS[options.only](directory, options.device, options.quant)))
        return
    results: dict[str, dict[str, list[Figures]]] = {target: {"warm": [], "cold": []} for target in TARGETS}
    for number in range(options.rounds):
        for state in ("warm", "cold"):
            for target, found in results.items():
                print(f"round {number + 1} of {options.rounds}: {target}, {state}", file=sys.stderr)
                found[state].append(measure(target, state, options, directory))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    table(results, size_of(directory))


if __name__ == "__main__":
    main()
