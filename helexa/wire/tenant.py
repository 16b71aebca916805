"""Who asks, as a gateway tells a neuron: a name to be fair by, and to keep prefix caches apart by.

Only the gateway says it, from the key it has checked, and a neuron believes it only because its own guard has let the
gateway in.
"""

import hashlib
from functools import lru_cache
from urllib.parse import quote

HEADER = b"x-helexa-tenant"
MAX_BYTES = 128
_PRINTABLE = range(0x21, 0x7F)


@lru_cache(maxsize=1024)
def write(name: str) -> bytes:
    """A key's name as the header's value: never two names alike, whatever characters and however many they have."""
    written = quote(name, safe="/@", errors="surrogatepass").encode()
    if len(written) <= MAX_BYTES:
        return written
    return b"sha256:" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest().encode()


def read(value: bytes | None) -> str:
    """The tenant; nobody in particular, the empty string, if the value is absent or none that ``write`` makes."""
    if value is None or len(value) > MAX_BYTES or not all(byte in _PRINTABLE for byte in value):
        return ""
    return value.decode("ascii")
