"""Between the ranks of a group: who belongs to it, what the first tells the others, and what they agree on.

The first rank listens on one address, the others come to it. Both sides prove that they know the group's token without
sending it, so that nobody else who can reach the address can join, or be taken for the first rank. A connection that
ends is the end of the group: each rank that sees it ends its process, since a rank alone can finish no step, and
a collective that has lost a peer leaves nothing behind that could be used again.
"""

import hmac
import os
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, sleep
from typing import Final, NoReturn, TypeVar

import structlog
from attrs import frozen

from helexa.engine.parallel import frames
from helexa.engine.parallel.frames import Challenge, Join, RankFrame, RankProtocolError, Vote, Welcome

JOIN_SECONDS: Final = 100.0
"""For all ranks to come together: importing torch from a cold disk can take most of a minute."""
GREET_SECONDS: Final = 5.0
"""For a handshake once a connection stands."""
_RETRY_SECONDS: Final = 0.1

GONE: Final = 3
"""Exit code: another rank is gone, and so this one is of no use."""
WEDGED: Final = 4
"""Exit code: another rank did not take part in a collective for too long."""
ALONE: Final = 6
"""Exit code: the ranks did not come together."""
_PROBES = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that has lost its power is noticed within a minute. By itself Linux asks after two hours for the first time:
so long a rank would keep a device's memory for a first rank that is gone."""

F = TypeVar("F", bound=RankFrame)
_log = structlog.get_logger()


class JoinError(Exception):
    """The ranks did not come together; the message is for the operator."""


def leave(reason: str, code: int = GONE) -> NoReturn:
    """End this process now: no thread, and nothing that catches exceptions, can keep half a group alive."""
    _log.warning("rank.ends", reason=reason)
    os._exit(code)


class Peer:
    """One end of the connection between two ranks, after the handshake.

    Args:
        sock: connected; owned by this.
        name: what it is called when it is gone.
        patience: seconds that a send may wait for the other side to read.
        gone: told why the connection has ended, in the thread that reads it.
    """

    def __init__(self, sock: socket.socket, name: str, patience: float, gone: Callable[[str], object] = leave) -> None:
        self._socket, self._name, self._gone = sock, name, gone
        self._frames: queue.SimpleQueue[RankFrame] = queue.SimpleQueue()
        sock.settimeout(None)
        _limit_sends(sock, patience)
        threading.Thread(target=self._read_for_ever, daemon=True, name=f"reader of {name}").start()

    def send(self, data: bytes) -> None:
        """Write an encoded frame."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._gone(f"{self._name} does not listen any more: {error}")

    def take(self) -> RankFrame:
        """The next frame; waits for it."""
        return self._frames.get()

    def expect(self, kind: type[F]) -> F:
        """The next frame, which has to be of one kind.

        Raises:
            RankProtocolError: it is of another.
        """
        frame = self.take()
        if not isinstance(frame, kind):
            raise RankProtocolError(f"{self._name} sent {type(frame).__name__} where {kind.__name__} was due")
        return frame

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _read_for_ever(self) -> None:
        reason = "it has closed the connection"
        try:
            while (frame := frames.receive(self._socket)) is not None:
                self._frames.put(frame)
        except (OSError, RankProtocolError) as error:
            reason = str(error)
        self._gone(f"{self._name} is gone: {reason}")


class Lead:
    """The first rank's side of a group."""

    rank = 0

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = peers
        self.ranks = len(peers) + 1

    def tell(self, frame: RankFrame) -> None:
        """Send a frame to all other ranks."""
        data = frames.encode(frame)
        for peer in self._peers:
            peer.send(data)

    def vote(self, own: Vote) -> Vote:
        """Wait for all ranks' votes, and tell them all what follows."""
        verdict = tally([own, *(peer.expect(Vote) for peer in self._peers)])
        self.tell(verdict)
        return verdict


class Member:
    """Any other rank's side."""

    def __init__(self, rank: int, ranks: int, lead: Peer) -> None:
        self.rank, self.ranks, self._lead = rank, ranks, lead

    def take(self) -> RankFrame:
        """What the first rank wants next."""
        return self._lead.take()

    def vote(self, own: Vote) -> Vote:
        """Tell the first rank, and wait for what follows."""
        self._lead.send(frames.encode(own))
        return self._lead.expect(Vote)


def tally(votes: Iterable[Vote]) -> Vote:
    """What a group can do: the least of what each can, and nothing if one can do nothing. Pure."""
    votes = list(votes)
    wrong = [f"on rank {rank}, {vote.error}" if rank else vote.error for rank, vote in enumerate(votes) if vote.error]
    return Vote(min(vote.value for vote in votes), wrong[0] if wrong else None)


