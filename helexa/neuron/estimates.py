"""What models would need here, read from their files: what a placement is decided by, before anything is loaded."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from helexa.engine import files
from helexa.engine.memory import MIB, bytes_per_token, context_length, layers_of
from helexa.neuron import sources
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Estimate, EstimateList, LoadRequest

SHORTEST_CONTEXT = 4096
"""Tokens; a model with a KV cache for less is hardly worth serving."""
PATIENCE_SECONDS = 5.0
"""For what has to be asked for over the network. An estimate that is late is of no use to whoever waits for a load."""
_LINES = 8
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_WIDE = ("float32", "torch.float32")

SourceOf = Callable[[str], str | None]


async def estimate(wanted: Sequence[LoadRequest], source_of: SourceOf) -> EstimateList:
    """Estimate all of them at once, in their order.

    Args:
        wanted: models; a source in a request goes first, as for a load.
        source_of: the catalogue's source of a model, ``None`` if the catalogue does not have it.
    """
    found: dict[int, Estimate] = {}
    # Threads that wait for the network until they give up, after those who asked them: not of those that all else uses.
    lines = trio.CapacityLimiter(_LINES)

    async def one(index: int, request: LoadRequest) -> None:
        found[index] = await _estimate(request.model, request.source or source_of(request.model), lines)

    async with trio.open_nursery() as nursery:
        for index, request in enumerate(wanted):
            nursery.start_soon(one, index, request)
    return EstimateList(tuple(found[index] for index in range(len(wanted))))


async def _estimate(model: str, source: str | None, lines: trio.CapacityLimiter) -> Estimate:
    if source is None:
        return Estimate(model, error="it is not in the catalogue, and no source is given")
    local = await trio.to_thread.run_sync(_here, model, source)
    if local is not None:
        return local
    with trio.move_on_after(PATIENCE_SECONDS):
        return await trio.to_thread.run_sync(_there, model, abandon_on_cancel=True, limiter=lines)
    return Estimate(model)


def _here(model: str, source: str) -> Estimate | None:
    """From the files of this host; ``None`` if they would have to be fetched first."""
    if source == "huggingface":
        directory = _cached(model)
        found = None if directory is None else _of(model, directory)
        return None if found is None or found.error else found
    try:
        return _of(model, Path(sources.resolve(model, source)))
    except ApiError as error:
        return Estimate(model, error=error.message)


def _cached(model: str) -> Path | None:
    """The model's directory in the Hugging Face cache, which may lack some of its files."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model, "config.json")
    except ValueError:  # an id that cannot be one
        return None
    return Path(found).parent if isinstance(found, str) else None


def _there(model: str) -> Estimate:
    """From what Hugging Face tells of a model. Nothing where it tells nothing: a load will say why."""
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi().model_info(model, files_metadata=True, timeout=PATIENCE_SECONDS)
        weights = remote_weights({each.rfilename: each.size or 0 for each in info.siblings or ()})
        config = hf_hub_download(model, "config.json", etag_timeout=PATIENCE_SECONDS)
        return Estimate(model, _mib(weights), _mib(_kv_bytes(Path(config).parent)))
    except Exception:  # noqa: BLE001 - whatever a network, its libraries and a stranger's repository come up with
        return Estimate(model)


def remote_weights(sizes: dict[str, int]) -> int:
    """Bytes of the files that a model would be read from, of all that its repository has."""
    usual = [size for name, size in sizes.items() if _WEIGHTS.fullmatch(name)]
    other = [size for name, size in sizes.items() if name.endswith(".safetensors") and "/" not in name]
    return sum(usual or other)


def _of(model: str, directory: Path) -> Estimate:
    try:
        return Estimate(model, _mib(files.weights_bytes(directory)), _mib(_kv_bytes(directory)))
    except ValueError as error:
        return Estimate(model, error=str(error))


def _kv_bytes(directory: Path) -> int:
    """Bytes of KV cache for one sequence of the shortest context worth serving, or of the model's, if that is shorter.

    Raises:
        ValueError: the configuration is not one of a model that can be run here.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
        return min(SHORTEST_CONTEXT, context_length(config)) * _per_token(config)
    except Exception as error:  # what transformers makes of a file; what a model that is no language model lacks
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"its configuration cannot be read: {type(error).__name__}: {reason}") from error


def _per_token(config: Any) -> int:
    element = 4 if str(config.get_text_config().dtype or config.dtype) in _WIDE else 2
    return bytes_per_token(layers_of(config), element)


def _mib(size: int) -> int:
    return -(-size // MIB)
