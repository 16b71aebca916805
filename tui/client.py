"""A blocking client of one fleet, for commands at a terminal."""

import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from helexa.wire.sse import EventReader

DEFAULT_URL = "http://127.0.0.1:31313"
CONNECT_SECONDS = 5.0


_DIRECT: dict[str, httpx.BaseTransport | None] = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
"""Never asked through a proxy that the environment names: there, these names mean the proxy's own machine."""


_NOBODY_THERE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, UnicodeError)
_FAILURES = (httpx.HTTPError, UnicodeError)
"""UnicodeError: a host name that no resolver would take."""


class FleetError(Exception):
    """The fleet could not be asked, or answered with an error; the message is for the operator."""


class FleetClient:
    """Talks to one cortex. Owns its connections: use it as a context manager.

    Args:
        url: base URL, with or without ``/v1``.
        key: API key, if the fleet asks for one.

    Raises:
        FleetError: the URL is not one.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        # as bytes: httpx takes only ASCII in a str
        headers = {b"authorization": b"Bearer " + os.fsencode(key)} if key else {}
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        try:
            self._client = httpx.Client(base_url=self._url, headers=headers, timeout=timeout, mounts=_DIRECT)
        except (httpx.InvalidURL, ValueError) as error:
            raise FleetError(f"cannot ask a fleet at '{url}': {error}.") from error

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
                    raise FleetError(_message(response))
                yield from _deltas(response)
        except _FAILURES as error:
            raise FleetError(self._trouble(error)) from error

    def _list(self, path: str, key: str) -> list[dict[str, Any]]:
        response = self._ask(path)
        found = _object(response).get(key)
        if not isinstance(found, list):
            raise FleetError(_message(response))
        return found

    def _get(self, path: str) -> dict[str, Any]:
        return _object(self._ask(path))

    def _ask(self, path: str) -> httpx.Response:
        try:
            response = self._client.get(path, timeout=CONNECT_SECONDS)
        except _FAILURES as error:
            raise FleetError(self._trouble(error)) from error
        if not response.is_success:
            raise FleetError(_message(response))
        return response

    def _trouble(self, error: Exception) -> str:
        if not isinstance(error, _NOBODY_THERE):
            return f"the answer of {self._url} broke off: {error}."
        return (
            f"no fleet answers at {self._url} ({error}). Start one with 'helexa up', "
            "or name another with --url or HELEXA_URL."
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


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        return dict(orjson.loads(response.content))
    except (ValueError, TypeError) as error:
        raise FleetError(_strange(response)) from error


def _message(response: httpx.Response) -> str:
    return _error_message(response.content) or _strange(response)


def _error_message(data: bytes | str) -> str | None:
    try:
        return str(orjson.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _strange(response: httpx.Response) -> str:
    return f"{response.request.url} answered {response.status_code}, and not as a fleet does."
