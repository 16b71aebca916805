"""Weights from files to memory: whole, in any order, a bounded amount ahead, and not from files that change."""

import os
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from helexa.engine.weights import reading
from helexa.engine.weights.headers import FileError, read_header
from helexa.engine.weights.reading import WeightReader

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Of every dtype, several shapes, one without an element, one without a dimension."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (7,), (0, 4), (), (64, 33)] * 2
    return {
        f"t{number}": torch.randn(shape, generator=generator).to(DTYPES[number % 4])
        for number, shape in enumerate(shapes)
    }


@pytest.fixture(scope="module")
def file(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("weights") / "m.safetensors"
    save_file(tensors, found)
    return found


@pytest.mark.parametrize("piece", [64, 1 << 20])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(drawn=st.data())
def test_every_tensor_is_as_it_was_saved_in_whatever_order_it_is_taken(
    file: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, piece: int, drawn: st.DataObject
) -> None:
    monkeypatch.setattr(reading, "PIECE", piece)
    order, ahead = drawn.draw(st.permutations(range(10))), drawn.draw(st.sampled_from([1, 100, 1 << 20]))
    with WeightReader(read_header(file), CPU, torch.float32, ahead) as reader:
        for number in order:
            assert torch.equal(reader.take(f"t{number}"), tensors[f"t{number}"].float())


class Stream:
    """What is asked of CUDA's streams, of which none is here; what they order is not shown by this."""

    made = 0

    def __init__(self, *_: object) -> None:
        type(self).made += 1

    def record_event(self) -> str:
        return "event"

    def wait_event(self, event: str) -> None:
        assert event == "event"

    def synchronize(self) -> None:
        pass


@torch.inference_mode()
def test_by_way_of_pinned_memory_every_tensor_is_as_it_was_saved(
    file: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In inference mode, as models are loaded: the threads that write are not in it by themselves."""
    monkeypatch.setattr(reading, "PIECE", 64)
    monkeypatch.setattr(reading, "_copier", reading._Staged)
    monkeypatch.setattr(reading, "_pinned", lambda size: torch.empty(size, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    with WeightReader(read_header(file), CPU, torch.float32) as reader:
        for name, tensor in tensors.items():
            assert torch.equal(reader.take(name), tensor.float())
    assert Stream.made <= len(tensors) + reading.THREADS, "one for each tensor's memory, one for each thread"


def test_of_another_dtype_than_is_wanted_it_is_made(file: Path) -> None:
    with WeightReader(read_header(file), CPU, torch.bfloat16) as reader:
        assert {reader.take(name).dtype for name in read_header(file)} == {torch.bfloat16}


def test_how_far_it_is_is_told_piece_by_piece_and_all_at_the_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE", 64)
    places = read_header(file)
    total, told = sum(place.nbytes for place in places.values()), list[tuple[int, int]]()
    with WeightReader(places, CPU, torch.float32, told=lambda done, of: told.append((done, of))) as reader:
        for name in places:
            reader.take(name)
    assert {of for _, of in told} == {total}
    assert max(told) == told[-1] == (total, total)
    assert len({done for done, _ in told}) > total // 64, "several threads tell, each of its piece"
    assert len(told) >= total // 64 + len(places), "and whoever takes a tensor, who may be busy with it meanwhile"


def test_what_is_wrong_with_telling_ends_the_reading(file: Path) -> None:
    def told(_done: int, _total: int) -> None:
        raise RuntimeError("nobody listens")

    with (
        WeightReader(read_header(file), CPU, torch.float32, told=told) as reader,
        pytest.raises(RuntimeError, match="nobody listens"),
    ):
        reader.take("t0")


def test_memory_of_tensors_that_are_gone_is_used_again(tmp_path: Path) -> None:
    weights = {f"w{number:02}": torch.full((1 << 18,), float(number)) for number in range(30)}
    save_file(weights, tmp_path / "m.safetensors")
    seen = set[int]()
    with WeightReader(read_header(tmp_path / "m.safetensors"), CPU, torch.float32, 1 << 21) as reader:
        for name, weight in weights.items():
            taken = reader.take(name)
            assert torch.equal(taken, weight)
            seen.add(taken.data_ptr())
    assert len(seen) < 10


def test_no_more_is_read_ahead_than_may_be(file: Path) -> None:
    places = read_header(file)
    largest = max(place.nbytes for place in places.values())
    with WeightReader(places, CPU, torch.float32, ahead=100) as reader:
        for name in places:
            reader.take(name)
            assert reader._held < 100 + largest
        assert (reader._held, reader._started) == (0, {})


def test_what_comes_next_is_being_read_already(file: Path) -> None:
    first, *others = places = read_header(file)
    with WeightReader(places, CPU, torch.float32) as reader:
        reader.take(first)
        assert list(reader._started) == others


def test_a_tensor_is_read_once(file: Path) -> None:
    with WeightReader(read_header(file), CPU, torch.float32) as reader:
        reader.take("t0")
        with pytest.raises((KeyError, ValueError)):
            reader.take("t0")


def test_a_file_that_ends_too_early_is_told(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.safetensors"
    copy.write_bytes(file.read_bytes())
    places = read_header(copy)
    os.truncate(copy, copy.stat().st_size - 1)
    with (
        WeightReader(places, CPU, torch.float32) as reader,
        pytest.raises(FileError, match=r"^'m\.safetensors' ended while it was being read; it has been changed$"),
    ):
        reader.take(list(places)[-1])


def test_a_file_that_is_gone_is_told(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.safetensors"
    copy.write_bytes(file.read_bytes())
    places = read_header(copy)
    copy.unlink()
    with (
        WeightReader(places, CPU, torch.float32) as reader,
        pytest.raises(FileError, match=r"^'m\.safetensors' cannot be read: No such file"),
    ):
        reader.take("t0")


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("whole", [True, False])
def test_at_its_end_no_thread_and_no_file_is_left(file: Path, *, whole: bool) -> None:
    threads, opened = threading.active_count(), files_open()
    places = read_header(file)
    with WeightReader(places, CPU, torch.float32) as reader:
        for name in places if whole else ["t0"]:
            reader.take(name)
    assert threading.active_count() == threads
    assert files_open() == opened
