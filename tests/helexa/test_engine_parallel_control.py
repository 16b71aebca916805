"""Ranks come together, strangers stay out, and a group that has lost one knows it."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from helexa.engine.parallel import control as parallel_control
from helexa.engine.parallel.control import Gate, JoinError, Lead, Member, Peer, tally
from helexa.engine.parallel.frames import (
    VERSION,
    Challenge,
    Drop,
    Join,
    RankFrame,
    RankProtocolError,
    Vote,
    Welcome,
    encode,
    receive,
)

HOST = "127.0.0.1"
STORE = 4711
GATE = Gate(2, b"token")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as sock:
        yield sock


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as found:
        yield found


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_control, "GREET_SECONDS", 0.3)


def close(gathered: dict[int, socket.socket]) -> set[int]:
    for each in gathered.values():
        each.close()
    return set(gathered)


def test_ranks_come_together_and_learn_where_the_store_is(listener: socket.socket, threads: ThreadPoolExecutor) -> None:
    gate = Gate(3, b"token")
    joins = [threads.submit(gate.join, listener.getsockname(), rank, HOST) for rank in (2, 1)]
    gathered = gate.gather(listener, STORE)
    for sock, store in (each.result(10) for each in joins):
        assert store == STORE
        sock.close()
    assert close(gathered) == {1, 2}


def test_a_rank_comes_from_the_address_it_is_told(listener: socket.socket, threads: ThreadPoolExecutor) -> None:
    joined = threads.submit(GATE.join, listener.getsockname(), 1, "127.0.0.2")
    gathered = GATE.gather(listener, STORE)
    assert gathered[1].getpeername()[0] == "127.0.0.2"
    joined.result(10)[0].close()
    close(gathered)


def silent(sock: socket.socket) -> None:
    receive(sock)


def babbling(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")


def without_the_token(sock: socket.socket) -> None:
    receive(sock)
    sock.sendall(encode(Join(1, bytes(32), bytes(32))))


def with_anothers_proof(sock: socket.socket) -> None:
    """What a rank said once does not open the door again."""
    receive(sock)
    sock.sendall(encode(Join(1, GATE._proof(1, bytes(32)), bytes(32))))


def as_the_first(sock: socket.socket) -> None:
    challenge = receive(sock)
    assert isinstance(challenge, Challenge)
    sock.sendall(encode(Join(0, GATE._proof(0, challenge.nonce), bytes(32))))


@pytest.mark.parametrize("behave", [silent, babbling, without_the_token, with_anothers_proof, as_the_first])
def test_a_stranger_is_turned_away_and_the_rank_let_in(
    listener: socket.socket, threads: ThreadPoolExecutor, behave: Callable[[socket.socket], None]
) -> None:
    gathered = threads.submit(GATE.gather, listener, STORE)
    with socket.create_connection(listener.getsockname()) as stranger:
        behave(stranger)
        stranger.settimeout(5)
        try:
            while (found := receive(stranger)) is not None:
                assert not isinstance(found, Welcome)
        except ConnectionResetError:
            pass  # closed over what it had sent
        sock, _ = GATE.join(listener.getsockname(), 1, HOST)
    assert close(gathered.result(10)) == {1}
    sock.close()


def test_a_second_rank_of_the_same_number_is_turned_away(listener: socket.socket, threads: ThreadPoolExecutor) -> None:
    gate = Gate(3, b"token")
    gathered = threads.submit(gate.gather, listener, STORE)
    first, _ = gate.join(listener.getsockname(), 1, HOST)
    with pytest.raises(JoinError, match="did not let rank 1 in"):
        gate.join(listener.getsockname(), 1, HOST)
    second, _ = gate.join(listener.getsockname(), 2, HOST)
    assert close(gathered.result(10)) == {1, 2}
    first.close()
    second.close()


def test_a_rank_that_does_not_come_is_named(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_control, "JOIN_SECONDS", 0.1)
    with pytest.raises(JoinError, match="rank 1 of 2 did not come within 0 s"):
        GATE.gather(listener, STORE)


def test_a_first_rank_that_is_not_there_is_told(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_control, "JOIN_SECONDS", 0.2)
    address = listener.getsockname()
    listener.close()
    with pytest.raises(JoinError, match=f"there is no first rank at 127.0.0.1:{address[1]}"):
        GATE.join(address, 1, HOST)


def answering(listener: socket.socket, *frames: RankFrame) -> None:
    """A first rank that says this, whatever it hears."""
    sock, _ = listener.accept()
    with sock:
        for frame in frames:
            sock.sendall(encode(frame))
            sock.recv(1000)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([Challenge(VERSION + 1, b"")], "does not speak version"),
        ([Drop("m")], "does not speak version"),
        ([Challenge(VERSION, b""), Welcome(bytes(32), 1)], "may have different tokens"),
        ([Challenge(VERSION, b"")], "may have different tokens"),
    ],
    ids=["another version", "another protocol", "without the token", "it hangs up"],
)
def test_a_false_first_rank_is_not_followed(
    listener: socket.socket, threads: ThreadPoolExecutor, frames: list[RankFrame], sentence: str
) -> None:
    answered: Future[None] = threads.submit(answering, listener, *frames)
    with pytest.raises(JoinError, match=sentence):
        GATE.join(listener.getsockname(), 1, HOST)
    answered.result(10)


class Pair:
    """Two connected peers; what they were told of the other's end."""

    def __init__(self, patience: float = 5.0) -> None:
        left, right = socket.socketpair()
        self.gone: SimpleQueue[str] = SimpleQueue()
        self.left = Peer(left, "rank 1", patience, self.gone.put)
        self.right = Peer(right, "rank 0", patience, lambda _: None)
        self.sockets = (left, right)

    def close(self) -> None:
        for each in self.sockets:
            each.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    yield found
    found.sockets[1].shutdown(socket.SHUT_RDWR)
    found.close()


