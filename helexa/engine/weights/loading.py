"""Weights and config from a local directory or the Hugging Face cache, and what they tell about limits."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import psutil
import torch
from attrs import evolve, frozen

from helexa.engine.memory import MIB, block_size, bytes_per_token, context_length, layers_of, pool_blocks
from helexa.engine.networks.native import NativeNetwork, is_native
from helexa.engine.networks.ports import Network
from helexa.engine.networks.runner import PagedRunner, Runner, make_network
from helexa.engine.networks.stateful import StatefulRunner
from helexa.engine.quant import check as quant_check
from helexa.engine.quant.formats import Quant, QuantError
from helexa.engine.quant.packing import module_bytes, pack_in_place
from helexa.engine.scheduling.plan import Chunk, StepPlan
from helexa.engine.scheduling.timing import Parts
from helexa.engine.threads import ThreadGovernor
from helexa.engine.weights import files
from helexa.engine.weights.checkpoints import Opened, filler, open_native, refuse_strange
from helexa.engine.weights.gguf_model import GgufModel, open_model
from helexa.engine.weights.headers import FileError
from helexa.engine.weights.reading import Told, WeightReader
from helexa.gguf import GgufError
from helexa.gguf_tokenizer import tokenizer_directory

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
        parts: seconds of its parts: ``open`` its files, wait to ``read`` them, ``arrange`` the weights for the device,
            make the ``cache``, ``warm up``. Files are read while weights are arranged.
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
    parts: dict[str, float]


class Ranks(Protocol):
    """What a model that is spread over several processes asks of its group, on each of them."""

    @property
    def count(self) -> int:
        """How many share the model."""

    def network(
        self, module: Any, *, quant: Quant | None, device: torch.device, fill: Callable[[torch.nn.Module], None]
    ) -> NativeNetwork:
        """This process's share; ``fill`` as for ``NativeNetwork``."""

    def agree(self, blocks: int) -> int:
        """KV blocks that every process can have, of those that this one can.

        Asked twice: once the weights are there, and again once the blocks are.
        """


@frozen(eq=False)
class _Placed:
    """A model whose weights are on its device.

    Attributes:
        module: of transformers; an empty shell where ``network`` is helexa's own.
        network: how it is run over the paged cache, if it can be.
        weights: bytes of them.
    """

    module: Any
    network: Network | None
    weights: int


def load_model(  # noqa: PLR0913 - the first two say what and where, all others have defaults
    path: str,
    device: str,
    running: int = 64,
    memory: int | None = None,
    quant: Quant | None = None,
    *,
    ranks: Ranks | None = None,
    told: Told | None = None,
) -> LoadedModel:
    """Load a causal language model onto ``device``.

    Weights come from safetensors or GGUF files only and code only from ``transformers`` itself: neither a pickle nor a
    script of a model repository is ever run. Nothing is downloaded. The first forward pass is run here, so that what it
    sets up once is not paid for by the first caller.

    Args:
        path: a directory, a GGUF file, or a Hugging Face id in its cache.
        device: torch's name of the device.
        running: sequences that will run at once; the KV cache is not made larger than these can fill.
        memory: bytes that its weights and its KV cache may have together; ``None`` for what the device has left.
        quant: what its linear layers are reduced to; ``None`` for what its files have.
        ranks: those that share it, if it is spread over several processes; each calls this.
        told: how many bytes of its weights have been read so far, and how many there are; from any thread, some hundred
            times a second. The same number again means that what was read is being arranged. Of a model that
            transformers reads it is told nothing.

    Raises:
        LoadError: whatever went wrong, in one sentence.
    """
    start = perf_counter()
    try:
        model = _load(path, _Asked(torch.device(device), running, memory, quant, ranks, told), Parts())
    except LoadError:
        raise
    except (FileError, GgufError, QuantError) as error:  # these are sentences
        raise LoadError(_first_line(error)) from error
    except Exception as error:
        raise LoadError(f"{type(error).__name__}: {_first_line(error)}") from error
    return evolve(model, seconds=perf_counter() - start)


