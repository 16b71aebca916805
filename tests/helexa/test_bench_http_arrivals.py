"""When pieces came: kernel's time where it can be believed, against clocks that jump, and on a real socket."""

import socket
import struct
import sys
import time
from itertools import count, pairwise

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from helexa.bench.client.arrivals import ANCILLARY_BYTES, ArrivalClock, kernel_time, stamp_arrivals
from helexa.bench.client.connections import Connection, Origin

MS = 1_000_000
WALL = 1_760_000_000_000 * MS


@define
class Clocks:
    """Clocks that a test moves; reading them takes no time.

    Attributes:
        now: the steady one, in nanoseconds.
        ahead: how far the wall clock is from it.
    """

    now: int = 1000 * MS
    ahead: int = WALL

    def arrivals(self) -> ArrivalClock:
        return ArrivalClock(lambda: self.now + self.ahead, lambda: self.now)

    def stamp(self) -> int:
        """What the kernel writes on a packet that comes now."""
        return self.now + self.ahead


def test_a_piece_that_was_read_late_came_when_the_kernel_says() -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    arrivals.begin()
    clocks.now += 5 * MS
    stamp = clocks.stamp()
    clocks.now += 300 * MS
    assert arrivals.arrival(stamp) == pytest.approx(1.005, abs=1e-9)


def test_without_the_kernels_word_a_piece_came_when_it_was_read() -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    assert arrivals.begin() == 1.0
    clocks.now += 5 * MS
    assert arrivals.arrival(None) == pytest.approx(1.005)


@pytest.mark.parametrize("jump", [-3_600_000 * MS, -10 * MS, -1 * MS, 1 * MS, 10 * MS, 3_600_000 * MS])
def test_a_wall_clock_that_was_set_in_between_is_not_believed_and_then_is_again(jump: int) -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    arrivals.begin()
    clocks.now += 5 * MS
    stamp = clocks.stamp()
    clocks.ahead += jump
    clocks.now += 20 * MS
    assert arrivals.arrival(stamp) == pytest.approx(1.025)
    clocks.now += 5 * MS
    stamp = clocks.stamp()
    clocks.now += 20 * MS
    assert arrivals.arrival(stamp) == pytest.approx(1.030)


def test_a_wall_clock_that_was_set_while_the_connection_was_idle_is_believed() -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    arrivals.begin()
    clocks.ahead += 7 * MS
    arrivals.begin()
    clocks.now += 5 * MS
    stamp = clocks.stamp()
    clocks.now += 5 * MS
    assert arrivals.arrival(stamp) == pytest.approx(1.005)


def test_a_piece_that_overtook_the_one_before_came_with_it() -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    arrivals.begin()
    early = clocks.stamp() + MS
    late = clocks.stamp() + 3 * MS
    clocks.now += 10 * MS
    assert [arrivals.arrival(late), arrivals.arrival(early)] == [pytest.approx(1.003)] * 2


def test_nothing_came_before_the_request_or_after_it_was_read() -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    arrivals.begin()
    clocks.now += 10 * MS
    assert arrivals.arrival(clocks.stamp() - 3000 * MS) == 1.0
    assert arrivals.arrival(clocks.stamp() + 3000 * MS) == pytest.approx(1.010)


def test_being_interrupted_between_two_clocks_does_not_look_like_a_jump() -> None:
    """Each reading takes 3 ms, as where others have the core."""
    now = count(1000 * MS, 3 * MS)
    arrivals = ArrivalClock(lambda: next(now) + WALL, lambda: next(now))
    begin = arrivals.begin()
    stamp = round(begin * 1e9) + WALL + MS
    for _ in range(100):
        assert arrivals.arrival(stamp) == pytest.approx(begin + 0.001, abs=0.003)


@given(st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(-100 * MS, 100 * MS), st.booleans()), max_size=30))
def test_times_never_run_backwards_nor_ahead(steps: list[tuple[int, int, bool]]) -> None:
    clocks = Clocks()
    arrivals = clocks.arrivals()
    found = [arrivals.begin()]
    for passed, off, jumps in steps:
        clocks.now += passed
        clocks.ahead += off if jumps else 0
        found.append(arrivals.arrival(clocks.stamp() + off))
        assert found[-1] <= clocks.now / 1e9
    assert all(before <= after for before, after in pairwise(found))


@pytest.mark.parametrize(
    "ancillary",
    [
        [],
        [(socket.SOL_SOCKET, 1, bytes(16))],
        [(socket.SOL_SOCKET, 64, bytes(8))],
        [(socket.IPPROTO_IP, 64, bytes(16))],
    ],
)
def test_what_is_not_the_kernels_time_is_none(ancillary: list[tuple[int, int, bytes]]) -> None:
    assert kernel_time(ancillary) is None


def test_the_kernels_time_is_nanoseconds() -> None:
    found = [(socket.SOL_SOCKET, 1, b""), (socket.SOL_SOCKET, 64, struct.pack("=qq", 1_760_000_000, 5))]
    assert kernel_time(found) == 1_760_000_000 * 10**9 + 5


def test_a_socket_that_cannot_stamp_says_so() -> None:
    with socket.socket() as sock:
        pass
    assert not stamp_arrivals(sock)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps")
def test_a_real_piece_that_was_read_late_came_when_it_was_sent() -> None:
    """The kernel begins to stamp a little after it is asked to; so it is tried until it does."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert stamp_arrivals(client)
        other, _ = server.accept()
        with other:
            assert any(_was_told_in_time(other, client) for _ in range(500))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps")
@pytest.mark.parametrize("by_event", [True, False])
async def test_a_connection_tells_when_a_piece_came_that_was_read_late(*, by_event: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = Origin.parse(f"http://127.0.0.1:{server.getsockname()[1]}", None)
        connection = await Connection.open(origin, 5.0)
        other, _ = server.accept()
        with other:
            assert await _is_told_in_time(other, connection, by_event=by_event)
            other.sendall(b"data: 1\n\ndata: 2\n\ndata: 3\n\n")
            assert len(await connection.receive(by_event=by_event)) == (3 if by_event else 1)
        connection.close()


async def _is_told_in_time(server: socket.socket, connection: Connection, *, by_event: bool) -> bool:
    """Whether it ever is: the kernel begins to stamp a little after it is asked to."""
    for _ in range(500):
        connection.clock.begin()
        server.sendall(b"x")
        sent = time.perf_counter()
        while time.perf_counter() < sent + 0.005:  # the client is late
            pass
        ((at, data),) = await connection.receive(by_event=by_event)
        assert data == b"x"
        if at <= sent:
            return True
    return False


def _was_told_in_time(server: socket.socket, client: socket.socket) -> bool:
    arrivals = ArrivalClock()
    begin = arrivals.begin()
    server.sendall(b"x")
    sent = time.perf_counter()
    while time.perf_counter() < sent + 0.005:  # the client is late
        pass
    _, ancillary, _, _ = client.recvmsg(100, ANCILLARY_BYTES)
    return begin <= arrivals.arrival(kernel_time(ancillary)) <= sent