def test_peers_hear_each_other(pair: Pair) -> None:
    pair.left.send(encode(Drop("a")))
    pair.right.send(encode(Vote(3)))
    assert (pair.right.take(), pair.left.expect(Vote)) == (Drop("a"), Vote(3))


def test_a_frame_out_of_turn_is_an_error(pair: Pair) -> None:
    pair.right.send(encode(Drop("a")))
    with pytest.raises(RankProtocolError, match="rank 1 sent Drop where Vote was due"):
        pair.left.expect(Vote)


def test_a_peer_that_ends_is_noticed_while_nobody_asks(pair: Pair) -> None:
    pair.sockets[1].shutdown(socket.SHUT_RDWR)
    assert pair.gone.get(timeout=5) == "rank 1 is gone: it has closed the connection"


def test_a_peer_that_talks_nonsense_is_as_good_as_gone(pair: Pair) -> None:
    pair.sockets[1].sendall(b"\0\0\0\1\0")
    assert "not a frame" in pair.gone.get(timeout=5)


def test_a_peer_that_does_not_read_is_noticed_within_the_patience() -> None:
    left, right = socket.socketpair()
    gone: SimpleQueue[str] = SimpleQueue()
    peer = Peer(left, "rank 1", 0.2, gone.put)
    thread = threading.Thread(target=peer.send, args=(bytes(10_000_000),))
    thread.start()
    assert "rank 1 does not listen any more" in gone.get(timeout=5)
    thread.join()
    right.close()
    assert gone.get(timeout=5).startswith("rank 1 is gone")
    left.close()


def test_a_group_votes(pair: Pair, threads: ThreadPoolExecutor) -> None:
    lead, member = Lead([pair.left]), Member(1, 2, pair.right)
    voted = threads.submit(member.vote, Vote(5))
    assert lead.vote(Vote(7)) == voted.result(10) == Vote(5)
    assert (lead.rank, lead.ranks, member.rank, member.ranks) == (0, 2, 1, 2)


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        ([Vote(7), Vote(5), Vote(9)], Vote(5)),
        ([Vote(7), Vote(0, "no room")], Vote(0, "on rank 1, no room")),
        ([Vote(0, "its heads"), Vote(0, "its heads")], Vote(0, "its heads")),
    ],
)
def test_a_group_can_do_what_each_can(votes: list[Vote], verdict: Vote) -> None:
    assert tally(votes) == verdict
