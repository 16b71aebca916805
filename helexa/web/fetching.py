"""Fetches what a stranger names by its address, without lending him our place in the network.

A name is resolved once, all its addresses are checked, and the connection goes to one of those: a second resolution
could say something else (DNS rebinding). Each redirect is a new address and is checked like the first. Limits hold
while bytes come, not after.
"""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from socket import SOCK_STREAM

import httpx
import trio
from attrs import field, frozen

from helexa.web.addresses import is_public
from helexa.web.answers import Answer, FetchError
from helexa.web.tls import distrust

MOST_REDIRECTS = 3
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_LONGEST_URL = 4096
_MOST_ADDRESSES = 3
"""Of one name, tried one after the other."""
_WEB_PORTS = (80, 443)
_FIRST_FREE_PORT, _LAST_PORT = 1024, 65_535
"""Below the first are mail, shells and the like, whose servers could take a request for orders."""
_HEADERS = (b"accept-encoding: identity", b"user-agent: helexa", b"connection: close")
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_BROKEN = "its server broke off before it answered"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@frozen
class Wanted:
    """What may be fetched.

    Attributes:
        kinds: media types that are taken.
        domains: patterns of the host names that may be asked; empty: any.
        max_bytes: how much it may be.
        timeout: seconds that all of it may take.
    """

    kinds: tuple[str, ...] = PICTURES
    domains: tuple[str, ...] = ()
    max_bytes: int = 20 * 2**20
    timeout: float = 10.0


@frozen
class Fetched:
    """What has come.

    Attributes:
        kind: its media type, one of those that were wanted.
        data: all of it.
    """

    kind: str
    data: bytes = field(repr=False)


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host name, each once."""
    found = await trio.socket.getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1)
def _system_trust() -> ssl.SSLContext:
    return ssl.create_default_context()


@frozen
class Fetcher:
    """Fetches; keeps nothing between two requests, neither connections nor cookies.

    Attributes:
        resolve: gives a name's addresses.
        is_public: whether an address may be asked.
        trusted: whose certificates are taken.
    """

    resolve: Resolve = resolve
    is_public: Callable[[str], bool] = is_public
    trusted: Callable[[], ssl.SSLContext] = _system_trust

    async def fetch(self, url: str, wanted: Wanted) -> Fetched:
        """Fetch one thing.

        Raises:
            FetchError: it may not be asked for, did not come, or is not what was wanted.
        """
        try:
            with trio.fail_after(wanted.timeout):
                return await self._follow(url, wanted)
        except trio.TooSlowError:
            raise FetchError(f"it did not come within {wanted.timeout:g} s") from None

    async def _follow(self, url: str, wanted: Wanted) -> Fetched:
        place = _parsed(url)
        for _ in range(MOST_REDIRECTS + 1):
            found = await self._ask(place, wanted)
            if isinstance(found, Fetched):
                return found
            place = found
        raise FetchError(f"it is redirected more than {MOST_REDIRECTS} times")

    async def _ask(self, url: httpx.URL, wanted: Wanted) -> Fetched | httpx.URL:
        """What is there, or where it is said to be instead."""
        _check_place(url, wanted.domains)
        stream = await self._connect(url, await self._addresses(url))
        try:
            await stream.send_all(_request(url))
            answer = await Answer.begin(stream)
            return _next(url, answer) if answer.status in _REDIRECTS else await _read(answer, wanted)
        except trio.BrokenResourceError as error:
            raise FetchError(_BROKEN) from error
        finally:
            await trio.aclose_forcefully(stream)

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        try:
            found = await self.resolve(_name(url), _port(url))
        except (OSError, UnicodeError) as error:
            raise FetchError("its host name leads nowhere") from error
        # one that is not public among others is no better: whoever answers for the name may choose which is asked
        if not found or not all(map(self.is_public, found)):
            raise FetchError("its host is not on the public internet")
        return found

    async def _connect(self, url: httpx.URL, addresses: Sequence[str]) -> trio.abc.Stream:
        """A connection to one of these very addresses; whoever is there must prove the name of the URL."""
        failure: OSError | trio.BrokenResourceError = OSError()
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                stream = await trio.open_tcp_stream(address, _port(url))
                return await self._secured(stream, url)
            except (OSError, trio.BrokenResourceError) as error:
                failure = error
        raise FetchError(distrust(failure) or "its server cannot be reached") from failure

    async def _secured(self, stream: trio.SocketStream, url: httpx.URL) -> trio.abc.Stream:
        if url.scheme == "http":
            return stream
        secured = trio.SSLStream(stream, self.trusted(), server_hostname=_name(url), https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def _parsed(url: str) -> httpx.URL:
    if len(url) > _LONGEST_URL:
        raise FetchError(f"its address is longer than {_LONGEST_URL} characters")
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError, UnicodeError, TypeError) as error:
        raise FetchError("its address is no URL") from error


def _check_place(url: httpx.URL, domains: Sequence[str]) -> None:
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise FetchError("its address is neither http nor https")
    if url.userinfo:
        raise FetchError("its address has a user name or a password in it")
    if _port(url) not in _WEB_PORTS and not _FIRST_FREE_PORT <= _port(url) <= _LAST_PORT:
        raise FetchError(f"its port, {_port(url)}, is not one of the web's")
    name = _name(url).rstrip(".")
    if domains and not any(fnmatchcase(name, pattern.lower()) for pattern in domains):
        raise FetchError("its host is none that this gateway may fetch from")


def _name(url: httpx.URL) -> str:
    """The host as it is resolved and proven: in ASCII, without the brackets of an address."""
    return url.raw_host.decode("ascii").lower()


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme, 0)


def _request(url: httpx.URL) -> bytes:
    lines = [b"GET %b HTTP/1.1" % url.raw_path, b"host: " + url.netloc, *_HEADERS, b"", b""]
    return b"\r\n".join(lines)


async def _read(answer: Answer, wanted: Wanted) -> Fetched:
    if answer.status != _OK:
        raise FetchError(f"its server answered with status {answer.status}")
    kind = answer.header("content-type").partition(";")[0].strip().lower()
    if kind not in wanted.kinds:
        raise FetchError(f"it is none of {', '.join(wanted.kinds)}")
    if answer.header("content-encoding").lower() not in ("", "identity"):
        raise FetchError("it comes compressed, although that was not asked for")
    return Fetched(kind, await answer.body(wanted.max_bytes))


def _next(url: httpx.URL, answer: Answer) -> httpx.URL:
    location = answer.header("location")
    if not location:
        raise FetchError("it is redirected nowhere")
    try:
        return url.join(_parsed(location))
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise FetchError("it is redirected to what is no URL") from error
