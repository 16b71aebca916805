"""Weights and config from a local directory or the Hugging Face cache, and what they tell about limits."""

import json
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from attrs import evolve, frozen

from helexa import hostmemory
from helexa.engine import files
from helexa.engine.memory import MIB, block_size, bytes_per_token, context_length, layers_of, pool_blocks
from helexa.engine.networks import Network
from helexa.engine.plan import Chunk, StepPlan
from helexa.engine.runner import PagedRunner, Runner, make_network
from helexa.engine.stateful import StatefulRunner

GPU_SHARE = 0.6
"""Of the memory a GPU has left: the rest is for activations, and for the next model."""
HOST_SHARE = 0.25
"""Of the memory a host has left: it is not ours alone."""


class LoadError(Exception):
    """A model that cannot be loaded; the message is for the operator."""


@frozen(eq=False)
class LoadedModel:
    """A model on its device, ready to run.

    Attributes:
        runner: computes its steps.
        directory: its files, the tokenizer's among them.
        device: where its weights and KV cache live.
        blocks: KV blocks.
        block_size: tokens per block.
        context_length: most tokens of prompt and output together: its own limit, or what its KV cache can hold.
        vocabulary: token ids it can take are below this.
        eos_ids: token ids that end a sequence, as its files say.
        memory_mb: MiB that its weights hold.
        kv_mb: MiB that its KV cache may hold.
        seconds: how long loading took.
    """

    runner: Runner
    directory: Path
    device: torch.device
    blocks: int
    block_size: int
    context_length: int
    vocabulary: int
    eos_ids: frozenset[int]
    memory_mb: int
    kv_mb: int
    seconds: float


def load_model(path: str, device: str, running: int = 64, memory: int | None = None) -> LoadedModel:
    """Load a causal language model from ``path`` (a directory, or a Hugging Face id in its cache) onto ``device``.

    Weights come from safetensors only and code only from ``transformers`` itself: neither a pickle nor a script of a
    model repository is ever run. Nothing is downloaded. The first forward pass is run here, so that what it sets up
    once is not paid for by the first caller.

    Args:
        path: where it is.
        device: torch's name of the device.
        running: sequences that will run at once; the KV cache is not made larger than these can fill.
        memory: bytes that its weights and its KV cache may have together; ``None`` for what the device has left.

    Raises:
        LoadError: whatever went wrong, in one sentence.
    """
    start = perf_counter()
    try:
        directory = _directory(path)
        model = _prepare(_read_within(directory, memory).to(device).eval(), directory, running, memory)
        _warm_up(model.runner)
        if isinstance(model.runner, PagedRunner):
            model.runner.capture(running, model.context_length)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"{type(error).__name__}: {_first_line(error)}") from error
    return evolve(model, seconds=perf_counter() - start)


def _prepare(module: Any, directory: Path, running: int, memory: int | None) -> LoadedModel:
    """Give a model its way of running, and as much KV cache as it can have."""
    device, limit, weights = module.device, context_length(module.config), _weights(module)
    vocabulary, eos_ids = int(module.get_input_embeddings().weight.shape[0]), _eos_ids(module)
    network = make_network(module)
    per_token, per_block = _per_token(module, network), block_size(device.type)
    left = None if memory is None else memory - weights
    blocks = pool_blocks(per_token, _pool_memory(device, left), limit, running, per_block)
    return LoadedModel(
        runner=PagedRunner(network, device, blocks, per_block) if network else StatefulRunner(module),
        directory=directory,
        device=device,
        blocks=blocks,
        block_size=per_block,
        context_length=min(limit, blocks * per_block),
        vocabulary=vocabulary,
        eos_ids=eos_ids,
        memory_mb=_megabytes(weights),
        kv_mb=_megabytes(blocks * per_block * per_token),
        seconds=0,
    )


def _per_token(module: Any, network: Network | None) -> int:
    """Bytes of keys and values of one token."""
    if network is None:
        return bytes_per_token(layers_of(module.config), module.dtype.itemsize)
    return bytes_per_token(network.layers, network.dtype.itemsize)


def _warm_up(runner: Runner) -> None:
    """A prefill and a decode, in a block whose content nobody will look up."""
    for start, ids in ((0, (0, 0)), (2, (0,))):
        runner.forward(StepPlan((Chunk(-1, ids, start, [0], due=True),)))
    runner.forget(-1)


def _pool_memory(device: torch.device, left: int | None) -> int:
    """Bytes that a model's KV cache may take of what its device has left, or of ``left``, if that is less."""
    if device.type == "cuda":
        free, share = torch.cuda.mem_get_info(device)[0], GPU_SHARE
    else:
        free, share = hostmemory.read().available, HOST_SHARE
    return int((free if left is None else min(free, left)) * share)


def _eos_ids(module: Any) -> frozenset[int]:
    found = getattr(module.generation_config, "eos_token_id", None)
    if found is None:  # a generation_config.json need not say
        found = module.config.get_text_config().eos_token_id
    return frozenset([] if found is None else [found] if isinstance(found, int) else found)


def _directory(path: str) -> Path:
    from huggingface_hub import snapshot_download

    if Path(path).is_dir():
        return Path(path)
    if Path(path).is_absolute():  # transformers would take it for a misspelt id
        raise LoadError(f"there is no directory '{path}'")
    return Path(snapshot_download(path, local_files_only=True))


def _read_within(directory: Path, memory: int | None) -> Any:
    """Read a model whose weights fit; by the size of its files first, so that what is too large is not even read."""
    if memory is None:
        return _read(directory)
    with suppress(ValueError):  # reading them will tell
        _refuse_large(files.weights_bytes(directory), memory)
    module = _read(directory)
    _refuse_large(_weights(module), memory)
    return module


def _refuse_large(weights: int, memory: int) -> None:
    if weights > memory:
        needed, left = _megabytes(weights), memory // MIB
        raise LoadError(f"its weights need {needed} MiB, and of the memory its neuron may use, {left} MiB are left")


def _read(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    _refuse_pickles(directory)
    module, info = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype="auto",
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers and goes on
        raise LoadError(f"its files lack {len(missing)} of the model's weights, '{missing[0]}' for one")
    return module


def _refuse_pickles(directory: Path) -> None:
    """Refuse weights that are none of safetensors': an index or the config may name any file, and it would be read."""
    config = json.loads((directory / "config.json").read_bytes())
    names = {config.get("transformers_weights") or ".safetensors"}
    for index in directory.glob("*.safetensors.index.json"):
        names.update(json.loads(index.read_bytes())["weight_map"].values())
    if wrong := sorted(name for name in names if not name.endswith((".safetensors", ".safetensors.index.json"))):
        raise LoadError(f"its weights are in '{wrong[0]}'; only safetensors files are read")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no further detail"


def _weights(module: Any) -> int:
    """Bytes of a module's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _megabytes(size: int) -> int:
    return -(-size // MIB)
