"""How fast bytes come, and when the last will be here."""

from helexa.neuron.sources.meter import Meter
from helexa.wire.progress import Progress


class Clock:
    """Seconds, as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A meter, its clock, and what it told."""

    def __init__(self) -> None:
        self.clock, self.all = Clock(), list[Progress]()
        self.meter = Meter(self.all.append, self.clock)

    @property
    def last(self) -> Progress:
        return self.all[-1]

    def fetch(self, count: int, seconds: float) -> None:
        self.clock.now += seconds
        self.meter.fetched(count)


def begun(total: int = 1000) -> Told:
    told = Told()
    told.meter.begin(total)
    return told


def test_before_anything_comes_nothing_is_known() -> None:
    assert begun().last == Progress("downloading", 0, 1000, 0.0, None)


def test_a_steady_stream_has_its_speed_and_its_end() -> None:
    told = begun()
    told.fetch(0, 0)
    for _ in range(5):
        told.fetch(100, 1)
    assert told.last == Progress("downloading", 500, 1000, 100.0, 5.0)


def test_what_was_here_counts_and_is_no_speed() -> None:
    told = begun()
    told.meter.have(500)
    assert told.last == Progress("downloading", 500, 1000, 0.0, None)
    told.fetch(0, 0)
    told.fetch(100, 2)
    told.meter.have(200)
    assert told.last == Progress("downloading", 800, 1000, 50.0, 4.0)


def test_what_is_thrown_away_is_still_to_come() -> None:
    told = begun()
    told.fetch(400, 1)
    told.meter.have(-400)
    assert (told.last.done, told.last.rate, told.meter.missing) == (0, 0.0, 1000)


def test_speed_is_that_of_late() -> None:
    told = begun(100_000)
    told.fetch(0, 0)
    for _ in range(30):
        told.fetch(1000, 1)
    for _ in range(15):
        told.fetch(10, 1)
    assert told.last.rate == 10.0


def test_a_connection_that_died_has_no_speed_for_long() -> None:
    told = begun(100_000)
    told.fetch(0, 0)
    told.fetch(1000, 1)
    told.fetch(1, 60)
    assert told.last.rate < 1


def test_reports_are_as_frequent_as_anybody_looks_and_the_end_is_always_told() -> None:
    told = begun(1000)
    for _ in range(1000):
        told.fetch(1, 0.001)
    assert len(told.all) < 7
    assert told.last.done == 1000
    assert told.last.seconds_left == 0.0


def test_a_total_that_turns_out_otherwise() -> None:
    told = begun(1000)
    told.fetch(400, 1)
    told.meter.begin(500)
    assert (told.last.done, told.last.total) == (400, 500)
