"""How fast a model is loaded, beside a plain read of the same files and beside transformers.

    .venv/bin/just bench-loading [--rounds 3] [--shape qwen3-0.6b] [--device cpu] [--quant int8] [--json FILE]

Each measurement in a process of its own, in turns, so that a noisy machine hurts all alike; medians are printed as the
Markdown of ``benchmarks/README.md``. Cold means that the files are not in the page cache: they are dropped from it
before, as any user may. A plain read brings the same files into new memory, as large and of the same kind (huge pages)
as that of the weights, by as many threads in pieces as large: memory that is touched for the first time, since the
kernel clears it, and the host of a virtual machine may have to find it. Seconds of processor time, of all threads
together, say what was work where a machine is shared and the clock says little.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from shapes import SHAPES, checkpoint

Figures = dict[str, Any]


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def warm(directory: Path) -> None:
    buffer = bytearray(16 << 20)
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


def stopwatch() -> Callable[[], Figures]:
    """Seconds by the clock and of the processor, from now on."""
    start, spent = perf_counter(), process_time()
    return lambda: {"seconds": perf_counter() - start, "processor": process_time() - spent}


def plain(directory: Path, _device: str, _quant: str | None) -> Figures:
    import torch

    from helexa.engine.weights.reading import PIECE, THREADS

    def read(file: Path, memory: torch.Tensor, at: int) -> None:
        with file.open("rb", buffering=0) as opened:
            left = memory[at : at + PIECE].numpy().data
            while count := os.preadv(opened.fileno(), [left], at):
                at, left = at + count, left[count:]

    took = stopwatch()
    with ThreadPoolExecutor(THREADS) as pool:
        for file in sorted(directory.glob("*.safetensors")):
            memory = torch.empty(file.stat().st_size, dtype=torch.uint8)
            pieces = [pool.submit(read, file, memory, at) for at in range(0, len(memory), PIECE)]
    assert all(each.result() is None for each in pieces)
    return took()


def reader(directory: Path, device: str, _quant: str | None) -> Figures:
    """Reading alone, as ``load_model`` does it."""
    import torch

    from helexa.engine.weights import files
    from helexa.engine.weights.reading import WeightReader

    took = stopwatch()
    with WeightReader(files.tensors(directory), torch.device(device), torch.bfloat16) as reads:
        kept = [reads.take(name) for name in reads.places]
    return {**took(), "tensors": len(kept)}


def helexa(directory: Path, device: str, quant: Any) -> Figures:
    from helexa.engine.weights import loading

    loading.load_model(str(Path(__file__).parents[1] / "helexa" / "tiny" / "checkpoint"), device)  # imports, kernels
    before, marks = peak(), list[int]()
    make_cache = loading.pool_blocks

    def note(*sizes: int) -> int:
        marks.append(peak())  # all weights are there, nothing of the KV cache is
        return make_cache(*sizes)

    loading.pool_blocks = note
    took = stopwatch()
    model = loading.load_model(str(directory), device, running=8, quant=quant)
    arranged = sum(model.parts[part] for part in ("open", "read", "arrange"))
    memory = {"weights": model.memory_mb << 20, "arranging": marks[0] - before, "memory": peak() - before}
    return {**model.parts, **memory, **took(), "arranged": arranged}


def transformers(directory: Path, device: str, _quant: str | None) -> Figures:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    took = stopwatch()
    module = AutoModelForCausalLM.from_pretrained(directory, dtype="auto").to(device)
    for parameter in module.parameters():  # it maps files; a page is read when it is looked at
        parameter.sum()
    return took()


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

    states = ("warm", "cold")
    print(f"{size / 1e9:.2f} GB of files:\n\n| | warm | cold | processor, warm |\n|---|--:|--:|--:|")
    for target, key, title in ROWS:
        cells = [f"{(s := median(state, target, key)):.2f} s, {size / s / 1e9:.2f} GB/s" for state in states]
        cells.append(f"{median('warm', target, 'processor'):.2f} s" if key == "seconds" else "")
        print(f"| {title} | {' | '.join(cells)} |")
    for target, key, title in ROWS[1:3]:
        shares = [median(state, "plain", "seconds") / median(state, target, key) for state in states]
        print(f"| {title}, of the plain read | {' | '.join(f'{share:.0%}' for share in shares)} | |")
    print("\n| parts of helexa's load | warm | cold |\n|---|--:|--:|")
    for part in ("open", "read", "arrange", "cache", "warm up"):
        cells = [f"{median(state, 'helexa', part):.2f} s" for state in ("warm", "cold")]
        print(f"| {part} | {' | '.join(cells)} |")
    for title, key in (("memory while weights were read and arranged", "arranging"), ("memory at most", "memory")):
        cells = [
            f"{median(state, 'helexa', key) / median(state, 'helexa', 'weights'):.2f}" for state in ("warm", "cold")
        ]
        print(f"| {title}, of what the weights hold | {' | '.join(cells)} |")


ROWS = (
    ("plain", "seconds", "plain read into new memory"),
    ("reader", "seconds", "weights read to the device"),
    ("helexa", "arranged", "weights read and arranged for it"),
    ("helexa", "seconds", "`load_model`, up to the first token"),
    ("transformers", "seconds", "`from_pretrained`, every weight looked at once"),
)


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
