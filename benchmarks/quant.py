"""What reduced weights take and give: memory, time to load, tokens per second, in one run on one machine.

    .venv/bin/just bench-quant [--rounds 3] [--shape qwen3-0.6b] [--device cpu] [--json FILE]

Each format has a process of its own, and they take turns, so that a noisy machine hurts all alike; medians are printed
as the Markdown of ``benchmarks/README.md``. The checkpoint has a real shape and random weights, so nothing is said of
quality here: ``tests/helexa/test_engine_quant_quality.py`` measures that on the bundled model.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from shapes import SHAPES, checkpoint

FORMATS = ("bf16", "int8", "int4", "fp8")
BATCHES = (1, 8, 32)
LONG = 512
HERE = Path(__file__).resolve()
Figures = dict[str, Any]


def measure(quant: str, directory: Path, device: str) -> Figures:
    """One format, in this process."""
    from engine_targets import OUTPUT, PROMPT, Helexa, decode_rate, prompts

    start = perf_counter()
    run = Helexa(directory, device, quant)
    figures: Figures = {
        "load": perf_counter() - start,
        "weights": run.model.memory_mb,
        "process": psutil.Process().memory_info().rss / 2**20,
    }
    run(prompts(1, PROMPT, 99), 4)
    for batch in BATCHES:
        figures[str(batch)] = decode_rate(run(prompts(batch, PROMPT, batch), OUTPUT))
    return figures | {"prompt": LONG / run.first_token(prompts(1, LONG, 7)[0])}


def in_turn(quant: str, directory: Path, device: str) -> Figures | None:
    """One format, in a process of its own; ``None`` if the device has no kernel for it."""
    command = [sys.executable, str(HERE), "--only", quant, "--directory", str(directory), "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{quant} is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(results: dict[str, list[Figures]]) -> None:
    """Medians, and how many times as fast as bfloat16 one sequence is."""
    names = ("weights", "process", "load", *map(str, BATCHES), "prompt")
    medians = {
        quant: {name: statistics.median(each[name] for each in rounds) for name in names}
        for quant, rounds in results.items()
    }
    heads = " | ".join(f"tokens/s of {batch}" for batch in BATCHES)
    print(f"| quant | weights, MiB | process, MiB | load, s | {heads} | prompt tokens/s | 1 ÷ bf16 |")
    print("|---|" + "--:|" * 8)
    for quant, row in medians.items():
        rates = " | ".join(f"{row[str(batch)]:.1f}" for batch in BATCHES)
        ratio = row["1"] / medians["bf16"]["1"]
        print(
            f"| {quant} | {row['weights']:.0f} | {row['process']:.0f} | {row['load']:.1f} | {rates} "
            f"| {row['prompt']:.0f} | {ratio:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.directory, options.device)))
        return
    directory = checkpoint(options.shape)
    rounds = [{each: in_turn(each, directory, options.device) for each in FORMATS} for _ in range(options.rounds)]
    results = {each: [one[each] for one in rounds if one[each] is not None] for each in FORMATS}
    found = {quant: [each for each in figures if each] for quant, figures in results.items() if figures}
    if options.json:
        options.json.write_text(json.dumps(found))
    table(found)


if __name__ == "__main__":
    main()
