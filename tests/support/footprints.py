"""Models large enough to be weighed, and what a worker's process takes for them, to the byte that the kernel counts."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
import trio
from attrs import frozen
from checkpoints import make_tokenizer
from gguf_files import header_of, write_model

from actors.device_worker import DeviceWorker
from config import Quant
from helexa.wire.fleet import ModelReport
from helexa.wire.sampling import SamplingParams

MIB = 2**20
CONTEXT = 1024
SHAPE: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
_HEAD: dict[str, Any] = {"head_dim": 64}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", _HEAD),
    "qwen3, tied": ("Qwen3Config", _HEAD | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "llama with biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "mistral with a window": ("MistralConfig", {"sliding_window": 256}),
    "phi3": ("Phi3Config", {"attention_dropout": 0.0}),
    "gemma2 with a soft cap": ("Gemma2Config", _HEAD | {"sliding_window": 256}),
    "qwen3 with experts": (
        "Qwen3MoeConfig",
        _HEAD | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 512},
    ),
}
COUNTED = {
    # kernels that oneDNN has made for shapes of products: a process's, not a model's
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
    "LRU_CACHE_CAPACITY": "8",
    # what is freed goes back to the system, and is not kept for the next allocation
    "MALLOC_MMAP_THRESHOLD_": "131072",
}
"""For a worker whose memory is to be what its tensors hold."""
_PR_SET_THP_DISABLE = 41


def make(kind: str, directory: Path, dtype: str = "bfloat16") -> Path:
    """A random model of some ten million weights."""
    name, more = KINDS[kind]
    config = getattr(transformers, name)(**SHAPE | more | {"dtype": dtype})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    module.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def make_gguf(kind: str, path: Path, kind_of: Callable[[str], str]) -> Path:
    """The same as a GGUF file with its tokenizer."""
    name, more = KINDS[kind]
    few = {"vocab_size": 1024, "num_hidden_layers": 2}  # it is packed in Python
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**SHAPE | more | few))
    return write_model(module, path, kind_of, **header_of(make_tokenizer()).metadata)


@contextmanager
def small_pages() -> Iterator[None]:
    """Processes started meanwhile get no huge pages, which round up what is touched."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)


@frozen
class Taken:
    """Bytes that the process of a worker took for a model.

    Attributes:
        report: what it said.
        loaded: memory after the load, less before, without what is mapped from files.
        mapped: that.
        loading: most that it had while loading, less before.
        step: most that it had while it answered a prompt as long as the context, less what it had before.
    """

    report: ModelReport
    loaded: int
    mapped: int
    loading: int
    step: int

    @property
    def token(self) -> float:
        """Of KV cache per token."""
        assert self.report.kv is not None
        return self.report.kv_mb * MIB / (self.report.kv.blocks_total * 16)

    @property
    def most(self) -> int:
        """That the process ever had, without what is mapped: the system takes that back when it is short of memory."""
        return max(self.loading - self.mapped, self.loaded + self.step)


async def weigh(
    worker: DeviceWorker, pids: Sequence[int], path: Path, quant: Quant | None, context: int = CONTEXT
) -> list[Taken]:
    """Load a model, let it answer, unload it, and look at the memory of the worker's processes meanwhile.

    Args:
        worker: that loads it.
        pids: its process, or those of its ranks.
        path: the model.
        quant: what it is reduced to.
        context: tokens of its prompts and answers.

    Returns:
        What each of the processes took.
    """
    scales = [_Scale(pid) for pid in pids]
    await worker.load("m", str(path), quant)
    for each in scales:
        each.note_load()
    await ask(worker, context - 8, 1)  # what is set up once
    before = [_begin(pid) for pid in pids]
    await ask(worker, context - 8, 2)
    steps = [_status(pid, "VmHWM") - had for pid, had in zip(pids, before, strict=True)]
    report = await _report(worker)
    await worker.unload("m")
    return [each.taken(report, step) for each, step in zip(scales, steps, strict=True)]


class _Scale:
    """What a process has, from before a load to its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._own, self._mapped = self._now()
        self._resident = _begin(pid)

    def note_load(self) -> None:
        self._loading = _status(self._pid, "VmHWM") - self._resident
        own, mapped = self._now()
        self._own, self._mapped = own - self._own, mapped - self._mapped

    def taken(self, report: ModelReport, step: int) -> Taken:
        return Taken(report, self._own, max(0, self._mapped), self._loading, step)

    def _now(self) -> tuple[int, int]:
        """Memory that is its own, and what it has mapped from files alone."""
        own = _status(self._pid, "RssAnon")
        return own, _private(self._pid) - own


async def _report(worker: DeviceWorker) -> ModelReport:
    """What it says of the model, once it has told of its KV cache."""
    while True:
        (report,) = (each for each in worker.reports() if each.id == "m")
        if report.kv is not None:
            return report
        await trio.sleep(0.05)


async def ask(worker: DeviceWorker, length: int, seed: int) -> None:
    """A prompt that no other shares a block with."""
    prompt = [(seed * 7 + place * 3) % 300 for place in range(length)]
    generation = worker.submit("m", prompt, SamplingParams(temperature=0.8, max_tokens=4, seed=1), "key")
    while await generation.progress():
        pass
    generation.close()


def _private(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().uss)


def _begin(pid: int) -> int:
    """Begin to look for the most; what there is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status(pid, "VmRSS")


def _status(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
