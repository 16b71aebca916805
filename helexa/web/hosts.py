"""Which names a request may call us by."""

import ipaddress

from helexa.web.asgi import header
from helexa.web.server import Scope


def is_local_name(scope: Scope) -> bool:
    """Whether the request's ``Host`` is a loopback name; absent counts as one, as browsers always send it."""
    value = header(scope, b"host")
    return value is None or is_loopback(_hostname(value.decode("latin-1")))


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
