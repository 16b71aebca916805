"""Requests under way, in a file mapped into memory: what a request has used outlives the process that served it.

A store into a shared mapping is the kernel's from that moment on, whatever becomes of the process, and costs no system
call. (It does not outlive the machine: what was settled in the last tenth of a second before a power cut is lost.) Each
request has a slot of whole words, so none is ever half written, and each slot a state that is written last.

A file has one owner, which holds a lock on it for as long as it lives. Whoever comes next takes over the file, the name
that its owner had in the database, and the requests in it.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

import orjson

from helexa.cortex.ledger.limits import Prices
from helexa.cortex.ledger.rows import Row
from helexa.wire.meter import Totals

SUFFIX: Final = ".slots"
SLOT_BYTES: Final = 2048
CHUNK_SLOTS: Final = 512
"""Slots that a file grows by, 1 MiB."""
_CHUNK_BYTES: Final = SLOT_BYTES * CHUNK_SLOTS
MOST_TOKENS: Final = 10**12
MOST_COST: Final = 10**16
"""Of one request; more is somebody's mistake, and the database would not take it."""
_HEADER_BYTES: Final = 65_536
"""The largest page of any machine: what is mapped has to begin at one."""
_HEADER: Final = Struct("<8sq32s")
_MAGIC: Final = b"hxslots1"
_STATE, _PROMPT, _COMPLETION, _CACHED, _SENT, _INPUT, _OUTPUT, _AT, _IDENTITY_SIZE, _NODE_SIZE = range(10)
_NODE_BEGIN, _IDENTITY_BEGIN = 128, 384
_FREE, _OPEN, _SETTLED = range(3)
_MICROSECONDS: Final = 10**6
_BEGUN: Final = Struct("<9q")
"""All but the state: it follows them, so that whoever finds it finds them."""
_DELIVERED: Final = Struct("<3q")
_USED: Final = Struct("<6q")


class SlotFileError(Exception):
    """Requests cannot be kept in the directory; the message says which and why, on one line."""


class Identity(NamedTuple):
    """What is known of a request when it begins. See ``Row`` for what each of these is."""

    id: str
    key: str
    name: str
    account: str
    model: str
    route: str
    request_id: str

    def encode(self) -> bytes:
        """As JSON that fits into a slot; what only a reader of the record looks at is cut off if need be."""
        whole = b"[%b,%b,%b]" % (_json(self[:1]), _recurring(self[1:6]), _json(self[6:]))
        if len(whole) <= SLOT_BYTES - _IDENTITY_BEGIN:
            return whole
        cut = [text[:20] for text in (self.model, self.route, self.request_id)]
        return b"[%b]" % _json((self.id, self.key, self.name, self.account, *cut))


@lru_cache(maxsize=1024)
def _recurring(texts: tuple[str, ...]) -> bytes:
    """What a key's requests for a model have in common."""
    return _json(texts)


def _json(texts: Sequence[str]) -> bytes:
    """What stands between the brackets of an array."""
    try:
        return orjson.dumps(texts)[1:-1]
    except TypeError:  # half a surrogate pair, which no encoding has
        return orjson.dumps([text.encode(errors="replace").decode() for text in texts])[1:-1]


