"""Headers of safetensors files that lie, and that none is believed that safetensors itself would not."""

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from helexa.engine.weights.headers import BITS, FileError, Place, read_header

SAME_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(file: Path, header: Any, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return file


def refusal(file: Path) -> str:
    with pytest.raises(FileError) as caught:
        read_header(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_tensor_is_found_at_its_place(tmp_path: Path) -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float32).view(2, 3),
        "a": torch.ones(5, dtype=torch.bfloat16),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "none": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    data = (tmp_path / "m.safetensors").read_bytes()
    found = read_header(tmp_path / "m.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        place = found[name]
        assert place.shape == tuple(tensor.shape)
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        assert data[place.start : place.end] == raw
        assert place.nbytes == len(raw)
    assert [place.start for place in found.values()] == sorted(place.start for place in found.values())


def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    assert refusal(tmp_path / "m.safetensors") == "'m.safetensors' cannot be read: No such file or directory"


LIES: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{'a': 1}", "its header is no JSON: Expecting property name"),
    "no object": ([], "its header is no JSON object"),
    "not UTF-8": (b"\xff\xfe", "its header is no JSON: 'utf-8' codec can't decode"),
    "no entry": ({"a": 7}, "the tensor 'a' is described by 7"),
    "no dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, "the tensor 'a' is of the dtype 'None'"),
    "an unknown dtype": ({"a": entry("F33")}, "the tensor 'a' is of the dtype 'F33', which is not known"),
    "a dtype that is no name": ({"a": entry(["F32"])}, "the tensor 'a' is of the dtype"),
    "a negative shape": ({"a": entry(shape=[-2])}, "the tensor 'a' has the shape [-2]"),
    "a shape of truths": ({"a": entry(shape=[True, 2])}, "the tensor 'a' has the shape [True, 2]"),
    "a shape of fractions": ({"a": entry(shape=[2.0])}, "the tensor 'a' has the shape [2.0]"),
    "a shape that is none": ({"a": entry(shape=2)}, "the tensor 'a' has the shape 2"),
    "a shape beyond all bounds": ({"a": entry(shape=[1 << 62, 1 << 62])}, "the tensor 'a' needs"),
    "a larger shape": ({"a": entry(shape=[3])}, "the tensor 'a' needs 12 bytes and has 8"),
    "another dtype": ({"a": entry("F64")}, "the tensor 'a' needs 16 bytes and has 8"),
    "half a byte": ({"a": entry("F4", [1], [0, 8])}, "the tensor 'a' needs 0.5 bytes and has 8"),
    "one offset": ({"a": entry(offsets=[8])}, "the tensor 'a' has the place [8]"),
    "offsets the wrong way round": ({"a": entry(offsets=[8, 0])}, "the tensor 'a' has the place [8, 0]"),
    "negative offsets": ({"a": entry(offsets=[-8, 0])}, "the tensor 'a' has the place [-8, 0]"),
    "offsets beyond the end": ({"a": entry(shape=[4], offsets=[0, 16])}, "it may not have been copied whole"),
    "offsets far beyond the end": ({"a": entry(offsets=[1 << 60, (1 << 60) + 8])}, "begins after a hole"),
    "a hole": ({"a": entry(shape=[1], offsets=[4, 8])}, "the tensor 'a' begins after a hole"),
    "tensors that overlap": (
        {"a": entry(shape=[1], offsets=[0, 4]), "b": entry(shape=[1], offsets=[2, 6])},
        "the tensor 'b' overlaps the one before",
    ),
    "one tensor twice": ({"a": entry(), "b": entry()}, "the tensor 'b' overlaps the one before"),
    "bytes of nobody": ({"a": entry(shape=[1], offsets=[0, 4])}, "there is more than its header tells of"),
    "a name twice": (b'{"a": 1, "a": 2}', "its header has a name twice"),
    "depth": (b"[" * 100_000, "its header is no JSON: it is nested too deeply"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_told_how(tmp_path: Path, lie: str) -> None:
    header, reason = LIES[lie]
    said = refusal(write(tmp_path / "m.safetensors", header))
    assert said.startswith("'m.safetensors' is no safetensors file: ")
    assert reason in said


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 10_000])
def test_a_header_longer_than_its_file_is_not_looked_for(tmp_path: Path, length: int) -> None:
    file = write(tmp_path / "m.safetensors", {"a": entry()}, length=length)
    assert f"its header is to have {length} bytes, of a file of {file.stat().st_size}" in refusal(file)


def test_a_header_longer_than_any_is_not_read(tmp_path: Path) -> None:
    file = write(tmp_path / "m.safetensors", {}, length=200_000_000)
    with file.open("r+b") as opened:
        opened.truncate(300_000_000)  # a hole on the disk
    assert "its header is to have 200000000 bytes" in refusal(file)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, -1])
def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path, cut: int) -> None:
    file = write(tmp_path / "m.safetensors", {"a": entry()})
    file.write_bytes(file.read_bytes()[:cut])
    refusal(file)


def test_a_long_name_is_not_told_whole(tmp_path: Path) -> None:
    assert len(refusal(write(tmp_path / "m.safetensors", {"x" * 10_000: entry("F33")}))) < 200


# Held against safetensors itself


def theirs(file: Path) -> bool:
    try:
        with safe_open(file, framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def ours(file: Path) -> dict[str, Place] | None:
    try:
        return read_header(file)
    except FileError:
        return None


numbers = st.one_of(st.integers(0, 24), st.sampled_from([-1, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 2.0, None, "4", True]))
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BITS, "F33", None]),
        "shape": st.one_of(st.lists(numbers, max_size=3), st.just(None)),
        "data_offsets": st.one_of(st.tuples(numbers, numbers).map(list), st.lists(numbers, max_size=3)),
    }
)
lies = st.dictionaries(st.sampled_from(["a", "b", "c", "__metadata__"]), st.one_of(entries, st.none()), max_size=3)


@SAME_FILE
@given(lies, st.binary(max_size=40))
def test_no_header_is_believed_that_safetensors_refuses(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    file = write(tmp_path / "m.safetensors", header, data)
    if ours(file) is not None and not isinstance(header.get("__metadata__"), dict):
        assert theirs(file)


@SAME_FILE
@given(st.data())
def test_what_is_believed_lies_in_the_file_and_nowhere_twice(tmp_path: Path, data: st.DataObject) -> None:
    """True headers with one thing changed: closer to the truth than what is drawn freely."""
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    header, at = dict[str, Any](), 0
    for number, size in enumerate(sizes):
        header[str(number)] = entry("F32", [size], [at, at + 4 * size])
        at += 4 * size
    spoilt = header[str(data.draw(st.integers(0, len(sizes) - 1)))]
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "nothing"]))
    if key == "dtype":
        spoilt[key] = data.draw(st.sampled_from(list(BITS)))
    elif key != "nothing":
        spoilt[key][data.draw(st.integers(0, len(spoilt[key]) - 1))] += data.draw(st.integers(-5, 5))
    file = write(
        tmp_path / "m.safetensors",
        header,
        bytes(at + data.draw(st.sampled_from([0, 0, 0, -1, 1]) if at else st.just(0))),
    )
    found = ours(file)
    assert (found is not None) == theirs(file)
    if found is not None:
        ends = [(place.start, place.end) for place in found.values()]
        assert all(end == start for (_, end), (start, _) in pairwise(ends))
        assert ends[-1][1] == file.stat().st_size


@SAME_FILE
@given(st.binary(max_size=100))
def test_no_bytes_make_it_fail_in_another_way(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    ours(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)
    ours(tmp_path / "m.safetensors")
