"""What reduced weights take and give, in one run on one machine: memory, time to load, tokens per second, quality.

    .venv/bin/just bench-quant [--seconds 200] [--shape qwen3-0.6b] [--device cpu] [--json FILE]

Each format has a process of its own, and they take turns, so that a noisy machine hurts all alike; a round is begun
only if it is likely to end within ``--seconds``. Medians are printed as the Markdown of ``benchmarks/README.md``.

The checkpoint has a real shape and random weights, and two GGUF files are made of it; both are kept in
``benchmarks/.cache``, and making them is not counted. Quality is that of the bundled model, reduced in the same way:
its perplexity on conversations that it never saw, divided by what it is in bfloat16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import psutil
import torch
from gguf_shapes import FILES, chosen, gguf_file
from shapes import SHAPES, checkpoint

FORMATS: Final = ("bf16", "int8", "int4", "fp8", *FILES)
BATCHES: Final = (1, 8, 32)
PROMPT, OUTPUT, LONG = 16, 17, 512
COLUMNS: Final = {
    "weights": ("weights, MiB", ".0f"),
    "process": ("process, MiB", ".0f"),
    "load": ("load, s", ".1f"),
    **{str(batch): (f"tokens/s of {batch}", ".1f") for batch in BATCHES},
    "prompt": ("prompt tokens/s", ".0f"),
    "perplexity": ("perplexity ÷", ".4f"),
}
Figures = dict[str, Any]


def measure(quant: str, directory: Path, device: str) -> Figures:
    """One format, in this process."""
    from engine_targets import Helexa, decode_rate, prompts

    place = gguf_file(quant, directory) if quant in FILES else directory
    start = perf_counter()
    run = Helexa(place, device, None if quant in FILES else quant)
    figures: Figures = {
        "load": perf_counter() - start,
        "weights": run.model.memory_mb,
        "process": psutil.Process().memory_full_info().uss / 2**20,
    }
    run(prompts(1, PROMPT, 99), 4)
    for batch in BATCHES:
        figures[str(batch)] = decode_rate(run(prompts(batch, PROMPT, batch), OUTPUT))
    return figures | {"prompt": LONG / run.first_token(prompts(1, LONG, 7)[0])}


def perplexities() -> dict[str, float]:
    """The bundled model's, in every format, divided by its own; on the CPU."""
    from quality import bundled, distance, logits_of

    whole = logits_of(bundled())
    with TemporaryDirectory() as place:
        reduced = ((each, from_file(each, Path(place)) if each in FILES else bundled(each)) for each in FORMATS)
        return {each: distance(whole, logits_of(module)).perplexity for each, module in reduced}


def from_file(quant: str, place: Path) -> Any:
    """The bundled model in a GGUF file, read again."""
    from gguf_files import write_model
    from quality import bundled

    from helexa.engine.quant.packing import pack_in_place
    from helexa.engine.weights.gguf_model import open_model

    module = bundled()
    model = open_model(write_model(module, place / f"{quant}.gguf", chosen(quant, module.config.num_hidden_layers)))
    for part in (model.module.model.rotary_emb, model.module.model.embed_tokens, model.module):
        model.fill(part)
    pack_in_place(model.module)
    return model.module


def in_turn(*arguments: str) -> Any:
    """What a process of its own finds; ``None`` if it fails, as where the device has no kernel for a format."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(options: argparse.Namespace) -> dict[str, list[Figures]]:
    """Rounds until one more would last too long; formats that fail in one are left out of the others."""
    directory = checkpoint(options.shape)
    for each in FILES:
        gguf_file(each, directory)
    begun, number = perf_counter(), 0
    results: dict[str, list[Figures]] = {each: [] for each in FORMATS}
    while (perf_counter() - begun) * (number + 1) <= options.seconds * number or number == 0:
        for each in list(results):
            found = in_turn("--only", each, "--shape", options.shape, "--device", options.device)
            results[each].append(found)
        results = {each: figures for each, figures in results.items() if all(figures)}
        number += 1
    print(f"{number} rounds in {perf_counter() - begun:.0f} s", file=sys.stderr)
    return results


def medians(results: Mapping[str, list[Figures]]) -> dict[str, Figures]:
    """Of each format's rounds."""
    return {
        quant: {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        for quant, figures in results.items()
    }


def table(rows: Mapping[str, Figures]) -> None:
    """As Markdown; the last column is how many times as fast as bfloat16 one sequence is."""
    print("| quant | " + " | ".join(head for head, _ in COLUMNS.values()) + " | 1 ÷ bf16 |")
    print("|---|" + "--:|" * (len(COLUMNS) + 1))
    for quant, row in rows.items():
        cells = [format(row[name], form) if name in row else "" for name, (_, form) in COLUMNS.items()]
        print(f"| {quant} | {' | '.join(cells)} | {row['1'] / rows['bf16']['1']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--quality", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if options.only:
        print(json.dumps(measure(options.only, checkpoint(options.shape), options.device)))
        return
    if options.quality:
        print(json.dumps(perplexities()))
        return
    results = measure_all(options)
    if options.json:
        options.json.write_text(json.dumps(results))
    quality = in_turn("--quality") or {}
    table({each: row | ({"perplexity": quality[each]} if quality else {}) for each, row in medians(results).items()})


if __name__ == "__main__":
    main()
