"""How fast bytes come, and when the last will be here."""

from helexa.neuron.sources.meter import Meter
from helexa.wire.progress import Progress


class Clock:
    """Seconds, as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A meter and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.meter = Meter(self.clock)

    @property
    def progress(self) -> Progress:
        return self.meter.progress

    def fetch(self, count: int, seconds: float) -> None:
        self.clock.now += seconds
        self.meter.fetched(count)


def begun(total: int = 1000) -> Watched:
    watched = Watched()
    watched.meter.begin(total)
    return watched


def test_before_it_is_known_what_there_is_to_fetch() -> None:
    assert Watched().progress == Progress("resolving")


def test_before_anything_comes_nothing_is_known() -> None:
    assert begun().progress == Progress("downloading", 0, 1000, 0.0, None)


def test_a_steady_stream_has_its_speed_and_its_end() -> None:
    watched = begun()
    watched.fetch(0, 0)
    for _ in range(5):
        watched.fetch(100, 1)
    assert watched.progress == Progress("downloading", 500, 1000, 100.0, 5.0)


def test_what_was_here_counts_and_is_no_speed() -> None:
    watched = begun()
    watched.meter.have(500)
    assert watched.progress == Progress("downloading", 500, 1000, 0.0, None)
    watched.fetch(0, 0)
    watched.fetch(100, 2)
    watched.meter.have(200)
    assert watched.progress == Progress("downloading", 800, 1000, 50.0, 4.0)


def test_what_is_thrown_away_is_still_to_come() -> None:
    watched = begun()
    watched.fetch(400, 1)
    watched.meter.have(-400)
    assert (watched.progress.done, watched.progress.rate, watched.meter.missing) == (0, 0.0, 1000)


def test_speed_is_that_of_late() -> None:
    watched = begun(100_000)
    watched.fetch(0, 0)
    for _ in range(30):
        watched.fetch(1000, 1)
    for _ in range(15):
        watched.fetch(10, 1)
    assert watched.progress.rate == 10.0


def test_a_connection_that_stalls_gets_slower_and_slower() -> None:
    watched = begun(2000)
    watched.fetch(0, 0)
    watched.fetch(1000, 1)
    assert (watched.progress.rate, watched.progress.seconds_left) == (1000.0, 1.0)
    watched.clock.now += 4
    assert (watched.progress.rate, watched.progress.seconds_left) == (200.0, 5.0)
    watched.clock.now += 60
    assert (watched.progress.rate, watched.progress.seconds_left) == (0.0, None)


def test_the_end_is_told_as_such() -> None:
    watched = begun(1000)
    watched.fetch(0, 0)
    watched.fetch(1000, 1)
    assert watched.progress == Progress("downloading", 1000, 1000, 1000.0, 0.0)


def test_a_total_that_turns_out_otherwise() -> None:
    watched = begun(1000)
    watched.fetch(400, 1)
    watched.meter.begin(500)
    assert (watched.progress.done, watched.progress.total) == (400, 500)
