"""Whether what lies on this disk is a model that can be loaded; if not, why."""

import json
from pathlib import Path
from typing import Any

from helexa.engine.weights import files
from helexa.neuron.sources import problems
from helexa.neuron.sources.listing import split_parts

_MAGIC = b"GGUF"
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json", "*.model", "*.spm", "*.tiktoken")


def whole_model(directory: Path) -> bool:
    """Whether nothing has to be fetched: the configuration, all weights to their ends, something to read text with."""
    if not (directory / "config.json").is_file() or not any(any(directory.glob(form)) for form in _TOKENIZERS):
        return False
    try:
        return all(map(_is_uncut, files.weight_files(directory)))
    except ValueError:
        return False


def whole_gguf(file: Path) -> bool:
    """Whether a GGUF file is there, with all its parts if it is split."""
    return all(_begins_as_gguf(file.with_name(name)) for name in split_parts(file.name))


def _is_uncut(file: Path) -> bool:
    """A file that a crash or a full disk has cut short has a header that tells of more than there is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _begins_as_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def check_gguf(file: Path) -> None:
    """Refuse what is no GGUF file.

    Raises:
        ApiError: with the reason.
    """
    for part in split_parts(file.name):
        if not file.with_name(part).is_file():
            others = sorted(each.name for each in file.parent.glob("*.gguf"))
            raise problems.file_missing(f"'{file.parent}'", part, others)
    if not whole_gguf(file):
        raise problems.not_gguf(str(file))


def check_directory(directory: Path) -> None:
    """Refuse a directory that holds no model.

    Raises:
        ApiError: with the reason.
    """
    where = f"'{directory}'"
    check_config(where, (directory / "config.json").read_bytes())
    try:
        found = files.weight_files(directory)
    except ValueError as error:
        raise problems.weights_missing(where, sorted(each.name for each in directory.iterdir())) from error
    for file in found:
        if not file.is_file():
            raise problems.weight_file_missing(where, file.name)


def check_config(where: str, config: bytes) -> None:
    """Refuse a configuration that is none, or that cannot be used without running code that comes with it.

    Many repositories bring code for the benefit of old libraries, of models that transformers has long known: these are
    fine.

    Args:
        where: whose it is, for the sentence.
        config: the content of its file.

    Raises:
        ApiError: with the reason.
    """
    try:
        found = json.loads(config)
    except ValueError as error:
        raise problems.config_broken(where, str(error)) from error
    if not isinstance(found, dict):
        raise problems.config_broken(where, "it is no JSON object")
    if found.get("auto_map") and not _is_known(found.get("model_type")):
        raise problems.runs_code(where, str(found.get("model_type")))


def _is_known(kind: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(kind, str) and kind in CONFIG_MAPPING
