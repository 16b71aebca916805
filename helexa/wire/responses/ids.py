"""Identifiers of responses and of what they consist of: a prefix, and a UUID that sorts by time."""

import secrets
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_LOW_BITS = (1 << 62) - 1


def uuid7(milliseconds: int, random: bytes) -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7).

    Args:
        milliseconds: since the Unix epoch; 48 bits of it are kept.
        random: 10 bytes, of which 74 bits are used.
    """
    bits = int.from_bytes(random, "big")
    high = (milliseconds & (1 << 48) - 1) << 80
    return UUID(int=high | _VERSION | (bits >> 62 & 0xFFF) << 64 | _VARIANT | bits & _LOW_BITS)


def new_id(prefix: str) -> str:
    """A new identifier such as ``resp_`` and 32 hexadecimal digits; ``prefix`` comes without the underscore."""
    return f"{prefix}_{uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)).hex}"
