"""Registries that models are fetched from, and what they answer: Hugging Face, or a server that speaks its API."""

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from attrs import field, frozen

from helexa.neuron.sources import problems
from helexa.neuron.sources.listing import Listing, RemoteFile, read_listing
from helexa.web.tls import distrust
from helexa.wire.errors import ApiError

URL_VARIABLE = "HELEXA_REGISTRY"
TOKEN_VARIABLE = "HELEXA_REGISTRY_TOKEN"  # noqa: S105 - the name of one
_REVISION = "main"
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0
_CODE, _MESSAGE = "x-error-code", "x-error-message"
_BAD_TOKEN = "Invalid credentials"  # noqa: S105 - the beginning of a sentence
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class PassingError(Exception):
    """A failure that may be over at the next attempt; the message is half a sentence."""


@frozen
class Registry:
    """Where models are fetched from.

    Attributes:
        name: what to call it in a sentence.
        endpoint: its base URL.
        cache: the directory of its repositories on this disk.
        token: of an account, sent to no other server; ``None``: nobody's.
        token_variable: where a token is looked for.
        offline: whether it may not be asked.
    """

    name: str
    endpoint: str
    cache: Path
    token: str | None = field(repr=False)
    token_variable: str
    offline: bool = False

    def client(self, patience: float = _READ_SECONDS) -> httpx.Client:
        """Connections to it and to where it redirects. The caller closes them.

        Args:
            patience: seconds until something has to come.
        """
        # Files come as they are: a range of a compressed body means nothing, and a checksum is that of the file.
        headers = {"accept-encoding": "identity", "user-agent": "helexa"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"  # httpx drops it when another origin is redirected to
        timeout = httpx.Timeout(patience, connect=min(patience, _CONNECT_SECONDS))
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=True)

    def listing(self, client: httpx.Client, repository: str) -> Listing:
        """Ask which files a repository has.

        Raises:
            PassingError: it may answer the next time.
            ApiError: it will not.
        """
        url = f"{self.endpoint}/api/models/{repository}/revision/{_REVISION}"
        try:
            response = client.get(url, params={"blobs": "true"})
            self.check(response, repository)
            return read_listing(response.json())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PassingError(reason(error)) from error
        except ValueError as error:
            why = f"it does not answer as a registry does: {error}"
            raise problems.download_failed(repository, self.name, why) from error

    def url(self, repository: str, file: RemoteFile) -> str:
        """Where a file is fetched from, at the commit it was listed at."""
        return f"{self.endpoint}/{repository}/resolve/{quote(file.commit)}/{quote(file.name)}"

    def check(self, response: httpx.Response, repository: str, file: str | None = None) -> None:
        """Tell the refusals of the hub's API apart. It says more in its headers than by the status.

        Args:
            response: to a request for a listing, or for a file.
            repository: whose.
            file: its name.

        Raises:
            PassingError: it may answer the next time.
            ApiError: it will not.
        """
        if response.is_success:
            return
        if response.status_code in _PASSING:
            raise PassingError(f"it answered with status {response.status_code}")
        if response.status_code == HTTPStatus.NOT_FOUND and file is not None:
            raise problems.download_failed(repository, self.name, f"it lists '{file}' and does not have it")
        raise self._refusal(response, repository)

    def _refusal(self, response: httpx.Response, repository: str) -> ApiError:
        status, code = response.status_code, response.headers.get(_CODE)
        has_token = self.token is not None
        if status == HTTPStatus.UNAUTHORIZED and _BAD_TOKEN in response.headers.get(_MESSAGE, ""):
            return problems.token_refused(self.name, self.token_variable)
        if code == "GatedRepo" or status == HTTPStatus.FORBIDDEN:
            page = f"{self.endpoint}/{repository}"
            return problems.gated(repository, self.name, page, self.token_variable, has_token=has_token)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}:
            return problems.unknown_repository(repository, self.name, self.token_variable, has_token=has_token)
        return problems.download_failed(repository, self.name, f"it answered with status {status}")


def hugging_face() -> Registry:
    """Hugging Face as its library is set up: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants, get_token

    name, variable = "Hugging Face", "HF_TOKEN"
    token = _sendable(get_token(), name, variable)
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    return Registry(name, constants.ENDPOINT, cache, token, variable, bool(constants.HF_HUB_OFFLINE))


def helexa_registry(url: str | None = None) -> Registry | None:
    """The registry that ``helexa:`` means; ``None`` if there is none.

    It has a cache of its own: its ``owner/name`` need not be Hugging Face's. Hugging Face's token is not sent to it.

    Args:
        url: as the topology says; ``HELEXA_REGISTRY`` goes first, as for all that is overridden.

    Raises:
        ApiError: the URL is none.
    """
    from huggingface_hub import constants

    found = (os.environ.get(URL_VARIABLE) or url or "").rstrip("/")
    if not found:
        return None
    host = _host(found)
    cache = Path(constants.HF_HOME).expanduser() / "helexa" / host.replace(":", "_")
    offline = bool(constants.HF_HUB_OFFLINE)
    token = _sendable(os.environ.get(TOKEN_VARIABLE), host, TOKEN_VARIABLE)
    return Registry(host, found, cache, token, TOKEN_VARIABLE, offline)


def _sendable(token: str | None, registry: str, variable: str) -> str | None:
    """A token as it was set. One that no header can carry would be shown by the error about that."""
    found = (token or "").strip()
    if not (found.isascii() and found.isprintable()):
        raise problems.token_refused(registry, variable)
    return found or None


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problems.wrong_registry(url) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise problems.wrong_registry(url)
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def reason(error: Any) -> str:
    """Half a sentence on what became of a request."""
    return distrust(error) or f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no answer'}"
