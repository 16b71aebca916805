"""Asks neurons to load, unload, and run ranks: the control plane's few, slow requests."""

import socket
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import orjson

from helexa.web.tls import distrust
from helexa.wire import fleet as shapes
from helexa.wire import secret as secrets
from helexa.wire.fleet import LoadRequest, ModelReport
from helexa.wire.rank_reports import RankList, RankReport
from helexa.wire.ranks import RankRequest

CONNECT_SECONDS = 5.0
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""Nothing is sent while a load runs: without probes, a peer that lost its power would be waited for all the time."""


class ControlError(Exception):
    """A neuron did not do what it was asked to; the message is half a sentence about why.

    Attributes:
        status: of its answer; ``None`` if there was none.
    """

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


class NeuronControl:
    """Talks to every neuron of the fleet. Owns its connections: use it as a context manager.

    Args:
        secret: the fleet secret, if there is one.
        trusted: whose certificates neurons may show; ``None``: whom the system trusts.
    """

    def __init__(self, secret: str | None, trusted: ssl.SSLContext | None = None) -> None:
        self._trusted = trusted
        self._headers = [secrets.header(secret)] if secret else []
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        # A connection for each request: one kept from the last may have been closed just as the next is written to it,
        # and a load must not fail for that. No limit to the answer, as a load may download: whoever asks bounds it.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            transport=httpx.AsyncHTTPTransport(
                verify=self._trusted or ssl.create_default_context(),
                limits=limits,
                socket_options=_KEEPALIVE,
                trust_env=False,
            ),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def load(self, endpoint: str, request: LoadRequest) -> ModelReport:
        """Load a model and wait until it serves.

        Raises:
            ControlError: as every method here.
        """
        answer = await self._post(endpoint + "/models/load", shapes.to_dict(request))
        try:
            return shapes.from_json(answer, ModelReport)
        except ValueError as error:
            raise ControlError(f"it does not answer as a neuron does: {error}") from error

    async def unload(self, endpoint: str, model: str) -> None:
        """Unload a model and wait until its memory is free. One that is not there is no error: somebody was faster."""
        try:
            await self._post(endpoint + "/models/unload", {"model": model})
        except ControlError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    async def restart(self, endpoint: str, device: str) -> None:
        """Have a device's worker process begin anew, and wait until the same models serve again."""
        await self._post(f"{endpoint}/devices/{device}/restart", {})

    async def start_rank(self, endpoint: str, request: RankRequest) -> None:
        """Have a neuron run a rank of a group that another one leads; does not wait until the group is together."""
        await self._post(endpoint + "/ranks", shapes.to_dict(request))

    async def stop_ranks(self, endpoint: str, group: str) -> None:
        """Have a neuron end its ranks of a group, and wait until they have. That it runs none is no error."""
        try:
            await self._ask("DELETE", f"{endpoint}/ranks/{quote(group, safe='/')}")
        except ControlError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    async def logs(self, endpoint: str, query: str) -> bytes:
        """A page of a neuron's log, as its ``/logs`` answers; ``query`` as in a URL."""
        return await self._ask("GET", f"{endpoint}/logs?{query}")

    async def ranks(self, endpoint: str) -> tuple[RankReport, ...]:
        """What a neuron runs for groups that others lead."""
        answer = await self._ask("GET", endpoint + "/ranks")
        try:
            return shapes.from_json(answer, RankList).ranks
        except ValueError as error:
            raise ControlError(f"it does not answer as a neuron does: {error}") from error

    async def _post(self, url: str, body: dict[str, Any]) -> bytes:
        return await self._ask("POST", url, body)

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> bytes:
        if self._client is None:
            raise ControlError("the router is starting anew")
        try:
            response = await self._client.request(method, url, json=body)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # the last for names that no resolver takes
            why = distrust(error) or f"{type(error).__name__}: {str(error) or 'no answer'}"
            raise ControlError(why) from error
        if not response.is_success:
            raise ControlError(_reason(response), response.status_code)
        return response.content


def _reason(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return f"it answered with status {response.status_code}"
