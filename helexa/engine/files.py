"""What the files of a model say of its weights, without loading them. Imports no torch: a neuron asks as well.

Source: the safetensors README, "Format": a little-endian 64-bit length, and so many bytes of JSON that give the dtype,
the shape and the place of every tensor.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no longer one."""
_FLOATS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of what a configuration may want weights as; others stay as they are stored."""
_STORED_FLOATS = ("F64", "F32", "BF16", "F16")


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that a model is read from: those its index names, or the one there is.

    Raises:
        ValueError: there are none.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        names = _object(_json(index).get("weight_map"), index).values()
        return [directory / name for name in sorted(set(map(str, names)))]
    one = directory / "model.safetensors"
    found = [one] if one.is_file() else sorted(directory.glob("*.safetensors"))
    if not found:
        raise ValueError("it has no safetensors file")
    return found


def weights_bytes(directory: Path) -> int:
    """Bytes of a model's weights in memory, in the dtype that its configuration wants them as.

    Raises:
        ValueError: a file is missing, or is none of its kind.
    """
    element = _FLOATS.get(_wanted_dtype(_json(directory / "config.json")))
    return sum(_bytes_in(file, element) for file in weight_files(directory))


def _wanted_dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("dtype") or config.get("torch_dtype"))


def _bytes_in(file: Path, element: int | None) -> int:
    try:
        tensors = [tensor for name, tensor in _header(file).items() if name != "__metadata__"]
        return sum(_size(tensor, element) for tensor in tensors)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise ValueError(f"'{file.name}' is no safetensors file: {type(error).__name__}: {error}") from error


def _size(tensor: Mapping[str, Any], element: int | None) -> int:
    if element is not None and tensor["dtype"] in _STORED_FLOATS:
        return int(math.prod(tensor["shape"]) * element)
    start, end = tensor["data_offsets"]
    return int(end - start)


def _header(file: Path) -> Any:
    with file.open("rb") as opened:
        (length,) = _LENGTH.unpack(opened.read(_LENGTH.size))
        return json.loads(opened.read(min(length, _LONGEST_HEADER)))


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"'{file.name}' cannot be read: {error}") from error
    return _object(found, file)


def _object(found: Any, file: Path) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"'{file.name}' does not have what it should")  # noqa: TRY004 - read from a file, not passed
    return found
