"""What models would need here, read from their files: what a placement is decided by, before anything is loaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import evolve

from helexa.engine import files
from helexa.engine.memory import MIB, bytes_per_token, context_length, layers_of
from helexa.engine.quant import Quant, context_of, gguf_bytes, gguf_token_bytes, rough_bytes
from helexa.gguf import read_header
from helexa.neuron import sources
from helexa.neuron.sources import Wanted
from helexa.neuron.sources.listing import Listing, split_parts, total
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Estimate, EstimateList, LoadRequest

SHORTEST_CONTEXT = 4096
"""Tokens; a model with a KV cache for less is hardly worth serving."""
PATIENCE_SECONDS = 5.0
"""For what has to be asked for over the network. An estimate that is late is of no use to whoever waits for a load."""
_LINES = 8
_CONFIG = "config.json"
_LARGEST_CONFIG = 1 << 20
_WIDE = ("float32", "torch.float32")

SourceOf = Callable[[str], str | None]


async def estimate(wanted: Sequence[LoadRequest], source_of: SourceOf, registry: str | None = None) -> EstimateList:
    """Estimate all of them at once, in their order.

    Args:
        wanted: models; a source in a request goes first, as for a load.
        source_of: the catalogue's source of a model, ``None`` if the catalogue does not have it.
        registry: the URL of what ``helexa:`` means, as the topology says.
    """
    found: dict[int, Estimate] = {}
    # Threads that wait for the network until they give up, after those who asked them: not of those that all else uses.
    lines = trio.CapacityLimiter(_LINES)

    async def one(index: int, request: LoadRequest) -> None:
        source = request.source or source_of(request.model)
        found[index] = await _estimate(evolve(request, source=source), registry, lines)

    async with trio.open_nursery() as nursery:
        for index, request in enumerate(wanted):
            nursery.start_soon(one, index, request)
    return EstimateList(tuple(found[index] for index in range(len(wanted))))


async def _estimate(request: LoadRequest, registry: str | None, lines: trio.CapacityLimiter) -> Estimate:
    local = await trio.to_thread.run_sync(_here, request, registry)
    if isinstance(local, Estimate):
        return local
    with trio.move_on_after(PATIENCE_SECONDS):
        return await trio.to_thread.run_sync(_there, request, local, abandon_on_cancel=True, limiter=lines)
    return Estimate(request.model)


def _here(request: LoadRequest, registry: str | None) -> Estimate | Wanted:
    """From the files of this host; or else what would have to be fetched first."""
    model = request.model
    try:
        found = sources.find(model, request.source, registry)
    except ApiError as error:
        return Estimate(model, error=error.message)
    if isinstance(found, Path):
        return _of(model, found, request.quant)
    cached = found.cache.current()
    lies_here = None if cached is None else _of(model, cached / (found.gguf or ""), request.quant)
    return found if lies_here is None or lies_here.error else lies_here


def _there(request: LoadRequest, wanted: Wanted) -> Estimate:
    """From what a registry tells of a model. Nothing where it tells nothing: a load will say why."""
    model = request.model
    try:
        with wanted.registry.client(PATIENCE_SECONDS) as client:
            listing = wanted.registry.listing(client, wanted.repository)
            weights = rough_bytes(request.quant, remote_weights(listing, wanted.gguf))
            config = listing.get(_CONFIG)
            if config is None or config.size > _LARGEST_CONFIG:
                return Estimate(model, _mib(weights))
            read = client.get(wanted.registry.url(wanted.repository, config)).raise_for_status().content
        return Estimate(model, _mib(weights), _mib(_kv_bytes_of(read)))
    except Exception:  # noqa: BLE001 - whatever a network, its libraries and a stranger's repository come up with
        return Estimate(model)


def remote_weights(listing: Listing, gguf: str | None = None) -> int:
    """Bytes of the files that a model would be read from, of all that its repository has."""
    return total(listing.likely_weights() if gguf is None else listing.parts_of(gguf))


def _kv_bytes_of(config: bytes) -> int:
    with TemporaryDirectory() as directory:
        (Path(directory) / _CONFIG).write_bytes(config)
        return _kv_bytes(Path(directory))


def _of(model: str, place: Path, quant: Quant | None) -> Estimate:
    try:
        if place.suffix == ".gguf":
            return _of_gguf(model, place, quant)
        return Estimate(model, _mib(files.weights_bytes(place, quant)), _mib(_kv_bytes(place)))
    except (OSError, ValueError) as error:
        return Estimate(model, error=str(error))


def _of_gguf(model: str, file: Path, quant: Quant | None) -> Estimate:
    """By what it says of itself; of one in parts, by what lies on the disk and a configuration beside it."""
    if len(parts := split_parts(file.name)) == 1:
        header = read_header(file)
        kv = min(SHORTEST_CONTEXT, context_of(header) or SHORTEST_CONTEXT) * gguf_token_bytes(header)
        return Estimate(model, _mib(gguf_bytes(header, quant)), _mib(kv))
    weights = sum(file.with_name(part).stat().st_size for part in parts)
    has_config = file.with_name(_CONFIG).is_file()
    return Estimate(model, _mib(weights), _mib(_kv_bytes(file.parent)) if has_config else 0)


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
