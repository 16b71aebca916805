"""What a model is said to need, and what processes take for it, by format and by number of ranks.

    .venv/bin/just bench-footprint [--shape qwen3-0.6b] [--formats bf16 int8 int4] [--ranks 1 2] [--json FILE]

Said by a neuron before anything is loaded (``POST /models/estimate``): weights, KV cache of 4,096 tokens, and what a
step over them takes beside. Taken by the process of a worker, or of a group's first rank: bytes of memory that no file
backs, counted by the kernel, in small pages; caches of oneDNN's kernels, which belong to a process and not to a model,
are kept small. The largest step is that of a prompt of that length, of which there are two per row of the table: on a
processor of two cores, count on two minutes each.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, get_args

import trio
from attrs import asdict, frozen
from footprints import COUNTED, MIB, Taken, ask, small_pages, weigh
from shapes import SHAPES, checkpoint
from structlog.testing import capture_logs

from actors.device_worker import DeviceWorker, WorkerDiedError
from actors.tp_leader import TpLeader
from config import Quant
from helexa.engine.memory import SHORTEST_CONTEXT
from helexa.neuron import estimates
from helexa.tiny import CHECKPOINT
from helexa.wire.fleet import LoadRequest
from helexa.wire.ranks import Share


@frozen
class Row:
    """Of the table; ``quant`` and ``ranks`` say which."""

    quant: Quant
    ranks: int
    share: Share
    taken: Taken

    def __str__(self) -> str:
        share, taken = self.share, self.taken
        pairs = [
            (share.weights_mb, taken.report.memory_mb),
            (share.weights_mb, taken.loaded / MIB),
            (share.need_mb, taken.most / MIB),
        ]
        cells = " | ".join(f"{said} | {found:.0f} | {found / said:.2f}" for said, found in pairs)
        token = taken.token * SHORTEST_CONTEXT / MIB
        return f"| {self.quant} | {self.ranks} | {cells} | {share.kv_mb} | {token:.0f} | {share.workspace_mb} |"


HEAD = (
    "| format | ranks | weights said, MiB | reported | ratio | weights said, MiB | process | ratio "
    "| all said, MiB | process at most | ratio | KV said, MiB | reported | workspace said, MiB |\n|---|" + "--:|" * 13
)


async def row(directory: Path, quant: Quant, ranks: int, context: int) -> Row:
    """Start a worker or a group, and weigh the model in it."""
    worker = DeviceWorker("cpu") if ranks == 1 else TpLeader(["cpu"] * ranks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, worker)
        with small_pages():
            await worker.load("m", str(CHECKPOINT))
        await ask(worker, 600, 1)  # what the first model costs a process is not this one's
        await worker.unload("m")
        assert worker.pid is not None
        (taken,) = await weigh(worker, [worker.pid], directory, quant, context)
        nursery.cancel_scope.cancel()
    return Row(quant, ranks, await said(directory, quant, ranks), taken)


async def run(worker: DeviceWorker) -> None:
    try:
        await worker.run()
    except* WorkerDiedError:
        pass


async def said(directory: Path, quant: Quant, ranks: int) -> Share:
    (found,) = (await estimates.estimate([LoadRequest("m", f"path:{directory}", "cpu", quant)], lambda _: None)).models
    share = found.share(ranks)
    if share is None:
        raise SystemExit(f"it cannot be spread over {ranks} ranks: {found.error or 'they do not divide it'}")
    return share


async def table(options: argparse.Namespace) -> list[Row]:
    directory, rows = checkpoint(options.shape), []
    print(HEAD, flush=True)
    for quant in options.formats:
        for ranks in options.ranks:
            rows.append(await row(directory, quant, ranks, options.context))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--formats", nargs="+", choices=get_args(Quant), default=["bf16", "int8", "int4"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--context", type=int, default=SHORTEST_CONTEXT, help="tokens of the prompt; less is quicker")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(COUNTED)
    with capture_logs():
        rows = trio.run(table, options)
    if options.json:
        found: list[dict[str, Any]] = [asdict(each) for each in rows]
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
