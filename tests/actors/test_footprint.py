"""What models are said to need, held against what processes of workers take for them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from children import rank_children
from footprints import CONTEXT, COUNTED, MIB, Taken, ask, make, make_gguf, small_pages, weigh
from structlog.testing import capture_logs
from transformers.utils import logging

from actors.device_worker import DeviceWorker, WorkerDiedError
from actors.tp_leader import TpLeader
from config import Quant
from helexa.neuron import estimates
from helexa.tiny import CHECKPOINT
from helexa.wire.fleet import LoadRequest
from helexa.wire.ranks import Share

START_SECONDS = 90
WITHIN = 0.1
SMALL = 3 * MIB
"""What a process learns beside: Python's objects, and pages that are not used to their end."""
EMBEDDING = 8192 * 512 * 2
BEHIND = EMBEDDING
"""The output layer as its files have it may stay until Python's collector looks for circles."""
GENERAL = ("phi3", "gemma2 with a soft cap", "qwen3 with experts")
"""Read by transformers, which leaves the embedding in the file that it has mapped."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for key, value in COUNTED.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    logging.disable_progress_bar()
    with capture_logs():
        yield


@asynccontextmanager
async def running(worker: DeviceWorker) -> AsyncIterator[None]:
    """The worker, which has served a model already: what the first one costs a process is not this one's."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(WorkerDiedError):
                await worker.run()

        with small_pages(), trio.fail_after(START_SECONDS):
            nursery.start_soon(run)
            await worker.load("m", str(CHECKPOINT))
        await ask(worker, 1000, 1)
        await worker.unload("m")
        yield
        nursery.cancel_scope.cancel()


async def share_of(path: Path, quant: Quant | None, ranks: int = 1) -> Share:
    """What a neuron says that a model needs."""
    (found,) = (await estimates.estimate([LoadRequest("m", f"path:{path}", "cpu", quant)], lambda _: None)).models
    assert found.error is None
    share = found.share(ranks)
    assert share is not None
    return share


@define
class Scales:
    """Collects what is off, so that one look shows all of it."""

    wrong: dict[str, Any] = field(factory=dict)

    def compare(self, name: str, share: Share, taken: Taken, *, mapped: int = 0) -> None:
        """Note where the two are further apart than they may be; ``mapped`` bytes of the weights lie in their file."""
        weights, report = share.weights_mb * MIB, taken.report
        told = {
            "said": (report.memory_mb * MIB, weights, MIB),
            "weights": (taken.loaded + mapped, weights, SMALL + BEHIND),
            "most": (taken.most + mapped, share.need_mb * MIB, SMALL),
            "of a token": (taken.token * CONTEXT, share.kv_mb * MIB, MIB),
        }
        off = {
            what: f"{found / MIB:.1f} of {expected / MIB:.1f}"
            for what, (found, expected, slack) in told.items()
            if abs(found - expected) > expected * WITHIN + slack
        }
        if off:
            self.wrong[name] = off


def kind_of(name: str) -> str:
    """As in files of the kind Q4_K_M: values, and products back to the width, in six bits."""
    return "Q6_K" if any(part in name for part in ("attn_v", "ffn_down", "token_embd")) else "Q4_K"


@pytest.mark.timeout(300)  # it is the processor's to say how long
async def test_models_take_what_they_were_said_to_need(tmp_path: Path) -> None:
    cases: list[tuple[str, str, Quant | None]] = [
        ("qwen3", "bfloat16", None),
        ("qwen3, tied", "bfloat16", "int8"),
        ("qwen3", "bfloat16", "int4"),
        ("llama with biases", "float32", None),
        ("mistral with a window", "bfloat16", None),
        ("phi3", "bfloat16", "int4"),
        ("gemma2 with a soft cap", "bfloat16", None),
        ("qwen3 with experts", "bfloat16", None),
    ]
    worker, scales = DeviceWorker("cpu", threads=1), Scales()
    async with running(worker):
        assert worker.pid is not None
        for kind, dtype, quant in cases:
            path = make(kind, tmp_path / f"{kind} {dtype}", dtype)
            share, (taken,) = await share_of(path, quant), await weigh(worker, [worker.pid], path, quant)
            scales.compare(f"{kind}, {dtype}, {quant}", share, taken, mapped=EMBEDDING if kind in GENERAL else 0)
        file = make_gguf("qwen3, tied", tmp_path / "m.gguf", kind_of)
        (taken,) = await weigh(worker, [worker.pid], file, None)
        scales.compare("GGUF", await share_of(file, None), taken)
    assert scales.wrong == {}


@pytest.mark.timeout(300)
async def test_ranks_take_what_each_was_said_to_need(tmp_path: Path) -> None:
    group, scales = TpLeader(["cpu", "cpu"], threads=1), Scales()
    cases: list[tuple[str, str, Quant | None]] = [
        ("qwen3, tied", "bfloat16", None),
        ("llama with biases", "bfloat16", "int8"),
    ]
    async with running(group):
        for kind, dtype, quant in cases:
            path = make(kind, tmp_path / kind, dtype)
            share, ranks = await share_of(path, quant, 2), rank_children()
            found = await weigh(group, [each.pid for each in ranks.values()], path, quant)
            for number, taken in zip(ranks, found, strict=True):
                scales.compare(f"{kind}, {quant}, rank {number}", share, taken)
    assert scales.wrong == {}