@frozen
class _Asked:
    """How a model is wanted; see ``load_model``."""

    device: torch.device
    running: int
    memory: int | None
    quant: Quant | None
    ranks: Ranks | None
    told: Told | None = None

    def network(self, module: Any, fill: Callable[[torch.nn.Module], None]) -> NativeNetwork:
        """A model of the family whose weights are still to be read, or this process's share of it."""
        if self.ranks is not None:
            return self.ranks.network(module, quant=self.quant, device=self.device, fill=fill)
        return NativeNetwork(module, self.quant, self.device, fill)

    def agree(self, blocks: int) -> int:
        """KV blocks, of those that there is room for here."""
        return blocks if self.ranks is None else self.ranks.agree(blocks)

    def share(self, size: int) -> int:
        """Bytes that this process has, of a model of ``size``; rounded down, as what cannot be shared is not known."""
        return size if self.ranks is None else size // self.ranks.count


def _load(path: str, asked: _Asked, parts: Parts) -> LoadedModel:
    quant_check.check(asked.quant, asked.device)
    with parts.part("open"):
        place = _place(path)
        directory = tokenizer_directory(place) if place.is_file() else place
        found = _open_gguf(place, asked) if place.is_file() else _read_within(place, asked)
    with parts.part("arrange"):
        placed = _put(found, asked, parts)
        _trim()
    _refuse_large(placed.weights, asked.memory)
    with parts.part("cache"):
        model = _with_cache(placed, asked)
    asked.agree(model.blocks)  # that each has them, before one waits for another's part of a step
    with parts.part("warm up"):
        _warm_up(model.runner)
        if isinstance(model.runner, PagedRunner) and asked.ranks is None:  # NCCL's watchdog may not look into a capture
            model.runner.capture(asked.running, model.context_length)
    return evolve(model, directory=directory, parts=parts.seconds)


@torch.inference_mode()
def _put(found: Opened | GgufModel, asked: _Asked, parts: Parts) -> _Placed:
    """Bring a model's weights to its device, in the form in which it multiplies them."""
    if isinstance(found, GgufModel):
        if not is_native(found.module):
            raise LoadError("it is a GGUF file of a model that is not quite of the families that are run from such")
        return _native(found.module, asked.network(found.module, _telling(found, asked.told)))
    if found.places is None:
        return _general(found.module, asked)
    with WeightReader(found.places, asked.device, found.dtype, told=asked.told) as reader:
        network = asked.network(found.module, filler(found.module, reader.take))
    parts.move(reader.seconds, "arrange", "read")
    return _native(found.module, network)


