"""A model's way from a registry to the cache: what is needed, several files at a time, linked when all are here."""

import json
import shutil
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from helexa.neuron.sources import problems
from helexa.neuron.sources.cache import Cache
from helexa.neuron.sources.listing import INDEX, Listing, RemoteFile, total, weight_names
from helexa.neuron.sources.meter import Meter
from helexa.neuron.sources.registry import Registry
from helexa.neuron.sources.transfer import PATIENCE, Errand, Patience, fetch_file
from helexa.neuron.sources.whole import check_config, check_gguf, whole_gguf, whole_model
from helexa.wire.errors import ApiError

_CONFIG = "config.json"
_AT_A_TIME = 4
"""Files; a single connection seldom fills a line, many only share it."""


@frozen
class Wanted:
    """A model of a registry.

    Attributes:
        registry: where it is fetched from if it is not here.
        repository: its name there.
        gguf: the file that is wanted; ``None``: the safetensors weights.
    """

    registry: Registry
    repository: str
    gguf: str | None = None

    @property
    def cache(self) -> Cache:
        """Where it lies once it is here."""
        return Cache(self.registry.cache, self.repository)

    def fetched(self) -> Path | None:
        """The directory, or the file, as it lies in the cache; ``None`` unless all of it does."""
        here = self.cache.current()
        if here is None:
            return None
        if self.gguf is None:
            return here if whole_model(here) else None
        return here / self.gguf if whole_gguf(here / self.gguf) else None


def download(wanted: Wanted, meter: Meter, stop: threading.Event, patience: Patience = PATIENCE) -> Path:
    """Have a model in the cache. Blocks for as long as that takes.

    What is there whole is used as it is, and nobody is asked whether there is something newer: a model that was served
    yesterday is served today, with the network or without, whatever its publisher has done to it.

    Args:
        wanted: which model.
        meter: told of what comes.
        stop: ends it early; also set here once one of several files has failed, as the others are then in vain.
        patience: when to give up on the network.

    Returns:
        A directory, or the GGUF file.

    Raises:
        ApiError: what `problems` has a sentence for.
    """
    here = wanted.fetched()
    if here is not None:
        return here
    if wanted.registry.offline:
        raise problems.offline(wanted.repository, wanted.registry.name)
    with wanted.registry.client() as client:
        errand = Errand(wanted.registry, client, wanted.cache, meter, patience, stop)
        listing = errand.persist(
            lambda: wanted.registry.listing(client, wanted.repository), attempts=patience.first_attempts
        )
        return _fetch_whole(errand, listing) if wanted.gguf is None else _fetch_gguf(errand, listing, wanted.gguf)


def _fetch_whole(errand: Errand, listing: Listing) -> Path:
    config, small = listing.get(_CONFIG), listing.small()
    if config is None:
        raise problems.config_missing(_where(errand))
    if not listing.likely_weights():
        raise problems.weights_missing(_where(errand), listing.names)
    errand.meter.begin(total(small) + total(listing.likely_weights()))
    _fetch_all(errand, small)
    check_config(_where(errand), errand.cache.blob(config.key).read_bytes())
    weights = _weights(errand, listing)
    errand.meter.begin(total(small) + total(weights))
    _fetch_all(errand, weights)
    return _link(errand, listing, (*small, *weights))


def _weights(errand: Errand, listing: Listing) -> tuple[RemoteFile, ...]:
    index = listing.get(INDEX)
    if index is None:
        return _unnamed(listing)
    try:
        names = weight_names(json.loads(errand.cache.blob(index.key).read_bytes()))
    except ValueError as error:
        raise problems.config_broken(_where(errand), str(error)) from error
    found = {name: listing.get(name) for name in names}
    for name, file in found.items():
        if file is None:
            raise problems.weight_file_missing(_where(errand), name)
    return tuple(file for file in found.values() if file is not None)


def _unnamed(listing: Listing) -> tuple[RemoteFile, ...]:
    one = listing.get("model.safetensors")
    return listing.likely_weights() if one is None else (one,)


def _fetch_gguf(errand: Errand, listing: Listing, gguf: str) -> Path:
    """A GGUF file with what lies beside it: a tokenizer or a template there goes before what is in the file."""
    parts = listing.parts_of(gguf)
    if not parts:
        others = [name for name in listing.names if name.endswith(".gguf")]
        raise problems.file_missing(_where(errand), gguf, others)
    wanted = (*listing.small(), *parts)
    errand.meter.begin(total(wanted))
    _fetch_all(errand, wanted)
    found = _link(errand, listing, wanted) / gguf
    check_gguf(found)
    return found


def _where(errand: Errand) -> str:
    return f"'{errand.model}' on {errand.registry.name}"


def _link(errand: Errand, listing: Listing, files: Sequence[RemoteFile]) -> Path:
    try:
        return errand.cache.link(listing.commit, {file.name: file.key for file in files})
    except OSError as error:
        raise problems.cannot_write(errand.model, str(errand.cache.folder), error.strerror or str(error)) from error


def _fetch_all(errand: Errand, files: Sequence[RemoteFile]) -> None:
    _check_room(errand, files)
    waiting, failures = deque(files), list[BaseException]()
    # Threads of their own, for a pool's would be waited for when the process ends, and it must not wait for a download.
    threads = [
        threading.Thread(target=_work, args=(errand, waiting, failures), daemon=True)
        for _ in range(min(_AT_A_TIME, len(files)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        _give_back_room(errand, files, failures[0])
        raise failures[0]


def _give_back_room(errand: Errand, files: Sequence[RemoteFile], failure: BaseException) -> None:
    """Leave no halves on a disk that they have filled."""
    if isinstance(failure, ApiError) and failure.code == problems.DISK_FULL:
        for file in files:
            with suppress(OSError):
                errand.cache.partial(file.key).unlink(missing_ok=True)


def _work(errand: Errand, waiting: deque[RemoteFile], failures: list[BaseException]) -> None:
    try:
        while not failures and (file := _next(waiting)):
            fetch_file(errand, file)
    except BaseException as error:  # noqa: BLE001 - raised where the threads are joined
        failures.append(error)
        errand.stop.set()


def _next(waiting: deque[RemoteFile]) -> RemoteFile | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _check_room(errand: Errand, files: Sequence[RemoteFile]) -> None:
    """Refuse what cannot fit before the disk is full of it: others live there too."""
    needed = sum(_missing(errand.cache, file) for file in files)
    try:
        errand.cache.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(errand.cache.folder).free
    except OSError as error:
        raise problems.cannot_write(errand.model, str(errand.cache.folder), error.strerror or str(error)) from error
    if needed > free:
        raise problems.disk_full(errand.model, str(errand.cache.folder), needed, free)


def _missing(cache: Cache, file: RemoteFile) -> int:
    return 0 if cache.blob(file.key).exists() else file.size - _size(cache.partial(file.key))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
