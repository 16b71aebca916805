"""The headers that carry a trace from one service to the next, read by their grammar. Pure.

What does not fit the grammar is dropped whole, since whatever is handed on goes out in requests of ours.

Source: W3C Recommendation "Trace Context", sections 3.2 and 3.3; keys of ``tracestate`` as in its Level 2.
"""

from collections.abc import Iterable, Sequence
from re import compile as pattern

from attrs import frozen

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
MAX_MEMBERS = 32
MAX_STATE_BYTES = 2048
"""Four times what everybody has to hand on. With much more the head of our own request could become too long for
whoever is asked, which would then look broken."""
_PARENT = pattern(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = pattern(rb"([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_KNOWN_FLAGS = 0x03
"""Sampled and random; what the others will mean nobody knows yet, and they are not to be handed on."""
_OWS = b" \t"


@frozen
class TraceContext:
    """Where a request belongs.

    Attributes:
        trace: 32 lower-case hexadecimal digits, not all 0.
        parent: 16 of them, likewise.
        flags: one byte.
        state: what the systems on the way have to tell one another; opaque, may be empty.
    """

    trace: bytes
    parent: bytes
    flags: int
    state: bytes = b""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The same, to be sent on."""
        found = [(TRACEPARENT, b"00-%s-%s-%02x" % (self.trace, self.parent, self.flags))]
        return [*found, (TRACESTATE, self.state)] if self.state else found


def read(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The trace that a request belongs to; ``None`` if it names none, or more than one.

    Args:
        headers: of the request, names in lower case.
    """
    found = [(name, value) for name, value in headers if name in (TRACEPARENT, TRACESTATE)]
    parents = [value for name, value in found if name == TRACEPARENT]
    if len(parents) != 1:
        return None
    return _context(parents[0].strip(_OWS), [value for name, value in found if name == TRACESTATE])


def _context(parent: bytes, states: Sequence[bytes]) -> TraceContext | None:
    read = _PARENT.fullmatch(parent)
    if read is None:
        return None
    version, trace, span, flags, more = read.groups()
    if version == b"ff" or (version == b"00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return TraceContext(trace, span, int(flags, 16) & _KNOWN_FLAGS, _state(states))


def _state(values: Sequence[bytes]) -> bytes:
    """The members of all ``tracestate`` headers as one; none if one is wrong, a key comes twice, or it is too long."""
    members = [each for value in values for part in value.split(b",") if (each := part.strip(_OWS))]
    keys = {read[1] for each in members if (read := _MEMBER.fullmatch(each)) is not None}
    found = b",".join(members)
    return found if len(keys) == len(members) <= MAX_MEMBERS and len(found) <= MAX_STATE_BYTES else b""
