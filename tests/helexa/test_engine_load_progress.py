"""Whether a load comes further, and how often it says so; on a clock of the test's own."""

import threading
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from helexa.engine.protocol import Loading
from helexa.engine.weights.progress import PAUSE, LoadProgress, bytes_read


@define(eq=False)
class Disk:
    """What a load says, on a machine whose clock and disk stand still until told."""

    now: float = 100.0
    read: int = 0
    said: list[Loading] = field(factory=list)
    load: LoadProgress = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.load = LoadProgress("m", self.said.append, lambda: self.now, lambda: self.read)

    def done(self) -> list[int]:
        return [frame.done for frame in self.said]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_it_says_at_once_that_it_has_begun(disk: Disk) -> None:
    assert disk.said == [Loading("m", 0, 0)]


def test_it_says_a_few_times_a_second_how_far_it_is_and_at_its_end(disk: Disk) -> None:
    for done in range(1001):
        disk.load.told(done, 1000)
        disk.now += 0.001
    assert 1 / PAUSE <= len(disk.said) - 1 <= 1 / PAUSE + 2
    assert disk.said[-1] == Loading("m", 1000, 1000)


def test_its_end_is_said_once(disk: Disk) -> None:
    for _ in range(5):
        disk.load.told(7, 7)
        disk.now += 10
    assert disk.done() == [0, 7]


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1)), max_size=50))
def test_it_never_goes_backwards_whichever_thread_comes_first(calls: list[tuple[int, float]]) -> None:
    disk = Disk()
    for done, passed in calls:
        disk.now += passed
        disk.load.told(done, 100)
    assert disk.done() == sorted(disk.done())


def test_a_load_of_which_nothing_comes_has_stalled(disk: Disk) -> None:
    disk.now += 30
    assert disk.load.stalled() == 30
    disk.load.told(5, 10)
    disk.now += 2
    assert disk.load.stalled() == 2


def test_work_without_reading_may_say_the_same_again(disk: Disk) -> None:
    disk.load.told(10, 10)
    disk.now += 30
    disk.load.told(10, 10)
    assert disk.load.stalled() == 0


def test_what_reads_without_saying_so_has_not_stalled(disk: Disk) -> None:
    disk.now += 30
    disk.read += 8 << 20
    assert disk.load.stalled() == 0
    disk.now += 4
    assert disk.load.stalled() == 4


def test_to_look_at_one_s_own_figures_is_not_to_load(disk: Disk) -> None:
    for _ in range(300):
        disk.now += 1
        disk.read += 500
        stalled = disk.load.stalled()
    assert stalled == 300


def test_a_slow_neuron_holds_up_one_thread_at_most() -> None:
    sending, free = threading.Event(), threading.Event()

    def tell(frame: Loading) -> None:
        if frame.done == 1:
            sending.set()
            assert free.wait(10)

    load = LoadProgress("m", tell)
    thread = threading.Thread(target=load.told, args=(1, 100))
    thread.start()
    assert sending.wait(10)
    load._due = 0.0
    load.told(2, 100)
    free.set()
    thread.join()


def test_what_this_process_reads_is_counted() -> None:
    before = bytes_read()
    with Path("/dev/zero").open("rb", buffering=0) as file:
        file.read(4 << 20)
    assert bytes_read() - before >= 4 << 20 or before == 0
