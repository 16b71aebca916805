"""How a conversation is recognized: by hashes of its beginnings. Pure."""

from hashlib import blake2b
from typing import Any

import orjson

from helexa.wire.dialect import Json

MOST = 8
_SIZE = 16


def prefixes(chat: Json, tenant: str) -> tuple[bytes, ...]:
    """Hashes of a chat's beginnings, one for each message it may end with, the longest first, at most ``MOST``.

    The last turns are enough: the next request of a conversation has all of this one's messages, and a few more.

    Args:
        chat: what is asked.
        tenant: who asks: one tenant's KV cache is not found by another.
    """
    messages = chat.get("messages")
    if not isinstance(messages, list):
        return ()
    running = blake2b(_bytes([tenant, chat.get("model"), chat.get("tools")]), digest_size=_SIZE)
    found = []
    for message in messages:
        running.update(_bytes(message))
        found.append(running.copy().digest())
    return tuple(found[: -MOST - 1 : -1])


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than can be written: whoever is asked refuses it
        return b""
