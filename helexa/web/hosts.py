"""Which names a request may call us by."""

import ipaddress

from helexa.web.asgi import header
from helexa.web.server import Scope


def is_local(scope: Scope) -> bool:
    """Whether a request is by and for this machine, as far as a browser tells: programs send what they like.

    ``Host`` must be a loopback name: a page whose own name was rebound to 127.0.0.1 has another. ``Origin``, where
    there is one, must be as well: a page from elsewhere may post here, though it cannot read the answer.
    """
    return _is_local_name(header(scope, b"host")) and _is_local_origin(header(scope, b"origin"))


def _is_local_name(host: bytes | None) -> bool:
    return host is None or is_loopback(_hostname(host.decode("latin-1")))


def _is_local_origin(origin: bytes | None) -> bool:
    return origin is None or _is_local_name(origin.partition(b"://")[2])


def _hostname(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this very machine."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
