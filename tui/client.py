"""A blocking client of one fleet, for commands at a terminal."""

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
import orjson

from helexa.web.tls import CertificateError, client_context, distrust
from helexa.wire.sse import EventReader

DEFAULT_URL = "http://127.0.0.1:31313"
CA = "HELEXA_CA"
"""The environment variable with the PEM file of certificates that vouch for fleets, beside those the system trusts."""
CONNECT_SECONDS = 5.0
_LAST_PORT = 65_535


_DIRECT: dict[str, None] = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
"""Never asked through a proxy that the environment names: there, these names mean the proxy's own machine."""


_NOBODY_THERE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, UnicodeError)
FAILURES = (httpx.HTTPError, UnicodeError)
"""UnicodeError: a host name that no resolver would take."""


class FleetError(Exception):
    """The fleet could not be asked, or answered with an error; the message is for the operator."""


class TopologyRefusedError(FleetError):
    """A topology is broken. ``problems`` as the fleet tells them: file, line, path, message and hint of each."""

    def __init__(self, message: str, problems: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.problems = problems


def client_options(url: str, key: str | None) -> dict[str, Any]:
    """What an httpx client of a fleet is made with; ``url`` with or without ``/v1``.

    Raises:
        FleetError: the file of ``$HELEXA_CA`` cannot be used, or the URL has a port that there is not.
    """
    _check_port(url)
    # as bytes: httpx takes only ASCII in a str
    headers = {b"authorization": b"Bearer " + os.fsencode(key)} if key else {}
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    base_url = url.rstrip("/").removesuffix("/v1")
    trusted = _usual_trust() if (ca := os.environ.get(CA)) is None else _trust(ca)
    return {"base_url": base_url, "headers": headers, "timeout": timeout, "mounts": _DIRECT, "verify": trusted}


@cache
def _usual_trust() -> ssl.SSLContext:
    """What httpx trusts by itself. Once: to read all certificates takes 20 ms or more, and the console has clients."""
    return httpx.create_ssl_context()


def _check_port(url: str) -> None:
    """Connecting would say so as well, but with an ``OverflowError`` that is no failure of HTTP."""
    try:
        port = httpx.URL(url).port
    except (httpx.InvalidURL, ValueError):
        return  # which the client says itself
    if port is not None and port > _LAST_PORT:
        raise no_url(url, ValueError(f"{port} is no port"))


def _trust(ca: str) -> ssl.SSLContext:
    try:
        return client_context(ca, f"${CA}")
    except CertificateError as error:
        raise FleetError(str(error)) from error


class FleetClient:
    """Talks to one cortex. Owns its connections: use it as a context manager.

    Args:
        url: base URL, with or without ``/v1``.
        key: API key, if the fleet asks for one.

    Raises:
        FleetError: the URL is not one.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        options = client_options(url, key)
        self._url: str = options["base_url"]
        try:
            self._client = httpx.Client(**options)
        except (httpx.InvalidURL, ValueError) as error:
            raise no_url(url, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def models(self) -> list[dict[str, Any]]:
        """The entries of ``/v1/models``.

        Raises:
            FleetError: as every method here.
        """
        return self._list("/v1/models", "data")

    def fleet(self) -> dict[str, Any]:
        """The snapshot of ``/fleet``."""
        return self._get("/fleet")

    def actors(self) -> list[dict[str, Any]]:
        """The actors of ``/fleet/actors``."""
        return self._list("/fleet/actors", "actors")

    def chat(self, model: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Stream an answer: the ``delta`` of each chunk as it comes."""
        body = {"model": model, "messages": list(messages), "stream": True}
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    response.read()
                    raise refusal(response)
                yield from _deltas(response)
        except FAILURES as error:
            raise trouble(self._url, error) from error

    def pin(self, model: str, node: str | None, *, pinned: bool) -> dict[str, Any]:
        """Keep a model where it is loaded, or no longer; ``node`` for there only."""
        return self._post(model_path(model, "pin"), orjson.dumps({"pinned": pinned, "node": node}))

    def plan(self, text: bytes, name: str) -> dict[str, Any]:
        """What a topology would change, and where its models would fit.

        Args:
            text: the file's.
            name: what problems call it.

        Raises:
            TopologyRefusedError: it is broken.
        """
        return self._post(f"/fleet/plan?{urlencode({'name': name})}", text, "application/toml")

    def _list(self, path: str, key: str) -> list[dict[str, Any]]:
        response = self._ask(path)
        found = read_object(response).get(key)
        if not isinstance(found, list):
            raise refusal(response)
        return found

    def _get(self, path: str) -> dict[str, Any]:
        return read_object(self._ask(path))

    def _ask(self, path: str) -> httpx.Response:
        try:
            response = self._client.get(path, timeout=CONNECT_SECONDS)
        except FAILURES as error:
            raise trouble(self._url, error) from error
        if not response.is_success:
            raise refusal(response)
        return response

    def _post(self, path: str, body: bytes, kind: str = "application/json") -> dict[str, Any]:
        try:
            response = self._client.post(path, content=body, headers={"content-type": kind})
        except FAILURES as error:
            raise trouble(self._url, error) from error
        return read_object(response)


def model_path(model: str, action: str) -> str:
    """The path of ``load``, ``unload`` or ``pin`` of a model."""
    return f"/fleet/models/{quote(model)}/{action}"


def no_url(url: str, error: Exception) -> FleetError:
    """What is no URL."""
    return FleetError(f"cannot ask a fleet at '{url}': {error}.")


def trouble(url: str, error: Exception) -> FleetError:
    """A request that got no answer, or half of one."""
    if not isinstance(error, _NOBODY_THERE):
        return FleetError(f"the answer of {url} broke off: {error}.")
    if (why := distrust(error)) is not None:
        own = f"If it is your own, name its file, or that of who signed it, in {CA}"
        return FleetError(f"{url} was not asked, as {why}. {own}.")
    return FleetError(
        f"no fleet answers at {url} ({error}). Start one with 'helexa up', or name another with --url or HELEXA_URL."
    )


def _deltas(response: httpx.Response) -> Iterator[dict[str, Any]]:
    reader = EventReader()
    for piece in response.iter_bytes():
        for data in reader.push(piece):
            if data != "[DONE]":
                yield from _delta(data, response)


def _delta(data: str, response: httpx.Response) -> Iterator[dict[str, Any]]:
    if (message := _error_message(data)) is not None:
        raise FleetError(message)
    try:
        yield from [choice["delta"] for choice in orjson.loads(data)["choices"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FleetError(_strange(response)) from error


def read_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer that has come whole.

    Raises:
        FleetError: it is an error, or not what a fleet answers.
    """
    if not response.is_success:
        raise refusal(response)
    try:
        return dict(orjson.loads(response.content))
    except (ValueError, TypeError) as error:
        raise FleetError(_strange(response)) from error


def refusal(response: httpx.Response) -> FleetError:
    """An answer that has come whole and is not what was asked for."""
    message = _error_message(response.content) or _strange(response)
    problems = _problems(response.content)
    return FleetError(message) if problems is None else TopologyRefusedError(message, problems)


def _problems(data: bytes) -> list[dict[str, Any]] | None:
    try:
        found = orjson.loads(data)
        return list(found["problems"]) if found["error"]["code"] == "invalid_topology" else None
    except (ValueError, KeyError, TypeError):
        return None


def _error_message(data: bytes | str) -> str | None:
    try:
        return str(orjson.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _strange(response: httpx.Response) -> str:
    return f"{response.request.url} answered {response.status_code}, and not as a fleet does."
