"""A blocking client of one fleet, for commands at a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from helexa.wire.sse import EventReader

DEFAULT_URL = "http://127.0.0.1:31313"
CONNECT_SECONDS = 5.0


class FleetError(Exception):
    """The fleet could not be asked, or answered with an error; the message is for the operator."""


class FleetClient:
    """Talks to one cortex. Owns its connections: use it as a context manager.

    Args:
        url: base URL, with or without ``/v1``.
        key: API key, if the fleet asks for one.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        self._client = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def models(self) -> list[dict[str, Any]]:
        """The entries of ``/v1/models``.

        Raises:
            FleetError: as every method here.
        """
        return list(self._get("/v1/models")["data"])

    def fleet(self) -> dict[str, Any]:
        """The snapshot of ``/fleet``."""
        return self._get("/fleet")

    def actors(self) -> list[dict[str, Any]]:
        """The actors of ``/fleet/actors``."""
        return list(self._get("/fleet/actors")["actors"])

    def chat(self, model: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Stream an answer: the ``delta`` of each chunk as it comes."""
        body = {"model": model, "messages": list(messages), "stream": True}
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise FleetError(_message(response))
                yield from _deltas(response)
        except httpx.HTTPError as error:
            raise FleetError(self._unreachable(error)) from error

    def _get(self, path: str) -> dict[str, Any]:
        try:
            response = self._client.get(path, timeout=CONNECT_SECONDS)
        except httpx.HTTPError as error:
            raise FleetError(self._unreachable(error)) from error
        if response.is_error:
            raise FleetError(_message(response))
        return dict(orjson.loads(response.content))

    def _unreachable(self, error: httpx.HTTPError) -> str:
        return (
            f"no fleet answers at {self._url} ({error}). Start one with 'helexa up', "
            "or name another with --url or HELEXA_URL."
        )


def _deltas(response: httpx.Response) -> Iterator[dict[str, Any]]:
    reader = EventReader()
    for piece in response.iter_bytes():
        for data in reader.push(piece):
            if data != "[DONE]":
                yield from _delta(orjson.loads(data))


def _delta(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "error" in chunk:
        raise FleetError(str(chunk["error"]["message"]))
    for choice in chunk["choices"]:
        yield choice["delta"]


def _message(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.request.url} answered {response.status_code}, and not as a fleet does."
