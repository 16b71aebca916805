"""Where a server listens: a host and a port."""

import ipaddress
import re
from typing import Final

from attrs import frozen

from config.problems import InvalidValueError, show

_HINT: Final = 'a host and a port, such as "127.0.0.1:31313" or "[::1]:31313"'
_PATTERN: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535


@frozen
class Address:
    """A TCP address to bind to.

    Attributes:
        host: An IP address without brackets, or a host name.
        port: 0 to 65535; 0 lets the system choose.
    """

    host: str
    port: int

    def __attrs_post_init__(self) -> None:
        """Refuse ports that no socket has."""
        if not 0 <= self.port <= _MAX_PORT:
            raise InvalidValueError(f"{self.port} is not a port", f"a port from 0 to {_MAX_PORT}")

    @classmethod
    def parse(cls, text: object) -> "Address":
        """Read "127.0.0.1:31313", "[::1]:80" or "localhost:80".

        Raises:
            InvalidValueError: The text is not an address.
        """
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidValueError(f"{show(text)} is not an address", _HINT)
        host = match["v6"] or match["host"]
        if _must_be_ip(match) and _ip(host) is None:
            raise InvalidValueError(f"{show(host)} is not an IP address", _HINT)
        return cls(host, int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on the same host can connect.

        Of the host names only `localhost` counts: what any other resolves to is not known here.
        """
        ip = _ip(self.host)
        return self.host.lower() == "localhost" if ip is None else ip.is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface of the host (0.0.0.0 or ::)."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def connectable(self) -> "Address":
        """The address a client on the same host connects to: loopback in place of a wildcard."""
        if not self.is_wildcard:
            return self
        return Address("::1" if ":" in self.host else "127.0.0.1", self.port)

    def clashes_with(self, other: "Address") -> bool:
        """Whether the two cannot be bound on one host at the same time."""
        if self.port != other.port or self.port == 0:
            return False
        mine, theirs = self.canonical_host, other.canonical_host
        if mine == theirs:
            return True
        same_family = (":" in mine) == (":" in theirs)
        return same_family and (self.is_wildcard or other.is_wildcard)

    @property
    def canonical_host(self) -> str:
        """The host in one spelling, so that equal hosts compare equal: "localhost" is "127.0.0.1"."""
        name = self.host.lower()
        ip = _ip("127.0.0.1" if name == "localhost" else name)
        return name if ip is None else str(ip)


def _must_be_ip(match: re.Match[str]) -> bool:
    """Whether the host is written as an IP address; "999.0.0.1" is a slip, not a name."""
    return match["v6"] is not None or re.fullmatch(r"[0-9.]+", match["host"]) is not None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
