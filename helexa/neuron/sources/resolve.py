"""From a model's id and source to the files it is read from."""

import threading
from pathlib import Path

from config.source import InvalidSourceError, LocalPath, Repository, Source, source_of
from helexa import tiny
from helexa.neuron.sources import problems
from helexa.neuron.sources.download import Wanted, download
from helexa.neuron.sources.meter import Meter
from helexa.neuron.sources.registry import helexa_registry, hugging_face
from helexa.neuron.sources.whole import check_directory, check_gguf

_LONGEST_SHOWN = 200


def resolve(
    model: str,
    source: str | None,
    meter: Meter | None = None,
    stop: threading.Event | None = None,
    registry: str | None = None,
) -> str:
    """The model's directory, or its GGUF file. Blocks, for as long as a download takes where the cache lacks a file.

    Args:
        model: its id, which may be qualified.
        source: as in the topology; ``None``: the id says it.
        meter: tells, meanwhile and in other threads, how far a download is.
        stop: ends a download early, once it is set; what came of it stays.
        registry: the URL of what ``helexa:`` means, as the topology says.

    Raises:
        ApiError: the source is none, names nothing that is there, or cannot be downloaded.
    """
    found = find(model, source, registry)
    if isinstance(found, Path):
        return str(found)
    return str(download(found, meter or Meter(), stop or threading.Event()))


def find(model: str, source: str | None, registry: str | None = None) -> Path | Wanted:
    """Where a model is: a directory or a GGUF file of this host, or what would be asked for at a registry.

    Raises:
        ApiError: the source is none, or names nothing that is there.
    """
    found = _parse(model, source)
    if isinstance(found, LocalPath):
        return _local(found.path)
    if (found.scheme, found.name, found.file) == ("helexa", tiny.MODEL_ID, None):
        return tiny.CHECKPOINT
    return _wanted(found, registry)


def _parse(model: str, source: str | None) -> Source:
    try:
        found = source_of(model, source)
    except InvalidSourceError as error:
        raise problems.invalid_source(f"'{_printable(error.text)}' {error.problem}; {error.hint}") from error
    if found is None:
        raise problems.invalid_source("it is not in the catalogue, and no source is given")
    return found


def _printable(text: str) -> str:
    return text if text.isprintable() and len(text) < _LONGEST_SHOWN else ascii(text[:_LONGEST_SHOWN])[1:-1] + "…"


def _wanted(source: Repository, url: str | None) -> Wanted:
    registry = hugging_face() if source.scheme == "huggingface" else helexa_registry(url)
    if registry is None:
        raise problems.no_registry(str(source.name), tiny.MODEL_ID)
    return Wanted(registry, str(source.name), source.file)


def _local(place: str) -> Path:
    try:
        path = Path(place).expanduser()
        return _checked(path, place)
    except (OSError, RuntimeError) as error:  # not to be entered; nobody's home
        raise problems.invalid_source(f"'{place}' cannot be read: {error}") from error


def _checked(path: Path, place: str) -> Path:
    if path.suffix == ".gguf" and not path.is_dir():
        check_gguf(path)
        return path
    if not (path / "config.json").is_file():
        raise problems.invalid_source(f"'{place}' has no config.json; a model directory is expected")
    check_directory(path)
    return path
