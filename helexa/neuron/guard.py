"""Where a neuron may listen, given whether it has a secret."""

from config import Address
from helexa.web.hosts import is_loopback


def allowed_listen(wanted: Address, secret: str | None) -> Address:
    """``wanted``, or its port on loopback: without a secret anyone who reaches the neuron could use and unload it."""
    if secret or is_loopback(wanted.host):
        return wanted
    return Address("127.0.0.1", wanted.port)
