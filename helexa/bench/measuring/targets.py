"""What is known of a target before it is measured: its build, its models, its devices."""

import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit, urlunsplit

from attrs import field, frozen

from config import Topology
from helexa.bench.client.exchanges import Exchange, TargetError
from helexa.bench.client.http import Client, Timeouts, refusal
from helexa.bench.measuring import sights
from helexa.bench.measuring.facts import Facts, ModelFacts
from helexa.bench.records import Target, TargetKind
from helexa.wire import secret as secrets

__all__ = ["Access", "Facts", "ModelFacts", "cortex_at", "look", "neurons_of", "power", "server_at"]

LOOK: Final = Timeouts(connect=5.0, head=15.0, idle=15.0, total=15.0)
"""For questions about a target; a neuron that asks its GPUs takes a while."""
PATIENT: Final = Timeouts()
"""For what is measured: a gateway may have to load the model first."""
_NOT_FOUND: Final = 404
_NOT_FOR_US: Final = (401, 403, _NOT_FOUND, 405)


@frozen
class Access:
    """How a target is reached. Secrets are here, and never in what is kept.

    Attributes:
        target: where.
        headers: that every request bears.
        trusted: whose certificates it may show; ``None``: whom the system trusts.
        precisions: what the topology has models' weights reduced to, by the model's id; part of what tells builds
            apart.
        patience: how long what is measured may take.
    """

    target: Target
    headers: Mapping[str, str] = field(factory=dict, repr=False, hash=False)
    trusted: ssl.SSLContext | None = field(default=None, repr=False, eq=False)
    precisions: Mapping[str, str] = field(factory=dict, hash=False)
    patience: Timeouts = field(default=PATIENT, eq=False)

    def client(self, timeouts: Timeouts | None = None) -> Client:
        """A client of its own for whoever wants to ask; to be entered.

        Args:
            timeouts: ``None``: those for what is measured.

        Raises:
            TargetError: ``unreachable``; its URL is none.
        """
        try:
            return Client(self.target.url, self.headers, trusted=self.trusted, timeouts=timeouts or self.patience)
        except ValueError as error:
            raise TargetError("unreachable", f"{self.target.url!r} cannot be asked: {error}") from None


async def look(access: Access, client: Client | None = None) -> Facts:
    """Ask a target what it is.

    Args:
        access: how it is reached.
        client: to ask it with; ``None``: one of its own, which does not wait long.

    Raises:
        TargetError: it does not answer, or not as a target of its kind does.
    """
    if client is not None:
        return await _LOOKS[access.target.kind](access, client)
    async with access.client(LOOK) as own:
        return await _LOOKS[access.target.kind](access, own)


async def power(access: Access, client: Client, model: ModelFacts) -> float | None:
    """What the devices draw that have a model, in W; ``None``: not told. Never raises for what a target can do."""
    try:
        if access.target.kind == "neuron":
            return sights.neuron_power(await _got(client, "/health"), model.devices)
        return sights.cortex_power(await _got(client, "/fleet"), model.devices)
    except TargetError:
        return None


async def _neuron(access: Access, client: Client) -> Facts:
    version, discovery = await _got(client, "/version"), await _got(client, "/discovery")
    models, health = await _got(client, "/models"), await _got(client, "/health")
    return sights.neuron(access.target, version, discovery, models, health, access.precisions)


async def _cortex(access: Access, client: Client) -> Facts:
    listed = await _got(client, "/v1/models")
    # A key may be for models alone; then what the fleet consists of stays unknown.
    fleet = await client.get("/fleet")
    return sights.cortex(access.target, listed, None if fleet.status in _NOT_FOR_US else _checked(fleet))


async def _server(access: Access, client: Client) -> Facts:
    listed = await _got(client, "/v1/models")
    version, props = await _extra(client, "/version"), await _extra(client, "/props")
    return sights.server(access.target, listed, version, props)


_LOOKS: Final[Mapping[TargetKind, Callable[[Access, Client], Awaitable[Facts]]]] = {
    "neuron": _neuron,
    "cortex": _cortex,
    "openai": _server,
}


async def _got(client: Client, path: str) -> Exchange:
    return _checked(await client.get(path))


def _checked(exchange: Exchange) -> Exchange:
    if not exchange.ok:
        raise refusal(exchange)
    return exchange


async def _extra(client: Client, path: str) -> Mapping[str, Any]:
    """What not every server tells; empty where it does not."""
    try:
        exchange = await client.get(path)
        found = exchange.json() if exchange.ok else {}
    except TargetError:
        return {}
    return found if isinstance(found, dict) else {}


def neurons_of(topology: Topology, secret: str | None, trusted: ssl.SSLContext | None = None) -> list[Access]:
    """The neurons of a topology, in its order; each target is called as its neuron.

    Args:
        topology: the fleet.
        secret: the fleet secret, if there is one.
        trusted: whose certificates neurons may show; ``None``: whom the system trusts.
    """
    headers = _secret_header(secret)
    precisions = {model.id: model.quant for model in topology.models if model.quant is not None}
    targets = [Target(neuron.name, "neuron", neuron.endpoint) for neuron in topology.neurons]
    return [Access(target, headers, trusted, precisions) for target in targets]


def _secret_header(secret: str | None) -> Mapping[str, str]:
    if not secret:
        return {}
    name, value = secrets.header(secret)
    return {name.decode(): value.decode("latin-1")}


def cortex_at(url: str, key: str | None = None, name: str = "fleet", trusted: ssl.SSLContext | None = None) -> Access:
    """A gateway. A ``/v1`` at the end of the URL is taken off."""
    return Access(Target(name, "cortex", base_of(url)), _bearer(key, url), trusted)


def server_at(name: str, url: str, key: str | None = None, trusted: ssl.SSLContext | None = None) -> Access:
    """Any server that speaks OpenAI's API. A ``/v1`` at the end of the URL is taken off."""
    return Access(Target(name, "openai", base_of(url)), _bearer(key, url), trusted)


def _bearer(key: str | None, url: str) -> Mapping[str, str]:
    if key:
        return {"authorization": f"Bearer {key}"}
    secret, at, _ = _split(url).netloc.rpartition("@")
    return {"authorization": f"Basic {b64encode(unquote_to_bytes(secret)).decode()}"} if at else {}


def _split(url: str) -> SplitResult:
    """A URL's parts; what is none is all path, and found out when it is asked."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url, "", "")


def base_of(url: str) -> str:
    """A base URL as targets have it: without ``/v1`` and slashes at its end, without a user and a password."""
    parts = _split(url)
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