class Slot:
    """One request's place. Whoever takes it has it to itself until it is given back.

    Args:
        owner: whom it goes back to.
        raw: the chunk that it lies in.
        words: the same, as words of 8 bytes.
        begin: where in the chunk, in bytes.
    """

    __slots__ = ("_begin", "_owner", "_raw", "_word", "_words")

    def __init__(self, owner: "Slots", raw: "memoryview[int]", words: "memoryview[int]", begin: int) -> None:
        self._owner = owner
        self._raw = raw
        self._words = words
        self._begin = begin
        self._word = begin // 8

    def open(self, identity: bytes, node: str, prices: Prices, at: int) -> None:
        """It goes to a node, at these prices, and nothing is used; a death from now on leaves what is told.

        Args:
            identity: ``Identity.encode`` of it.
            node: to which.
            prices: what its tokens cost there.
            at: microseconds of Unix time.
        """
        raw, begin, name, size = self._raw, self._begin, _node(node), len(identity)
        raw[begin + _IDENTITY_BEGIN : begin + _IDENTITY_BEGIN + size] = identity
        raw[begin + _NODE_BEGIN : begin + _NODE_BEGIN + len(name)] = name
        _BEGUN.pack_into(raw, begin + 8 * _PROMPT, 0, 0, 0, 1, prices.input, prices.output, at, size, len(name))
        self._words[self._word] = _OPEN

    def sent(self, node: str, prices: Prices) -> None:
        """It goes to another node, at these prices."""
        words, word, begin, name = self._words, self._word, self._begin + _NODE_BEGIN, _node(node)
        words[word + _NODE_SIZE] = 0  # a name that is half written is no name
        self._raw[begin : begin + len(name)] = name
        words[word + _NODE_SIZE] = len(name)
        words[word + _INPUT], words[word + _OUTPUT], words[word + _SENT] = prices.input, prices.output, 1

    def unsent(self) -> None:
        """It was not served where it was sent, and does not count."""
        self._words[self._word + _SENT] = 0

    def deliver(self, prompt: int, completion: int, cached: int, at: int) -> None:
        """So much of it was used, at ``at``, microseconds of Unix time."""
        if not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS and 0 <= cached <= MOST_TOKENS):
            prompt, completion, cached = map(_bounded, (prompt, completion, cached))
        _DELIVERED.pack_into(self._raw, self._begin + 8 * _PROMPT, prompt, completion, cached)
        self._words[self._word + _AT] = at

    def settle(self, delivered: Totals | None, at: int) -> tuple[int, int, int]:
        """It is over, after so much of it was used, or ``None``: what was told last; what it is booked with."""
        if delivered is None:
            self._words[self._word + _AT] = at
        else:
            self.deliver(*delivered, at)
        self._words[self._word + _STATE] = _SETTLED
        return self.used

    def give_back(self) -> None:
        """It has been booked, or never was sent: whoever takes the slot next has it."""
        self._words[self._word + _STATE] = _FREE
        self._owner.given_back(self)

    @property
    def taken(self) -> bool:
        """Whether there is a request in it."""
        return self._words[self._word + _STATE] != _FREE

    @property
    def was_sent(self) -> bool:
        """Whether it counts as a request."""
        return self._words[self._word + _SENT] != 0

    @property
    def used(self) -> tuple[int, int, int]:
        """Prompt and completion tokens so far, and what they cost, in picodollars."""
        raw, begin = self._raw, self._begin + 8 * _PROMPT
        prompt, completion, _, _, dear, dearer = _USED.unpack_from(raw, begin)
        return prompt, completion, min(prompt * dear + completion * dearer, MOST_COST)

    def row(self) -> Row:
        """What is to be booked.

        Raises:
            ValueError: it is not what ``open`` wrote.
        """
        raw, begin = self._raw, self._begin + _IDENTITY_BEGIN
        size = self._words[self._word + _IDENTITY_SIZE]
        return self.row_of(Identity(*_identity(raw[begin : begin + size].tobytes())))

    def row_of(self, identity: Identity) -> Row:
        """The same, by whoever knows whose it is."""
        raw, node = self._raw, self._begin + _NODE_BEGIN
        _, _, cached, _, _, _, at, _, named = _BEGUN.unpack_from(raw, self._begin + 8 * _PROMPT)
        prompt, completion, cost = self.used
        served = raw[node : node + named].tobytes().decode(errors="replace")
        id_, key, name, account, model, route, request = identity
        whose = id_, at / _MICROSECONDS, key, name, account
        return Row(*whose, model, served, route, prompt, min(cached, prompt), completion, cost, request)


@lru_cache(maxsize=1024)
def _node(name: str) -> bytes:
    return name.encode(errors="replace")[: _IDENTITY_BEGIN - _NODE_BEGIN]


def _bounded(tokens: int) -> int:
    return tokens if 0 <= tokens <= MOST_TOKENS else 0 if tokens < 0 else MOST_TOKENS


def _identity(raw: bytes) -> list[str]:
    found = orjson.loads(raw)
    if not (isinstance(found, list) and list(map(type, found)) == [str] * len(Identity._fields)):
        raise ValueError("a slot's identity is not what was written")
    return found


