"""GGUF files: what they say of themselves is read, and whatever they say wrongly is told in a sentence."""

import struct
from pathlib import Path

import pytest
import torch
from gguf_files import file_bytes, text, value
from hypothesis import given
from hypothesis import strategies as st

from helexa.gguf import GgufError, Header, parse_header, read_header

METADATA = {
    "general.architecture": "qwen3",
    "qwen3.block_count": 2,
    "qwen3.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a", "ü", ""],
    "tokenizer.ggml.scores": [0.5, 1.5],
}
TENSORS = {
    "one": ("F32", torch.arange(6.0).view(2, 3)),
    "two": ("Q8_0", torch.arange(64.0).view(2, 32)),
    "three": ("Q4_K", torch.arange(512.0).view(2, 256)),
}
GOOD = file_bytes(METADATA, TENSORS)


def test_what_a_file_says_is_read() -> None:
    header = parse_header(GOOD)
    assert header.metadata == METADATA
    assert header.architecture == "qwen3"
    assert (header.setting("block_count"), header.setting("nothing", 5)) == (2, 5)
    assert {name: (info.kind.name, info.shape, info.size) for name, info in header.tensors.items()} == {
        "one": ("F32", (2, 3), 24),
        "two": ("Q8_0", (2, 32), 68),
        "three": ("Q4_K", (2, 256), 288),
    }
    assert all(info.start % 32 == 0 and info.end <= len(GOOD) for info in header.tensors.values())
    start = header.tensors["one"].start
    assert struct.unpack("<6f", GOOD[start : start + 24]) == (0, 1, 2, 3, 4, 5)


def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(GOOD)
    assert read_header(tmp_path / "m.gguf") == parse_header(GOOD)


@pytest.mark.parametrize("content", [None, b"", b"GGUF"])
def test_files_that_are_not_there_or_empty(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(GgufError, match=r"^'m\.gguf' cannot be read as GGUF: "):
        read_header(tmp_path / "m.gguf")


def entry(name: str, shape: tuple[int, ...], kind: int, start: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, start)


def with_tensors(*entries: bytes, pairs: bytes = b"", count: int = 0, body: int = 256) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), count) + pairs + b"".join(entries)
    return head + b"\0" * (-len(head) % 32 + body)


WRONG: dict[str, tuple[bytes, str]] = {
    "another format": (b"PK\3\4" + GOOD[4:], "it does not begin with 'GGUF'"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + GOOD[8:], "it is of version 1; 2 and 3 are read"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + GOOD[8:], "it is of version 50331648; 2 and 3 are read"),
    "more tensors than bytes": (GOOD[:8] + struct.pack("<Q", 2**60) + GOOD[16:], "it ends too early"),
    "more pairs than bytes": (GOOD[:16] + struct.pack("<Q", 2**60) + GOOD[24:], "it ends too early"),
    "a long key": (GOOD[:24] + struct.pack("<Q", 2**63) + GOOD[32:], "it ends too early"),
    "half a tensor": (GOOD[:-300], "the tensor 'three' goes beyond its end; it may not have been copied whole"),
    "an unknown value": (
        with_tensors(pairs=text("k") + struct.pack("<I", 99), count=1),
        "it has a value of the unknown type 99",
    ),
    "arrays in arrays": (
        with_tensors(pairs=text("k") + struct.pack("<IIQI", 9, 9, 1, 9), count=1),
        "it has a value of the unknown type 9",
    ),
    "an alignment of zero": (
        with_tensors(entry("t", (1,), 0, 0), pairs=text("general.alignment") + value(0), count=1),
        "its alignment is 0",
    ),
    "one of several parts": (
        with_tensors(pairs=text("split.count") + value(2), count=1),
        "it is one of several parts; parts are joined with llama.cpp's gguf-split first",
    ),
    "no dimensions": (with_tensors(entry("t", (), 0, 0)), "the tensor 't' has 0 dimensions"),
    "five dimensions": (with_tensors(entry("t", (1,) * 5, 0, 0)), "the tensor 't' has 5 dimensions"),
    "a dimension of zero": (
        with_tensors(entry("t", (0,), 0, 0)),
        "the tensor 't' has rows of 0, which F32 cannot have",
    ),
    "an unknown kind": (
        with_tensors(entry("t", (32,), 16, 0)),
        "the tensor 't' is of the kind 16; those that are read are F32, F16, Q4_0",
    ),
    "half a block": (with_tensors(entry("t", (48,), 8, 0)), "the tensor 't' has rows of 48, which Q8_0 cannot have"),
    "a tensor beyond the end": (with_tensors(entry("t", (4,), 0, 2**40)), "the tensor 't' goes beyond its end"),
    "a huge tensor": (with_tensors(entry("t", (2**62, 2**62), 0, 0)), "the tensor 't' goes beyond its end"),
    "tensors in each other": (
        with_tensors(entry("t", (8,), 0, 0), entry("u", (8,), 0, 16)),
        "the tensors 't' and 'u' overlap",
    ),
    "the same name twice": (
        with_tensors(entry("t", (8,), 0, 0), entry("t", (8,), 0, 32)),
        "two of its tensors have the same name",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told(name: str) -> None:
    data, problem = WRONG[name]
    with pytest.raises(GgufError) as caught:
        parse_header(data, "m.gguf")
    assert str(caught.value).startswith(f"'m.gguf' cannot be read as GGUF: {problem}")


def holds(data: bytes) -> Header | None:
    """Whatever comes: a header whose tensors are in the file, or our error."""
    try:
        header = parse_header(data)
    except GgufError:
        return None
    assert all(0 <= info.start <= info.end <= len(data) for info in header.tensors.values())
    return header


@given(st.integers(0, len(GOOD) - 1))
def test_a_file_that_was_cut_off_is_refused(length: int) -> None:
    assert holds(GOOD[:length]) is None or length >= parse_header(GOOD).tensors["three"].end


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_a_file_with_wrong_bytes_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, byte in changes:
        data[at] = byte
    holds(bytes(data))


@given(st.binary(max_size=300))
def test_anything_after_the_magic_is_read_or_refused(rest: bytes) -> None:
    holds(b"GGUF" + struct.pack("<I", 3) + rest)
