"""Calls in several threads: all of them, in order, never more than may be, and what goes wrong in one is told."""

import threading
from collections.abc import Iterator

import pytest
import torch

from helexa.engine.networks import arranging
from helexa.engine.networks.arranging import Turns, at_once

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Four for torch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("most", [1, 3])
def test_results_come_in_the_order_in_which_they_were_asked_for(most: int) -> None:
    with Turns(most) as turns:
        asked = [turns.ask(lambda number: number * number, number) for number in range(20)]
        assert [each.result() for each in asked] == [number * number for number in range(20)]


def test_as_many_calls_as_may_be_run_side_by_side_and_no_more() -> None:
    together, most, inside = threading.Barrier(3), list[int](), set[int]()

    def call(number: int) -> None:
        inside.add(number)
        together.wait(timeout=30)  # fails unless three are there at once
        most.append(len(inside))
        together.wait(timeout=30)
        inside.discard(number)
        together.wait(timeout=30)

    with Turns(3) as turns:
        for each in [turns.ask(call, number) for number in range(9)]:
            each.result()
    assert set(most) == {3}


def test_each_thread_has_its_share_of_torchs_and_afterwards_all_are_back() -> None:
    with Turns(2) as turns:
        assert {turns.ask(torch.get_num_threads).result() for _ in range(4)} == {2}
    seen = list[int]()
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), seen) == (4, [4])


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("most", [1, 2])
def test_a_call_is_in_inference_mode_if_who_asks_is(most: int, *, mode: bool) -> None:
    with torch.inference_mode(mode), Turns(most) as turns:
        assert turns.ask(torch.is_inference_mode_enabled).result() is mode


@pytest.mark.parametrize("most", [1, 2])
def test_what_goes_wrong_in_a_call_is_told_and_no_thread_is_left(most: int) -> None:
    before, calls = threading.active_count(), list[int]()

    def call(number: int) -> None:
        calls.append(number)
        if number == 1:
            raise MemoryError("too large")

    def ask_all() -> None:
        with Turns(most) as turns:
            for number in range(50):
                turns.ask(call, number)

    with pytest.raises(MemoryError, match="too large"):
        ask_all()
    assert len(calls) < 50
    assert (threading.active_count(), torch.get_num_threads()) == (before, 4)


def test_of_small_layers_several_of_large_ones_fewer_on_a_gpu_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [torch.nn.Linear(64, 64, device="meta")] * 3
    size = (64 * 64 + 64) * 4
    for held, expected in ((100 * size, 4), (3 * size, 3), (size, 1), (1, 1)):
        monkeypatch.setattr(arranging, "HELD", held)
        assert at_once(layers, CPU) == expected
    assert at_once([], CPU) >= 1
    assert at_once(layers, torch.device("cuda")) == 1