class Slots:
    """Slots in one file, or in memory alone where no file can be had. Made by ``claim`` and ``in_memory``.

    Attributes:
        gateway: the name that the file's owner has in the database.
        path: the file; ``None`` in memory.
        left: slots with requests that an earlier owner left; whoever has booked one gives it back.
    """

    def __init__(self, gateway: str, path: Path | None, descriptor: int) -> None:
        self.gateway = gateway
        self.path = path
        self.left: list[Slot] = []
        self._descriptor = descriptor
        self._chunks: list[tuple[mmap.mmap, memoryview[int], memoryview[int]]] = []
        self._free: list[Slot] = []
        self._count = 0

    @classmethod
    def in_memory(cls) -> Self:
        """Slots that die with the process."""
        return cls(uuid4().hex, None, -1)

    @classmethod
    def claim(cls, directory: Path) -> Self:
        """Take over a file whose owner is gone, or make one; its owner until ``close``. Blocks.

        Raises:
            SlotFileError: neither can be done.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = (cls._taken_over(path) for path in sorted(directory.glob(f"*{SUFFIX}")))
            return next((each for each in found if each is not None), None) or cls._made(directory)
        except OSError as error:
            raise SlotFileError(f"{directory}: {(error.strerror or str(error)).lower()}") from error

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._count - len(self._free)

    def take(self) -> Slot:
        """A free slot.

        Raises:
            SlotFileError: there is none, and the file cannot grow.
        """
        if not self._free:
            try:
                self._grow()
            except OSError as error:
                raise SlotFileError(f"{self.path}: {(error.strerror or str(error)).lower()}") from error
        return self._free.pop()

    def given_back(self, slot: Slot) -> None:
        """One of its slots is free again."""
        self._free.append(slot)

    def close(self) -> None:
        """Let go of the file. No slot of it may be used any more."""
        for mapped, raw, words in self._chunks:
            words.release()
            raw.release()
            mapped.close()
        self._chunks, self._free, self.left, self._count = [], [], [], 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @classmethod
    def _taken_over(cls, path: Path) -> Self | None:
        """``None``: it has an owner, or is no such file."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = cls(_gateway(os.pread(descriptor, _HEADER.size, 0)), path, descriptor)
            os.posix_fallocate(descriptor, 0, max(os.fstat(descriptor).st_size, _HEADER_BYTES))
            while found._begin() + _CHUNK_BYTES <= os.fstat(descriptor).st_size:
                found._map()
        except (BlockingIOError, ValueError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return found

    @classmethod
    def _made(cls, directory: Path) -> Self:
        """Under another name until it is whole and locked: nobody takes over half a file."""
        gateway = uuid4().hex
        path, partial = directory / f"{gateway}{SUFFIX}", directory / f"{gateway}.partial"
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        made = cls(gateway, path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, _HEADER_BYTES)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, SLOT_BYTES, gateway.encode()), 0)
            made._grow()
            partial.rename(path)
        except BaseException:
            made.close()
            partial.unlink(missing_ok=True)
            raise
        return made

    def _begin(self) -> int:
        return _HEADER_BYTES + len(self._chunks) * _CHUNK_BYTES

    def _grow(self) -> None:
        """Disk space is taken beforehand: a store into a mapped hole of a full disk kills the process."""
        if self._descriptor >= 0:
            os.posix_fallocate(self._descriptor, self._begin(), _CHUNK_BYTES)
        self._map()

    def _map(self) -> None:
        offset = 0 if self._descriptor < 0 else self._begin()
        mapped = mmap.mmap(self._descriptor, _CHUNK_BYTES, offset=offset)  # shared, unless told otherwise
        raw = memoryview(mapped)
        words = raw.cast("q")
        self._chunks.append((mapped, raw, words))
        for begin in range(0, _CHUNK_BYTES, SLOT_BYTES):
            slot = Slot(self, raw, words, begin)
            self._count += 1
            (self.left if slot.taken else self._free).append(slot)


def _gateway(header: bytes) -> str:
    """Whose file it is."""
    if len(header) < _HEADER.size:
        raise ValueError("it has no header")
    found: tuple[Any, ...] = _HEADER.unpack(header)
    magic, size, gateway = found
    if magic != _MAGIC or size != SLOT_BYTES:
        raise ValueError("it is not a file of slots, or of another version")
    return str(gateway.decode("ascii"))