@frozen
class Gate:
    """How the ranks of one group know each other.

    Attributes:
        ranks: how many there are.
        token: the group's secret.
        patience: seconds that a rank may wait for another one within a step.
    """

    ranks: int
    token: bytes
    patience: float = 60.0

    def gather(self, listener: socket.socket, store: int) -> dict[int, socket.socket]:
        """Let the other ranks in, on the first one.

        Args:
            listener: bound and listening; stays the caller's.
            store: port of the store that they are told.

        Raises:
            JoinError: not all came within ``JOIN_SECONDS``.
        """
        deadline = monotonic() + JOIN_SECONDS
        found: dict[int, socket.socket] = {}
        while len(found) < self.ranks - 1:
            listener.settimeout(max(0.01, deadline - monotonic()))
            try:
                sock, address = listener.accept()
            except TimeoutError:
                missing = sorted(set(range(1, self.ranks)) - set(found))
                raise JoinError(f"rank {missing[0]} of {self.ranks} did not come within {JOIN_SECONDS:.0f} s") from None
            if (rank := self._let_in(sock, store, found)) is None:
                _log.warning("rank.turned_away", address=address[0])
                sock.close()
            else:
                found[rank] = sock
        return found

    def _let_in(self, sock: socket.socket, store: int, taken: dict[int, socket.socket]) -> int | None:
        """The rank of who has come; ``None`` if it is none of ours."""
        nonce = secrets.token_bytes(32)
        try:
            sock.settimeout(GREET_SECONDS)
            sock.sendall(frames.encode(Challenge(frames.VERSION, nonce)))
            match frames.receive(sock):
                case Join(rank, proof, theirs) if 0 < rank < self.ranks and rank not in taken:
                    if hmac.compare_digest(proof, self._proof(rank, nonce)):
                        sock.sendall(frames.encode(Welcome(self._proof(0, theirs), store)))
                        return rank
        except (OSError, RankProtocolError):
            return None  # a stranger, or a rank that has died meanwhile: its own host tells
        return None

    def join(self, address: tuple[str, int], rank: int, own: str) -> tuple[socket.socket, int]:
        """Come to the first rank, from the address ``own`` of this host; the connection, and the store's port.

        Raises:
            JoinError: it is not there within ``JOIN_SECONDS``, or not of this group.
        """
        sock = _connect(address, own)
        try:
            return sock, self._introduce(sock, rank)
        except (OSError, RankProtocolError) as error:
            sock.close()
            raise JoinError(f"the first rank at {address[0]}:{address[1]} broke off: {error}") from error
        except BaseException:
            sock.close()
            raise

    def _introduce(self, sock: socket.socket, rank: int) -> int:
        sock.settimeout(JOIN_SECONDS)
        challenge = frames.receive(sock)
        if not isinstance(challenge, Challenge) or challenge.version != frames.VERSION:
            raise JoinError(f"the first rank does not speak version {frames.VERSION} of the ranks' protocol")
        nonce = secrets.token_bytes(32)
        sock.sendall(frames.encode(Join(rank, self._proof(rank, challenge.nonce), nonce)))
        welcome = frames.receive(sock)
        if not isinstance(welcome, Welcome) or not hmac.compare_digest(welcome.proof, self._proof(0, nonce)):
            raise JoinError(f"the first rank did not let rank {rank} in; they may have different tokens")
        return welcome.store

    def _proof(self, rank: int, nonce: bytes) -> bytes:
        return hmac.digest(self.token, b"helexa rank %d of %d " % (rank, self.ranks) + nonce, "sha256")


def _connect(address: tuple[str, int], own: str) -> socket.socket:
    deadline = monotonic() + JOIN_SECONDS
    while True:
        try:
            return socket.create_connection(address, timeout=GREET_SECONDS, source_address=(own, 0))
        except OSError as error:
            if monotonic() > deadline:
                place = f"{address[0]}:{address[1]}"
                raise JoinError(f"there is no first rank at {place}: {error}") from error
        sleep(_RETRY_SECONDS)


def _limit_sends(sock: socket.socket, seconds: float) -> None:
    """Sends alone, not reads: between two steps a rank may hear nothing for hours."""
    whole = int(seconds)
    limit = whole.to_bytes(8, "little") + int((seconds - whole) * 1e6).to_bytes(8, "little")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _PROBES:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
