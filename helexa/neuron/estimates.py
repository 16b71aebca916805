"""What models would need here, read from their files: what a placement is decided by, before anything is loaded."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import evolve

from helexa.engine.memory import MIB, SHORTEST_CONTEXT, bytes_per_token, context_length, layers_of
from helexa.engine.networks import decoders
from helexa.engine.quant.formats import Quant, context_of, gguf_bytes, gguf_token_bytes, rough_bytes
from helexa.engine.weights import files, footprint
from helexa.engine.weights.footprint import Needs, Target
from helexa.gguf import read_header
from helexa.neuron import hosts, sources
from helexa.neuron.sources import Wanted
from helexa.neuron.sources.listing import Listing, split_parts, total
from helexa.wire.errors import ApiError
from helexa.wire.fleet import Discovery, Estimate, EstimateList, LoadRequest, Processor
from helexa.wire.ranks import Share

PATIENCE_SECONDS = 5.0
"""For what has to be asked for over the network. An estimate that is late is of no use to whoever waits for a load."""
_LINES = 8
_CONFIG = "config.json"
_LARGEST_CONFIG = 1 << 20
_LAYING_OUT = frozenset({"avx512f", "bf16"})
"""Instructions of processors on which torch has weights in bfloat16 laid out by oneDNN: of x86, and of Arm."""

SourceOf = Callable[[str], str | None]


async def estimate(
    wanted: Sequence[LoadRequest], source_of: SourceOf, registry: str | None = None, target: Target | None = None
) -> EstimateList:
    """Estimate all of them at once, in their order.

    Args:
        wanted: models; a source in a request goes first, as for a load.
        source_of: the catalogue's source of a model, ``None`` if the catalogue does not have it.
        registry: the URL of what ``helexa:`` means, as the topology says.
        target: what devices this host has; ``None``: its CPU. A device in a request goes first.
    """
    found: dict[int, Estimate] = {}
    target = target or _own_cpu()
    # Threads that wait for the network until they give up, after those who asked them: not of those that all else uses.
    lines = trio.CapacityLimiter(_LINES)

    async def one(index: int, request: LoadRequest) -> None:
        asked = evolve(request, source=request.source or source_of(request.model))
        kind = target.kind if request.device is None else request.device.partition(":")[0]
        found[index] = await _estimate(asked, registry, evolve(target, kind=kind), lines)

    async with trio.open_nursery() as nursery:
        for index, request in enumerate(wanted):
            nursery.start_soon(one, index, request)
    return EstimateList(tuple(found[index] for index in range(len(wanted))))


def target_of(discovery: Discovery) -> Target:
    """The devices of a host, as far as it matters for what models need."""
    on_gpus = any(device.name.startswith("cuda") for device in discovery.devices)
    return Target("cuda" if on_gpus else "cpu", _lays_out(discovery.processor))


def _lays_out(processor: Processor | None) -> bool:
    return processor is not None and not _LAYING_OUT.isdisjoint(processor.instructions)


@cache
def _own_cpu() -> Target:
    return Target("cpu", _lays_out(hosts.processor()))


async def _estimate(
    request: LoadRequest, registry: str | None, target: Target, lines: trio.CapacityLimiter
) -> Estimate:
    local = await trio.to_thread.run_sync(_here, request, registry, target)
    if isinstance(local, Estimate):
        return local
    with trio.move_on_after(PATIENCE_SECONDS):
        return await trio.to_thread.run_sync(_there, request, local, target, abandon_on_cancel=True, limiter=lines)
    return Estimate(request.model)


def _here(request: LoadRequest, registry: str | None, target: Target) -> Estimate | Wanted:
    """From the files of this host; or else what would have to be fetched first."""
    model = request.model
    try:
        found = sources.find(model, request.source, registry)
    except ApiError as error:
        return Estimate(model, error=error.message)
    if isinstance(found, Path):
        return _of(model, found, request.quant, target)
    cached = found.cache.current()
    lies_here = None if cached is None else _of(model, cached / (found.gguf or ""), request.quant, target)
    return found if lies_here is None or lies_here.error else lies_here


def _there(request: LoadRequest, wanted: Wanted, target: Target) -> Estimate:
    """From what a registry tells of a model. Nothing where it tells nothing: a load will say why."""
    model = request.model
    try:
        with wanted.registry.client(PATIENCE_SECONDS) as client:
            listing = wanted.registry.listing(client, wanted.repository)
            published = remote_weights(listing, wanted.gguf)
            config = listing.get(_CONFIG)
            if config is None or config.size > _LARGEST_CONFIG:
                return Estimate(model, _mib(rough_bytes(request.quant, published)))
            read = client.get(wanted.registry.url(wanted.repository, config)).raise_for_status().content
        if wanted.gguf is None:
            return _told(model, footprint.of_published(_parsed(read), published, request.quant, target))
        return Estimate(model, _mib(rough_bytes(request.quant, published)), _mib(_kv_bytes(_parsed(read))))
    except Exception:  # noqa: BLE001 - whatever a network, its libraries and a stranger's repository come up with
        return Estimate(model)


def remote_weights(listing: Listing, gguf: str | None = None) -> int:
    """Bytes of the files that a model would be read from, of all that its repository has."""
    return total(listing.likely_weights() if gguf is None else listing.parts_of(gguf))


def _of(model: str, place: Path, quant: Quant | None, target: Target) -> Estimate:
    try:
        if place.suffix == ".gguf":
            return _of_gguf(model, place, quant, target)
        return _told(model, _of_directory(place, quant, target))
    except (OSError, ValueError) as error:
        return Estimate(model, error=str(error))


def _of_directory(directory: Path, quant: Quant | None, target: Target) -> Needs:
    weights, places = files.weights_bytes(directory, quant), files.tensors(directory)
    config = _config(directory)
    try:
        return footprint.of_checkpoint(config, places, weights, quant, target)
    except Exception as error:  # what a configuration of something else lacks, or has instead of numbers
        raise _unreadable(error) from error


def _of_gguf(model: str, file: Path, quant: Quant | None, target: Target) -> Estimate:
    """By what it says of itself; of one in parts, by what lies on the disk and a configuration beside it."""
    if len(parts := split_parts(file.name)) == 1:
        header = read_header(file)
        if (needs := footprint.of_gguf(header, quant, target)) is not None:
            return _told(model, needs)
        kv = min(SHORTEST_CONTEXT, context_of(header) or SHORTEST_CONTEXT) * gguf_token_bytes(header)
        return Estimate(model, _mib(gguf_bytes(header, quant)), _mib(kv))
    weights = sum(file.with_name(part).stat().st_size for part in parts)
    has_config = file.with_name(_CONFIG).is_file()
    return Estimate(model, _mib(weights), _mib(_kv_bytes(_config(file.parent))) if has_config else 0)


def _told(model: str, needs: Needs) -> Estimate:
    """As it goes over the wire, in MiB."""
    alone = needs.alone
    shares = tuple(
        Share(ranks, _mib(each.weights), _mib(each.kv), _mib(each.workspace)) for ranks, each in needs.shared.items()
    )
    return Estimate(model, _mib(alone.weights), _mib(alone.kv), None, _mib(alone.workspace), shares)


def _parsed(config: bytes) -> Any:
    with TemporaryDirectory() as directory:
        (Path(directory) / _CONFIG).write_bytes(config)
        return _config(Path(directory))


def _config(directory: Path) -> Any:
    """A configuration, read by transformers.

    Raises:
        ValueError: it is none.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # what transformers makes of a file
        raise _unreadable(error) from error


def _kv_bytes(config: Any) -> int:
    """Bytes of KV cache for one sequence of the shortest context worth serving, or of the model's, if that is shorter.

    Raises:
        ValueError: the configuration is not one of a model that can be run here.
    """
    try:
        element = decoders.of_config(config).element
        return min(SHORTEST_CONTEXT, context_length(config)) * bytes_per_token(layers_of(config), element)
    except Exception as error:  # what a configuration of something else lacks
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> ValueError:
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"its configuration cannot be read: {type(error).__name__}: {reason}")


def _mib(size: int) -> int:
    return -(-size // MIB)
