"""What the files of a model say of its weights, without loading them. Imports no torch: a neuron asks as well."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from helexa.engine.quant.formats import Quant, reduced_bytes
from helexa.engine.weights.headers import FileError, Place, read_header

_FLOATS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of what a configuration may want weights as; others stay as they are stored."""
STORED_FLOATS = ("F64", "F32", "BF16", "F16")
_INDEX = "model.safetensors.index.json"
_ONE = "model.safetensors"


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that a model is read from: those its index names, or the one there is.

    Raises:
        FileError: there are none, or the index names others.
    """
    if (directory / _INDEX).is_file():
        names = weight_map(directory).values()
        return [directory / name for name in sorted(set(names))]
    one = directory / _ONE
    found = [one] if one.is_file() else sorted(directory.glob("*.safetensors"))
    if not found:
        raise FileError(f"it has no safetensors file: neither '{_ONE}' nor any other")
    return found


def weight_map(directory: Path) -> dict[str, str]:
    """Which file each tensor is in, by its index; empty if it has none.

    Raises:
        FileError: the index cannot be read, or names a file of another kind or in another directory.
    """
    index = directory / _INDEX
    return read_index(index) if index.is_file() else {}


def read_index(index: Path) -> dict[str, str]:
    """Which file each tensor is in, by an index of any name.

    Raises:
        FileError: as of ``weight_map``.
    """
    found = {name: str(file) for name, file in _object(_json(index).get("weight_map"), index).items()}
    for file in found.values():
        _check_name(file)
    return found


def _check_name(file: str) -> None:
    """Refuse what is no file of safetensors in the model's own directory: an index may name any."""
    path = PurePosixPath(file)
    if path.suffix != ".safetensors":
        raise FileError(f"its weights are in '{file}'; only safetensors files are read")
    if path.is_absolute() or ".." in path.parts:
        raise FileError(f"its index names '{file}', which is outside of its directory")


def tensors(directory: Path) -> dict[str, Place]:
    """Where each tensor of a model is. Headers alone are read, and each is held against its file.

    Raises:
        FileError: a file is missing, is none of its kind, or is not what its index says.
    """
    wanted = weight_map(directory)
    found = {
        name: place
        for file in weight_files(directory)
        for name, place in read_header(file).items()
        if directory / wanted.get(name, file.relative_to(directory)) == file
    }
    if lost := sorted(wanted.keys() - found.keys()):
        raise FileError(f"its index says that '{lost[0]}' is in '{wanted[lost[0]]}', and it is not")
    return found


def weights_bytes(directory: Path, quant: Quant | None = None) -> int:
    """Bytes of a model's weights in memory, in the dtype that its configuration wants them as.

    Args:
        directory: where its files are.
        quant: what its linear layers are to be reduced to; ``None`` for what the files have.

    Raises:
        FileError: a file is missing, or is none of its kind.
    """
    element = _FLOATS.get(_wanted_dtype(_json(directory / "config.json")))
    headers = [read_header(file) for file in weight_files(directory)]
    if quant is not None:
        return reduced_bytes(quant, {name: place.shape for header in headers for name, place in header.items()})
    return sum(_total(header.values(), element) for header in headers)


def _wanted_dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype") or config.get("torch_dtype"))


def _total(places: Iterable[Place], element: int | None) -> int:
    return sum(_size(place, element) for place in places)


def _size(place: Place, element: int | None) -> int:
    if element is not None and place.dtype in STORED_FLOATS:
        return math.prod(place.shape) * element
    return place.nbytes


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"'{file.name}' cannot be read: {error}") from error
    return _object(found, file)


def _object(found: Any, file: Path) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise FileError(f"'{file.name}' does not have what it should")
    return found