def _telling(found: GgufModel, told: Told | None) -> Callable[[torch.nn.Module], None]:
    """What reads a part, and tells of it by its share of all weights: a mapped file does not show what was read."""
    if told is None:
        return found.fill
    whole, done = sum(each.numel() for each in found.module.parameters()), 0

    def fill(part: torch.nn.Module) -> None:
        nonlocal done
        done += sum(each.numel() for each in part.parameters() if each.is_meta)
        found.fill(part)
        told(found.nbytes * done // whole, found.nbytes)

    return fill


def _native(module: Any, network: NativeNetwork) -> _Placed:
    return _Placed(module, network, network.nbytes)


def _general(module: Any, asked: _Asked) -> _Placed:
    """A model of transformers whose weights are there already."""
    if asked.ranks is not None:
        raise LoadError(f"a {type(module).__name__}, as its files have it, cannot be spread over several devices")
    if asked.quant in (None, "bf16"):
        module.to(asked.device)
    else:  # before it is tried out: then what is compared is reduced on both sides
        pack_in_place(module, asked.quant, asked.device)
    network = make_network(module)
    if network is None and asked.quant not in (None, "bf16"):
        raise LoadError(f"{asked.quant} is for models that keep keys and values alone, and this one keeps more")
    return _Placed(module, network, module_bytes(module))


def _with_cache(placed: _Placed, asked: _Asked) -> LoadedModel:
    """Give a model its way of running, and as much KV cache as it can have."""
    module, network, device = placed.module, placed.network, asked.device
    per_block = block_size(device.type)
    limit, per_token = context_length(module.config), _per_token(module, network)
    left = None if asked.memory is None else asked.memory - placed.weights
    blocks = asked.agree(pool_blocks(per_token, _pool_memory(device, left), limit, asked.running, per_block))
    return LoadedModel(
        runner=PagedRunner(network, device, blocks, per_block) if network else StatefulRunner(module),
        directory=Path(),
        device=device,
        blocks=blocks,
        block_size=per_block,
        context_length=min(limit, blocks * per_block),
        vocabulary=int(module.get_input_embeddings().weight.shape[0]),
        eos_ids=_eos_ids(module),
        memory_mb=_megabytes(placed.weights),
        kv_mb=_megabytes(blocks * per_block * per_token),
        seconds=0,
        parts={},
    )


def _per_token(module: Any, network: Network | None) -> int:
    """Bytes of keys and values of one token."""
    if network is None:
        return bytes_per_token(layers_of(module.config), module.dtype.itemsize)
    return bytes_per_token(network.layers, network.dtype.itemsize)


def _warm_up(runner: Runner) -> None:
    """A prefill and a decode, in a block whose content nobody will look up."""
    threads = torch.get_num_threads()
    governor = ThreadGovernor(threads, torch.set_num_threads)
    try:
        for start, ids in ((0, (0, 0)), (2, (0,))):
            with governor.step():
                runner.forward(StepPlan((Chunk(-1, ids, start, [0], due=True),)))
    finally:
        torch.set_num_threads(threads)  # the governor of later steps thinks that it alone has the say
    runner.forget(-1)


def _pool_memory(device: torch.device, left: int | None) -> int:
    """Bytes that a model's KV cache may take of what its device has left, or of ``left``, if that is less."""
    if device.type == "cuda":
        free, share = torch.cuda.mem_get_info(device)[0], GPU_SHARE
    else:
        free, share = psutil.virtual_memory().available, HOST_SHARE
    return int((free if left is None else min(free, left)) * share)


def _eos_ids(module: Any) -> frozenset[int]:
    found = getattr(module.generation_config, "eos_token_id", None)
    if found is None:  # a generation_config.json need not say
        found = module.config.get_text_config().eos_token_id
    return frozenset([] if found is None else [found] if isinstance(found, int) else found)


def _place(path: str) -> Path:
    """The directory or the GGUF file."""
    from huggingface_hub import snapshot_download

    found = Path(path)
    if found.is_dir() or (found.suffix == ".gguf" and found.is_file()):
        return found
    if found.is_absolute():  # transformers would take it for a misspelt id
        raise LoadError(f"there is no {'file' if found.suffix else 'directory'} '{path}'")
    return Path(snapshot_download(path, local_files_only=True))


def _open_gguf(file: Path, asked: _Asked) -> GgufModel:
    """Look at a file whose model fits, and whose formats the device multiplies."""
    found = open_model(file, asked.quant)
    for each in found.held:
        quant_check.check(each, asked.device)
    _refuse_large(asked.share(found.nbytes), asked.memory)
    return found


def _read_within(directory: Path, asked: _Asked) -> Opened:
    """Open a model whose weights fit; by the size of its files first, so that what is too large is not even read."""
    if asked.memory is not None:
        with suppress(ValueError):  # opening it will tell
            _refuse_large(asked.share(files.weights_bytes(directory, asked.quant)), asked.memory)
    found = _read(directory) if asked.quant is None else _read(directory, torch.bfloat16)
    if asked.quant in (None, "bf16"):  # of others the size is known once they are reduced
        _refuse_large(asked.share(module_bytes(found.module)), asked.memory)
    return found


def _refuse_large(weights: int, memory: int | None) -> None:
    if memory is not None and weights > memory:
        needed, left = _megabytes(weights), memory // MIB
        raise LoadError(f"its weights need {needed} MiB, and of the memory its neuron may use, {left} MiB are left")


def _read(directory: Path, dtype: torch.dtype | None = None) -> Opened:
    """Open a model, and where transformers has to read its weights, read them to the host's memory."""
    refuse_strange(directory)
    found = open_native(directory, dtype)
    return found if found is not None else _read_by_transformers(directory, dtype)


def _read_by_transformers(directory: Path, dtype: torch.dtype | None) -> Opened:
    from transformers import AutoModelForCausalLM

    module, info = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=dtype or "auto",
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers and goes on
        raise LoadError(f"its files lack {len(missing)} of the model's weights, '{missing[0]}' for one")
    return Opened(module.eval(), None, module.dtype)


def release() -> None:
    """Give the memory of what was let go of back to the system, now; after an unload, and after a load that failed.

    A module that refers to itself would keep its own for as long as the collector pleased, torch keeps that of a GPU
    for its next tensors, and the C library that of small tensors for its next allocations.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _trim()


def _trim() -> None:
    with suppress(OSError, AttributeError):  # glibc alone has this
        ctypes.CDLL(None).malloc_trim(0)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no further detail"


def _megabytes(size: int) -> int:
    return -(-size // MIB)
